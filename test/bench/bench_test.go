package main

import (
	"context"
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
	r, err := newRig(ctx, l, false, binary, dir, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.close(ctx); err != nil {
			t.Error(err)
		}
	})
	q := quick()
	for _, s := range []settings{
		{sizes: []int{100}, changes: 10, pace: q.pace},
		{sizes: []int{1_000}, changes: 10, pace: q.pace, burst: q.burst},
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
			subnets: 1_000, start: start{requests: 11}, single: single{changes: 10, writes: 10},
			burst: burst{addresses: 2_000, writes: 10, most: 500, arrival: 2 * time.Second},
		}
	}
	for name, test := range map[string]struct {
		change func(r *row)
		want   string // part of the error; "" for none
	}{
		"all as promised":                {func(*row) {}, ""},
		"a start that writes":            {func(r *row) { r.start.writes = 1 }, "made 1 writes"},
		"a start that asks too much":     {func(r *row) { r.start.requests = 12 }, "12 requests, more than 11"},
		"a start that pages":             {func(r *row) { r.subnets, r.start.requests = 20_000, 29 }, ""},
		"a start that pages too much":    {func(r *row) { r.subnets, r.start.requests = 20_000, 30 }, "30 requests, more than 29"},
		"a change that takes two writes": {func(r *row) { r.single.writes = 11 }, "10 single changes were 11 writes"},
		"a change that got lost":         {func(r *row) { r.single.writes = 9 }, "10 single changes were 9 writes"},
		"a burst in too many writes":     {func(r *row) { r.burst.writes = 11 }, "11 writes, more than 10.0"},
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

func TestWriteTable(t *testing.T) {
	t.Parallel()
	rows := []row{
		{
			subnets: 100, start: start{150 * time.Millisecond, 7, 0}, idle: .001,
			single: single{160, 160, []time.Duration{50 * time.Millisecond, 60 * time.Millisecond}, 2 * time.Millisecond},
			burst:  burst{2_000, 10, 400, 2 * time.Second, 240 * time.Millisecond, 600 * time.Millisecond}, memory: memory{40 << 20, 41 << 20},
		},
		{
			subnets: 20_000, start: start{1500 * time.Millisecond, 32, 0}, idle: .02,
			single: single{160, 160, []time.Duration{51 * time.Millisecond, 90 * time.Millisecond}, 3 * time.Millisecond},
			burst:  burst{2_000, 12, 500, 3 * time.Second, 100 * time.Millisecond, 700 * time.Millisecond}, memory: memory{137 << 20, 195 << 20},
		},
	}
	want := `
           160 single changes                   2000 addresses at once              start in sync          process
subnets           p50         p95        cpu    arrive  done  writes  each   cpu    ready  reqs  writes    MiB  peak  idle
    100    50.0 x1.00  60.0 x1.00  2.0 x1.00      2.00  0.24      10   200  0.30     0.15     7       0     40    41  0.1%
  20000    51.0 x1.02  90.0 x1.50  3.0 x1.50      3.00  0.10      12   167  0.35     1.50    32       0    137   195  2.0%
`
	var b strings.Builder
	writeTable(&b, quick(), rows)
	table, legend, _ := strings.Cut(b.String(), "\n\n")
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), table+"\n"); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for _, c := range columns(quick()) {
		if c.meaning == "" || !strings.Contains(legend, c.meaning) {
			t.Errorf("nothing says what %s means", c.name)
		}
	}
}
