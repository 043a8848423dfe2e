package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// register is where electors meet. It has the one property of an API server that counts here: what
// changed since it was read is not overwritten.
type register struct {
	mu      sync.Mutex // guards the fields below
	record  *resourcelock.LeaderElectionRecord
	version int
}

// lock is the register as one elector sees it, by way of a network.
type lock struct {
	reg *register
	id  string
	// travel delays a request or its answer, or loses it.
	travel  func(ctx context.Context) error
	version int // that was seen last
}

func (l *lock) Identity() string   { return l.id }
func (l *lock) Describe() string   { return "ns/aci-sync" }
func (l *lock) RecordEvent(string) {}

// do makes one request.
func (l *lock) do(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	if err := l.travel(ctx); err != nil {
		return err
	}
	l.reg.mu.Lock()
	err := f()
	version := l.reg.version
	l.reg.mu.Unlock()
	if lost := l.travel(ctx); lost != nil {
		return lost
	}
	if err == nil {
		l.version = version
	}
	return err
}

var leases = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

func (l *lock) Get(ctx context.Context) (r *resourcelock.LeaderElectionRecord, raw []byte, err error) {
	err = l.do(ctx, func() error {
		if l.reg.record == nil {
			return apierrors.NewNotFound(leases, "aci-sync")
		}
		r = new(*l.reg.record)
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
		if l.reg.record != nil {
			return apierrors.NewAlreadyExists(leases, "aci-sync")
		}
		l.reg.record, l.reg.version = &r, l.reg.version+1
		return nil
	})
}

func (l *lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.do(ctx, func() error {
		switch {
		case l.reg.record == nil:
			return apierrors.NewNotFound(leases, "aci-sync")
		case l.reg.version != l.version:
			return apierrors.NewConflict(leases, "aci-sync", errors.New("changed"))
		}
		l.reg.record, l.reg.version = &r, l.reg.version+1
		return nil
	})
}

// put is somebody who overwrites the record; nil deletes it.
func (r *register) put(record *resourcelock.LeaderElectionRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record, r.version = record, r.version+1
}

func (r *register) holder() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record.HolderIdentity
}

var errCut = errors.New("the network is cut")

// replica is an elector with its lease.
type replica struct {
	*Lease
	lock  *lock
	ended chan struct{} // closed when the elector ended
	stop  func()
}

// replica starts one, with a network that does nothing but what travel says.
func (r *register) replica(ctx context.Context, t *testing.T, id string, travel func(context.Context) error) *replica {
	t.Helper()
	p := &replica{lock: &lock{reg: r, id: id, travel: travel}, ended: make(chan struct{})}
	p.Lease = LeaseOf(p.lock)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: p.Lease, LeaseDuration: LeaseDuration, RenewDeadline: RenewDeadline, RetryPeriod: RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, p.stop = context.WithCancel(ctx)
	go func() {
		elector.Run(ctx)
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop()
		<-p.ended
	})
	return p
}

func (p *replica) may() bool {
	_, err := p.MayWrite()
	return err == nil
}

// until waits until the replica may write, and returns how long that took.
func (p *replica) until(t *testing.T, most time.Duration) time.Duration {
	t.Helper()
	start := time.Now()
	for !p.may() {
		if time.Since(start) > most {
			t.Fatalf("%s may not write after %v", p.lock.id, most)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// network is good, or cut: what is sent is lost, and it takes a time-out to see that.
type network struct {
	mu  sync.Mutex
	cut bool
}

func (n *network) set(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

func (n *network) travel(ctx context.Context) error {
	n.mu.Lock()
	cut := n.cut
	n.mu.Unlock()
	if cut {
		<-ctx.Done()
		return errCut
	}
	time.Sleep(2 * time.Millisecond)
	return nil
}

// bubble runs f with a fake clock.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestLease_lets_its_holder_write(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reg register
		a := reg.replica(t.Context(), t, "a", new(network).travel)
		if a.may() {
			t.Error("it may write before it leads")
		}
		if err := a.Lost(); err != nil {
			t.Errorf("it lost what it never had: %v", err)
		}
		a.until(t, time.Second)
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			until, err := a.MayWrite()
			if left := time.Until(until); err != nil || a.Lost() != nil || left < 5900*time.Millisecond || left > 8*time.Second {
				t.Fatalf("it may write for %v more: %v", left, err)
			}
		}
	})
}

func TestLease_that_is_not_renewed_lets_nobody_write(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reg register
		var net network
		a := reg.replica(t.Context(), t, "a", net.travel)
		a.until(t, time.Second)
		time.Sleep(500 * time.Millisecond) // now it waits for the next renewal
		net.set(true)
		until, _ := a.MayWrite()
		time.Sleep(time.Until(until) - time.Millisecond)
		if !a.may() {
			t.Error("it may not write to the end")
		}
		time.Sleep(time.Millisecond)
		_, err := a.MayWrite()
		if err == nil || !strings.Contains(err.Error(), "the lease ns/aci-sync, without which nothing is written, is not renewed since ") {
			t.Errorf("after the end: %v", err)
		}
		if a.Lost() == nil {
			t.Error("it is not lost")
		}
		// The same holder goes on when the network is back.
		net.set(false)
		a.until(t, 2*time.Second)

		// An elector that could not renew for long gives up; that is no reason to give up the lease,
		// since nobody was told to end.
		net.set(true)
		<-a.ended
		if reg.holder() != "a" {
			t.Errorf("the lease is held by %q", reg.holder())
		}
		if a.may() {
			t.Error("it may write although it was not renewed")
		}
	})
}

// It counts from the second in which a renewal began; the answer may come late, or never.
func TestLease_counts_from_when_a_renewal_began(t *testing.T) {
	for name, c := range map[string]struct {
		there, back time.Duration
		err         error
		want        time.Duration // from the start; 0 is not at all
	}{
		"answered at once":      {0, 0, nil, writeWindow - 700*time.Millisecond},
		"the request is slow":   {3 * time.Second, 0, nil, writeWindow - 700*time.Millisecond},
		"the answer is slow":    {0, 3 * time.Second, nil, writeWindow - 700*time.Millisecond},
		"the request is lost":   {5 * time.Second, 0, nil, 0},
		"the answer is lost":    {0, 5 * time.Second, nil, 0},
		"it says no":            {0, 0, apierrors.NewForbidden(leases, "aci-sync", nil), 0},
		"it does not answer it": {0, 0, errCut, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var ways int
				l := LeaseOf(&lock{reg: &register{}, id: "a", travel: func(ctx context.Context) error {
					delay := c.there
					if ways++; ways == 2 {
						delay = c.back
					}
					select {
					case <-ctx.Done():
						return ctx.Err()
					case <-time.After(delay):
						return c.err
					}
				}})
				time.Sleep(700 * time.Millisecond)
				start := time.Now()
				err := l.Create(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "a", RenewTime: metav1.Now()})
				until, not := l.MayWrite()
				if (not == nil) != (c.want > 0) || (err == nil) != (not == nil) {
					t.Fatalf("Create returned %v, MayWrite %v", err, not)
				}
				if got := until.Sub(start); not == nil && got != c.want {
					t.Errorf("it may write for %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestLease_that_somebody_touched_lets_nobody_write(t *testing.T) {
	other := &resourcelock.LeaderElectionRecord{HolderIdentity: "b", LeaseDurationSeconds: 12}
	for name, c := range map[string]struct {
		now  *resourcelock.LeaderElectionRecord
		want string // the error when all is over; "" is that it leads again
	}{
		"taken":              {other, "the lease ns/aci-sync is lost: it is held by b now"},
		"taken and given up": {&resourcelock.LeaderElectionRecord{}, "the lease ns/aci-sync is lost: it is held by nobody, after somebody else now"},
		"deleted":            {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var reg register
				var net network
				a := reg.replica(t.Context(), t, "a", net.travel)
				ran := make(chan error, 1)
				ctx, stop := context.WithCancel(t.Context())
				go func() { ran <- a.Run(ctx) }()
				a.until(t, time.Second)
				time.Sleep(10 * time.Second)
				reg.put(c.now)
				time.Sleep(RetryPeriod + 50*time.Millisecond) // with the next renewal it knows
				_, err := a.MayWrite()
				if c.want == "" {
					if err != nil {
						t.Errorf("it does not lead again: %v", err)
					}
					stop()
					if err := <-ran; err != nil {
						t.Errorf("Run returned %v", err)
					}
					return
				}
				if err == nil || err.Error() != c.want {
					t.Errorf("MayWrite returned %v, want %s", err, c.want)
				}
				if err := <-ran; err == nil || err.Error() != c.want {
					t.Errorf("Run returned %v, want %s", err, c.want)
				}
				stop()
				// That is for good, also if the elector should get it again.
				time.Sleep(time.Minute)
				if a.may() {
					t.Error("it may write again")
				}
			})
		})
	}
}

func TestLease_a_conflict_shuts_at_once(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := &register{}
		l := LeaseOf(&lock{reg: reg, id: "a", travel: new(network).travel})
		mine := resourcelock.LeaderElectionRecord{HolderIdentity: "a", RenewTime: metav1.Now()}
		for name, touch := range map[string]func(){
			"changed": func() { reg.put(&mine) },
			"deleted": func() { reg.put(nil) },
		} {
			reg.put(nil)
			if err := l.Create(t.Context(), mine); err != nil {
				t.Fatal(err)
			}
			if _, err := l.MayWrite(); err != nil {
				t.Fatal(err)
			}
			touch()
			if err := l.Update(t.Context(), mine); err == nil {
				t.Fatalf("%s: Update succeeded", name)
			}
			if _, err := l.MayWrite(); err == nil {
				t.Errorf("%s: it may write", name)
			}
		}
	})
}

func TestRelease_hands_over_within_one_look_of_the_others(t *testing.T) {
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var reg register
				a := reg.replica(t.Context(), t, "a", new(network).travel)
				a.until(t, time.Second)
				b := reg.replica(t.Context(), t, "b", new(network).travel)
				time.Sleep(20*time.Second + rand.N(time.Second))
				a.stop()
				<-a.ended
				if reg.holder() != "a" {
					t.Fatal("the elector has released it by itself")
				}
				if i%2 == 0 { // a renewal that was cut off arrives after all
					reg.put(&resourcelock.LeaderElectionRecord{HolderIdentity: "a", LeaseDurationSeconds: 12, RenewTime: metav1.Now()})
				}
				start := time.Now()
				if err := a.Release(t.Context()); err != nil {
					t.Fatal(err)
				}
				if a.may() || a.Lost() != nil {
					t.Errorf("after it gave up the lease: may write: %v, lost: %v", a.may(), a.Lost())
				}
				b.until(t, 22*RetryPeriod/10+50*time.Millisecond)
				t.Logf("handed over within %v", time.Since(start))
				if err := a.Release(t.Context()); err != nil || reg.holder() != "b" {
					t.Errorf("a second Release: %v; the lease is held by %q", err, reg.holder())
				}
			})
		})
	}
}

func TestRelease_leaves_alone_what_is_not_held(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reg register
		a := reg.replica(t.Context(), t, "a", new(network).travel)
		a.until(t, time.Second)
		b := reg.replica(t.Context(), t, "b", func(context.Context) error { return errCut })
		b.stop()
		<-b.ended
		if err := b.Release(t.Context()); err != nil {
			t.Errorf("of one who never led: %v", err)
		}
		reg.put(&resourcelock.LeaderElectionRecord{HolderIdentity: "c"})
		a.stop()
		<-a.ended
		if err := a.Release(t.Context()); err != nil || reg.holder() != "c" {
			t.Errorf("of one who lost it: %v; the lease is held by %q", err, reg.holder())
		}
	})
}

func TestRelease_gives_up_with_its_context(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var reg register
		var net network
		a := reg.replica(t.Context(), t, "a", net.travel)
		a.until(t, time.Second)
		a.stop()
		<-a.ended
		net.set(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := a.Release(ctx); err == nil || time.Since(start) > time.Second {
			t.Errorf("Release returned %v after %v", err, time.Since(start))
		}
		if a.may() {
			t.Error("it may write after it tried to give up the lease")
		}
	})
}

// The leader is killed, or cut off, at any moment.
func TestAnother_takes_over_within_20_seconds(t *testing.T) {
	for i := range 40 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var reg register
				var net network
				a := reg.replica(t.Context(), t, "a", net.travel)
				a.until(t, time.Second)
				b := reg.replica(t.Context(), t, "b", new(network).travel)
				time.Sleep(20*time.Second + rand.N(2*time.Second))
				net.set(true)
				took := b.until(t, LeaseDuration+44*RetryPeriod/10+100*time.Millisecond)
				if took < LeaseDuration-RetryPeriod {
					t.Errorf("it took over after %v, before the lease ran out", took)
				}
			})
		})
	}
}

// Replicas come and go while requests and answers are delayed and lost, and never may two write.
// Between the last moment of one and the first of another lies what a write needs to travel.
func TestNever_may_two_write(t *testing.T) {
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var reg register
				var mu sync.Mutex
				bad := map[string]float64{} // how much of what a replica sends goes wrong
				start := func(id string) *replica {
					return reg.replica(t.Context(), t, id, func(ctx context.Context) error {
						mu.Lock()
						much := bad[id]
						mu.Unlock()
						delay := rand.N(5 * time.Millisecond)
						switch dice := rand.Float64(); {
						case dice < much/2:
							<-ctx.Done()
							return errCut
						case dice < much:
							delay = rand.N(renewTimeout + time.Second)
						}
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(delay):
							return nil
						}
					})
				}
				var all []*replica
				for n := range 3 {
					all = append(all, start(fmt.Sprint(n)))
				}
				var last *replica
				var lastAt time.Time
				released, holders := false, 0
				for step := range 20 * 60 * 10 { // 20 minutes
					time.Sleep(100 * time.Millisecond)
					if step%50 == 0 {
						mu.Lock()
						bad[all[rand.N(3)].lock.id] = rand.Float64() * float64(rand.N(3)) / 2
						mu.Unlock()
					}
					for n, p := range all {
						select {
						case <-p.ended: // as a process that ends and is started again
							all[n] = start(fmt.Sprint(n, "-", step))
						default:
						}
					}
					if last != nil && step%600 == 0 { // one ends in good order
						last.stop()
						<-last.ended
						_ = last.Release(t.Context()) // also if the answer is lost
						released = true
					}
					now := time.Now()
					for _, p := range all {
						if !p.may() {
							continue
						}
						if p != last {
							holders++
							if gap := now.Sub(lastAt); last != nil && !released && gap < LeaseDuration-writeWindow-100*time.Millisecond {
								t.Fatalf("%s may write %v after %s", p.lock.id, gap, last.lock.id)
							}
							released = false
						}
						last, lastAt = p, now
					}
				}
				t.Logf("%d times another one may write", holders)
				if holders < 3 {
					t.Errorf("only %d times did another one lead", holders)
				}
			})
		})
	}
}
