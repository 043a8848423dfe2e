package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// table is one of the report, in Markdown, which reads well on a terminal, too.
type table struct {
	title, text string
	head        []string
	rows        [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// write prints the table, unless it is empty.
func (t *table) write(w io.Writer) {
	if len(t.rows) == 0 {
		return
	}
	widths := make([]int, len(t.head))
	for _, r := range append([][]string{t.head}, t.rows...) {
		for i, c := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	line := func(cells []string) {
		for i, c := range cells {
			fmt.Fprintf(w, "| %-*s ", widths[i], c)
		}
		fmt.Fprintln(w, "|")
	}
	fmt.Fprintf(w, "## %s\n\n", t.title)
	if t.text != "" {
		fmt.Fprintf(w, "%s\n\n", t.text)
	}
	line(t.head)
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = "---"
	}
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
	fmt.Fprintln(w)
}

func ms(d time.Duration) string      { return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond)) }
func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
func mib(n int) string               { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

// tables are what was measured.
func (r results) tables() []*table {
	changes := &table{
		title: "A single change",
		text: "From the API server's answer that it has the Pod's address until the subnet is on the APIC; 50 ms of it are waiting for company, and " +
			"up to 500 ms where changes do not cease. × is the ratio to the first row of the same kind.",
		head: []string{"subnets there", "a request takes", "other Pods a second", "p50", "p95", "p99", "× p95", "writes for changes", "CPU a change", "× CPU"},
	}
	bursts := &table{
		title: "Many at once",
		text:  "Pods of one external EPG get their addresses as fast as the API server takes it. Done is when the last is on the APIC, after the API server has taken in the last.",
		head:  []string{"subnets there", "addresses", "arrive in", "done after", "writes", "allowed", "objects a write", "CPU", "CPU an address"},
	}
	drifts := &table{
		title: "Deleted by hand",
		text:  "Half in each of the L3Outs, in one request for each.",
		head:  []string{"subnets there", "deleted", "restored after", "requests", "writes"},
	}
	starts := &table{
		title: "A start",
		text:  "From exec until it decides, and until all is in sync; requests and memory until it has come to rest.",
		head:  []string{"subnets there", "to repair", "ready after", "in sync after", "requests", "writes", "peak memory"},
	}
	memories := &table{
		title: "Memory",
		text:  "Resident, of the process, after the single changes. A Pod has two addresses here, so that two subnets are one Pod.",
		head:  []string{"subnets there", "Pods", "now", "most since the start"},
	}
	first := map[string]single{} // of each kind
	for _, row := range r.rows {
		n := fmt.Sprint(row.subnets)
		for _, s := range row.singles {
			kind, others := ms(s.latency), "none"
			writes, cpu, times := fmt.Sprintf("%d for %d", s.writes, s.changes), fmt.Sprintf("%.1f ms", float64(s.cpuEach())/float64(time.Millisecond)), ""
			if s.churn > 0 {
				kind, others, writes, cpu = "churn", fmt.Sprintf("%.0f", s.churn), "", ""
			}
			f, ok := first[kind]
			if !ok {
				f, first[kind] = s, s
			}
			if s.churn == 0 {
				times = fmt.Sprintf("%.2f", ratio(s.cpuEach(), f.cpuEach()))
			}
			changes.row(n, ms(s.latency), others, ms(percentile(s.took, 50)), ms(percentile(s.took, 95)), ms(percentile(s.took, 99)),
				fmt.Sprintf("%.2f", ratio(percentile(s.took, 95), percentile(f.took, 95))), writes, cpu, times)
		}
		if b := row.burst; b.addresses > 0 {
			bursts.row(n, fmt.Sprint(b.addresses), seconds(b.arrival), seconds(b.done), fmt.Sprint(b.writes), fmt.Sprintf("%.0f", math.Floor(b.allowed())),
				fmt.Sprint(b.addresses/max(1, b.writes)), seconds(b.cpu), fmt.Sprintf("%.2f ms", float64(b.cpu)/float64(time.Millisecond)/float64(b.addresses)))
		}
		for _, d := range row.drifts {
			drifts.row(n, fmt.Sprint(d.deleted), seconds(d.restored), fmt.Sprint(d.requests), fmt.Sprint(d.writes))
		}
		for _, s := range []start{row.start, row.repair} {
			starts.row(n, fmt.Sprint(s.missing), seconds(s.ready), seconds(s.done), fmt.Sprint(s.requests), fmt.Sprint(s.writes), mib(s.peak))
		}
		memories.row(n, fmt.Sprint(row.subnets/2), mib(row.memory.now), mib(row.memory.peak))
	}
	idles := &table{
		title: "Idle",
		text: "With nothing to do, and the flags' defaults, on a control plane of its own while all else was measured. Beside the refreshes of session and subscriptions " +
			"there are the periodic reads, one in ten minutes.",
		head: []string{"subnets there", "watched for", "requests", "of them refreshes", "requests a minute", "CPU of a core"},
	}
	for _, i := range r.idle {
		idles.row(fmt.Sprint(i.subnets), i.took.Round(time.Second).String(), fmt.Sprint(i.requests), fmt.Sprint(i.refreshes),
			fmt.Sprintf("%.1f", i.perMinute()), fmt.Sprintf("%.2f %%", 100*i.cpu))
	}
	return []*table{changes, bursts, drifts, starts, idles, memories}
}

func (i idle) perMinute() float64 { return float64(i.requests) / i.took.Minutes() }

// ratio is NaN where a or b is nothing that can be measured, as CPU less than what is taken off as idle.
func ratio(a, b time.Duration) float64 {
	if a <= 0 || b <= 0 {
		return math.NaN()
	}
	return float64(a) / float64(b)
}

// target is what something may take at most.
type target struct {
	what, format string  // of limit and got
	limit, got   float64 // got is NaN when it was not measured
}

func (t target) measured() bool { return !math.IsNaN(t.got) }
func (t target) met() bool      { return t.got <= t.limit }

// targets are those of the project, for two cores and an APIC that takes 20 ms, beside the worst that was measured of each.
func (r results) targets() []target {
	worst := func(of func(row) (float64, bool)) float64 {
		most := math.NaN()
		for _, row := range r.rows {
			if v, ok := of(row); ok && !(v <= most) {
				most = v
			}
		}
		return most
	}
	const many, pods = 20_000, 10_000 // subnets, Pods
	p95 := func(row row) time.Duration { return percentile(row.singles[0].took, 95) }
	at := func(subnets int, of func(row) float64) float64 {
		return worst(func(row row) (float64, bool) { return of(row), row.subnets == subnets })
	}
	both := func(of func(most, few row) float64) float64 { // beside 20,000, and beside 100
		few := slices.IndexFunc(r.rows, func(row row) bool { return row.subnets == 100 })
		return at(many, func(row row) float64 {
			if few < 0 {
				return math.NaN()
			}
			return of(row, r.rows[few])
		})
	}
	done := worst(func(row row) (float64, bool) { return row.burst.done.Seconds(), row.burst.addresses == 5_000 })
	writes := worst(func(row row) (float64, bool) {
		return float64(row.burst.writes) / row.burst.allowed(), row.burst.addresses == 5_000
	})
	restored := worst(func(row row) (float64, bool) {
		for _, d := range row.drifts {
			if d.deleted == 5_000 {
				return d.restored.Seconds(), true
			}
		}
		return 0, false
	})
	idlest := math.NaN()
	for _, i := range r.idle {
		if v := i.perMinute(); !(v <= idlest) {
			idlest = v
		}
	}
	growth := math.NaN()
	if i := slices.IndexFunc(r.rows, func(row row) bool { return row.subnets == many }); i > 0 {
		growth = float64(r.rows[i].memory.now-r.rows[i-1].memory.now) / 1024 / float64((r.rows[i].subnets-r.rows[i-1].subnets)/2)
	}
	return []target{
		{"a single change beside 20,000 subnets, p95", "%.0f ms", 150, at(many, func(row row) float64 { return p95(row).Seconds() * 1000 })},
		{"the same, as a multiple of that beside 100", "%.2f", 1.3, both(func(most, few row) float64 { return ratio(p95(most), p95(few)) })},
		{"its CPU, as a multiple of that beside 100", "%.2f", 1.3, both(func(most, few row) float64 { return ratio(most.singles[0].cpuEach(), few.singles[0].cpuEach()) })},
		{"5,000 Pods at once: done after the last IP", "%.2f s", 2, done},
		{"the same: writes, as a part of N/500 and 3 for each second of arrival", "%.2f", 1, writes},
		{"5,000 subnets deleted by hand: restored", "%.2f s", 5, restored},
		{"a start with 20,000 in sync: ready", "%.2f s", 5, at(many, func(row row) float64 { return row.start.ready.Seconds() })},
		{"the same: writes", "%.0f", 0, at(many, func(row row) float64 { return float64(row.start.writes) })},
		{"the same: requests", "%.0f", 30, at(many, func(row row) float64 { return float64(row.start.requests) })},
		{"idle: requests a minute", "%.1f", 6, idlest},
		{"memory beside 10,000 Pods, of two subnets each", "%.0f MiB", 120, at(2*pods, func(row row) float64 { return float64(row.memory.now) / (1 << 20) })},
		{"memory for each further Pod, between the last two sizes", "%.1f KiB", 5, growth},
	}
}

// judged is the table of the targets.
func (r results) judged() *table {
	t := &table{
		title: "Targets", text: "For two cores, and an APIC that takes 20 ms for a request. Of several measurements the worst counts.",
		head: []string{"what", "at most", "measured", "met"},
	}
	for _, g := range r.targets() {
		got, met := "not measured", ""
		if g.measured() {
			got, met = fmt.Sprintf(g.format, g.got), "**no**"
			if g.met() {
				met = "yes"
			}
		}
		t.row(g.what, fmt.Sprintf(g.format, g.limit), got, met)
	}
	return t
}

// byHand is the line of the page below which people write.
const byHand = "<!-- What is below this line is written by hand, and kept by make bench. -->"

// writeReport prints what was measured, and where.
func (r results) writeReport(w io.Writer, where string) {
	fmt.Fprintf(w, "# Performance\n\nWhat aci-sync costs, and whether it grows with what is there. All above the line by hand is from one run of `make bench`: the built program,\n"+
		"a real API server whose Pods nobody but the bench makes, and the simulated APIC, with %d L3Outs in a VRF each. Half of the subnets are in one large external EPG in each\n"+
		"L3Out, half in external EPGs of twenty. Where nothing else is said the APIC takes %v for a request. What is below is what that run found, on\n\n> %s\n\n",
		l3outs, r.settings.latency, where)
	r.judged().write(w)
	for _, t := range r.tables() {
		t.write(w)
	}
}

// savePage writes the report to a file, and keeps what was written there by hand.
func savePage(file string, report []byte) error {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, hand, found := bytes.Cut(old, []byte(byHand))
	if len(old) > 0 && !found {
		return fmt.Errorf("%s has no line %q, so what in it is by hand is not known", file, byHand)
	}
	if !found {
		hand = []byte("\n")
	}
	return os.WriteFile(file, slices.Concat(report, []byte(byHand), hand), 0o644)
}

// machine says where and with what is measured.
func machine(ctx context.Context, kubernetes, apic string) string {
	line := func(file, key string) string {
		data, _ := os.ReadFile(file) // what cannot be read is left out
		for l := range strings.Lines(string(data)) {
			if rest, ok := strings.CutPrefix(l, key); ok {
				return strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
			}
		}
		return ""
	}
	commit, _ := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	load, _, _ := strings.Cut(line("/proc/loadavg", ""), " ")
	return fmt.Sprintf("%d cores (%s), %s/%s, load %s before; %s; Kubernetes %s; simulated APIC %s; aci-sync at commit %s; %s",
		runtime.NumCPU(), cmp.Or(line("/proc/cpuinfo", "model name"), "model not known"), runtime.GOOS, runtime.GOARCH, cmp.Or(load, "not known"),
		runtime.Version(), kubernetes, apic, cmp.Or(strings.TrimSpace(string(commit)), "not known"), time.Now().Format(time.DateOnly))
}
