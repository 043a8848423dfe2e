package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// refusal is a change that the APIC refuses because of what it says.
type refusal struct {
	attempts int
	until    time.Time // zero while it is being tried again
}

// withheld reports whether the change waits for its time.
func (r *refusal) withheld() bool { return r != nil && !r.until.IsZero() }

// write carries out a plan. Whatever fails stays dirty.
func (c *Controller) write(ctx context.Context, key aci.DN, p plan.Plan, since time.Time) error {
	for _, post := range p.Posts(c.opts.Policy.Owner) {
		first, again := c.apart(post)
		for _, part := range []plan.Post{first, again} {
			if err := c.post(ctx, key, part, since); err != nil {
				return err
			}
		}
	}
	return nil
}

// newsTimeout is how long a POST waits on the spot for news of those before it. After that what
// needs it comes back when it comes.
const newsTimeout = time.Second

// awaitNews waits until events tell that the EPG is there, and that addresses have left where
// they were. The APIC's answer to a POST does not tell it: it can mean that the work goes on.
func (c *Controller) awaitNews(ctx context.Context, p plan.Post) {
	batches := map[*batch]struct{}{}
	await := func(dn aci.DN) {
		if b := c.awaits[dn]; b != nil {
			batches[b] = struct{}{}
		}
	}
	c.mu.Lock()
	await(p.EPG.DN())
	for _, ch := range p.Changes {
		if !p.Second {
			break
		}
		for _, h := range c.have.Holders(ch.Place.Prefix) {
			if n, _ := c.have.Subnet(aci.Place{ExtEPG: h, Prefix: ch.Place.Prefix}); h != p.EPG {
				await(n.DN)
				await(h.DN())
			}
		}
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, newsTimeout)
	defer cancel()
	for b := range batches {
		select {
		case <-b.done:
		case <-ctx.Done():
			return
		}
	}
}

// apart takes what was refused before out of a POST: it is tried again by itself.
func (c *Controller) apart(p plan.Post) (first, again plan.Post) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, again = p, p
	first.Changes = slices.DeleteFunc(slices.Clone(p.Changes), func(ch plan.Change) bool { return c.refused[ch.Place] != nil })
	again.Changes = slices.DeleteFunc(slices.Clone(p.Changes), func(ch plan.Change) bool { return c.refused[ch.Place] == nil })
	return first, again
}

// possible keeps the changes of one POST that can be made now. What is left out comes back by
// itself: with the event, the read or the retry that it waits for. It returns errOvertaken when
// everything must be compared again.
func (c *Controller) possible(key aci.DN, e aci.ExtEPG, changes []plan.Change) ([]plan.Change, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	if len(c.stalePauses(changes)) > 0 {
		return nil, errOvertaken
	}
	if c.have.Domain(e.L3Out) != key {
		return nil, errOvertaken // its VRF's worker has it now
	}
	if !c.related() || c.shutIn(key) {
		return nil, errOvertaken // events were lost since the plan was made
	}
	g, there := c.have.ExtEPG(e)
	there = there || !changes[0].Place.Prefix.IsValid()
	still := c.stillPlanned(key, e, changes)
	var out []plan.Change
	for _, ch := range changes {
		whole := !ch.Place.Prefix.IsValid()
		switch {
		case !still[ch.Place]:
			c.mark([]aci.Place{ch.Place})
		case c.refused[ch.Place].withheld(), c.truce(ch, time.Now()):
			if whole && ch.Action == plan.Create {
				return nil, nil // nothing can be in it before it is
			}
		case whole && ch.Action == plan.Delete && (!g.Judged || c.want.Named(e) && ch.Reason != plan.Revived):
			return nil, errOvertaken
		case !there, ch.Action == plan.Create && c.elsewhere(ch.Place):
		case ch.Action == plan.Delete && !c.awaited(ch):
		default:
			out = append(out, ch)
		}
	}
	return out, nil
}

// stillPlanned compares the places of one POST once more: what was planned may be seconds old,
// and both sides go on meanwhile. What the comparison would not do now is not done.
func (c *Controller) stillPlanned(key aci.DN, e aci.ExtEPG, changes []plan.Change) map[aci.Place]bool {
	places := []aci.Place{{ExtEPG: e}}
	planned := map[aci.Place]plan.Change{}
	for _, ch := range changes {
		places = append(places, ch.Place)
		planned[ch.Place] = ch
	}
	still := map[aci.Place]bool{}
	for _, now := range c.diff(key, places).Changes {
		if was, ok := planned[now.Place]; ok && was.DN == now.DN && was.Action == now.Action &&
			was.Mark == now.Mark && maps.Equal(was.Attrs, now.Attrs) {
			still[now.Place] = true
		}
	}
	return still
}

// awaited reports whether what the change takes away can be where it is claimed now: the EPG of
// a claimant is there. The APIC may have refused to make it.
func (c *Controller) awaited(ch plan.Change) bool {
	prefixes := []netip.Prefix{ch.Place.Prefix}
	if !ch.Place.Prefix.IsValid() {
		prefixes = prefixes[:0]
		for n := range c.have.Subnets(ch.Place.ExtEPG) {
			prefixes = append(prefixes, n.Prefix)
		}
	}
	return !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
		claimants := c.want.Claimants(p)
		return len(claimants) > 0 && !slices.ContainsFunc(claimants, func(e aci.ExtEPG) bool {
			_, there := c.have.ExtEPG(e)
			return there || c.have.Expected(e.DN()) == aci.StatusCreated
		})
	})
}

// elsewhere reports whether the address of p has not left another EPG of its VRF.
func (c *Controller) elsewhere(p aci.Place) bool {
	if !p.Prefix.IsValid() {
		return false
	}
	return slices.ContainsFunc(c.have.Holders(p.Prefix), func(h aci.ExtEPG) bool {
		n, _ := c.have.Subnet(aci.Place{ExtEPG: h, Prefix: p.Prefix})
		return h != p.ExtEPG && c.have.Domain(h.L3Out) == c.have.Domain(p.L3Out) && n.Mark.Of(c.opts.Policy.Owner)
	})
}

// post writes one request, and finds the culprit when the APIC refuses it because of what it
// says. An error means that the domain backs off.
func (c *Controller) post(ctx context.Context, key aci.DN, p plan.Post, since time.Time) error {
	if len(p.Changes) == 0 {
		return nil
	}
	refused, err := c.send(ctx, key, p, since)
	if refused == nil {
		return err
	}
	if gone, err := c.carrierGone(ctx, p); gone || err != nil {
		return err
	}
	s := splitting{key: key, since: since, left: maxParts}
	err = c.split(ctx, &s, p, refused)
	c.refuse(p.EPG, s.culprits)
	return err
}

// send makes the request; a refusal because of an object in it is returned apart from other
// errors.
func (c *Controller) send(ctx context.Context, key aci.DN, p plan.Post, since time.Time) (*aci.Error, error) {
	if c.awaitNews(ctx, p); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.mu.Lock()
	started := time.Now()
	changes, err := c.possible(key, p.EPG, p.Changes)
	if err != nil || len(changes) == 0 {
		c.mu.Unlock()
		return nil, err
	}
	p.Changes, p.Body = changes, plan.Body(c.opts.Policy.Owner, p.EPG, changes)
	b := c.expect(key, p, since)
	c.mu.Unlock()
	err = c.writer.Post(ctx, p.EPG.L3Out.DN(), p.Body)
	if err == nil {
		c.mu.Lock()
		c.domain(key).races = 0
		for _, ch := range p.Changes {
			c.forgive(ch.Place)
			if _, waits := b.backs[ch.DN]; !waits { // else when it is known to be there
				c.fought(ch, time.Now())
			}
		}
		c.mu.Unlock()
		c.applied(p, time.Since(started))
		return nil, c.confirmMarks(ctx, p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range p.Changes {
		c.mark([]aci.Place{ch.Place})
	}
	answer, ok := errors.AsType[*aci.Error](err)
	if !ok || answer.Temporary() {
		b.failed, b.deadline = true, time.Now() // it may have been done all the same
		return nil, err
	}
	c.drop(b)
	switch {
	case answer.Exists():
		c.have.Doubt(p.EPG)
		if d := c.domain(key); d.races < maxRaces {
			d.races++
			c.log.Info("somebody else made it first, planning anew", "epg", p.EPG, "err", err)
			return nil, nil
		}
	case answer.MissingParent():
		c.fold(aci.Update{Kind: aci.Gap, Root: p.EPG.L3Out.DN()})
	case answer.Rejected():
		return answer, err
	}
	return nil, err
}

// maxRaces is how often in a row planning anew at once answers "exists already"; then it is no
// race, and the domain backs off.
const maxRaces = 3

// expect notes what p is to do, so that its echo is known and nothing is posted twice.
func (c *Controller) expect(key aci.DN, p plan.Post, since time.Time) *batch {
	b := &batch{epg: p.EPG, waits: map[aci.DN]aci.Place{}, backs: map[aci.DN]plan.Change{}, since: since, deadline: time.Now().Add(confirmTimeout), done: make(chan struct{})}
	whole := false
	for _, ch := range p.Changes {
		whole = whole || !ch.Place.Prefix.IsValid()
		if ch.Mark && ch.Action == plan.Update && len(ch.Attrs) == 0 {
			continue // tags may not be announced: they are read
		}
		c.have.Expect(ch.DN, ch.Status(), ch.Attrs)
		b.waits[ch.DN], c.awaits[ch.DN] = ch.Place, b
		if putBack(ch) {
			b.backs[ch.DN] = ch
		}
	}
	if !whole && c.have.Expected(p.EPG.DN()) == "" {
		c.have.Expect(p.EPG.DN(), aci.StatusModified, nil)
	}
	c.batches[b] = struct{}{}
	c.domain(key).posted(time.Now())
	return b
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
			errs = append(errs, c.lookAt(ctx, p.EPG))
		}
	}
	list, err := c.readSubnets(ctx, subnets)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mark(list)
	return errors.Join(append(errs, err)...)
}

// splitting is the search for what the APIC refuses in one POST.
type splitting struct {
	key      aci.DN
	since    time.Time
	left     int // requests that it may still cost
	culprits []culprit
}

type culprit struct {
	change  plan.Change
	refused *aci.Error
}

// maxParts bounds the requests of one search. When much is refused, what is not told apart by
// then waits with the culprits, instead of costing a request for each object.
const maxParts = 40

// split posts p in parts until the change that the APIC refuses is alone, so that all others
// get in: first by the DN in the APIC's words, then by halves. A refused POST changed nothing.
func (c *Controller) split(ctx context.Context, s *splitting, p plan.Post, refused *aci.Error) error {
	if len(p.Changes) == 1 || s.left <= 0 {
		for _, ch := range p.Changes {
			s.culprits = append(s.culprits, culprit{ch, refused})
		}
		return nil
	}
	for _, part := range parts(p.Changes, refused.Culprit()) {
		q := plan.Post{EPG: p.EPG, Changes: part, Second: p.Second}
		s.left--
		again, err := c.send(ctx, s.key, q, s.since)
		if again != nil {
			err = c.split(ctx, s, q, again)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parts cuts changes in two. An EPG that the APIC names goes first: without it the others
// cannot be.
func parts(changes []plan.Change, named aci.DN) [][]plan.Change {
	if named != "" && named == changes[0].DN {
		return [][]plan.Change{changes[:1], changes[1:]}
	}
	i := slices.IndexFunc(changes, func(ch plan.Change) bool {
		return ch.Place.Prefix.IsValid() && named.Within(ch.DN)
	})
	if i >= 0 {
		return [][]plan.Change{slices.Delete(slices.Clone(changes), i, i+1), {changes[i]}}
	}
	half := len(changes) / 2
	return [][]plan.Change{changes[:half], changes[half:]}
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
		if err := c.lookAt(ctx, p.EPG); err != nil {
			return false, err
		}
		c.mu.Lock()
		_, there = c.have.ExtEPG(p.EPG)
		c.mu.Unlock()
	}
	return !there, nil
}

// refuse backs changes off, each by itself: nothing else waits for them. It tells of them once.
func (c *Controller) refuse(e aci.ExtEPG, culprits []culprit) {
	if len(culprits) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	attempt := 0
	for _, k := range culprits {
		place := k.change.Place
		r := c.refused[place]
		if r == nil {
			r = &refusal{}
			c.refused[place] = r
		}
		r.until = time.Now().Add(min(refusedMin<<min(r.attempts, 10), refusedMax))
		r.attempts++
		attempt = max(attempt, r.attempts)
		c.tell(origin{Place: place, from: refusals}, nil)
	}
	for _, k := range culprits {
		var problems []desired.Problem
		for _, w := range k.change.For {
			problems = append(problems, desired.Problem{
				Ref: w, Reason: ReasonRefused, Message: fmt.Sprintf("the APIC refuses %s: %s", k.change.DN, k.refused.Text),
			})
		}
		c.tell(origin{Place: k.change.Place, from: refusals}, problems)
	}
	c.log.Error("the APIC refuses a change, trying it again later by itself", "epg", e, "dn", culprits[0].change.DN,
		"action", culprits[0].change.Action.String(), "changes", len(culprits), "code", culprits[0].refused.Code,
		"err", culprits[0].refused.Text, "attempt", attempt)
}

// refusedMin and refusedMax bound how long a refused change waits.
const refusedMin, refusedMax = 5 * time.Second, 10 * time.Minute

// forgive forgets that a change was refused.
func (c *Controller) forgive(p aci.Place) {
	delete(c.refused, p)
	c.tell(origin{Place: p, from: refusals}, nil)
}
