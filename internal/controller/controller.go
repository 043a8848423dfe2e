package controller

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// APIC is the fabric as the controller reads it. All methods may be called concurrently; none
// retries, except that a lost session is renewed once.
type APIC interface {
	// Read subscribes to l and reads it whole; no objects mean that l does not exist.
	Read(ctx context.Context, l aci.L3Out) (aci.Update, error)
	// ReadEPG reads all classes at and below e.
	ReadEPG(ctx context.Context, e aci.ExtEPG) (aci.Update, error)
	// ReadObjects reads the given objects and their tags; those that are absent are left out.
	ReadObjects(ctx context.Context, dns []aci.DN) ([]aci.MO, error)
	// PauseTags returns what bears a pause tag at or below l.
	PauseTags(ctx context.Context, l aci.L3Out) ([]aci.DN, error)
	// Marks returns the DNs of all objects that bear a mark of o, fabric-wide.
	Marks(ctx context.Context, o aci.Owner) ([]aci.DN, error)
	// Forget ends the subscription to what is read at root: an L3Out, aci.Topology or aci.Universe.
	Forget(root aci.DN)
	// ReadRelations subscribes to the relations of all L3Outs to their VRFs and reads them.
	ReadRelations(ctx context.Context) (aci.Update, error)
	// ReadFaults subscribes to the faults of leafs and reads them.
	ReadFaults(ctx context.Context) (aci.Update, error)
	// CountEPGs counts the external EPGs of the fabric, as far as the user may read it.
	CountEPGs(ctx context.Context) (int, error)
	// Login returns what the APIC said of itself and of the user at the newest login; false before
	// the first.
	Login() (aci.Login, bool)
	// Updates are the events and gaps of what was read; closed when the client ends.
	Updates() <-chan aci.Update
	// Connected gets a token when events can arrive again, and what failed before may work.
	Connected() <-chan struct{}
}

// Writer is the fabric as the controller writes it. A controller without one cannot write.
type Writer interface {
	// Post writes mo below the object under, in one transaction. When ctx ends, what was sent is
	// seen to its end, which takes no longer than 2 s, and nothing is begun. It does not retry,
	// except that a lost session is renewed once, and may be called concurrently.
	Post(ctx context.Context, under aci.DN, mo aci.MO) error
}

// Cluster is where people of the Kubernetes side are told things.
type Cluster interface {
	// Note records a Kubernetes Event on an object; it does not block.
	Note(to desired.Ref, warning bool, reason, message string)
	// Record writes what is to be remembered of an external EPG and how things stand there, where
	// that differs from what the cluster holds; desired.ErrOtherRecord when that is another
	// aci-sync's. It does not retry. One call at a time.
	Record(ctx context.Context, rec desired.Record, st desired.Status) error
	// Forget deletes the record of e. One call at a time.
	Forget(ctx context.Context, e aci.ExtEPG) error
	// Answer replaces what a person approved in the record of e by what became of it.
	Answer(ctx context.Context, e aci.ExtEPG, answer string) error
}

// Options of a Controller.
type Options struct {
	Desired        desired.Options
	Policy         plan.Policy
	Records        bool          // the cluster keeps records
	ResyncInterval time.Duration // between full reads of an L3Out, jittered by a tenth; 0 means 10 minutes
	Capacity       Capacity      // of which it is told when it is nearly used up; zero for never
	Workers        int           // VRFs worked on at a time; 0 means 4
	// Random is what jitter is made of: numbers in [0, 1). nil is the one of math/rand/v2. It may be
	// called concurrently.
	Random  func() float64
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil for none
}

// Controller keeps the fabric as the cluster wants it.
type Controller struct {
	apic    APIC
	writer  Writer // nil in a dry run
	cluster Cluster
	opts    Options
	log     *slog.Logger
	metrics *metrics

	synced   chan struct{} // closed when all of Kubernetes is folded
	syncing  sync.Once
	relating chan struct{} // holds a token while the relations of L3Outs to VRFs are read
	rights   chan struct{} // holds one token when the user may have got more rights
	seek     chan struct{} // holds one token when orphans turned up
	// connected holds one token when the APIC can be reached again, for who starts.
	connected chan struct{}

	mu          sync.Mutex // guards the fields below, and what changes of opts.Policy
	want        *desired.State
	have        *observed.State
	queue       workqueue.TypedDelayingInterface[aci.DN] // keys are domains; nil before Run
	leadsSince  time.Time                                // when Run began; zero before and after
	running     bool                                     // Run has read what there is; before that nothing is decided
	silent      bool                                     // problems are returned by Plan, not told
	watches     map[aci.L3Out]*watch
	domains     map[aci.DN]*domain
	batches     map[*batch]struct{} // POSTs whose events are to come
	awaits      map[aci.DN]*batch   // object -> the last of them that concerns it
	refused     map[aci.Place]*refusal
	fights      map[aci.Place]*fight                // what was put back lately
	approvals   map[aci.ExtEPG]*approval            // being carried out
	turned      chan struct{}                       // gets a token when something may have changed; nil unless somebody waits
	held        map[aci.ExtEPG]map[aci.DN]aci.Place // deletions that wait for a person
	later       map[aci.Place]time.Time             // what could not be decided -> when it is looked at again
	orphans     map[aci.Place]struct{}              // found so far: deletions that nothing explains, waiting or not
	unsettled   time.Time                           // until then more may be told of what a list misses, or the APIC has again
	unsettledAt time.Time                           // when that wait began
	seeking     bool                                // marked objects are to be looked for fabric-wide before orphans are counted
	would       map[aci.Place]string                // in a dry run: the change that would be made, as it was told
	kept        map[aci.ExtEPG]string               // EPGs that stay although nobody names them -> why
	problems    map[origin][]desired.Problem
	origins     map[desired.Ref]map[origin]struct{} // workload -> where its problems come from
	shown       map[shown]int                       // problem -> origins that have it
	records     records
	login       aci.Login // the newest that was taken in
	heeded      bool      // there was one
	unrelated   bool      // the relations of L3Outs to VRFs cannot be read, and that was said
	blind       bool      // marked objects may not be looked for
	faults      faultWatch
	capacity    capacityWatch
}

// watch is an L3Out that is read and subscribed to.
type watch struct {
	readAt   time.Time     // of the next full read
	lastRead time.Time     // when it was read whole last; zero for never
	missing  bool          // it did not exist when it was read or heard of last
	recheck  time.Duration // between the last two looks at a missing one, or attempts to read it
	pauseAt  time.Time     // when the pause tags were read last
	holds    bool          // something in it may bear our mark: nothing is decided before it is read
	denied   bool          // the user may not read it, as was found last
	among    aci.VRF       // whose other L3Outs are followed for its sake
}

// doubled is how long to wait for the next look.
func (w *watch) doubled() time.Duration {
	w.recheck = min(max(2*w.recheck, recheckMin), recheckMax)
	return w.recheck
}

// New returns a Controller. Fold may be called before Run. Without a writer it is a dry run: it
// looks and tells, and writes nothing.
func New(apic APIC, writer Writer, cluster Cluster, o Options) *Controller {
	if o.ResyncInterval == 0 {
		o.ResyncInterval = 10 * time.Minute
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	c := &Controller{
		apic: apic, writer: writer, cluster: cluster, opts: o, log: o.Logger, metrics: newMetrics(o.Metrics),
		relating:  make(chan struct{}, 1),
		rights:    make(chan struct{}, 1),
		seek:      make(chan struct{}, 1),
		connected: make(chan struct{}, 1),
		synced:    make(chan struct{}),
		want:      desired.NewState(o.Desired),
		have:      observed.NewState(o.Policy.Owner),
		watches:   map[aci.L3Out]*watch{},
		domains:   map[aci.DN]*domain{},
		batches:   map[*batch]struct{}{},
		awaits:    map[aci.DN]*batch{},
		refused:   map[aci.Place]*refusal{},
		fights:    map[aci.Place]*fight{},
		approvals: map[aci.ExtEPG]*approval{},
		held:      map[aci.ExtEPG]map[aci.DN]aci.Place{},
		orphans:   map[aci.Place]struct{}{},
		later:     map[aci.Place]time.Time{},
		would:     map[aci.Place]string{},
		kept:      map[aci.ExtEPG]string{},
		problems:  map[origin][]desired.Problem{},
		origins:   map[desired.Ref]map[origin]struct{}{},
		shown:     map[shown]int{},
		records:   newRecords(),
		faults:    newFaultWatch(),
		capacity:  newCapacityWatch(),
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(newGauges(c))
	}
	return c
}

// Fold takes in the Kubernetes object r as it is now, nil when it is gone. Safe for
// concurrent use; calls for one object must be in order.
func (c *Controller) Fold(r desired.Ref, obj metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folded(r, func() desired.Touched { return c.want.Fold(r, obj) })
}

// Missed takes in that the object r is gone although nobody saw it go. Otherwise as Fold.
func (c *Controller) Missed(r desired.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settlesLater()
	c.folded(r, func() desired.Touched { return c.want.Missed(r) })
}

// folded schedules what follows from a fold of r.
func (c *Controller) folded(r desired.Ref, fold func() desired.Touched) {
	before, named := c.want.Target(r)
	c.touched(fold())
	if after, names := c.want.Target(r); c.running && before != after {
		// The EPG may be others' too, and have problems: one workload less or more to tell.
		if named {
			c.dirty(before, aci.Place{ExtEPG: before})
		}
		if names {
			c.dirty(after, aci.Place{ExtEPG: after})
		}
	}
}

// touched schedules what follows from a fold of the cluster. Run begins with everything.
func (c *Controller) touched(t desired.Touched) {
	if !c.running {
		return
	}
	c.mark(t.Places)
	for _, p := range t.Places {
		if !p.Prefix.IsValid() { // one names it, or does not any more
			c.tellFaults(p.ExtEPG)
		}
	}
	for _, w := range t.Workloads {
		c.tell(origin{workload: w}, c.want.Problems(w))
		if e, ok := c.want.Target(w); ok {
			c.recordLater(e)
		}
	}
}

// Synced says that the initial state of every Kubernetes object has been folded.
func (c *Controller) Synced() { c.syncing.Do(func() { close(c.synced) }) }

// Run writes until ctx ends; then it finishes the requests in hand and returns nil. It may be
// called once, by the leader.
func (c *Controller) Run(ctx context.Context) error {
	queue := workqueue.NewTypedDelayingQueue[aci.DN]()
	c.mu.Lock()
	c.queue, c.leadsSince = queue, time.Now()
	defer c.endLead()
	if c.keeps() {
		c.records.queue = workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[aci.ExtEPG](500*time.Millisecond, time.Minute))
	}
	c.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	if c.keeps() {
		g.Go(func() error { c.keepRecords(ctx); return nil })
	}
	g.Go(func() error { return c.listen(ctx) })
	g.Go(func() error {
		if err := c.start(ctx); err != nil {
			return nil //nolint:nilerr // only the end of ctx ends a start
		}
		var workers errgroup.Group
		workers.Go(func() error { c.followFaults(ctx); return nil })
		workers.Go(func() error { c.followCapacity(ctx); return nil })
		for range c.opts.Workers {
			workers.Go(func() error { c.work(ctx); return nil })
		}
		c.resync(ctx)
		return workers.Wait()
	})
	g.Go(func() error {
		<-ctx.Done()
		queue.ShutDown()
		if c.keeps() {
			c.records.queue.ShutDown()
		}
		return nil
	})
	return g.Wait()
}

// endLead ends what only who leads can tell.
func (c *Controller) endLead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leadsSince = time.Time{}
}

// listen folds what the APIC announces.
func (c *Controller) listen(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-c.apic.Updates():
			if !ok {
				return nil
			}
			c.mu.Lock()
			c.fold(u)
			c.mu.Unlock()
		case <-c.apic.Connected():
			c.mu.Lock()
			c.wake()
			c.mu.Unlock()
		}
	}
}

// fold takes in an update of the fabric, and schedules what follows from it.
func (c *Controller) fold(u aci.Update) {
	if u.Root == aci.Topology {
		c.foldFaults(u)
		return
	}
	if u.Root == aci.Universe {
		c.foldRelations(u)
		return
	}
	l, ok := aci.L3OutOf(u.Root)
	if !ok {
		return
	}
	key, existed := c.have.Domain(l), c.have.Exists(l)
	places := c.have.Fold(u)
	c.noteFaults()
	c.outgrows()
	c.mark(places)
	if now := c.have.Domain(l); now != key {
		c.rehome(l, key, now)
	}
	for _, m := range u.Objects {
		c.arrived(m.DN)
	}
	w := c.watches[l]
	if w == nil {
		return
	}
	if w.denied && u.Kind == aci.Event { // something of it is shown
		w.readAt = earlier(w.readAt, time.Now().Add(recheckMin))
		c.hurry(l)
	}
	if existed && !c.have.Exists(l) {
		w.missing, w.recheck = true, recheckMin
		w.readAt = time.Now().Add(recheckMin)
	}
	if !c.have.Complete(l) {
		c.queue.Add(c.have.Domain(l))
	}
}

// wake lets everything that backs off try once more: the APIC is there again, or another member of it. That
// comes with a backoff of its own, so that one which comes and goes is not asked more for it. Callers hold mu.
func (c *Controller) wake() {
	for _, key := range slices.Sorted(maps.Keys(c.domains)) {
		if d := c.domains[key]; !d.notBefore.IsZero() {
			d.notBefore = time.Time{}
			c.queue.Add(key)
		}
	}
	if c.faults.failed > 0 {
		c.faults.readAt = time.Time{}
		c.faults.wake()
	}
	select {
	case c.connected <- struct{}{}:
	default:
	}
}

// lateRead is how long after the creation of an L3Out it is read once more.
//
// Source: field reports that a subscription misses the first child of a new parent.
const lateRead = 3 * time.Second

// start waits for Kubernetes, finds everything of ours on the fabric and reads it, before
// anything is decided: an address must not enter one EPG while it still is in another one,
// and which L3Outs share a VRF is not known before they are read. An L3Out without anything of
// ours holds up nobody but itself.
func (c *Controller) start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.synced:
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := c.find(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			c.log.Warn("cannot look over the fabric, will try again", "err", err, "dur", pause)
		}
		if !c.pause(ctx, pause) {
			return ctx.Err()
		}
	}
	unread := c.watched()
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		unread = c.retryable(ctx, c.readAll(ctx, unread))
		c.mu.Lock()
		waits := slices.ContainsFunc(unread, func(l aci.L3Out) bool { return c.watches[l].holds })
		c.mu.Unlock()
		if !waits {
			break
		}
		if !c.pause(ctx, pause) {
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
	for _, l := range c.list() {
		c.queue.Add(c.have.Domain(l)) // also where nothing is dirty the next read must come
	}
	c.progress()
	subnets, _ := c.have.Owned()
	c.log.Info("in control", "sub", len(c.watches), "subnets", subnets)
	return nil
}

// find watches all L3Outs that matter: in which something bears our mark, which a workload or a record
// names, and which are in the VRF of such a one.
func (c *Controller) find(ctx context.Context) error {
	known, err := c.findMarks(ctx)
	if err != nil {
		return err
	}
	c.watchNamed(known)
	return c.relate(ctx, false)
}

// watched are the L3Outs that are watched, sorted.
func (c *Controller) watched() []aci.L3Out {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list()
}

// list is watched for callers that hold mu.
func (c *Controller) list() []aci.L3Out {
	return slices.SortedFunc(maps.Keys(c.watches), aci.L3Out.Compare)
}

// watchNamed watches every L3Out that a workload or a record names. Where it is not known what bears
// our mark, every one of them may.
func (c *Controller) watchNamed(known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.want.EPGs() {
		c.watch(e.L3Out)
		c.watches[e.L3Out].holds = c.watches[e.L3Out].holds || !known
	}
	for e, rec := range c.records.there {
		c.watch(e.L3Out)
		// Its mark may be gone, and be found by reading it only.
		w := c.watches[e.L3Out]
		w.holds = w.holds || rec.Managed != nil && *rec.Managed
	}
}

// begin makes everything dirty, and tells what is wrong with workloads as such. Callers hold mu.
func (c *Controller) begin() {
	c.running = true
	c.want.Begin()
	all := c.everything()
	c.mark(all)
	for _, p := range all {
		if _, claimed := c.want.Claim(p); !claimed && (p.Prefix.IsValid() || !c.want.Named(p.ExtEPG)) {
			c.orphans[p] = struct{}{} // if it is one, it is no news
		}
	}
	for e := range c.records.there {
		c.recordLater(e)
	}
	for _, w := range c.want.AllWorkloads() {
		c.tell(origin{workload: w}, c.want.Problems(w))
	}
}

// readAll reads L3Outs, a few at a time, and returns what went wrong, by L3Out.
func (c *Controller) readAll(ctx context.Context, all []aci.L3Out) map[aci.L3Out]error {
	errs := make([]error, len(all))
	var g errgroup.Group
	g.SetLimit(c.opts.Workers)
	for i, l := range all {
		g.Go(func() error {
			errs[i] = c.read(ctx, l)
			return nil
		})
	}
	_ = g.Wait()
	failed := map[aci.L3Out]error{}
	for i, l := range all {
		if errs[i] != nil {
			failed[l] = errs[i]
		}
	}
	return failed
}

// retryable logs why L3Outs could not be read, and returns those that are worth another try.
func (c *Controller) retryable(ctx context.Context, failed map[aci.L3Out]error) []aci.L3Out {
	var again []aci.L3Out
	for _, l := range slices.SortedFunc(maps.Keys(failed), aci.L3Out.Compare) {
		if ctx.Err() == nil {
			c.log.Warn("cannot read L3Out, will try again", "dn", l.DN(), "err", failed[l])
		}
		if !forGood(failed[l]) {
			again = append(again, l)
		}
	}
	return again
}

// forGood reports an answer that waiting does not change: the user may not read this, or the
// APIC cannot tell it. Its own domain stays shut; others cannot wait for ever.
func forGood(err error) bool { return denied(err) || answered(err, 400) }

// findMarks watches every L3Out in which something is seen to bear our mark; false when it is not
// known in which L3Outs the user would have been shown it.
func (c *Controller) findMarks(ctx context.Context) (bool, error) {
	dns, err := c.apic.Marks(ctx, c.opts.Policy.Owner)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heed()
	if denied(err) {
		if !c.blind {
			c.log.Warn("may not look for marked objects fabric-wide: what is left of ours in L3Outs that no workload names stays",
				"err", err)
		}
		c.blind = true
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.blind = false
	for _, d := range dns {
		if l, ok := aci.L3OutOf(d); ok {
			c.watch(l)
			c.watches[l].holds = true
		}
	}
	return c.login.TellsRights(), nil
}

// watch begins to read and follow l and all other L3Outs of its VRF, as far as that is new.
func (c *Controller) watch(l aci.L3Out) {
	c.follow(l)
	w := c.watches[l]
	v, ok := c.have.VRF(l)
	if !ok || w.among == v {
		return // those that come to the VRF later are told of: see watchNeighbors
	}
	w.among = v
	for _, m := range c.have.L3OutsIn(v) {
		c.follow(m)
	}
}

// follow begins to read and follow l, if that is new.
func (c *Controller) follow(l aci.L3Out) {
	if c.watches[l] == nil {
		c.watches[l] = &watch{}
		for e, rec := range c.records.there {
			if e.L3Out == l {
				c.remember(e, rec)
			}
		}
		if c.running {
			c.queue.Add(c.have.Domain(l))
		}
		c.faults.wake()
	}
}

// resync looks for marked objects fabric-wide once per interval, when the user's rights changed, and when orphans
// turned up: until that succeeds they are not counted. The L3Outs themselves are read again by their workers.
func (c *Controller) resync(ctx context.Context) {
	for pause := time.Second; ; {
		t := time.NewTimer(c.jitter())
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-c.rights:
			t.Stop()
		case <-c.seek:
			t.Stop()
		case <-t.C:
		}
		_, err := c.findMarks(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("cannot look for marked objects, will try again", "err", err)
		}
		if c.sought(err == nil) && sleep(ctx, pause) {
			pause = min(2*pause, time.Minute)
			c.seekMarks()
			continue
		}
		pause = time.Second
		if err := c.relate(ctx, true); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot look for L3Outs of the VRFs, will try again", "err", err)
		}
	}
}

// jitter is the resync interval, up to a tenth more or less.
func (c *Controller) jitter() time.Duration {
	d := c.opts.ResyncInterval
	return d - d/10 + time.Duration(c.opts.Random()*float64(d/5))
}

// pause is sleep that ends when the APIC can be reached again.
func (c *Controller) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c.connected:
	case <-t.C:
	}
	return true
}

// sleep waits for d; false when ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
