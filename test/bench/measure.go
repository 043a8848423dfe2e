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

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/haystacknetworks/aci-sync/internal/lab"
)

// settings say what is measured.
type settings struct {
	sizes   []int           // how many subnets are there already, ascending and even
	latency time.Duration   // of a request to the APIC, unless it is said otherwise
	others  []time.Duration // further latencies, for single changes beside the fewest and the most
	changes int             // single ones, at each size
	pace    time.Duration   // from one single change to the next
	churn   int             // Pods that come and go in a second meanwhile, beside the fewest and the most; 0 leaves that out
	burst   int             // addresses that come at once, beside the fewest and the most; 0 leaves that out
	drift   int             // subnets that are deleted by hand, at most a quarter of what is there; 0 leaves that out
	linger  time.Duration   // for how long a start is watched after it has come to rest, for writes that it should not make
	idle    []int           // beside how many subnets it is watched doing nothing meanwhile
	watch   time.Duration   // for how long that is
}

// full is all that docs/performance.md tells.
func full() settings {
	return settings{
		sizes: []int{100, 1_000, 10_000, 20_000}, latency: 20 * time.Millisecond, others: []time.Duration{0, 100 * time.Millisecond},
		// A VRF is quiet half a second after its last write; the next change in it comes a little later.
		changes: 100, pace: 600 * time.Millisecond / l3outs, churn: 100, burst: 5_000, drift: 5_000, linger: 4 * time.Second,
		// Long enough for all that recurs: what is rarest is the periodic read, every ten minutes and a tenth at most.
		idle: []int{1_000, 20_000}, watch: 11 * time.Minute,
	}
}

// quick is what takes two minutes.
func quick() settings {
	s := full()
	s.sizes, s.others, s.changes, s.burst, s.drift, s.idle = []int{100, 10_000}, nil, 50, 2_000, 2_000, nil
	return s
}

// results are all that was measured.
type results struct {
	settings settings
	rows     []row
	idle     []idle
}

// row is what was measured beside one number of subnets.
type row struct {
	subnets int
	repair  start // of a tenth
	start   start // with everything in sync
	singles []single
	memory  memory // after the first single changes
	burst   burst
	drifts  []drift
}

// start is a start of the program.
type start struct {
	missing  int           // subnets that were deleted before
	ready    time.Duration // from its exec until it decides
	done     time.Duration // from its exec until all is in sync
	requests int           // until it has come to rest
	writes   int           // of these
	peak     int           // bytes
}

// single are changes one by one.
type single struct {
	latency         time.Duration // of a request to the APIC
	churn           float64       // Pods a second that came and went meanwhile; 0 when each change found a VRF that had been quiet
	changes, writes int
	took            []time.Duration // each until its subnet was on the APIC, sorted
	cpu, lasted     time.Duration   // of all of them; no CPU under churn
	idle            float64         // seconds of CPU in a second in which nothing happens
}

// cpuEach is the CPU of a change, without what it takes idle.
func (s single) cpuEach() time.Duration {
	return (s.cpu - time.Duration(s.idle*float64(s.lasted))) / time.Duration(s.changes)
}

// burst are many addresses at once.
type burst struct {
	addresses, writes int
	most              int           // subnets in one write
	arrival           time.Duration // from the first to the last of them at the API server
	done              time.Duration // from then until the last is on the APIC
	cpu               time.Duration
}

// allowed is how many writes a burst may take.
func (b burst) allowed() float64 { return float64(b.addresses)/maxSubnets + 3*b.arrival.Seconds() }

// drift are subnets that somebody deletes by hand.
type drift struct {
	deleted, requests, writes int
	restored                  time.Duration
}

// memory is that of the process, in bytes.
type memory struct{ now, peak int }

// rig is what is measured and what it is measured with. It is used by one goroutine.
type rig struct {
	name      string   // of the tenant, and the cluster's id
	flags     []string // of aci-sync, besides
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

func newRig(ctx context.Context, name string, l *lab.Lab, bare bool, binary, dir string, say func(string, ...any)) (*rig, error) {
	cfg := l.RESTConfig()
	cfg.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	r := &rig{name: name, lab: l, bare: bare, client: client, binary: binary, dir: dir, ips: newAddresses(), say: say}
	if err := os.Remove(filepath.Join(dir, logName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if r.namespace, r.drop, err = l.Namespace(ctx, name); err != nil {
		return nil, err
	}
	if r.fabric, err = newFabric(ctx, name, filepath.Join(dir, "apic-ca.pem")); err != nil {
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
	r.fabric.latency.Store(int64(s.latency))
	if err := r.run(); err != nil {
		return nil, err
	}
	var rows []row
	for i, size := range s.sizes {
		began := time.Now()
		if err := r.fill(ctx, size); err != nil {
			return rows, err
		}
		here := s
		if i > 0 && i < len(s.sizes)-1 {
			here.others, here.churn, here.burst = nil, 0, 0
		}
		row, err := r.beside(ctx, here, size)
		if err != nil {
			return rows, fmt.Errorf("beside %d subnets: %w", size, err)
		}
		r.say("%d subnets: done after %v", size, time.Since(began).Round(time.Second))
		rows = append(rows, row)
	}
	return rows, nil
}

// run starts aci-sync unless it runs.
func (r *rig) run() (err error) {
	if r.sync == nil {
		r.sync, err = r.startSync()
	}
	return err
}

// fill brings what is there to a number of subnets.
func (r *rig) fill(ctx context.Context, to int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("fill up to %d subnets: %w", to, err)
		}
	}()
	r.say("%d subnets: filling up from %d ...", to, r.there)
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
	r.say("%d subnets: starting anew, with %d missing and with none ...", size, size/10)
	if row.repair, err = r.restart(ctx, size, size/10); err != nil {
		return row, fmt.Errorf("start with subnets missing: %w", err)
	}
	since := r.fabric.now()
	if row.start, err = r.restart(ctx, size, 0); err != nil {
		return row, fmt.Errorf("start: %w", err)
	}
	if err := pause(ctx, s.linger); err != nil {
		return row, err
	}
	row.start.writes = len(r.fabric.writes(since))
	for i, latency := range append([]time.Duration{s.latency}, s.others...) {
		pace := s.pace + latency // what is slow lasts
		r.say("%d subnets: %d changes, one every %v, the APIC takes %v ...", size, s.changes, pace, latency)
		r.fabric.latency.Store(int64(latency))
		one, err := r.single(ctx, s.changes, pace, 0, fmt.Sprintf("single%d-%d", size, i))
		if err != nil {
			return row, fmt.Errorf("single changes: %w", err)
		}
		row.singles = append(row.singles, one)
		if row.memory.now != 0 {
			continue
		}
		if row.memory.now, row.memory.peak, err = r.sync.memory(); err != nil {
			return row, err
		}
	}
	r.fabric.latency.Store(int64(s.latency))
	// As long as the changes took, and after them, when what a start leaves behind has been tidied up.
	if err := r.rest(ctx); err != nil {
		return row, fmt.Errorf("idle: %w", err)
	}
	idle, err := r.idle(ctx, row.singles[0].lasted)
	if err != nil {
		return row, fmt.Errorf("idle: %w", err)
	}
	for i := range row.singles {
		row.singles[i].idle = idle
	}
	if s.churn > 0 {
		r.say("%d subnets: %d changes among %d Pods that come and go every second ...", size, s.changes, s.churn)
		one, err := r.single(ctx, s.changes, s.pace, s.churn, fmt.Sprintf("churn%d", size))
		if err != nil {
			return row, fmt.Errorf("changes under churn: %w", err)
		}
		row.singles = append(row.singles, one)
	}
	if s.burst > 0 {
		r.say("%d subnets: %d addresses at once ...", size, s.burst)
		if row.burst, err = r.burst(ctx, s.burst, size, fmt.Sprintf("burst%d", size)); err != nil {
			return row, fmt.Errorf("burst: %w", err)
		}
	}
	if s.drift > 0 {
		for _, n := range []int{1, min(s.drift, size/4)} {
			r.say("%d subnets: %d deleted by hand ...", size, n)
			d, err := r.drift(ctx, size, n)
			if err != nil {
				return row, fmt.Errorf("drift: %w", err)
			}
			row.drifts = append(row.drifts, d)
		}
	}
	return row, nil
}

// restart kills aci-sync and starts it with so many subnets missing of those that should be there.
func (r *rig) restart(ctx context.Context, size, missing int) (start, error) {
	if err := r.rest(ctx); err != nil {
		return start{}, err
	}
	r.sync.kill()
	if _, err := r.fabric.lose(r.name, missing); err != nil {
		return start{}, err
	}
	since := r.fabric.now()
	var err error
	if r.sync, err = r.startSync(); err != nil {
		return start{}, err
	}
	c, err := r.sync.inControl(ctx)
	if err == nil && c.subnets != size-missing {
		err = fmt.Errorf("it took %d subnets for its own, not %d", c.subnets, size-missing)
	}
	if err == nil {
		err = r.fabric.holds(ctx, size)
	}
	if err == nil {
		err = r.rest(ctx)
	}
	if err != nil {
		return start{}, err
	}
	out := start{missing: missing, ready: c.at.Sub(r.sync.began), requests: len(r.fabric.sim.Requests(since))}
	out.done = out.ready
	writes := r.fabric.writes(since)
	for _, w := range writes {
		out.done = max(out.done, w.Time.Sub(r.sync.began))
	}
	out.writes = len(writes)
	_, out.peak, err = r.sync.memory()
	return out, err
}

// rest waits until aci-sync computes nothing worth counting. On a control plane that others use it
// never does, and there only counts matter.
func (r *rig) rest(ctx context.Context) error {
	if !r.bare {
		return nil
	}
	return r.sync.rest(ctx)
}

// idle watches it doing nothing, and returns the seconds of CPU in a second.
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

// single gives one Pod after the other its address, in the large EPGs by turns, while so many others
// come and go in a second.
func (r *rig) single(ctx context.Context, changes int, pace time.Duration, churn int, step string) (out single, err error) {
	var list []workload
	for i := range l3outs {
		list = append(list, workload{name: fmt.Sprintf("%s-%d", step, i), epg: largeEPG, l3out: i, pods: share(changes, i)})
	}
	if churn > 0 {
		const spare = 10 * time.Second
		n := int(float64(churn) / 2 * (time.Duration(changes)*pace + spare).Seconds())
		for i := range l3outs {
			list = append(list, workload{name: fmt.Sprintf("%s-others%d", step, i), epg: largeEPG, l3out: i, pods: share(n, i)})
		}
	}
	pods, err := r.make(ctx, step, list)
	if err == nil {
		err = r.rest(ctx)
	}
	if err != nil {
		return out, err
	}
	g, gctx := errgroup.WithContext(ctx)
	stop := make(chan struct{})
	if churn > 0 {
		var others []string // of both L3Outs by turns
		for i := range len(pods[l3outs]) + len(pods[l3outs+1]) {
			others = append(others, pods[l3outs+i%l3outs][i/l3outs])
		}
		g.Go(func() (err error) {
			out.churn, err = r.churn(gctx, stop, others, churn)
			return err
		})
		if err := pause(gctx, 2*time.Second); err != nil { // until as many go as come
			return out, errors.Join(err, g.Wait())
		}
	}
	g.Go(func() error {
		defer close(stop)
		return r.oneByOne(gctx, pods[:l3outs], pace, changes, &out)
	})
	if err := g.Wait(); err != nil {
		return out, err
	}
	if churn > 0 {
		out.cpu, out.writes = 0, 0 // of others as well
	}
	if err := r.remove(ctx, step); err != nil {
		return out, err
	}
	return out, r.fabric.holds(ctx, r.there)
}

// oneByOne makes single changes and puts down what they took.
func (r *rig) oneByOne(ctx context.Context, pods [][]string, pace time.Duration, changes int, out *single) error {
	out.latency, out.changes, out.took = time.Duration(r.fabric.latency.Load()), changes, make([]time.Duration, changes)
	since := r.fabric.now()
	before, err := r.sync.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	g, waiting := errgroup.WithContext(ctx)
	for i := range changes {
		if err := pause(waiting, time.Until(began.Add(time.Duration(i)*pace))); err != nil {
			return errors.Join(err, g.Wait())
		}
		seq, ip := r.fabric.now(), r.ips.one()
		if err := r.address(waiting, pods[i%l3outs][i/l3outs], ip); err != nil {
			return errors.Join(err, g.Wait())
		}
		accepted := time.Now()
		g.Go(func() error {
			at, err := r.fabric.written(waiting, seq, ip[0])
			out.took[i] = at.Sub(accepted)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := pause(ctx, pace); err != nil {
		return err
	}
	after, err := r.sync.cpu()
	out.writes = len(r.fabric.writes(since))
	out.cpu, out.lasted = after-before, time.Since(began)
	slices.Sort(out.took)
	return err
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
	if err != nil {
		return out, err
	}
	out.cpu = after - before
	if err := r.remove(ctx, step); err != nil {
		return out, err
	}
	return out, r.fabric.holds(ctx, there)
}

// drift deletes subnets on the APIC by hand and watches them come back.
func (r *rig) drift(ctx context.Context, size, n int) (drift, error) {
	if err := r.rest(ctx); err != nil {
		return drift{}, err
	}
	out, since := drift{deleted: n}, r.fabric.now()
	gone, err := r.fabric.lose(r.name, n)
	if err == nil {
		err = r.fabric.holds(ctx, size)
	}
	if err == nil {
		err = r.rest(ctx)
	}
	if err != nil {
		return out, err
	}
	for _, w := range r.fabric.writes(since) {
		out.writes++
		out.restored = max(out.restored, w.Time.Sub(gone))
	}
	out.requests = len(r.fabric.sim.Requests(since))
	return out, nil
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
		if most := restoreWrites(r.repair.missing); r.repair.writes > most {
			complain("a start with %d subnets missing made %d writes, more than %d", r.repair.missing, r.repair.writes, most)
		}
		for _, s := range r.singles {
			if s.churn == 0 && s.writes != s.changes {
				complain("%d single changes were %d writes", s.changes, s.writes)
			}
		}
		if most := r.burst.allowed(); float64(r.burst.writes) > most {
			complain("%d addresses within %v were %d writes, more than %.1f", r.burst.addresses, r.burst.arrival, r.burst.writes, most)
		}
		for _, d := range r.drifts {
			if most := restoreWrites(d.deleted); d.writes > most {
				complain("%d deleted subnets were restored in %d writes, more than %d", d.deleted, d.writes, most)
			}
		}
		if r.burst.most > maxSubnets {
			complain("a write carried %d subnets, more than %d", r.burst.most, maxSubnets)
		}
	}
	return errors.Join(errs...)
}

// maxSubnets is how many subnets one write may carry.
const maxSubnets = 500

// restoreWrites is how many writes it may take to restore subnets: as many as they fill, and one more for each
// L3Out, since news of what one request deleted may come in two parts.
func restoreWrites(subnets int) int { return subnets/maxSubnets + 2*l3outs }

// startRequests is how many requests a start may take:
//   - eight: to log in, to open the WebSocket, to find what bears our mark, to subscribe to the faults of
//     leafs and to the relations of L3Outs to VRFs, to read these, and to count external EPGs;
//   - two for each L3Out: to subscribe to it and to read it;
//   - three more for each L3Out that does not fit a page: what is few, then subnets and tags apart;
//   - one for each further page of all marks, of subnets and of tags.
func startRequests(subnets int) int {
	const page = 5_000
	most := 8 + 2*l3outs
	if subnets*2/l3outs > page*9/10 {
		most += 3 * l3outs
	}
	return most + 3*(subnets/page)
}
