package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// refusal is a change that the APIC refuses because of what it says.
type refusal struct {
	attempts int
	until    time.Time
}

// write carries out a plan. Whatever fails stays dirty.
func (c *Controller) write(
	ctx context.Context, key aci.DN, p plan.Plan, places map[aci.Place]struct{}, since time.Time,
) error {
	c.mu.Lock()
	p.Changes = c.withoutRefused(p.Changes, places)
	c.mu.Unlock()
	for _, post := range p.Posts(c.opts.Policy.Owner) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if post.Second {
			c.mu.Lock()
			post.Changes = c.thatLeft(post.Changes)
			c.mu.Unlock()
			if len(post.Changes) == 0 {
				continue
			}
			post.Body = plan.Body(c.opts.Policy.Owner, post.EPG, post.Changes)
		}
		if err := c.post(ctx, key, post, since); err != nil {
			return err
		}
	}
	return nil
}

// thatLeft keeps the changes whose address has left the other EPGs of the VRF, as far as our
// POSTs could make it. The rest stays dirty.
func (c *Controller) thatLeft(changes []plan.Change) []plan.Change {
	return slices.DeleteFunc(slices.Clone(changes), func(ch plan.Change) bool {
		for _, h := range c.have.Holders(ch.Place.Prefix) {
			n, _ := c.have.Subnet(aci.Place{ExtEPG: h, Prefix: ch.Place.Prefix})
			if h != ch.Place.ExtEPG && c.have.Domain(h.L3Out) == c.have.Domain(ch.Place.L3Out) && c.have.Ours(n.Mark, n.DN) &&
				c.have.Expected(n.DN) != aci.StatusDeleted && c.have.Expected(h.DN()) != aci.StatusDeleted {
				c.mark([]aci.Place{ch.Place})
				return true
			}
		}
		return false
	})
}

// withoutRefused leaves out what the APIC refused, until its time has come; and forgets the
// refusals of places that have no change any more.
func (c *Controller) withoutRefused(changes []plan.Change, places map[aci.Place]struct{}) []plan.Change {
	if len(c.refused) == 0 {
		return changes
	}
	planned := map[aci.Place]bool{}
	for _, ch := range changes {
		planned[ch.Place] = true
	}
	for p := range places {
		if !planned[p] {
			delete(c.refused, p)
		}
	}
	return slices.DeleteFunc(changes, func(ch plan.Change) bool {
		r := c.refused[ch.Place]
		return r != nil && time.Now().Before(r.until)
	})
}

// post writes one request, and finds the culprit when the APIC refuses it because of what it
// says. An error means that the domain backs off.
func (c *Controller) post(ctx context.Context, key aci.DN, p plan.Post, since time.Time) error {
	refused, err := c.send(ctx, key, p, since)
	if refused == nil {
		return err
	}
	if gone, err := c.carrierGone(ctx, p); gone || err != nil {
		return err
	}
	return c.split(ctx, key, p, since, refused)
}

// send makes the request; a refusal because of an object in it is returned apart from other
// errors. The request in hand is finished even when ctx ends.
func (c *Controller) send(ctx context.Context, key aci.DN, p plan.Post, since time.Time) (*aci.Error, error) {
	started := time.Now()
	c.mu.Lock()
	b := c.expect(key, p, since)
	c.mu.Unlock()
	last, cancel := outlive(ctx, finishTimeout)
	err := c.apic.Post(last, p.EPG.L3Out.DN(), p.Body)
	cancel()
	if err == nil {
		c.applied(p, time.Since(started))
		return nil, c.confirmMarks(ctx, p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for dn := range b.waits {
		delete(c.awaits, dn)
		c.have.Unexpect(dn)
	}
	clear(b.waits)
	c.uncarry(p.EPG)
	for _, ch := range p.Changes {
		c.mark([]aci.Place{ch.Place})
	}
	answer, ok := errors.AsType[*aci.Error](err)
	switch {
	case !ok || answer.Temporary():
		c.have.Doubt(p.EPG) // it may have been done all the same
	case answer.Exists():
		c.have.Doubt(p.EPG)
		c.log.Info("somebody else made it first, planning anew", "epg", p.EPG, "err", err)
		return nil, nil
	case answer.MissingParent():
		c.have.Fold(aci.Update{Kind: aci.Gap, Root: p.EPG.L3Out.DN()})
	case answer.Rejected():
		return answer, err
	}
	return nil, err
}

// finishTimeout is how long a request may go on after its context ended.
const finishTimeout = 2 * time.Second

// outlive returns a context that ends d after ctx does: a write that has begun is finished,
// since what it did would not be known otherwise.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, func() { cancel(errors.New("shutting down")) })
		context.AfterFunc(longer, func() { t.Stop() })
	})
	return longer, func() { stop(); cancel(nil) }
}

// expect notes what p is to do, so that its echo is known and nothing is posted twice.
func (c *Controller) expect(key aci.DN, p plan.Post, since time.Time) *batch {
	b := &batch{epg: p.EPG, waits: map[aci.DN]aci.Place{}, since: since, deadline: time.Now().Add(confirmTimeout)}
	whole := false
	for _, ch := range p.Changes {
		whole = whole || !ch.Place.Prefix.IsValid()
		if ch.Mark && ch.Action == plan.Update {
			continue // tags may not be announced: they are read
		}
		c.have.Expect(ch.DN, ch.Status(), ch.Attrs)
		b.waits[ch.DN], c.awaits[ch.DN] = ch.Place, b
	}
	if !whole && c.have.Expected(p.EPG.DN()) == "" {
		c.have.Expect(p.EPG.DN(), aci.StatusModified, nil)
	}
	d := c.domain(key)
	d.batches = append(d.batches, b)
	d.posted(time.Now())
	return b
}

// uncarry ends the wait for what carrying e as modified may have done to it.
func (c *Controller) uncarry(e aci.ExtEPG) {
	if c.have.Expected(e.DN()) == aci.StatusModified {
		c.have.Unexpect(e.DN())
	}
}

// confirmMarks reads what a POST of marks alone did.
func (c *Controller) confirmMarks(ctx context.Context, p plan.Post) error {
	var subnets []aci.DN
	var errs []error
	for _, ch := range p.Changes {
		switch {
		case !ch.Mark || ch.Action != plan.Update:
		case ch.Place.Prefix.IsValid():
			subnets = append(subnets, ch.DN)
		default:
			list, err := c.readEPG(ctx, p.EPG)
			c.mu.Lock()
			c.mark(list)
			c.mu.Unlock()
			errs = append(errs, err)
		}
	}
	list, err := c.readSubnets(ctx, subnets)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark(list)
	return errors.Join(append(errs, err)...)
}

// split posts p in parts until the change that the APIC refuses is alone, so that all others
// get in: first by the DN in the APIC's words, then by halves. A refused POST changed nothing.
func (c *Controller) split(ctx context.Context, key aci.DN, p plan.Post, since time.Time, refused *aci.Error) error {
	if len(p.Changes) == 1 {
		c.refuse(p.Changes[0], refused)
		return nil
	}
	culprit := slices.IndexFunc(p.Changes, func(ch plan.Change) bool {
		return ch.Place.Prefix.IsValid() && refused.Culprit().Within(ch.DN)
	})
	var parts [][]plan.Change
	if culprit >= 0 {
		rest := slices.Delete(slices.Clone(p.Changes), culprit, culprit+1)
		parts = [][]plan.Change{rest, {p.Changes[culprit]}}
	} else {
		half := len(p.Changes) / 2
		parts = [][]plan.Change{p.Changes[:half], p.Changes[half:]}
	}
	for _, part := range parts {
		q := plan.Post{EPG: p.EPG, Body: plan.Body(c.opts.Policy.Owner, p.EPG, part), Changes: part, Second: p.Second}
		again, err := c.send(ctx, key, q, since)
		if again != nil {
			err = c.split(ctx, key, q, since, again)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// carrierGone reports whether a POST may have been refused because it meant to modify an EPG
// that is not there; it then plans anew.
//
// unverified: what an APIC says to "modified" on an absent object. It is looked up instead.
func (c *Controller) carrierGone(ctx context.Context, p plan.Post) (bool, error) {
	if !p.Changes[0].Place.Prefix.IsValid() {
		return false, nil
	}
	c.mu.Lock()
	_, there := c.have.ExtEPG(p.EPG)
	c.mu.Unlock()
	if there {
		places, err := c.readEPG(ctx, p.EPG)
		if err != nil {
			return false, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mark(places)
		_, there = c.have.ExtEPG(p.EPG)
	}
	return !there, nil
}

// refuse backs one change off, by itself: nothing else waits for it.
func (c *Controller) refuse(ch plan.Change, err *aci.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refused[ch.Place]
	if r == nil {
		r = &refusal{}
		c.refused[ch.Place] = r
	}
	r.until = time.Now().Add(min(5*time.Second<<min(r.attempts, 10), 10*time.Minute))
	r.attempts++
	c.log.Error("the APIC refuses a change, trying it again later by itself",
		"dn", ch.DN, "action", ch.Action, "code", err.Code, "err", err.Text, "attempt", r.attempts)
	for _, w := range ch.For {
		c.cluster.Note(w, true, ReasonRefused, fmt.Sprintf("the APIC refuses %s: %s", ch.DN, err.Text))
	}
}

// retry makes dirty again what was refused and whose time has come.
func (c *Controller) retry(key aci.DN, now time.Time) {
	for p, r := range c.refused {
		if c.have.Domain(p.L3Out) == key && !now.Before(r.until) {
			c.dirty(p.ExtEPG, p)
		}
	}
}
