package controller

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Debounce: a change waits for company.
//
// A quiet domain waits quietWindow; each batch that follows another within calm doubles the
// wait, up to busyWindow. So a single change is quick, and a thousand Pods that come one by
// one cost two or three writes a second.
const (
	quietWindow = 50 * time.Millisecond
	busyWindow  = 500 * time.Millisecond
	calm        = time.Second
)

// domain is what waits to be looked at in one VRF, or in one L3Out whose VRF is not known.
type domain struct {
	places    map[aci.Place]struct{}
	since     time.Time // when the oldest of places became dirty
	window    time.Duration
	batchAt   time.Time // of the last batch
	failures  int       // in a row
	notBefore time.Time // backing off until then
	batches   []*batch  // posted and not yet heard of
}

// batch is one POST whose events are to come.
type batch struct {
	epg      aci.ExtEPG
	waits    map[aci.DN]aci.Place
	since    time.Time // when the oldest change in it became dirty
	deadline time.Time
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
// claimed or held, an EPG with all that is claimed in it. Callers hold mu.
func (c *Controller) mark(places []aci.Place) {
	if slices.Contains(places, aci.Place{}) {
		places = c.everything()
	}
	for _, p := range places {
		switch {
		case p.Prefix.IsValid():
			c.markPrefix(p)
		default:
			c.watch(p.L3Out)
			c.dirty(p.ExtEPG, p)
			for q := range c.want.Places(p.ExtEPG) {
				if q.Prefix.IsValid() {
					c.markPrefix(q)
				}
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
func (c *Controller) dirty(e aci.ExtEPG, p aci.Place) {
	key := c.have.Domain(e.L3Out)
	d := c.domain(key)
	d.places[p] = struct{}{}
	if !d.since.IsZero() || !c.running {
		return
	}
	now := time.Now()
	d.since = now
	if now.Sub(d.batchAt) > calm {
		d.window = quietWindow
	}
	c.queue.AddAfter(key, max(d.window, d.notBefore.Sub(now)))
}

// take hands out what is dirty, to be looked at now.
func (d *domain) take() (map[aci.Place]struct{}, time.Time) {
	places, since := d.places, d.since
	d.places, d.since = map[aci.Place]struct{}{}, time.Time{}
	return places, since
}

// posted notes that a batch was written: the next one waits longer if it comes soon.
func (d *domain) posted(now time.Time) {
	d.window = min(2*max(d.window, quietWindow), busyWindow)
	d.batchAt = now
}

// fail backs the domain off: half a second, doubling up to half a minute.
func (d *domain) fail(now time.Time) time.Duration {
	wait := min(500*time.Millisecond<<min(d.failures, 10), 30*time.Second)
	wait += rand.N(wait/5 + 1)
	d.failures++
	d.notBefore = now.Add(wait)
	return wait
}

// arrived notes that an event or a read told of the object d, which a POST of ours may wait
// for.
func (c *Controller) arrived(dn aci.DN) {
	b := c.awaits[dn]
	if b == nil || c.have.Expected(dn) != "" {
		return
	}
	delete(c.awaits, dn)
	if delete(b.waits, dn); len(b.waits) == 0 {
		c.metrics.converged(time.Since(b.since))
	}
}

// overdue gives up on POSTs that nothing was heard of in time: what they did must be read.
func (c *Controller) overdue(d *domain, now time.Time) {
	d.batches = slices.DeleteFunc(d.batches, func(b *batch) bool {
		if len(b.waits) > 0 && now.Before(b.deadline) {
			return false
		}
		for dn, p := range b.waits {
			delete(c.awaits, dn)
			if c.have.Unexpect(dn) {
				c.have.Doubt(b.epg)
				c.dirty(p.ExtEPG, p)
			}
		}
		if len(b.waits) > 0 {
			c.log.Warn("no event tells of a write, reading what it did", "epg", b.epg, "changes", len(b.waits))
		}
		c.uncarry(b.epg)
		return true
	})
}

// earlier is the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
