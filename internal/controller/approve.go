package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// Answers to an approval.
const (
	AnswerDone     = "done"
	AnswerOutdated = "outdated: something changed since; look again" // nothing was done
	AnswerUnknown  = "not understood by this version"                // nothing was done
)

// approval is what a person approved, until it is done.
type approval struct {
	text    string
	request plan.Request
	objects []aci.DN
}

// approve begins to carry out what a person approved for e, if what it is about is still the same;
// "" takes it back, as far as it is not done. Callers hold mu.
func (c *Controller) approve(e aci.ExtEPG, text string) {
	if !c.running || !c.keeps() || c.records.settled[e] == text && text != "" {
		return
	}
	delete(c.records.settled, e)
	if old := c.approvals[e]; old != nil && old.text == text {
		return
	} else if old != nil {
		c.allow(old, false)
		delete(c.approvals, e)
	}
	if text == "" {
		return
	}
	request, ok := plan.ParseApproval(text)
	if !ok {
		c.answer(e, text, AnswerUnknown)
		return
	}
	if !c.have.Complete(e.L3Out) {
		return // its read looks at this again
	}
	if request.From != nil && c.unread(e) {
		return // whose it is is read, and this looked at again
	}
	objects := request.Objects(c.want, c.have, c.opts.Policy, e)
	if len(objects) == 0 || request.Approve(objects) != text {
		c.answer(e, text, AnswerOutdated)
		return
	}
	c.log.Info("approved", "epg", e, "action", request.String(), "changes", len(objects))
	c.carryOut(e, &approval{text, request, objects})
}

// unread reports whether it was not read of something in e what mark it bears, and has that done.
// Callers hold mu.
func (c *Controller) unread(e aci.ExtEPG) bool {
	g, exists := c.have.ExtEPG(e)
	unread := exists && !g.Mark.Read
	for n := range c.have.Subnets(e) {
		unread = unread || !n.Mark.Read
	}
	if unread {
		c.have.Doubt(e)
		c.mark([]aci.Place{{ExtEPG: e}})
	}
	return unread
}

// carryOut lets the objects of an approval be changed. Callers hold mu.
func (c *Controller) carryOut(e aci.ExtEPG, a *approval) {
	c.approvals[e] = a
	c.allow(a, true)
	places := []aci.Place{{ExtEPG: e}}
	for n := range c.have.Subnets(e) {
		places = append(places, aci.Place{ExtEPG: e, Prefix: n.Prefix})
	}
	c.mark(places)
}

// allow adds the objects of an approval to the policy, or takes them out.
func (c *Controller) allow(a *approval, yes bool) {
	p := &c.opts.Policy
	if a.request.From != nil {
		put(&p.Adopt, a.objects, *a.request.From, yes)
	} else {
		put(&p.Approved, a.objects, true, yes)
	}
}

// put puts v into a map under all keys, or takes them out.
func put[V any](m *map[aci.DN]V, keys []aci.DN, v V, yes bool) {
	if *m == nil {
		*m = map[aci.DN]V{}
	}
	for _, d := range keys {
		if yes {
			(*m)[d] = v
		} else {
			delete(*m, d)
		}
	}
}

// settled ends the approvals of a domain that are carried out, as far as they can be. Callers hold mu.
func (c *Controller) settled(key aci.DN) {
	for e, a := range c.approvals {
		if c.have.Domain(e.L3Out) != key || !c.have.Complete(e.L3Out) {
			continue
		}
		answer := AnswerDone
		if left := c.outstanding(a); left > 0 {
			if c.busy(key, e) || a.request.From != nil && c.unread(e) {
				continue
			}
			answer = fmt.Sprintf("%d of %d done: %s", len(a.objects)-left, len(a.objects), c.hindrance(e, a))
		}
		c.allow(a, false)
		delete(c.approvals, e)
		c.answer(e, a.text, answer)
	}
	for e, text := range c.records.asked {
		if c.have.Domain(e.L3Out) == key {
			c.approve(e, text)
		}
	}
}

// busy reports whether something in e is still to be compared, or heard of.
func (c *Controller) busy(key aci.DN, e aci.ExtEPG) bool {
	for p := range c.domain(key).places {
		if p.ExtEPG == e {
			return true
		}
	}
	for b := range c.batches {
		if b.epg == e {
			return true
		}
	}
	return false
}

// hindrance says why an approval is not carried out although nothing is in hand any more.
func (c *Controller) hindrance(e aci.ExtEPG, a *approval) string {
	switch p := c.opts.Policy; {
	case !p.Allow.Allows(e.L3Out):
		return fmt.Sprintf("--allow does not name the L3Out %s", e.L3Out)
	case c.have.Paused(e):
		return fmt.Sprintf("%s is paused", e)
	case a.request.From == nil && p.UpsertOnly:
		return "--policy=upsert-only deletes nothing"
	case c.kept[e] != "":
		return "the external EPG stays because of " + c.kept[e]
	}
	return "see its conditions and the log, and look again"
}

// outstanding counts the objects of an approval that are not as it wants them.
func (c *Controller) outstanding(a *approval) int {
	n := 0
	for _, d := range a.objects {
		there, ours := c.lookUp(d)
		if a.request.From == nil && there || a.request.From != nil && there && !ours {
			n++
		}
	}
	return n
}

// lookUp reports whether the external EPG or subnet d is there, and bears our mark.
func (c *Controller) lookUp(d aci.DN) (there, ours bool) {
	e, rest, _ := aci.ExtEPGOf(d)
	if rest == "" {
		g, there := c.have.ExtEPG(e)
		return there, there && c.have.Ours(g.Mark)
	}
	for n := range c.have.Subnets(e) {
		if n.DN == d {
			return true, c.have.Ours(n.Mark)
		}
	}
	return false, false
}

// answer tells whoever approved what became of it. Callers hold mu.
func (c *Controller) answer(e aci.ExtEPG, text, answer string) {
	c.log.Info("answered", "epg", e, "action", text, "reason", answer)
	c.records.answers[e] = text + ": " + answer
	c.records.settled[e] = text
	c.recordLater(e)
}

// Request is what Apply is to do in one external EPG.
type Request struct {
	EPG     aci.ExtEPG
	Plan    plan.Request
	Objects []aci.DN // that a person has seen
}

// Apply takes control as Run does, makes the changes of requests and no others, and returns when
// they are made. It returns an error when a request is about other objects by now, or cannot be
// carried out, or when ctx ends before all is done. It takes the place of Run.
func (c *Controller) Apply(ctx context.Context, requests []Request) error {
	c.opts.Policy.Only = true
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.turned = make(chan struct{}, 1)
	c.mu.Unlock()
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	for began := false; ; {
		select {
		case err := <-ran:
			return errors.Join(err, context.Cause(ctx), fmt.Errorf("%d external EPGs are not done", c.undone()))
		case <-c.turned:
		}
		c.mu.Lock()
		if c.running && !began {
			began = true
			for _, r := range requests {
				now := r.Plan.Objects(c.want, c.have, c.opts.Policy, r.EPG)
				if !slices.Equal(now, r.Objects) {
					c.mu.Unlock()
					cancel()
					return errors.Join(fmt.Errorf("%s: %s", r.EPG, AnswerOutdated), <-ran)
				}
				c.carryOut(r.EPG, &approval{r.Plan.Approve(now), r.Plan, now})
			}
		}
		done := began && len(c.approvals) == 0
		var errs []error
		for _, r := range requests {
			if _, answer, _ := strings.Cut(c.records.answers[r.EPG], ": "); done && answer != AnswerDone {
				errs = append(errs, fmt.Errorf("%s: %s", r.EPG, answer))
			}
		}
		c.mu.Unlock()
		if done {
			cancel()
			return errors.Join(append(errs, <-ran)...)
		}
	}
}

func (c *Controller) undone() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.approvals)
}
