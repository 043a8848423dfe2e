package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// idle is what an aci-sync takes that has nothing to do.
type idle struct {
	subnets             int
	took                time.Duration
	requests, refreshes int
	cpu                 float64 // seconds a second
}

// watch are aci-sync that have nothing to do, each with a fabric of its own, on a control plane on
// which nothing happens. What recurs takes minutes to recur; so they are watched while all else is
// measured, which they hardly disturb: that an idle one takes next to nothing is what they show.
type watch struct {
	rigs  []*rig
	began time.Time
	since []int           // of each: its last request before
	cpu   []time.Duration // of each: what it had computed before
}

// newWatch begins to watch one aci-sync for each size, started as by default. The caller closes it, also after an error.
func newWatch(ctx context.Context, l *lab.Lab, sizes []int, latency time.Duration, binary, dir string, say func(string, ...any)) (*watch, error) {
	w := &watch{}
	for _, size := range sizes {
		name := fmt.Sprintf("idle%d", size)
		own := filepath.Join(dir, name)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return w, err
		}
		r, err := newRig(ctx, name, l, true, binary, own, say)
		if err != nil {
			return w, err
		}
		w.rigs = append(w.rigs, r)
		r.fabric.latency.Store(int64(latency))
		if err := r.run(); err != nil {
			return w, err
		}
		if err := r.fill(ctx, size); err != nil {
			return w, err
		}
	}
	for _, r := range w.rigs {
		if _, err := r.restart(ctx, r.there, 0); err != nil { // after it all that recurs is at its beginning
			return w, err
		}
	}
	for _, r := range w.rigs {
		cpu, err := r.sync.cpu()
		if err != nil {
			return w, err
		}
		w.since, w.cpu = append(w.since, r.fabric.now()), append(w.cpu, cpu)
	}
	w.began = time.Now()
	return w, nil
}

// seen waits until they have been watched for d, and tells what they did.
func (w *watch) seen(ctx context.Context, d time.Duration) ([]idle, error) {
	if err := pause(ctx, time.Until(w.began.Add(d))); err != nil {
		return nil, err
	}
	var out []idle
	for i, r := range w.rigs {
		cpu, err := r.sync.cpu()
		if err != nil {
			return out, err
		}
		took := time.Since(w.began)
		one := idle{subnets: r.there, took: took, cpu: (cpu - w.cpu[i]).Seconds() / took.Seconds()}
		for _, q := range r.fabric.sim.Requests(w.since[i]) {
			one.requests++
			if strings.HasSuffix(q.Path, "Refresh.json") { // of the session, of a subscription
				one.refreshes++
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func (w *watch) close(ctx context.Context) error {
	var errs []error
	for _, r := range w.rigs {
		errs = append(errs, r.close(ctx))
	}
	return errors.Join(errs...)
}
