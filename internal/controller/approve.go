package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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

// approve begins to carry out what a person approved for e, if what it is about is still the same.
// Callers hold mu.
func (c *Controller) approve(e aci.ExtEPG, text string) {
	if old := c.approvals[e]; !c.running || !c.keeps() || text == "" || old != nil && old.text == text {
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
	objects := request.Objects(c.want, c.have, c.opts.Policy, e)
	if len(objects) == 0 || request.Approve(objects) != text {
		c.answer(e, text, AnswerOutdated)
		return
	}
	c.log.Info("approved", "epg", e, "action", request.String(), "changes", len(objects))
	c.carryOut(e, &approval{text, request, objects})
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
	list := &p.Approved
	if a.request.From != nil {
		list = &p.Adopt
	}
	now := maps.Clone(*list) // a plan may be reading it
	if now == nil {
		now = map[aci.DN]bool{}
	}
	for _, d := range a.objects {
		if yes {
			now[d] = true
		} else {
			delete(now, d)
		}
	}
	*list = now
}

// settled ends the approvals of a domain that are carried out. Callers hold mu.
func (c *Controller) settled(key aci.DN) {
	for e, a := range c.approvals {
		if c.have.Domain(e.L3Out) != key || !c.have.Complete(e.L3Out) || c.outstanding(a) > 0 {
			continue
		}
		c.allow(a, false)
		delete(c.approvals, e)
		c.answer(e, a.text, AnswerDone)
	}
	for e, text := range c.records.asked {
		if c.have.Domain(e.L3Out) == key {
			c.approve(e, text)
		}
	}
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
		return there, there && c.have.Ours(g.Mark, d)
	}
	for n := range c.have.Subnets(e) {
		if n.DN == d {
			return true, c.have.Ours(n.Mark, d)
		}
	}
	return false, false
}

// answer tells whoever approved what became of it. Callers hold mu.
func (c *Controller) answer(e aci.ExtEPG, text, answer string) {
	c.log.Info("answered", "epg", e, "action", text, "reason", answer)
	c.records.answers[e] = text + ": " + answer
	c.recordLater(e)
}

// Request is what Apply is to do in one external EPG.
type Request struct {
	EPG     aci.ExtEPG
	Plan    plan.Request
	Objects []aci.DN // that a person has seen
}

// Apply takes control as Run does, makes the changes of requests and no others, and returns when
// they are made. It returns an error when a request is about other objects by now, or when ctx ends
// before all is done. It takes the place of Run.
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
		c.mu.Unlock()
		if done {
			cancel()
			return <-ran
		}
	}
}

func (c *Controller) undone() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.approvals)
}
