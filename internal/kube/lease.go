package kube

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// How one of several replicas comes to lead. The others look once in RetryPeriod to 2.2 times
// that, and take over when they saw no renewal for LeaseDuration: 12 to 17 s after a leader was
// killed, about 2 s after it gave the lease up.
const (
	LeaseDuration = 12 * time.Second
	RenewDeadline = 10 * time.Second // a leader that cannot renew for so long ends
	RetryPeriod   = time.Second      // between renewals

	// writeWindow is how long after the beginning of a renewal writes may begin. The rest of
	// LeaseDuration is for a write to travel: it is cut off 2 s after the window, and what is in
	// the network then has 2 s more. Clocks that do not run at the same rate are the least of it:
	// 1 in 1000 is 12 ms.
	writeWindow = LeaseDuration - 4*time.Second

	// renewTimeout bounds one request, so that one that hangs leaves time for another.
	renewTimeout = 4 * time.Second
)

// leaseName is what the Lease is called.
const leaseName = "aci-sync"

// Lease is the lock by which one of several replicas leads, and the right to write that goes
// with it.
//
// The right ends before anybody else can lead, whatever happens to this process. Another replica
// takes over at the earliest LeaseDuration after it saw the last renewal, which is after that
// renewal began; so what counts here is when a renewal began, once it is known that it worked. Of
// clocks, only their rates matter.
type Lease struct {
	resourcelock.Interface

	mu sync.Mutex
	// mu guards the fields below.
	renewed time.Time     // when the renewal began that holds now; zero for none
	ours    bool          // the lease was ours, and was not given up
	err     error         // why it is lost for good
	lost    chan struct{} // closed then
}

// NewLease returns the Lease aci-sync in a namespace. It sends nothing.
func NewLease(cfg *rest.Config, namespace string) (*Lease, error) {
	cfg = rest.AddUserAgent(rest.CopyConfig(cfg), "leader-election")
	cfg.Timeout = renewTimeout
	// With HTTP/1.1 a request that hangs takes its connection along, and the next one has a new one.
	cfg.NextProtos = []string{"http/1.1"}
	client, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("client for the Lease: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return LeaseOf(&resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: leaseName},
		Client:     client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}), nil
}

// LeaseOf returns the Lease that is kept in a lock.
func LeaseOf(lock resourcelock.Interface) *Lease {
	return &Lease{Interface: lock, lost: make(chan struct{})}
}

// MayWrite says until when a write may begin, or why none may. It does not block, and is safe for
// concurrent use.
func (l *Lease) MayWrite() (until time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until = l.renewed.Add(writeWindow)
	now := time.Now()
	switch {
	case l.err != nil:
		return time.Time{}, l.err
	case l.renewed.IsZero():
		return time.Time{}, fmt.Errorf("the lease %s, without which nothing is written, is not held", l.Describe())
	// Some systems halt the monotonic clock while they sleep, and set the other one afterwards.
	case !now.Before(until), !now.Round(0).Before(until.Round(0)):
		return time.Time{}, fmt.Errorf("the lease %s, without which nothing is written, is not renewed since %s",
			l.Describe(), l.renewed.Format(time.TimeOnly))
	}
	return until, nil
}

// Lost says why nothing may be written although the lease was held, and was not given up; nil when
// that is not so.
func (l *Lease) Lost() error {
	l.mu.Lock()
	ours := l.ours
	l.mu.Unlock()
	if !ours {
		return nil
	}
	_, err := l.MayWrite()
	return err
}

// Run waits until the lease is in other hands, and returns an error then; nil when ctx ends.
// That it cannot be renewed is for the elector to judge.
func (l *Lease) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-l.lost:
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.err
	}
}

// Get notes in whose hands the lease is.
func (l *Lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := l.Interface.Get(ctx)
	if err == nil && r.HolderIdentity != l.Identity() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ours && l.err == nil {
			holder := r.HolderIdentity
			if holder == "" {
				holder = "nobody, after somebody else"
			}
			l.err = fmt.Errorf("the lease %s is lost: it is held by %s now", l.Describe(), holder)
			close(l.lost)
		}
	}
	return r, raw, err
}

// Create takes the lease that was not there.
func (l *Lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, r)
	l.sent(r, err)
	return err
}

// Update takes or renews the lease.
func (l *Lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, r)
	l.sent(r, err)
	return err
}

// sent notes what became of a renewal.
//
// It counts from the beginning of the second in RenewTime. To other electors a record is a renewal
// when its text differs from the one before, and times in it have no fractions. The elector sets
// RenewTime before its first attempt, and may send the same record again much later, when the
// answer to the first one was lost.
func (l *Lease) sent(r resourcelock.LeaderElectionRecord, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		// Truncate would drop the reading of the monotonic clock.
		l.renewed = r.RenewTime.Add(-time.Duration(r.RenewTime.Nanosecond()))
		l.ours = true
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		// It is not as it was left here: somebody took it or deleted it, and may lead.
		l.renewed = time.Time{}
	}
}

// Release gives the lease up, if it is held, so that another replica need not wait until it runs
// out. Whoever calls it has written for the last time, and knows that nothing of it is under way.
// The elector must have ended.
//
// The elector's own release would come also when the lease could not be renewed, before anybody
// was told to end.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	held := l.ours
	l.renewed, l.ours = time.Time{}, false
	l.mu.Unlock()
	for held {
		r, _, err := l.Interface.Get(ctx)
		if err != nil {
			return fmt.Errorf("release the lease %s: %w", l.Describe(), err)
		}
		if r.HolderIdentity != l.Identity() {
			return nil
		}
		now := metav1.Now()
		r.HolderIdentity, r.LeaseDurationSeconds, r.RenewTime, r.AcquireTime = "", 1, now, now
		switch err := l.Interface.Update(ctx, *r); {
		case apierrors.IsConflict(err): // a renewal of the elector's that was cut off and arrived
		case err != nil:
			return fmt.Errorf("release the lease %s: %w", l.Describe(), err)
		default:
			return nil
		}
	}
	return nil
}
