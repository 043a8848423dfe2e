package history_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/kube"
	"github.com/haystacknetworks/aci-sync/test/history"
)

const (
	// elected is how long it may take until somebody leads when nothing stands in the way any more: a lease runs
	// out, an elector looks, and what died has started again.
	elected = 30 * time.Second
	// shutdown is how long a process has to end before it is over, and release how long it may take then to give
	// the lease up: those of aci-sync run.
	shutdown, release = 4 * time.Second, time.Second
	// apiTimeout bounds a request to the API server: that of the lease.
	apiTimeout = 4 * time.Second
	// apiLatency is how long a request to it is on its way at least, and its answer again; twice that at most. It is
	// never the same twice: what happens at one moment happens in any order, which no seed knows.
	apiLatency = 5 * time.Millisecond
)

// leaders are replicas, one of which leads. What aci-sync run does with a lease is done here as it does it; what a
// process is that does not run is described at halt.
type leaders struct {
	world *world
	lease register
	dry   *replica

	mu sync.Mutex
	// mu guards the fields below.
	list    []*replica // in the order in which they began
	started int
	due     []time.Time // when those that ended start again
}

// replica is one process from its start to its end.
type replica struct {
	*run
	id     string
	dry    bool
	lease  *kube.Lease
	held   *flow         // the process runs
	ended  chan struct{} // closed when it has
	stop   func()        // tells it to end
	chance func() float64
	after  time.Duration // how long it is down then

	// What it was told of the cluster.
	told  map[history.Ref]metav1.Object
	mind  *history.Mind
	heard map[aci.ExtEPG]bool // records

	mu sync.Mutex
	// mu guards the fields below.
	cut, slow bool // from the API server
	missed    bool // it was cut off, and does not know yet what happened
	leads     bool
	over      bool
	asked     time.Time // when it was told to end
}

func replicas(with map[string]bool) int {
	switch {
	case with["three"]:
		return 3
	case with["two"]:
		return 2
	}
	return 0
}

func newLeaders(w *world, n int) *leaders {
	return &leaders{world: w, due: make([]time.Time, n)}
}

// begin starts all replicas.
func (l *leaders) begin() {
	if l.world.with["dry"] && l.dry == nil {
		l.dry = l.replica(true)
	}
	l.tend()
}

// replica starts a process.
func (l *leaders) replica(dry bool) *replica {
	w := l.world
	l.started++
	p := &replica{
		id: fmt.Sprintf("r%d", l.started), dry: dry, held: newFlow(), ended: make(chan struct{}), after: 3 * time.Second, heard: map[aci.ExtEPG]bool{},
		chance: w.wire.random(),
	}
	p.run = &run{world: w, flying: map[string]int{}, made: map[string]bool{}, replica: p}
	p.listen()
	p.lease = kube.LeaseOf(&lock{register: &l.lease, replica: p})
	w.buildOf(p.run, false)
	p.mind = w.newMind()
	p.mind.Hear(w.cluster.Clone())
	p.with(func() { w.inform(p.loop) })
	w.mu.Lock()
	for e := range w.records {
		p.heard[e] = true
	}
	w.mu.Unlock()
	ctx, stop := context.WithCancel(w.t.Context())
	p.stop = func() {
		p.mu.Lock()
		p.asked = time.Now()
		p.mu.Unlock()
		stop()
	}
	if dry {
		go p.rehearse(ctx)
	} else {
		go p.live(ctx)
	}
	return p
}

// with lets f tell the replica something as the world tells its only one.
func (p *replica) with(f func()) {
	w := p.world
	run, told, mind := w.run, w.told, w.mind
	w.run, w.told, w.mind = p.run, p.told, p.mind
	f()
	p.told = w.told
	w.run, w.told, w.mind = run, told, mind
}

// rehearse is a dry run: it takes no lease.
func (p *replica) rehearse(ctx context.Context) {
	defer close(p.ended)
	p.lead(ctx)
}

// latency is how long the next request, or its answer, is on its way.
func (p *replica) latency() time.Duration {
	return apiLatency + time.Duration(p.chance()*float64(apiLatency))
}

// live is a process with a lease: it waits until it leads, and ends when it does not any more.
func (p *replica) live(ctx context.Context) {
	defer close(p.ended)
	leading, end := context.WithCancel(context.WithoutCancel(ctx))
	electing, endElection := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), klog.Logger{}))
	finished, elected := make(chan struct{}), make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: p.lease, LeaseDuration: kube.LeaseDuration, RenewDeadline: kube.RenewDeadline, RetryPeriod: kube.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) {
				_ = p.held.wait(nil)
				p.mu.Lock()
				p.leads = !p.over
				leads := p.leads
				p.mu.Unlock()
				if leads {
					p.lead(leading)
					close(finished)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		p.t.Error(err)
	}
	go func() { elector.Run(electing); close(elected) }()
	lost := make(chan struct{})
	go func() { defer close(lost); _ = p.lease.Run(leading) }() // why it was lost is for its own tests
	select {
	case <-ctx.Done():
	case <-elected:
	case <-lost:
	}
	_ = p.held.wait(nil)
	p.mu.Lock()
	p.over = true
	led := p.leads
	p.mu.Unlock()
	end()
	<-lost
	inTime := led
	if led {
		select {
		case <-finished:
		case <-time.After(shutdown):
			inTime = false
			p.die()
			<-finished
		}
	}
	endElection()
	<-elected
	if inTime && p.client.Settled() && !p.isDead() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), release)
		defer cancel()
		_ = p.lease.Release(ctx)
	}
	p.die()
}

// lead is what aci-sync run does when it leads.
func (p *replica) lead(ctx context.Context) {
	session, logout := context.WithCancel(context.WithoutCancel(ctx))
	closed := make(chan error)
	go func() { closed <- p.client.Run(session) }()
	err := p.loop.Run(ctx)
	logout()
	if err := errors.Join(err, <-closed); err != nil {
		p.t.Errorf("%s: %v", p.id, err)
	}
}

// What a run asks of its replica. A nil one is a process that runs without a lease.

func (p *replica) isDry() bool { return p != nil && p.dry }

// gate is that of the client.
func (p *replica) gate() func() (time.Time, error) {
	switch {
	case p == nil:
		return nil
	case p.dry:
		return apic.ReadOnly
	}
	return func() (time.Time, error) {
		_ = p.held.wait(nil) // who does not run does not ask
		return p.lease.MayWrite()
	}
}

// way is the address of the APIC by which it knows the replica.
func (p *replica) way(addr string) string {
	if p == nil {
		return addr
	}
	return p.id + ":80"
}

// outgoing is a connection of the process.
func (p *replica) outgoing(c net.Conn) net.Conn {
	if h, ok := c.(*held); ok && p != nil {
		h.halt = p.held
	}
	return c
}

var errCut = errors.New("the network is cut")

// travel is the way to the API server, or back.
func (p *replica) travel(ctx context.Context) error {
	if err := p.held.wait(nil); err != nil {
		return err
	}
	select { // who has not run for a while hears of it later than it goes on
	case <-time.After(p.latency()):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := p.held.wait(nil); err != nil {
		return err
	}
	p.mu.Lock()
	cut, slow := p.cut, p.slow
	p.mu.Unlock()
	switch {
	case p.isDead():
		return errDead
	case cut:
		<-ctx.Done()
		_ = p.held.wait(nil)
		return errCut
	case slow:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(1300 * time.Millisecond):
		}
		return p.held.wait(nil)
	}
	return nil
}

// reach lets a replica write to the cluster. One that no longer leads has an old copy of what it writes, and is
// told of a conflict.
func (p *replica) reach(ctx context.Context) error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := p.travel(ctx); err != nil {
		return err
	}
	if r := p.leaders.lease.read(); r == nil || r.HolderIdentity != p.id {
		return apierrors.NewConflict(leases, "record", errors.New("changed"))
	}
	return nil
}

// recorded tells of a record all who can hear it; e is gone when rec is nil.
func (r *run) recorded(e aci.ExtEPG, rec *desired.Record) {
	r.loop.Recorded(e, rec)
	if r.leaders == nil {
		return
	}
	for _, p := range r.leaders.all() {
		if p.run != r && p.hears() {
			p.loop.Recorded(e, rec)
		}
	}
}

// hears reports whether the replica is told what happens.
func (p *replica) hears() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.cut && !p.missed && !p.isDead()
}

// silent is a cluster in which a dry run tells nobody anything.
type silent struct{ *run }

func (silent) Record(context.Context, desired.Record, desired.Status) error { return nil }
func (silent) Forget(context.Context, aci.ExtEPG) error                     { return nil }

// The lease.

// register is where electors meet. It has the one property of an API server that counts here: what changed since
// it was read is not overwritten.
type register struct {
	mu sync.Mutex
	// mu guards the fields below.
	record  *resourcelock.LeaderElectionRecord
	version int
}

func (r *register) read() *resourcelock.LeaderElectionRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record
}

// lock is the register as one replica sees it.
type lock struct {
	*register
	replica *replica
	seen    int // version
}

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

func (l *lock) Identity() string   { return l.replica.id }
func (l *lock) Describe() string   { return "ns/aci-sync" }
func (l *lock) RecordEvent(string) {}

// do makes one request.
func (l *lock) do(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := l.replica.travel(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	err := f()
	version := l.version
	l.mu.Unlock()
	if lost := l.replica.travel(ctx); lost != nil {
		return lost
	}
	if err == nil {
		l.seen = version
	}
	return err
}

func (l *lock) Get(ctx context.Context) (r *resourcelock.LeaderElectionRecord, raw []byte, err error) {
	err = l.do(ctx, func() error {
		if l.record == nil {
			return apierrors.NewNotFound(leases, "aci-sync")
		}
		r = new(*l.record)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	raw, err = json.Marshal(r)
	return r, raw, err
}

func (l *lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.do(ctx, func() error {
		if l.record != nil {
			return apierrors.NewAlreadyExists(leases, "aci-sync")
		}
		l.record, l.version = &r, l.version+1
		return nil
	})
}

func (l *lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.do(ctx, func() error {
		switch {
		case l.record == nil:
			return apierrors.NewNotFound(leases, "aci-sync")
		case l.version != l.seen:
			return apierrors.NewConflict(leases, "aci-sync", errors.New("changed"))
		}
		l.record, l.version = &r, l.version+1
		return nil
	})
}

// The APIC.

type runKey struct{}

// from is whose request this is.
func (w *world) from(r *http.Request) *run {
	if from, ok := r.Context().Value(runKey{}).(*run); ok {
		return from
	}
	return w.run
}

// listen opens a way to the APIC by which it knows the replica.
func (p *replica) listen() {
	w := p.world
	l, err := w.net.Listen(p.way(""))
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if p.dry && r.Method != http.MethodGet && !strings.HasPrefix(r.URL.Path, "/api/aaa") {
			w.complain(fmt.Sprintf("%s a dry run sends %s %s", clock(), r.Method, r.URL.Path))
		}
		w.serve(rw, r.WithContext(context.WithValue(r.Context(), runKey{}, p.run)))
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	w.t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
}

// judge judges a write that the APIC carries out now: it is by the holder of the lease, before that runs out.
func (l *leaders) judge(from *run) {
	if l == nil {
		return
	}
	r := l.lease.read()
	switch {
	case from.replica == nil:
	case r == nil || r.HolderIdentity != from.replica.id:
		l.world.complain(fmt.Sprintf("%s %s writes, and the lease is held by %+v", clock(), from.replica.id, r))
	case time.Since(r.RenewTime.Time) >= kube.LeaseDuration:
		l.world.complain(fmt.Sprintf("%s %s writes %v after it renewed the lease", clock(), from.replica.id, time.Since(r.RenewTime.Time)))
	}
}

// What happens to replicas.

// hurt does a step "replica".
func (l *leaders) hurt(s history.Step) {
	if l == nil {
		return
	}
	l.world.exact = false
	d, err := time.ParseDuration(s.Args[2])
	p := l.pick(s.Args[0] == "leader")
	if err != nil || p == nil {
		return
	}
	switch s.Args[1] {
	case "kill":
		p.after = d
		p.kill()
	case "end":
		p.after = d
		p.stop()
	case "halt":
		p.halt(d)
	case "cut", "slow":
		l.world.storms.stats.storms[s.Args[1]]++
		p.disturb(s.Args[1], d)
	}
	l.world.storms.stats.storms[s.Args[0]+" "+s.Args[1]]++
}

// kill ends a process at once.
func (p *replica) kill() {
	p.die()
	p.held.flush()
	p.stop()
}

// halt lets a process not run for d. As far as a bubble can: what it would send, to the APIC and to the API
// server, waits, so does what it would get, and the question whether it may write. Its timers run, and what
// follows from them inside of it happens before it runs again; nobody sees that.
func (p *replica) halt(d time.Duration) {
	p.held.stop()
	time.AfterFunc(d, func() { p.resume(p.held.goOn) })
}

// resume lets a process run again, by goOn.
func (p *replica) resume(goOn func()) {
	goOn()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked.IsZero() {
		p.asked = time.Now() // before, nobody was there to hear it
	}
}

// disturb cuts a process off from the API server for d, or makes that slow.
func (p *replica) disturb(how string, d time.Duration) {
	set := func(on bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if how == "slow" {
			p.slow = on
			return
		}
		p.cut, p.missed = on, true
	}
	set(true)
	time.AfterFunc(d, func() { set(false) })
}

func (l *leaders) all() []*replica {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.list)
	if l.dry != nil {
		list = append(list, l.dry)
	}
	return list
}

func (l *leaders) runs() []*run {
	var out []*run
	for _, p := range l.all() {
		out = append(out, p.run)
	}
	return out
}

// pick is who holds the lease, or the first of the others; nil for none.
func (l *leaders) pick(leader bool) *replica {
	r := l.lease.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.list {
		if holds := r != nil && r.HolderIdentity == p.id; holds == leader {
			return p
		}
	}
	return nil
}

// leader is who leads, and has the lease; nil for nobody.
func (l *leaders) leader() *replica {
	p := l.pick(true)
	if p == nil || p.isDead() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.leads || p.over {
		return nil
	}
	return p
}

// sleep lets time pass, in which replicas end and start.
func (l *leaders) sleep(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		synctest.Wait()
		l.tend()
	}
}

// tend starts those that are due, and tells those that can hear again.
func (l *leaders) tend() {
	for _, p := range l.all() {
		select {
		case <-p.ended:
			l.mu.Lock()
			l.list = slices.DeleteFunc(l.list, func(q *replica) bool { return q == p })
			l.due = append(l.due, time.Now().Add(p.after))
			l.mu.Unlock()
			l.world.exact = false
			p.mu.Lock()
			if took := time.Since(p.asked); !p.asked.IsZero() && took > shutdown+release+2*time.Second && p.held.flows() {
				l.world.complain(fmt.Sprintf("%s %s ended only %v after it was told to", clock(), p.id, took))
			}
			p.mu.Unlock()
		default:
		}
		p.mu.Lock()
		back := p.missed && !p.cut
		p.missed = p.missed && !back
		p.mu.Unlock()
		if back && !p.isDead() {
			p.relist()
		}
	}
	for i := 0; i < len(l.due); {
		if l.due[i].After(time.Now()) {
			i++
			continue
		}
		l.due = slices.Delete(l.due, i, i+1)
		p := l.replica(false)
		l.mu.Lock()
		l.list = append(l.list, p)
		l.mu.Unlock()
	}
}

// tell tells all who can hear what changed in the cluster.
func (l *leaders) tell() {
	for _, p := range l.all() {
		if p.hears() {
			p.with(func() { l.world.tell(l.world.cluster, p.loop.Fold, func(r desired.Ref) { p.loop.Fold(r, nil) }) })
		}
	}
}

// relist tells a replica what lists of everything hold and miss.
func (p *replica) relist() {
	w := p.world
	w.mu.Lock()
	records := maps.Clone(w.records)
	w.mu.Unlock()
	for _, path := range history.Paths() {
		if e := extEPG(path); path == pathOfEPG(e) {
			if rec, ok := records[e]; ok {
				p.loop.Recorded(e, &rec)
			} else {
				p.loop.Recorded(e, nil)
			}
		}
	}
	p.mind.Recall(w.members())
	p.with(func() { w.tell(w.cluster, p.loop.Fold, p.loop.Missed) })
}

func pathOfEPG(e aci.ExtEPG) string {
	if e.Name == "" {
		return ""
	}
	return path(e)
}

// heal ends all that stands in the way of replicas.
func (l *leaders) heal() {
	for _, p := range l.all() {
		p.resume(p.held.flush)
		p.mu.Lock()
		p.cut, p.slow = false, false
		p.mu.Unlock()
	}
	synctest.Wait()
	l.tend()
	for i := range l.due {
		l.due[i] = time.Now()
	}
	l.tend()
}

// await waits until somebody leads, whom the world looks at from then on.
func (l *leaders) await() {
	if l == nil {
		return
	}
	w := l.world
	for began := time.Now(); l.leader() == nil; l.sleep(time.Second) {
		if time.Since(began) > elected {
			w.complain(fmt.Sprintf("%s nobody leads %v after all is well", clock(), elected))
			break
		}
	}
	l.look()
}

// look makes the leader the one that the world looks at.
func (l *leaders) look() {
	if p := l.leader(); p != nil {
		l.world.run, l.world.mind, l.world.told = p.run, p.mind, p.told
	}
}

// finish has the leader end in good order: the next one has nothing left to do.
func (l *leaders) finish() {
	w := l.world
	next := w.newMind()
	if next.Hear(w.cluster.Clone()); !next.Same(w.mind) {
		return
	}
	for _, p := range l.all() { // whoever it will be may know more: what an annotation said before the leader began
		if p.mind.Recall(w.members()); !p.mind.Same(w.mind) {
			return
		}
	}
	posts := w.count()
	p := l.leader()
	if p == nil {
		w.complain("nobody leads at the end")
		return
	}
	p.stop()
	l.sleep(time.Second)
	l.await()
	l.sleep(2 * resync)
	if n := w.count() - posts; n > 0 {
		w.complain(fmt.Sprintf("%d POSTs after a change of leaders", n))
	}
}

// close ends all replicas.
func (l *leaders) close() {
	l.due = nil
	l.world.storms.calm()
	for _, p := range l.all() {
		p.held.flush()
		p.stop()
	}
	for _, p := range l.all() {
		<-p.ended
	}
	l.world.run = nil
}
