package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// settings say what is measured.
type settings struct {
	sizes   []int         // how many subnets are there already, ascending and even
	changes int           // single ones, at each size
	burst   int           // addresses that come at once, at each size; 0 leaves that out
	pace    time.Duration // from one single change to the next
	idle    time.Duration // for how long it is watched doing nothing
}

// quick is what takes few minutes.
func quick() settings {
	return settings{
		sizes: []int{100, 1_000, 10_000, 20_000}, changes: 160, burst: 2_000,
		// A VRF is quiet half a second after its last write; the next change in it comes a little later.
		pace: 600 * time.Millisecond / l3outs, idle: 4 * time.Second,
	}
}

// row is what was measured beside one number of subnets.
type row struct {
	subnets int
	start   start
	idle    float64 // CPU seconds a second
	single  single
	burst   burst
	memory  memory
}

// start is a start of the program with everything in sync.
type start struct {
	ready    time.Duration // from its exec until it decides
	requests int           // until it has come to rest
	writes   int           // until the first single change
}

// single are changes one by one, each beside a VRF that has been quiet.
type single struct {
	changes, writes int
	latency         []time.Duration // sorted
	cpu             time.Duration   // of a change, without what it takes idle
}

// burst are many addresses at once.
type burst struct {
	addresses, writes int
	most              int           // subnets in one write
	arrival           time.Duration // from the first to the last of them at the API server
	done              time.Duration // from then until the last is on the APIC
	cpu               time.Duration
}

// memory is that of the process, in bytes.
type memory struct{ now, peak int }

// rig is what is measured and what it is measured with. It is used by one goroutine.
type rig struct {
	lab       *lab.Lab
	bare      bool // nobody but us makes Pods
	namespace string
	drop      func(context.Context) error
	client    *kubernetes.Clientset
	fabric    *fabric
	binary    string
	dir       string   // for files
	env       []string // of aci-sync, besides
	sync      *process // nil before the first start
	ips       *addresses
	there     int // subnets, when nothing is being measured
	say       func(format string, args ...any)
}

func newRig(ctx context.Context, l *lab.Lab, bare bool, binary, dir string, say func(string, ...any)) (*rig, error) {
	cfg := l.RESTConfig()
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	r := &rig{lab: l, bare: bare, client: client, binary: binary, dir: dir, ips: newAddresses(), say: say}
	if err := os.Remove(filepath.Join(dir, logName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if r.namespace, r.drop, err = l.Namespace(ctx, "bench"); err != nil {
		return nil, err
	}
	if r.fabric, err = newFabric(ctx, filepath.Join(dir, "apic-ca.pem")); err != nil {
		return nil, errors.Join(err, r.drop(context.WithoutCancel(ctx)))
	}
	return r, nil
}

func (r *rig) close(ctx context.Context) error {
	if r.sync != nil {
		r.sync.kill()
	}
	r.fabric.close()
	return r.drop(context.WithoutCancel(ctx))
}

// measure makes one row after the other, going on from what is there. After an error it returns
// those that are whole.
func (r *rig) measure(ctx context.Context, s settings) ([]row, error) {
	if r.sync == nil {
		var err error
		if r.sync, err = r.startSync(); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, size := range s.sizes {
		began := time.Now()
		r.say("%d subnets: filling up from %d ...", size, r.there)
		if err := r.fill(ctx, size); err != nil {
			return rows, fmt.Errorf("fill up to %d subnets: %w", size, err)
		}
		row, err := r.beside(ctx, s, size)
		if err != nil {
			return rows, fmt.Errorf("beside %d subnets: %w", size, err)
		}
		r.say("%d subnets: done after %v", size, time.Since(began).Round(time.Second))
		rows = append(rows, row)
	}
	return rows, nil
}

// fill brings what is there to a number of subnets.
func (r *rig) fill(ctx context.Context, to int) error {
	pods, err := r.make(ctx, fmt.Sprintf("s%d", to), crowd(r.there, to))
	if err != nil {
		return err
	}
	all := slices.Concat(pods...)
	ips := make([][]string, len(all))
	for i := range all {
		ips[i] = r.ips.both()
	}
	if err := parallel(ctx, len(all), func(ctx context.Context, i int) error { return r.address(ctx, all[i], ips[i]) }); err != nil {
		return err
	}
	r.there = to
	return r.fabric.holds(ctx, to)
}

// beside measures everything beside so many subnets, which are there.
func (r *rig) beside(ctx context.Context, s settings, size int) (row, error) {
	row := row{subnets: size}
	var err error
	r.say("%d subnets: starting anew ...", size)
	since := r.fabric.now()
	if row.start, err = r.restart(ctx, size); err != nil {
		return row, fmt.Errorf("start: %w", err)
	}
	if row.idle, err = r.idle(ctx, s.idle); err != nil {
		return row, fmt.Errorf("idle: %w", err)
	}
	r.say("%d subnets: %d changes, one every %v ...", size, s.changes, s.pace)
	if row.single, err = r.single(ctx, s, row.idle, fmt.Sprintf("single%d", size)); err != nil {
		return row, fmt.Errorf("single changes: %w", err)
	}
	row.start.writes = len(r.fabric.writes(since)) - row.single.writes
	if row.memory.now, row.memory.peak, err = r.sync.memory(); err != nil {
		return row, err
	}
	if s.burst > 0 {
		r.say("%d subnets: %d addresses at once ...", size, s.burst)
		if row.burst, err = r.burst(ctx, s.burst, size+s.changes, fmt.Sprintf("burst%d", size)); err != nil {
			return row, fmt.Errorf("burst: %w", err)
		}
	}
	for _, step := range []string{"single", "burst"} {
		if err := r.remove(ctx, fmt.Sprintf("%s%d", step, size)); err != nil {
			return row, err
		}
	}
	return row, r.fabric.holds(ctx, size)
}

// restart kills aci-sync and starts it with everything in sync.
func (r *rig) restart(ctx context.Context, size int) (start, error) {
	if err := r.rest(ctx); err != nil {
		return start{}, err
	}
	r.sync.kill()
	since := r.fabric.now()
	var err error
	if r.sync, err = r.startSync(); err != nil {
		return start{}, err
	}
	c, err := r.sync.inControl(ctx)
	if err == nil && c.subnets != size {
		err = fmt.Errorf("it took %d subnets for its own, not %d", c.subnets, size)
	}
	if err == nil {
		err = r.rest(ctx)
	}
	return start{ready: c.at.Sub(r.sync.began), requests: len(r.fabric.sim.Requests(since))}, err
}

// rest waits until aci-sync computes nothing worth counting. On a control plane that others use it
// never does, and there only counts matter.
func (r *rig) rest(ctx context.Context) error {
	if !r.bare {
		return nil
	}
	return r.sync.rest(ctx)
}

// idle watches it doing nothing.
func (r *rig) idle(ctx context.Context, d time.Duration) (float64, error) {
	before, err := r.sync.cpu()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := pause(ctx, d); err != nil {
		return 0, err
	}
	after, err := r.sync.cpu()
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// single gives one Pod after the other its address, in the large EPGs by turns.
func (r *rig) single(ctx context.Context, s settings, idle float64, step string) (single, error) {
	var list []workload
	for i := range l3outs {
		list = append(list, workload{name: fmt.Sprintf("%s-%d", step, i), epg: largeEPG, l3out: i, pods: share(s.changes, i)})
	}
	pods, err := r.make(ctx, step, list)
	if err == nil {
		err = r.rest(ctx)
	}
	if err != nil {
		return single{}, err
	}
	out := single{changes: s.changes}
	since := r.fabric.now()
	before, err := r.sync.cpu()
	if err != nil {
		return out, err
	}
	began := time.Now()
	for i := range s.changes {
		if err := pause(ctx, time.Until(began.Add(time.Duration(i)*s.pace))); err != nil {
			return out, err
		}
		seq, ip := r.fabric.now(), r.ips.one()
		if err := r.address(ctx, pods[i%l3outs][i/l3outs], ip); err != nil {
			return out, err
		}
		accepted := time.Now()
		at, err := r.fabric.written(ctx, seq, ip[0])
		if err != nil {
			return out, err
		}
		out.latency = append(out.latency, at.Sub(accepted))
	}
	if err := pause(ctx, s.pace); err != nil {
		return out, err
	}
	after, err := r.sync.cpu()
	took := time.Since(began)
	out.writes = len(r.fabric.writes(since))
	out.cpu = (after - before - time.Duration(idle*float64(took))) / time.Duration(s.changes)
	slices.Sort(out.latency)
	return out, err
}

// burst gives many Pods their address as fast as the API server takes it, all in one EPG.
func (r *rig) burst(ctx context.Context, n, there int, step string) (burst, error) {
	pods, err := r.make(ctx, step, []workload{{name: step, epg: largeEPG, pods: n}})
	if err == nil {
		err = r.rest(ctx)
	}
	if err != nil {
		return burst{}, err
	}
	out := burst{addresses: n}
	since := r.fabric.now()
	before, err := r.sync.cpu()
	if err != nil {
		return out, err
	}
	ips := make([][]string, n)
	for i := range ips {
		ips[i] = r.ips.one()
	}
	began := time.Now()
	if err := parallel(ctx, n, func(ctx context.Context, i int) error { return r.address(ctx, pods[0][i], ips[i]) }); err != nil {
		return out, err
	}
	arrived := time.Now()
	out.arrival = arrived.Sub(began)
	if err := r.fabric.holds(ctx, there+n); err != nil {
		return out, err
	}
	writes := r.fabric.writes(since)
	for _, w := range writes {
		out.most = max(out.most, subnetsIn(w))
		out.done = max(0, w.Time.Sub(arrived))
	}
	out.writes = len(writes)
	if err := r.rest(ctx); err != nil {
		return out, err
	}
	after, err := r.sync.cpu()
	out.cpu = after - before
	return out, err
}

// percentile is the smallest of sorted durations that p percent do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[max(1, int(math.Ceil(p/100*float64(len(sorted)))))-1]
}

// wrong tells which counts are not as promised. They do not depend on how fast the machine is.
func wrong(rows []row) error {
	var errs []error
	for _, r := range rows {
		complain := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("beside %d subnets: %s", r.subnets, fmt.Sprintf(format, args...)))
		}
		if r.start.writes != 0 {
			complain("a start with everything in sync made %d writes", r.start.writes)
		}
		if most := startRequests(r.subnets); r.start.requests > most {
			complain("a start made %d requests, more than %d", r.start.requests, most)
		}
		if r.single.writes != r.single.changes {
			complain("%d single changes were %d writes", r.single.changes, r.single.writes)
		}
		if most := float64(r.burst.addresses)/maxSubnets + 3*r.burst.arrival.Seconds(); float64(r.burst.writes) > most {
			complain("%d addresses within %v were %d writes, more than %.1f", r.burst.addresses, r.burst.arrival, r.burst.writes, most)
		}
		if r.burst.most > maxSubnets {
			complain("a write carried %d subnets, more than %d", r.burst.most, maxSubnets)
		}
	}
	return errors.Join(errs...)
}

// maxSubnets is how many subnets one write may carry.
const maxSubnets = 500

// startRequests is how many requests a start may take:
//   - seven: to log in, to open the WebSocket, to find what bears our mark, to subscribe to the faults of
//     leafs and to the relations of L3Outs to VRFs, and to read these;
//   - two for each L3Out: to subscribe to it and to read it;
//   - three more for each L3Out that does not fit a page: what is few, then subnets and tags apart;
//   - one for each further page of all marks, of subnets and of tags.
func startRequests(subnets int) int {
	const page = 5_000
	most := 7 + 2*l3outs
	if subnets*2/l3outs > page*9/10 {
		most += 3 * l3outs
	}
	return most + 3*(subnets/page)
}
