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

const (
	// pauseFresh is how old a look at the pause tags may be before a write that deletes or
	// puts back (SPEC section 3).
	pauseFresh = 5 * time.Second
	// confirmTimeout is how long a POST waits for its events before what it did is read.
	confirmTimeout = 5 * time.Second
	// recheckMin and recheckMax bound how often a missing L3Out is looked for. Its creation is
	// announced; this is for when that got lost.
	recheckMin, recheckMax = 5 * time.Second, time.Minute
	// maxRounds of reading and comparing again before the worker lets others go first.
	maxRounds = 5
)

// work takes domains off the queue until it shuts down.
func (c *Controller) work(ctx context.Context) {
	for {
		key, down := c.queue.Get()
		if down {
			return
		}
		c.mu.Lock()
		wait := time.Until(c.domain(key).notBefore)
		c.mu.Unlock()
		if wait > 0 {
			c.queue.AddAfter(key, wait)
			c.queue.Done(key)
			continue
		}
		next, err := c.Reconcile(ctx, key)
		c.mu.Lock()
		d, now := c.domain(key), time.Now()
		switch {
		case err == nil:
			d.failures, d.notBefore = 0, time.Time{}
		case ctx.Err() == nil:
			wait := d.fail(now)
			c.log.Warn("will try again", "dn", key, "err", err, "dur", wait, "attempt", d.failures)
			next = d.notBefore
		}
		if !d.since.IsZero() {
			next = earlier(next, maxTime(now.Add(d.window), d.notBefore))
		}
		if !next.IsZero() {
			c.queue.AddAfter(key, next.Sub(now))
		}
		c.mu.Unlock()
		c.queue.Done(key)
	}
}

// Reconcile brings one domain to what is wanted, as far as what is known allows: it reads what
// must be read, compares the dirty places, and writes. It returns when the domain must be
// looked at again although nothing happens, zero for never. An error means that the domain
// backs off; nothing is lost, its places stay dirty. One call per domain at a time.
func (c *Controller) Reconcile(ctx context.Context, key aci.DN) (time.Time, error) {
	c.mu.Lock()
	d := c.domain(key)
	c.overdue(d, time.Now())
	c.retry(key, time.Now())
	c.mu.Unlock()
	if moved, err := c.readDue(ctx, key); moved || err != nil {
		return time.Time{}, err
	}
	c.mu.Lock()
	places, since := d.take()
	c.mu.Unlock()
	if err := c.settle(ctx, key, places, since); err != nil {
		c.mu.Lock()
		for p := range places {
			c.mark([]aci.Place{p})
		}
		c.mu.Unlock()
		return time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tidy(key)
	return c.next(key, d), nil
}

// readDue reads the L3Outs of the domain that are not complete or due for a look. It reports
// whether one of them turned out to belong to another domain, which then has its places.
func (c *Controller) readDue(ctx context.Context, key aci.DN) (moved bool, err error) {
	c.mu.Lock()
	var due []aci.L3Out
	now := time.Now()
	for l, w := range c.watches {
		if c.have.Domain(l) == key && (!c.have.Complete(l) || !w.readAt.IsZero() && !now.Before(w.readAt)) {
			due = append(due, l)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(due, aci.L3Out.Compare)
	var errs []error
	for _, l := range due {
		if err := c.read(ctx, l); err != nil {
			errs = append(errs, err)
		}
	}
	if len(due) == 0 {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range due {
		if c.have.Domain(l) != key {
			moved = true
		}
	}
	if moved {
		d := c.domain(key)
		places, _ := d.take()
		delete(c.domains, key)
		c.mark(slices.Collect(maps.Keys(places)))
		for _, l := range due {
			c.queue.Add(c.have.Domain(l))
		}
	}
	return moved, errors.Join(errs...)
}

// read reads l whole and makes dirty what differs, and all that is wanted there if it was not
// known before.
func (c *Controller) read(ctx context.Context, l aci.L3Out) error {
	c.mu.Lock()
	was := c.have.Complete(l)
	c.have.Fold(aci.Update{Kind: aci.ReadBegin, Root: l.DN()})
	c.mu.Unlock()
	u, err := c.apic.Read(ctx, l)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	existed := c.have.Exists(l)
	c.fold(u)
	w := c.watches[l]
	if w == nil {
		return nil
	}
	now := time.Now()
	if c.have.Exists(l) {
		w.readAt, w.recheck = now.Add(c.jitter()), 0
	} else {
		w.recheck = min(max(2*w.recheck, recheckMin), recheckMax)
		w.readAt = now.Add(w.recheck)
	}
	w.pauseAt = now
	c.metrics.complete(l, c.have.Complete(l))
	c.metrics.lastRead(l, now)
	if !was || existed != c.have.Exists(l) {
		for _, e := range c.want.EPGs() {
			if e.L3Out == l {
				c.mark([]aci.Place{{ExtEPG: e}})
			}
		}
	}
	if !c.have.Complete(l) {
		return fmt.Errorf("read %s: events were lost meanwhile", l.DN())
	}
	return nil
}

// settle compares the places and writes the difference, reading before that what the
// comparison asks for.
func (c *Controller) settle(ctx context.Context, key aci.DN, places map[aci.Place]struct{}, since time.Time) error {
	if len(places) == 0 {
		return nil
	}
	judged := map[aci.ExtEPG]bool{}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for e := range judged {
			c.have.Unjudge(e) // a judgement is good for the write that follows it
		}
	}()
	var p plan.Plan
	for range maxRounds {
		c.mu.Lock()
		for q := range places {
			if q.ExtEPG != (aci.ExtEPG{}) && c.have.Domain(q.L3Out) != key {
				delete(places, q) // its L3Out has another VRF by now, or none
				c.mark([]aci.Place{q})
			}
		}
		list := slices.SortedFunc(maps.Keys(places), aci.Place.Compare)
		p = plan.Diff(c.want, c.have, c.opts.Policy, key, list)
		stale := c.stalePauses(p)
		c.mu.Unlock()
		if len(p.Reads) == 0 && len(stale) == 0 {
			break
		}
		for _, e := range epgsOf(p.Reads) {
			judged[e] = true
		}
		if err := c.readMore(ctx, p.Reads, stale, places); err != nil {
			return err
		}
	}
	c.report(places, p)
	if err := c.write(ctx, key, p, places, since); err != nil {
		return err
	}
	if len(p.Reads) > 0 {
		return fmt.Errorf("%s and %d more: read again and again, and still not known", p.Reads[0], len(p.Reads)-1)
	}
	return nil
}

// stalePauses are the L3Outs whose pause tags must be looked at before the plan is carried out.
func (c *Controller) stalePauses(p plan.Plan) []aci.L3Out {
	stale := map[aci.L3Out]struct{}{}
	for _, ch := range p.Changes {
		if w := c.watches[ch.Place.L3Out]; !ch.Routine() && w != nil && time.Since(w.pauseAt) > pauseFresh {
			stale[ch.Place.L3Out] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(stale), aci.L3Out.Compare)
}

// readMore reads single objects, whole EPGs and pause tags, and adds to places what they
// touch.
func (c *Controller) readMore(ctx context.Context, dns []aci.DN, pauses []aci.L3Out, places map[aci.Place]struct{}) error {
	touch := func(list []aci.Place) {
		c.mark(list)
		for _, p := range list {
			places[p] = struct{}{}
		}
	}
	for _, l := range pauses {
		paused, err := c.apic.PauseTags(ctx, l)
		if err != nil {
			return err
		}
		c.mu.Lock()
		touch(c.have.SetPaused(l, paused))
		if w := c.watches[l]; w != nil {
			w.pauseAt = time.Now()
		}
		c.mu.Unlock()
	}
	for _, e := range epgsOf(dns) {
		list, err := c.readEPG(ctx, e)
		if err != nil {
			return err
		}
		c.mu.Lock()
		touch(list)
		c.mu.Unlock()
	}
	subnets := slices.DeleteFunc(slices.Clone(dns), func(d aci.DN) bool {
		_, rest, _ := aci.ExtEPGOf(d)
		return rest == ""
	})
	list, err := c.readSubnets(ctx, subnets)
	c.mu.Lock()
	touch(list)
	c.mu.Unlock()
	return err
}

func epgsOf(dns []aci.DN) []aci.ExtEPG {
	var out []aci.ExtEPG
	for _, d := range dns {
		if e, rest, ok := aci.ExtEPGOf(d); ok && rest == "" {
			out = append(out, e)
		}
	}
	return out
}

func (c *Controller) readEPG(ctx context.Context, e aci.ExtEPG) ([]aci.Place, error) {
	c.mu.Lock()
	c.have.Fold(aci.Update{Kind: aci.ReadBegin, Root: e.DN()})
	c.mu.Unlock()
	u, err := c.apic.ReadEPG(ctx, e)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	places := c.have.Fold(u)
	for _, m := range u.Objects {
		c.arrived(m.DN)
	}
	return places, nil
}

// readSubnets reads subnets with their marks. Each is a full read of its own root.
func (c *Controller) readSubnets(ctx context.Context, dns []aci.DN) ([]aci.Place, error) {
	if len(dns) == 0 {
		return nil, nil
	}
	c.mu.Lock()
	for _, d := range dns {
		c.have.Fold(aci.Update{Kind: aci.ReadBegin, Root: d})
	}
	c.mu.Unlock()
	objects, err := c.apic.ReadObjects(ctx, dns)
	if err != nil {
		return nil, err
	}
	byRoot := map[aci.DN][]aci.MO{}
	for _, m := range objects {
		root := m.DN
		if m.Class != aci.ClassSubnet {
			root = root.Parent()
		}
		byRoot[root] = append(byRoot[root], m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var places []aci.Place
	for _, d := range dns {
		places = append(places, c.have.Fold(aci.Update{Kind: aci.FullRead, Root: d, Objects: byRoot[d]})...)
		c.arrived(d)
	}
	return places, nil
}

// tidy ends the watch on L3Outs of the domain in which nothing is wanted and nothing is ours,
// and forgets what absent EPGs were that nobody names.
func (c *Controller) tidy(key aci.DN) {
	named := map[aci.L3Out]bool{}
	for _, e := range c.want.EPGs() {
		named[e.L3Out] = true
	}
	for l := range c.watches {
		if c.have.Domain(l) != key || !c.have.Complete(l) {
			continue
		}
		for _, e := range c.have.ExtEPGs(l) {
			if !c.want.Named(e) {
				c.have.Release(e)
			}
		}
		if !named[l] && !c.have.Marked(l) {
			c.apic.Forget(l)
			c.have.Forget(l)
			c.metrics.forget(l)
			delete(c.watches, l)
		}
	}
}

// next is when the domain is due although nothing happens.
func (c *Controller) next(key aci.DN, d *domain) time.Time {
	var next time.Time
	for _, b := range d.batches {
		if len(b.waits) > 0 {
			next = earlier(next, b.deadline)
		}
	}
	for l, w := range c.watches {
		if c.have.Domain(l) == key {
			next = earlier(next, w.readAt)
		}
	}
	for p, r := range c.refused {
		if c.have.Domain(p.L3Out) == key {
			next = earlier(next, r.until)
		}
	}
	return next
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
