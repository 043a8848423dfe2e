package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// Debounce: a change waits for company.
//
// A quiet domain waits quietWindow; each write that follows another within busyWindow doubles
// the wait, up to busyWindow. So a single change is quick, and a thousand Pods that come one by
// one cost two writes a second.
const (
	quietWindow = 50 * time.Millisecond
	busyWindow  = 500 * time.Millisecond
)

// domain is what waits to be looked at in one VRF, or in one L3Out whose VRF is not known.
type domain struct {
	places    map[aci.Place]struct{}
	since     time.Time // when the oldest of places became dirty; zero when there is none
	due       time.Time // when they have waited long enough for company
	window    time.Duration
	postAt    time.Time // of the last write
	failures  int       // in a row
	notBefore time.Time // backing off until then
	races     int       // writes in a row that found what they were to create
}

// batch is one POST whose events are to come.
type batch struct {
	epg      aci.ExtEPG
	waits    map[aci.DN]aci.Place
	backs    map[aci.DN]plan.Change // those that put back what somebody changed or deleted
	since    time.Time              // when the oldest change in it became dirty
	deadline time.Time
	failed   bool          // no answer came, or one that leaves open what was done
	done     chan struct{} // closed when nothing is waited for any more
}

func (c *Controller) domain(key aci.DN) *domain {
	d := c.domains[key]
	if d == nil {
		d = &domain{places: map[aci.Place]struct{}{}}
		c.domains[key] = d
	}
	return d
}

// mark makes places dirty in every domain that they concern: an address also where else it is
// claimed or held, an EPG with all that is claimed or held in it. Callers hold mu.
func (c *Controller) mark(places []aci.Place) {
	if slices.Contains(places, aci.Place{}) {
		places = c.everything()
	}
	for _, p := range places {
		switch {
		case p.Prefix.IsValid():
			c.markPrefix(p)
		default:
			if c.want.Named(p.ExtEPG) {
				c.watch(p.L3Out)
			}
			c.dirty(p.ExtEPG, p)
			for q := range c.want.Places(p.ExtEPG) {
				if q.Prefix.IsValid() {
					c.markPrefix(q)
				}
			}
			for n := range c.have.Subnets(p.ExtEPG) {
				c.dirty(p.ExtEPG, aci.Place{ExtEPG: p.ExtEPG, Prefix: n.Prefix})
			}
		}
	}
}

func (c *Controller) markPrefix(p aci.Place) {
	if p.ExtEPG != (aci.ExtEPG{}) {
		c.dirty(p.ExtEPG, p)
	}
	for _, list := range [][]aci.ExtEPG{c.want.Claimants(p.Prefix), c.have.Holders(p.Prefix)} {
		for _, e := range list {
			c.dirty(e, aci.Place{ExtEPG: e, Prefix: p.Prefix})
		}
	}
}

// everything is every place that is wanted or held.
func (c *Controller) everything() []aci.Place {
	var all []aci.Place
	for _, e := range c.want.EPGs() {
		all = slices.AppendSeq(all, c.want.Places(e))
	}
	for _, l := range c.have.L3Outs() {
		for _, e := range c.have.ExtEPGs(l) {
			all = append(all, aci.Place{ExtEPG: e})
			for n := range c.have.Subnets(e) {
				all = append(all, aci.Place{ExtEPG: e, Prefix: n.Prefix})
			}
		}
	}
	return all
}

// dirty notes that p in the domain of e must be looked at, and wakes its worker in a while.
func (c *Controller) dirty(e aci.ExtEPG, p aci.Place) { c.dirtyIn(c.have.Domain(e.L3Out), p) }

func (c *Controller) dirtyIn(key aci.DN, p aci.Place) {
	if !c.running {
		return // Run begins with everything
	}
	c.recount(p)
	c.recordLater(p.ExtEPG)
	d := c.domain(key)
	d.places[p] = struct{}{}
	if !d.since.IsZero() {
		return
	}
	now := time.Now()
	if now.Sub(d.postAt) >= busyWindow {
		d.window = quietWindow
	}
	d.since, d.due = now, now.Add(d.window)
	c.queue.AddAfter(key, maxTime(d.due, d.notBefore).Sub(now))
}

// take hands out what is dirty and has waited long enough.
func (d *domain) take(now time.Time) (map[aci.Place]struct{}, time.Time) {
	if d.since.IsZero() || now.Before(d.due) {
		return nil, time.Time{}
	}
	places, since := d.places, d.since
	d.places, d.since = map[aci.Place]struct{}{}, time.Time{}
	return places, since
}

// giveBack makes dirty again what was taken.
func (c *Controller) giveBack(key aci.DN, places map[aci.Place]struct{}, since time.Time) {
	c.mark(slices.SortedFunc(maps.Keys(places), aci.Place.Compare))
	if d := c.domain(key); !d.since.IsZero() && !since.IsZero() {
		d.since = earlier(d.since, since)
	}
}

// posted notes a write: the next one waits longer if it comes soon.
func (d *domain) posted(now time.Time) {
	d.window = min(2*max(d.window, quietWindow), busyWindow)
	d.postAt = now
}

// fail backs the domain off: half a second, doubling up to half a minute.
func (d *domain) fail(now time.Time, random func() float64) time.Duration {
	wait := min(500*time.Millisecond<<min(d.failures, 10), 30*time.Second)
	wait += time.Duration(random() * float64(wait/5))
	d.failures++
	d.notBefore = now.Add(wait)
	return wait
}

// prune drops dirty addresses that came and went while nothing could be written, so that they
// do not pile up.
func (c *Controller) prune(key aci.DN) {
	d := c.domain(key)
	for p := range d.places {
		if p.Prefix.IsValid() && len(c.want.Claimants(p.Prefix)) == 0 && len(c.have.Holders(p.Prefix)) == 0 &&
			!c.have.Pending(p.Prefix) && c.problems[origin{domain: key, Place: aci.Place{Prefix: p.Prefix}}] == nil &&
			c.refused[p] == nil && c.held[p.ExtEPG] == nil {
			delete(d.places, p)
			delete(c.orphans, p)
			c.left(p)
		}
	}
}

// left tells the desired side when nothing is at p, so that it forgets what it remembers for the
// sake of a subnet there. In an L3Out that is not watched there is nothing of ours.
func (c *Controller) left(p aci.Place) {
	if c.watches[p.L3Out] == nil || c.have.Absent(p) {
		c.mark(c.want.Left(p))
		if c.have.Vanished(p) && !c.want.Claims(p) {
			c.have.Unvanish(p)
			c.recordLater(p.ExtEPG) // that may have been all that told that it was ours
		}
	}
}

// rehome wakes the domain that an L3Out has come to, and lets the one that it left see that it
// is gone: what was told of it there is settled here from now on.
func (c *Controller) rehome(l aci.L3Out, from, to aci.DN) {
	for _, e := range c.want.EPGs() {
		if e.L3Out != l {
			continue
		}
		for p := range c.want.Places(e) {
			if p.Prefix.IsValid() {
				c.dirtyIn(from, aci.Place{Prefix: p.Prefix})
			}
		}
		c.mark([]aci.Place{{ExtEPG: e}})
	}
	w := c.watches[l]
	if w == nil {
		return
	}
	if c.running {
		c.queue.Add(to)
	}
	w.among = aci.VRF{} // the others of a VRF are let go of when it leaves
	if c.needed(l) {
		c.watch(l)
	}
}

// arrived notes that an event or a read told of the object d, which a POST of ours may wait
// for.
func (c *Controller) arrived(dn aci.DN) {
	b := c.awaits[dn]
	if b == nil || c.have.Expected(dn) != "" {
		return
	}
	delete(c.awaits, dn)
	if ch, back := b.backs[dn]; back {
		c.fought(ch, time.Now())
	}
	if delete(b.waits, dn); len(b.waits) == 0 {
		c.domain(c.have.Domain(b.epg.L3Out)).failures = 0 // writes work
		c.metrics.converged(time.Since(b.since))
		c.records.synced[b.epg] = time.Now()
		c.recordLater(b.epg)
		c.finish(b)
	}
}

// finish ends the wait for the events of b, and for what carrying its EPG as modified may have
// done to it.
func (c *Controller) finish(b *batch) {
	if _, waiting := c.batches[b]; !waiting {
		return
	}
	delete(c.batches, b)
	close(b.done)
	for dn := range b.waits {
		if c.awaits[dn] == b {
			delete(c.awaits, dn)
		}
	}
	for other := range c.batches {
		if other.epg == b.epg {
			return // it may still make the EPG
		}
	}
	if c.have.Expected(b.epg.DN()) == aci.StatusModified {
		c.have.Unexpect(b.epg.DN())
	}
}

// overdue reads what became of POSTs that nothing was heard of in time, or whose answer was
// lost. Until that is known an address that they may have written somewhere must not be written
// elsewhere. What was accepted and not done is an error: it may go on like that.
func (c *Controller) overdue(ctx context.Context, key aci.DN) error {
	c.mu.Lock()
	var due []*batch
	for b := range c.batches {
		if c.have.Domain(b.epg.L3Out) == key && !time.Now().Before(b.deadline) {
			due = append(due, b)
		}
	}
	c.mu.Unlock()
	var errs []error
	for _, b := range due {
		c.mu.Lock()
		left := len(b.waits)
		c.mu.Unlock()
		if left > 0 {
			if !b.failed {
				c.log.Warn("no event tells of a write, reading what it did", "epg", b.epg, "changes", left)
			}
			if err := c.lookAt(ctx, b.epg); err != nil {
				return err
			}
		}
		c.mu.Lock()
		if left = len(b.waits); left > 0 && !b.failed {
			errs = append(errs, fmt.Errorf("post %s: %d changes were accepted and not made", b.epg.DN(), left))
		}
		c.drop(b)
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

// awaiting reports whether it is not known yet what became of a write in a domain.
func (c *Controller) awaiting(key aci.DN) bool {
	for b := range c.batches {
		if c.have.Domain(b.epg.L3Out) == key {
			return true
		}
	}
	return false
}

// drop ends the wait for b although nothing tells that it was carried out.
func (c *Controller) drop(b *batch) {
	for dn, p := range b.waits {
		c.have.Unexpect(dn)
		c.mark([]aci.Place{p})
	}
	c.finish(b)
}

// earlier is the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
