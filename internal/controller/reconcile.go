package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

const (
	// pauseFresh is how old a look at the pause tags may be before a write that deletes or
	// puts back: tags may not be announced.
	pauseFresh = 5 * time.Second
	// confirmTimeout is how long a POST waits for its events before what it did is read.
	confirmTimeout = 5 * time.Second
	// recheckMin and recheckMax bound how often a missing L3Out is looked for, and how soon a
	// periodic read that failed is tried again. Creation is announced; this is for when that
	// got lost.
	recheckMin, recheckMax = 5 * time.Second, time.Minute
	// maxRounds of reading and comparing again, before what cannot be decided for all that is
	// put off by undecidedPause: somebody keeps on writing there.
	maxRounds      = 5
	undecidedPause = 5 * time.Second
)

// errOvertaken: what was planned is not right any more.
var errOvertaken = errors.New("overtaken")

// work takes domains off the queue until it shuts down.
func (c *Controller) work(ctx context.Context) {
	for {
		key, down := c.queue.Get()
		if down {
			return
		}
		if next := c.turn(ctx, key); !next.IsZero() {
			c.queue.AddAfter(key, time.Until(next))
		}
		c.queue.Done(key)
	}
}

// turn gives one domain its turn and returns when the next one is due, zero for never.
func (c *Controller) turn(ctx context.Context, key aci.DN) time.Time {
	c.mu.Lock()
	notBefore := c.domain(key).notBefore
	c.mu.Unlock()
	if time.Now().Before(notBefore) {
		return notBefore
	}
	err := c.Reconcile(ctx, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	d, now := c.domain(key), time.Now()
	if err != nil {
		if ctx.Err() != nil {
			return time.Time{}
		}
		wait := d.fail(now, c.opts.Random)
		c.prune(key)
		c.tidy(key)
		level := slog.LevelWarn
		if denied(err) && d.failures > 1 {
			level = slog.LevelDebug // it was said, and can stay so for good
		}
		c.log.Log(ctx, level, "will try again", "dn", key, "err", err, "dur", wait, "attempt", d.failures)
		return d.notBefore
	}
	if d.notBefore = (time.Time{}); !c.awaiting(key) {
		d.failures = 0
	}
	c.settled(key)
	c.progress()
	c.tidy(key)
	next := earlier(c.next(key), c.endFights(key, now))
	if next.IsZero() {
		delete(c.domains, key) // nothing is watched in it: its VRF is gone, or its L3Out has one now
	}
	return next
}

// progress tells who waits for it that something may have changed. Callers hold mu.
func (c *Controller) progress() {
	select {
	case c.turned <- struct{}{}:
	default: // nobody waits, or there is a token already
	}
}

// Reconcile brings one domain to what is wanted, as far as what is known allows: it reads what
// must be read, compares the dirty places, and writes. An error means that the domain backs
// off; nothing is lost, its places stay dirty. One call per domain at a time.
func (c *Controller) Reconcile(ctx context.Context, key aci.DN) error {
	c.mu.Lock()
	c.retry(key, time.Now())
	c.mu.Unlock()
	if err := c.overdue(ctx, key); err != nil {
		return err
	}
	if err := c.readDue(ctx, key); err != nil {
		return err
	}
	c.mu.Lock()
	places, since := c.domain(key).take(time.Now())
	c.mu.Unlock()
	if len(places) == 0 {
		return nil
	}
	err := c.settle(ctx, key, places, since)
	if err != nil {
		c.mu.Lock()
		c.giveBack(key, places, since)
		c.mu.Unlock()
	}
	if errors.Is(err, errOvertaken) {
		return nil
	}
	return err
}

// readDue reads the L3Outs of the domain that are not complete or due for a look. That can show
// that one belongs to another domain, which then has its places. A read that fails although
// what is known is complete stops nothing.
func (c *Controller) readDue(ctx context.Context, key aci.DN) error {
	if err := c.relate(ctx, false); err != nil {
		return err
	}
	c.mu.Lock()
	var due []aci.L3Out
	for l, w := range c.watches {
		if c.have.Domain(l) == key && (c.shut(l) || !w.readAt.IsZero() && !time.Now().Before(w.readAt)) {
			due = append(due, l)
		}
	}
	c.mu.Unlock()
	slices.SortFunc(due, aci.L3Out.Compare)
	var errs []error
	for l, err := range c.readAll(ctx, due) {
		c.mu.Lock()
		if w := c.watches[l]; c.have.Complete(l) && w != nil && ctx.Err() == nil {
			w.readAt = time.Now().Add(w.doubled())
			c.log.Warn("cannot read L3Out once more, will try again", "dn", l.DN(), "err", err)
		} else {
			errs = append(errs, err)
		}
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

// read reads l whole and makes dirty all that is wanted or held there.
func (c *Controller) read(ctx context.Context, l aci.L3Out) error {
	c.mu.Lock()
	if c.watches[l] == nil { // not any more
		c.mu.Unlock()
		return nil
	}
	c.have.Fold(aci.Update{Kind: aci.ReadBegin, Root: l.DN()})
	c.mu.Unlock()
	u, err := c.apic.Read(ctx, l)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heed()
	if c.watches[l] == nil { // not any more: what the read has begun is undone
		c.have.Unread(l.DN())
		c.apic.Forget(l.DN())
		return nil
	}
	if err == nil && len(u.Objects) == 0 && !c.login.MayRead(l.DN()) {
		err = fmt.Errorf("read %s: %w (%s)", l.DN(), errNotShown, domains(c.login))
	}
	if err != nil {
		c.have.Unread(l.DN())
		if forGood(err) && !c.needed(l) {
			c.overlook(l, err)
			return nil
		}
		if denied(err) {
			c.notShown(l, err)
		}
		return err
	}
	c.fold(u)
	w := c.watches[l]
	if w == nil {
		return nil
	}
	w.denied, w.holds = false, false // what is in it tells that now
	now := time.Now()
	switch {
	case !c.have.Exists(l):
		w.readAt = now.Add(w.doubled())
	case w.missing:
		w.readAt, w.missing = now.Add(lateRead), false
	default:
		w.readAt, w.recheck = now.Add(c.jitter()), 0
	}
	w.missing = !c.have.Exists(l)
	w.pauseAt = now
	w.lastRead = now
	// All of it is compared: a place that something forgot to touch is stale no longer than this.
	for _, e := range c.want.EPGs() {
		if e.L3Out == l {
			c.mark([]aci.Place{{ExtEPG: e}})
		}
	}
	for _, e := range c.have.ExtEPGs(l) {
		c.mark([]aci.Place{{ExtEPG: e}})
		for n := range c.have.Subnets(e) {
			c.mark([]aci.Place{{ExtEPG: e, Prefix: n.Prefix}})
		}
	}
	for e := range c.records.there {
		if e.L3Out == l {
			c.recordLater(e) // what it waited for may be known now
		}
	}
	if !c.have.Complete(l) {
		return fmt.Errorf("read %s: events were lost meanwhile", l.DN())
	}
	return nil
}

// settle compares the places and writes the difference.
func (c *Controller) settle(ctx context.Context, key aci.DN, places map[aci.Place]struct{}, since time.Time) error {
	judged := map[aci.ExtEPG]bool{}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for e := range judged {
			c.have.Unjudge(e) // a judgement is good for the write that follows it
		}
	}()
	p, err := c.decide(ctx, key, places, judged)
	if err != nil {
		return err
	}
	c.report(key, places, p)
	if c.writer == nil {
		c.rehearse(places, p)
		return nil
	}
	return c.write(ctx, key, p, since)
}

// decide compares the places, and reads what the comparison asks for before it compares again.
// It adds to places what that touches, and to judged the EPGs that were read whole.
func (c *Controller) decide(
	ctx context.Context, key aci.DN, places map[aci.Place]struct{}, judged map[aci.ExtEPG]bool,
) (plan.Plan, error) {
	for round := 0; ; round++ {
		c.mu.Lock()
		for q := range places {
			if q.ExtEPG != (aci.ExtEPG{}) && c.have.Domain(q.L3Out) != key {
				delete(places, q) // its L3Out has another VRF by now, or none
				c.mark([]aci.Place{q})
			}
		}
		list := slices.SortedFunc(maps.Keys(places), aci.Place.Compare)
		p := c.diff(key, list)
		stale := c.stalePauses(p.Changes)
		if round == maxRounds {
			c.putOff(p.Reads)
		}
		c.mu.Unlock()
		if round == maxRounds || len(p.Reads) == 0 && len(stale) == 0 {
			return p, nil
		}
		for _, e := range epgsOf(p.Reads) {
			judged[e] = true
		}
		if err := c.readMore(ctx, p.Reads, stale, places); err != nil {
			return plan.Plan{}, err
		}
	}
}

// putOff makes places dirty in a while that cannot be decided about now.
func (c *Controller) putOff(reads []aci.DN) {
	for _, d := range reads {
		e, rest, ok := aci.ExtEPGOf(d)
		if !ok {
			continue
		}
		p := aci.Place{ExtEPG: e}
		if ip, ok := aci.SubnetIP(rest); ok {
			prefix, err := netip.ParsePrefix(ip)
			if err != nil {
				continue
			}
			p.Prefix = prefix.Masked()
		}
		c.later[p] = time.Now().Add(undecidedPause)
	}
}

// stalePauses are the L3Outs whose pause tags must be looked at before the changes are made.
func (c *Controller) stalePauses(changes []plan.Change) []aci.L3Out {
	stale := map[aci.L3Out]struct{}{}
	for _, ch := range changes {
		if w := c.watches[ch.Place.L3Out]; !ch.Routine() && w != nil && time.Since(w.pauseAt) > pauseFresh {
			stale[ch.Place.L3Out] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(stale), aci.L3Out.Compare)
}

// readMore reads single objects, whole EPGs and, last because they age, pause tags. It adds to
// places what they touch.
func (c *Controller) readMore(ctx context.Context, dns []aci.DN, pauses []aci.L3Out, places map[aci.Place]struct{}) error {
	touch := func(list []aci.Place) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range list {
			places[p] = struct{}{}
			c.recount(p)
			c.recordLater(p.ExtEPG)
		}
	}
	for _, e := range epgsOf(dns) {
		list, err := c.readEPG(ctx, e)
		if err != nil {
			return err
		}
		touch(list)
	}
	subnets := slices.DeleteFunc(slices.Clone(dns), func(d aci.DN) bool {
		_, rest, _ := aci.ExtEPGOf(d)
		return rest == ""
	})
	list, err := c.readSubnets(ctx, subnets)
	if err != nil {
		return err
	}
	touch(list)
	for _, l := range pauses {
		paused, err := c.apic.PauseTags(ctx, l)
		if err != nil {
			return err
		}
		c.mu.Lock()
		changed := c.have.SetPaused(l, paused)
		c.mark(changed) // it may concern EPGs that are not there, and other domains
		if w := c.watches[l]; w != nil {
			w.pauseAt = time.Now()
		}
		c.mu.Unlock()
		touch(changed)
	}
	return nil
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.have.Unread(e.DN())
		return nil, err
	}
	places := c.have.Fold(u)
	for _, m := range u.Objects {
		c.arrived(m.DN)
	}
	return places, nil
}

// lookAt reads e because of a write, and makes dirty what differs. It is no judgement: that
// takes a read just before the deletion.
func (c *Controller) lookAt(ctx context.Context, e aci.ExtEPG) error {
	places, err := c.readEPG(ctx, e)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.have.Unjudge(e)
	c.mark(places)
	return err
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		for _, d := range dns {
			c.have.Unread(d)
		}
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
	var places []aci.Place
	for _, d := range dns {
		places = append(places, c.have.Fold(aci.Update{Kind: aci.FullRead, Root: d, Objects: byRoot[d]})...)
		c.arrived(d)
	}
	return places, nil
}

// tidy ends the watch on L3Outs of the domain when nothing is wanted in any of them and nothing is ours.
func (c *Controller) tidy(key aci.DN) {
	var idle []aci.L3Out
	for l, w := range c.watches {
		if c.have.Domain(l) != key {
			continue
		}
		if c.want.NamedIn(l) || c.recorded(l) || !c.have.Complete(l) && !w.denied {
			return
		}
		idle = append(idle, l)
	}
	if slices.ContainsFunc(idle, c.have.Marked) {
		return
	}
	for _, l := range idle {
		c.apic.Forget(l.DN())
		c.have.Forget(l)
		if delete(c.watches, l); len(c.watches) == 0 {
			c.forgetFaults()
			c.forgetRelations()
		}
	}
}

// recorded reports whether the cluster still holds a record of an external EPG in l.
func (c *Controller) recorded(l aci.L3Out) bool {
	if !c.keeps() {
		return false
	}
	for e := range c.records.there {
		if e.L3Out == l {
			return true
		}
	}
	return false
}

// next is when the domain must be looked at again, zero for never.
func (c *Controller) next(key aci.DN) time.Time {
	var next time.Time
	if d := c.domain(key); !d.since.IsZero() {
		next = d.due
	}
	for b := range c.batches {
		if c.have.Domain(b.epg.L3Out) == key {
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
	for p, at := range c.later {
		if c.have.Domain(p.L3Out) == key {
			next = earlier(next, at)
		}
	}
	return next
}

// retry makes dirty again what was refused or put off and whose time has come.
func (c *Controller) retry(key aci.DN, now time.Time) {
	for p, r := range c.refused {
		if c.have.Domain(p.L3Out) == key && r.withheld() && !now.Before(r.until) {
			r.until = time.Time{}
			c.dirty(p.ExtEPG, p)
		}
	}
	for p, at := range c.later {
		if c.have.Domain(p.L3Out) == key && !now.Before(at) {
			delete(c.later, p)
			c.dirty(p.ExtEPG, p)
		}
	}
}
