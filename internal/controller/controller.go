package controller

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
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

// APIC is the fabric as the controller needs it. All methods may be called concurrently; none
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
	// Post writes mo below the object under, in one transaction.
	Post(ctx context.Context, under aci.DN, mo aci.MO) error
	// Forget ends the subscription to l.
	Forget(l aci.L3Out)
	// Updates are the events and gaps of what was read; closed when the client ends.
	Updates() <-chan aci.Update
}

// Cluster is where people of the Kubernetes side are told things.
type Cluster interface {
	// Note records a Kubernetes Event on an object; it does not block.
	Note(to desired.Ref, warning bool, reason, message string)
}

// Options of a Controller.
type Options struct {
	Desired        desired.Options
	Policy         plan.Policy
	ResyncInterval time.Duration // between full reads of an L3Out, jittered by a tenth; 0 means 10 minutes
	Workers        int           // VRFs worked on at a time; 0 means 4
	Logger         *slog.Logger
	Metrics        prometheus.Registerer // nil for none
}

// Controller keeps the fabric as the cluster wants it.
type Controller struct {
	apic    APIC
	cluster Cluster
	opts    Options
	log     *slog.Logger
	metrics *metrics
	queue   workqueue.TypedDelayingInterface[aci.DN] // keys are domains

	synced  chan struct{} // closed when all of Kubernetes is folded
	syncing sync.Once

	mu       sync.Mutex // guards the fields below
	want     *desired.State
	have     *observed.State
	running  bool // Run has read what there is; before that nothing is decided
	watches  map[aci.L3Out]*watch
	domains  map[aci.DN]*domain
	awaits   map[aci.DN]*batch // object -> the POST whose event is to come
	refused  map[aci.Place]*refusal
	problems map[aci.Place][]desired.Problem
	shown    map[shown]int // problem -> places that have it
}

// watch is an L3Out that is read and subscribed to.
type watch struct {
	readAt  time.Time     // of the next full read
	recheck time.Duration // until the next look whether a missing one exists
	pauseAt time.Time     // when the pause tags were read last
}

// New returns a Controller. Fold may be called before Run.
func New(apic APIC, cluster Cluster, o Options) *Controller {
	if o.ResyncInterval == 0 {
		o.ResyncInterval = 10 * time.Minute
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	c := &Controller{
		apic: apic, cluster: cluster, opts: o, log: o.Logger, metrics: newMetrics(o.Metrics),
		queue:    workqueue.NewTypedDelayingQueue[aci.DN](),
		synced:   make(chan struct{}),
		want:     desired.NewState(o.Desired),
		have:     observed.NewState(o.Policy.Owner),
		watches:  map[aci.L3Out]*watch{},
		domains:  map[aci.DN]*domain{},
		awaits:   map[aci.DN]*batch{},
		refused:  map[aci.Place]*refusal{},
		problems: map[aci.Place][]desired.Problem{},
		shown:    map[shown]int{},
	}
	return c
}

// Fold takes in the Kubernetes object r as it is now, nil when it is gone. Safe for
// concurrent use; calls for one object must be in order.
func (c *Controller) Fold(r desired.Ref, obj metav1.Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.want.Fold(r, obj)
	if !c.running {
		return // Run begins with everything
	}
	c.mark(t.Places)
	for _, w := range t.Workloads {
		c.tell(aci.Place{ExtEPG: aci.ExtEPG{Name: w.String()}}, c.want.Problems(w))
	}
}

// Synced says that the initial state of every Kubernetes object has been folded.
func (c *Controller) Synced() { c.syncing.Do(func() { close(c.synced) }) }

// Run writes until ctx ends; then it finishes the requests in hand and returns nil. It may be
// called once, by the leader.
func (c *Controller) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.listen(ctx) })
	g.Go(func() error {
		if err := c.start(ctx); err != nil {
			return nil //nolint:nilerr // only the end of ctx ends a start
		}
		var workers errgroup.Group
		for range c.opts.Workers {
			workers.Go(func() error { c.work(ctx); return nil })
		}
		c.resync(ctx)
		return workers.Wait()
	})
	g.Go(func() error {
		<-ctx.Done()
		c.queue.ShutDown()
		return nil
	})
	return g.Wait()
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
		}
	}
}

// fold takes in an update of the fabric, and schedules what follows from it.
func (c *Controller) fold(u aci.Update) {
	c.mark(c.have.Fold(u))
	for _, m := range u.Objects {
		c.arrived(m.DN)
		if l, ok := aci.ParseL3Out(m.DN); ok && u.Kind == aci.Event && m.Attrs["status"] == aci.StatusCreated {
			// A subscription can miss the children of an object created just now: look again.
			if w := c.watches[l]; w != nil {
				w.readAt, w.recheck = time.Now().Add(lateRead), 0
			}
		}
	}
	if l, ok := aci.L3OutOf(u.Root); ok && c.watches[l] != nil && !c.have.Complete(l) {
		c.metrics.complete(l, false)
		c.queue.Add(c.have.Domain(l))
	}
}

// lateRead is how long after the creation of an L3Out it is read once more.
//
// Source: field reports that a subscription misses the first child of a new parent.
const lateRead = 3 * time.Second

// start waits for Kubernetes, finds everything of ours on the fabric and reads it, before
// anything is decided: an address must not enter one EPG while it still is in another one.
func (c *Controller) start(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.synced:
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := c.findMarks(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			c.log.Warn("cannot look for marked objects, will try again", "err", err, "dur", pause)
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	c.mu.Lock()
	for _, e := range c.want.EPGs() {
		c.watch(e.L3Out)
	}
	var all []aci.L3Out
	for l := range c.watches {
		all = append(all, l)
	}
	c.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(c.opts.Workers)
	for _, l := range all {
		g.Go(func() error {
			if err := c.read(ctx, l); err != nil && ctx.Err() == nil {
				c.log.Warn("cannot read L3Out, will try again", "dn", l.DN(), "err", err)
			}
			return nil
		})
	}
	_ = g.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = true
	c.mark([]aci.Place{{}})
	for _, w := range c.want.AllWorkloads() {
		c.tell(aci.Place{ExtEPG: aci.ExtEPG{Name: w.String()}}, c.want.Problems(w))
	}
	c.log.Info("in control", "subnets", c.have.Owned())
	return nil
}

// findMarks watches every L3Out in which something bears our mark.
func (c *Controller) findMarks(ctx context.Context) error {
	dns, err := c.apic.Marks(ctx, c.opts.Policy.Owner)
	if refused, ok := errors.AsType[*aci.Error](err); ok && refused.Status == 403 && !errors.Is(err, aci.ErrSession) {
		// A user with rights to one tenant only may not be shown the whole fabric.
		c.log.Warn("may not look for marked objects fabric-wide: what is left of ours in L3Outs that no workload names stays",
			"err", err)
		return nil
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range dns {
		if l, ok := aci.L3OutOf(d); ok {
			c.watch(l)
		}
	}
	return nil
}

// watch begins to read and follow l, if that is new.
func (c *Controller) watch(l aci.L3Out) {
	if c.watches[l] == nil {
		c.watches[l] = &watch{}
		if c.running {
			c.queue.Add(c.have.Domain(l))
		}
	}
}

// resync looks for marked objects fabric-wide once per interval; the L3Outs themselves are
// read again by their workers.
func (c *Controller) resync(ctx context.Context) {
	for {
		if !sleep(ctx, c.jitter()) {
			return
		}
		if err := c.findMarks(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot look for marked objects, will try again", "err", err)
		}
	}
}

// jitter is the resync interval, up to a tenth more or less.
func (c *Controller) jitter() time.Duration {
	d := c.opts.ResyncInterval
	return d - d/10 + rand.N(d/5+1)
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
