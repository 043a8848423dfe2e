package cli

import (
	"cmp"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/kube"
)

const metricsPage = "../../docs/reference/metrics.md"

// registry keeps what is registered, so that also metrics without a value can be told of.
type registry struct {
	*prometheus.Registry
	all []prometheus.Collector
}

func (r *registry) MustRegister(cs ...prometheus.Collector) {
	r.all = append(r.all, cs...)
	r.Registry.MustRegister(cs...)
}

// all registers all that aci-sync run does, as a leader with this client status tells it.
func all(status func() apic.Status, leads func() bool) (*registry, *metrics) {
	r := &registry{Registry: prometheus.NewRegistry()}
	m := newMetrics(r)
	m.tell(r, status, leads)
	controller.New(nil, nil, nil, controller.Options{Metrics: r, Logger: slog.New(slog.DiscardHandler)})
	return r, m
}

// kind is the type of what a collector tells. What is neither a counter nor a histogram is a gauge, also
// what collectors of our own tell.
func kind(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	case prometheus.Gauge:
		return "gauge"
	case prometheus.Counter:
		return "counter"
	}
	return "gauge"
}

// described is how a prometheus.Desc prints; it has no accessors.
var described = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)", unit: "[^"]*", constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

// rows are those of the page, sorted.
func rows(t *testing.T, r *registry) []string {
	t.Helper()
	var out []string
	for _, c := range r.all {
		by := "every replica"
		_, plain := c.(prometheus.Metric)
		if _, ok := c.(*leading); ok || kind(c) == "gauge" && !plain {
			by = "the leader"
		}
		descs := make(chan *prometheus.Desc)
		go func() { c.Describe(descs); close(descs) }()
		for d := range descs {
			m := described.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			var labels []string
			for l := range strings.SplitSeq(m[3]+","+m[4], ",") {
				if l, _, _ = strings.Cut(l, "="); l != "" {
					labels = append(labels, "`"+l+"`")
				}
			}
			slices.Sort(labels)
			out = append(out, fmt.Sprintf("| `%s` | %s | %s | %s | %s |", m[1], kind(c),
				cmp.Or(strings.Join(labels, ", "), "–"), by, strings.NewReplacer(`\"`, `"`, "|", `\|`).Replace(m[2])))
		}
	}
	slices.Sort(out)
	return out
}

func TestTheMetricsPageIsUpToDate(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- the metrics, by make update-reference -->\n", "<!-- end -->\n"
	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := all(func() apic.Status { return apic.Status{} }, func() bool { return true })
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", metricsPage)
	}
	want := head + begin + "| metric | type | labels | told by | what it is |\n| --- | --- | --- | --- | --- |\n" +
		strings.Join(rows(t, r), "\n") + "\n" + end + tail
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(metricsPage, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
		return
	}
	if d := gocmp.Diff(want, string(page)); d != "" {
		t.Errorf("%s is not up to date, run make update-reference (-want +got)\n%s", metricsPage, d)
	}
}

// Units are in the names, counters end in _total and nothing else does, and nothing that grows with the
// cluster is a label.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	r, _ := all(func() apic.Status { return apic.Status{} }, func() bool { return true })
	row := regexp.MustCompile("^\\| `(acisync_[a-z_]+)` \\| (counter|gauge|histogram) \\| ([^|]+) \\| (every replica|the leader) \\| [A-Z0-9].*\\. \\|$")
	seen := 0
	for _, line := range rows(t, r) {
		m := row.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not as it must be: %s", line)
			continue
		}
		seen++
		if (m[2] == "counter") != strings.HasSuffix(m[1], "_total") {
			t.Errorf("%s is a %s", m[1], m[2])
		}
		if m[2] == "histogram" && !strings.HasSuffix(m[1], "_seconds") {
			t.Errorf("%s has no unit", m[1])
		}
		for _, label := range []string{"ip", "pod", "dn", "epg", "namespace", "workload"} {
			if strings.Contains(m[3], "`"+label+"`") {
				t.Errorf("%s has a label %s", m[1], label)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d metrics", seen)
	}
}

// values are what is told now, as name and label values.
func values(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{strings.TrimPrefix(f.GetName(), "acisync_")}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetValue())
			}
			got[strings.Join(name, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return got
}

// What alerts look at is there from the start, and what only the leader knows is not told by others.
func TestMetrics_of_the_way_to_the_APIC(t *testing.T) {
	t.Parallel()
	var status apic.Status
	leads := false
	r, m := all(func() apic.Status { return status }, func() bool { return leads })
	var o apic.Options
	m.count(&o)
	check := func(when string, want map[string]float64) {
		t.Helper()
		got := values(t, r)
		for name := range got {
			if strings.HasPrefix(name, "build_info ") {
				delete(got, name)
				got["build_info"] = 1
			}
		}
		if d := gocmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", when, d)
		}
	}
	want := map[string]float64{
		"build_info": 1, "leader": 0, "apic_throttled_total": 0, "apic_wait_seconds_total": 0, "apic_failovers_total": 0,
		"apic_login_failures_total refused": 0, "apic_login_failures_total unavailable": 0,
		"convergence_seconds": 0, "plan_changes_total create": 0, "plan_changes_total update": 0, "plan_changes_total delete": 0,
		"drift_reverted_total existence": 0, "drift_reverted_total mark": 0, "drift_reverted_total name": 0, "drift_reverted_total scope": 0,
	}
	check("at the start", want)

	leads = true
	want["leader"], want["subscription_up"], want["apic_credentials_refused"] = 1, 0, 0
	check("leading", want)
	status = apic.Status{LoggedIn: true, SocketUp: true}
	want["subscription_up"] = 1
	check("with a socket", want)
	status = apic.Status{SocketUp: true, Refused: true}
	want["subscription_up"], want["apic_credentials_refused"] = 0, 1
	check("refused", want)

	o.OnRequest("post", 200, time.Second)
	o.OnRequest("read", 503, time.Second)
	o.OnRequest("read", 429, time.Second)
	o.OnWait(1500 * time.Millisecond)
	o.OnLoginFailure(true)
	o.OnLoginFailure(false)
	o.OnLoginFailure(false)
	o.OnFailover()
	maps.Copy(want, map[string]float64{
		"apic_requests_total 200 post": 1, "apic_requests_total 503 read": 1, "apic_requests_total 429 read": 1,
		"apic_request_duration_seconds post": 1, "apic_request_duration_seconds read": 2, "apic_throttled_total": 2,
		"apic_wait_seconds_total": 1.5, "apic_failovers_total": 1,
		"apic_login_failures_total refused": 1, "apic_login_failures_total unavailable": 2,
	})
	check("after requests", want)

	leads = false
	want["leader"] = 0
	delete(want, "subscription_up")
	delete(want, "apic_credentials_refused")
	check("no longer leading", want)
}

// nowhere is a lock that nobody asks.
type nowhere struct{ resourcelock.Interface }

// Describe names it.
func (nowhere) Describe() string { return "nowhere" }

func TestHolds(t *testing.T) {
	t.Parallel()
	if !holds(nil) {
		t.Error("where nobody is elected everybody leads")
	}
	if holds(kube.LeaseOf(nowhere{})) {
		t.Error("a lease that was never taken is held")
	}
}
