package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// TestCounts runs the bench small, on the control plane that the tests share. It judges counts;
// times depend on the machine and on what else runs on it.
func TestCounts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), maxTime)
	defer cancel()
	dir := t.TempDir()
	binary, err := build(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Shared(ctx, lab.Options{Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	r, err := newRig(ctx, "bench", l, false, binary, dir, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(ctx); err != nil {
			t.Error(err)
		}
	})
	r.flags = []string{"--resync-interval=1h"}
	q := quick()
	for _, s := range []settings{
		{sizes: []int{100}, changes: 10, pace: q.pace},
		{sizes: []int{1_000}, changes: 10, pace: q.pace, churn: 20, burst: 1_000, drift: 500},
	} {
		rows, err := r.measure(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", rows)
		if err := wrong(rows); err != nil {
			t.Error(err)
		}
	}
}

func TestWrong(t *testing.T) {
	t.Parallel()
	good := func() row {
		return row{
			subnets: 1_000, start: start{requests: 12}, repair: start{missing: 100, writes: 4},
			singles: []single{{changes: 10, writes: 10}, {changes: 10, churn: 100, writes: 0}},
			burst:   burst{addresses: 2_000, writes: 10, most: 500, arrival: 2 * time.Second},
			drifts:  []drift{{deleted: 1, writes: 1}, {deleted: 1_000, writes: 6}},
		}
	}
	for name, test := range map[string]struct {
		change func(r *row)
		want   string // part of the error; "" for none
	}{
		"all as promised":                {func(*row) {}, ""},
		"a start that writes":            {func(r *row) { r.start.writes = 1 }, "made 1 writes"},
		"a start that asks too much":     {func(r *row) { r.start.requests = 13 }, "13 requests, more than 12"},
		"a start that pages":             {func(r *row) { r.subnets, r.start.requests = 20_000, 30 }, ""},
		"a start that pages too much":    {func(r *row) { r.subnets, r.start.requests = 20_000, 31 }, "31 requests, more than 30"},
		"a change that takes two writes": {func(r *row) { r.singles[0].writes = 11 }, "10 single changes were 11 writes"},
		"a change that got lost":         {func(r *row) { r.singles[0].writes = 9 }, "10 single changes were 9 writes"},
		"a burst in too many writes":     {func(r *row) { r.burst.writes = 11 }, "11 writes, more than 10.0"},
		"a repair in too many writes":    {func(r *row) { r.repair.writes = 5 }, "100 subnets missing made 5 writes, more than 4"},
		"drift in too many writes":       {func(r *row) { r.drifts[1].writes = 7 }, "1000 deleted subnets were restored in 7 writes, more than 6"},
		"a write that is too large":      {func(r *row) { r.burst.most = 501 }, "carried 501 subnets"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := good()
			test.change(&bad)
			err := wrong([]row{good(), bad})
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestCrowd(t *testing.T) {
	t.Parallel()
	from := 0
	for _, to := range []int{2, 100, 102, 1_000, 20_000} {
		pods, large := 0, 0
		for _, w := range crowd(from, to) {
			pods += w.pods
			if w.epg == largeEPG {
				large += w.pods
			}
		}
		if want := (to - from) / 2; pods != want || large < pods-large || large > pods-large+1 {
			t.Errorf("from %d to %d subnets: %d Pods, of which %d in large EPGs, want %d and half of them", from, to, pods, large, want)
		}
		from = to
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	list := make([]time.Duration, 20)
	for i := range list {
		list[i] = time.Duration(i + 1)
	}
	for p, want := range map[float64]time.Duration{0: 1, 50: 10, 95: 19, 96: 20, 100: 20} {
		if got := percentile(list, p); got != want {
			t.Errorf("p%v of 1 to 20 is %d, want %d", p, got, want)
		}
	}
}

// some are results of a run in which all targets are met, with two rows.
func some() results {
	changes := func(took, cpu time.Duration) single {
		return single{latency: 20 * time.Millisecond, changes: 2, writes: 2, took: []time.Duration{took, took}, cpu: 2 * cpu}
	}
	return results{
		settings: full(),
		rows: []row{
			{
				subnets: 100, start: start{ready: 150 * time.Millisecond, done: 150 * time.Millisecond, requests: 7, peak: 40 << 20},
				repair:  start{missing: 10, ready: 150 * time.Millisecond, done: 300 * time.Millisecond, requests: 11, writes: 2, peak: 40 << 20},
				singles: []single{changes(80*time.Millisecond, 2*time.Millisecond)}, memory: memory{40 << 20, 41 << 20},
			},
			{
				subnets: 20_000, start: start{ready: 4 * time.Second, done: 4 * time.Second, requests: 30, peak: 90 << 20},
				repair: start{missing: 2_000, ready: 4 * time.Second, done: 5 * time.Second, requests: 40, writes: 6, peak: 90 << 20},
				singles: []single{
					changes(100*time.Millisecond, 2*time.Millisecond),
					{latency: 20 * time.Millisecond, churn: 99.6, changes: 2, took: []time.Duration{time.Second, time.Second}},
				},
				memory: memory{80 << 20, 90 << 20},
				burst:  burst{addresses: 5_000, writes: 20, most: 500, arrival: 4 * time.Second, done: time.Second, cpu: 3 * time.Second},
				drifts: []drift{{1, 5, 1, 100 * time.Millisecond}, {5_000, 20, 10, 3 * time.Second}},
			},
		},
		idle: []idle{{20_000, 10 * time.Minute, 50, 10, .001}},
	}
}

func TestTargets(t *testing.T) {
	t.Parallel()
	count := func(r results) (met, missed, unknown int) {
		for _, g := range r.targets() {
			switch {
			case !g.measured():
				unknown++
			case g.met():
				met++
			default:
				missed++
			}
		}
		return met, missed, unknown
	}
	all := len(some().targets())
	for name, test := range map[string]struct {
		change       func(r *results)
		met, unknown int
	}{
		"all met":                     {func(*results) {}, all, 0},
		"a slow change":               {func(r *results) { r.rows[1].singles[0].took[1] = 200 * time.Millisecond }, all - 2, 0},
		"a dear change":               {func(r *results) { r.rows[1].singles[0].cpu *= 2 }, all - 1, 0},
		"a change that costs nothing": {func(r *results) { r.rows[1].singles[0].idle, r.rows[1].singles[0].lasted = .1, time.Second }, all - 1, 1},
		"a slow burst in many writes": {func(r *results) { r.rows[1].burst.done, r.rows[1].burst.writes = 3*time.Second, 23 }, all - 2, 0},
		"drift that lasts":            {func(r *results) { r.rows[1].drifts[1].restored = 6 * time.Second }, all - 1, 0},
		"a start that is all wrong":   {func(r *results) { r.rows[1].start = start{ready: 6 * time.Second, writes: 1, requests: 31} }, all - 3, 0},
		"a busy idle":                 {func(r *results) { r.idle[0].requests = 61 }, all - 1, 0},
		"much memory":                 {func(r *results) { r.rows[1].memory.now = 121 << 20 }, all - 2, 0},
		"no idle, no burst, no drift": {func(r *results) { r.idle, r.rows[1].burst, r.rows[1].drifts = nil, burst{}, nil }, all - 4, 4},
		"nothing large":               {func(r *results) { r.rows = r.rows[:1] }, 1, all - 1},
		"nothing small":               {func(r *results) { r.rows = r.rows[1:] }, all - 3, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := some()
			test.change(&r)
			met, missed, unknown := count(r)
			if met != test.met || unknown != test.unknown {
				t.Errorf("%d met, %d missed, %d unknown; want %d met and %d unknown", met, missed, unknown, test.met, test.unknown)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	r := some()
	r.rows[1].start.ready = 6 * time.Second
	var b strings.Builder
	r.writeReport(&b, "a machine")
	got := strings.Join(strings.Fields(b.String()), " ") // columns are padded
	for _, want := range []string{
		"> a machine",
		"| a single change beside 20,000 subnets, p95 | 150 ms | 100 ms | yes |",
		"| a start with 20,000 in sync: ready | 5.00 s | 6.00 s | **no** |",
		"| 100 | 20 ms | none | 80 ms | 80 ms | 80 ms | 1.00 | 2 for 2 | 2.0 ms | 1.00 |",
		"| 20000 | 20 ms | none | 100 ms | 100 ms | 100 ms | 1.25 | 2 for 2 | 2.0 ms | 1.00 |",
		"| 20000 | 20 ms | 100 | 1000 ms | 1000 ms | 1000 ms | 1.00 | | | |",
		"| 20000 | 5000 | 4.00 s | 1.00 s | 20 | 22 | 250 | 3.00 s | 0.60 ms |",
		"| 20000 | 5000 | 3.00 s | 20 | 10 |",
		"| 20000 | 2000 | 4.00 s | 5.00 s | 40 | 6 | 90 MiB |",
		"| 20000 | 10m0s | 50 | 10 | 5.0 | 0.10 % |",
		"| 20000 | 10000 | 80 MiB | 90 MiB |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report has no %q:\n%s", want, b.String())
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "page.md")
	for _, step := range []struct{ there, report, want string }{
		{"", "one\n", "one\n" + byHand + "\n"},
		{"one\n" + byHand + "\n\nwhy\n", "two\n", "two\n" + byHand + "\n\nwhy\n"},
	} {
		if step.there != "" {
			if err := os.WriteFile(file, []byte(step.there), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := savePage(file, []byte(step.report)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, string(got)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	if err := os.WriteFile(file, []byte("all by hand\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := savePage(file, []byte("three\n")); err == nil {
		t.Error("a page without the line was overwritten")
	}
}
