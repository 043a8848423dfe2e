package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/client-go/util/workqueue"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// rehearse tells, in a dry run, what would be written at the places of a comparison; once, as
// long as it stays the same.
func (c *Controller) rehearse(places map[aci.Place]struct{}, p plan.Plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	planned := map[aci.Place]bool{}
	for _, post := range p.Posts(c.opts.Policy.Owner) {
		var news []plan.Change
		for _, ch := range post.Changes {
			planned[ch.Place] = true
			if text := ch.String(); c.would[ch.Place] != text {
				c.would[ch.Place] = text
				news = append(news, ch)
				c.log.Debug("would change", "epg", post.EPG, "dn", ch.DN, "action", ch.Action.String(), "reason", string(ch.Reason))
			}
		}
		if len(news) > 0 {
			c.log.Info("would apply", "epg", post.EPG, "changes", len(news), "reason", reasons(news))
		}
	}
	for at := range places {
		if !planned[at] {
			delete(c.would, at)
		}
	}
}

// Preview is what a run would do now.
type Preview struct {
	Changes  []plan.Change // in the order in which they would be written
	Posts    int           // requests that carry them
	Problems []desired.Problem
	Held     []aci.DN              // deletions that wait, because nothing explains them and they are many
	Kept     map[aci.ExtEPG]string // EPGs that stay although no workload names them -> why
	Unread   map[aci.L3Out]error   // what the APIC does not show: nothing is planned there
}

// maxStages bounds how often a preview goes on from what its own changes would bring about. Two
// or three are usual: a mark comes back, then what it is on is put right.
const maxStages = 20

// Look reads once all that Run does at its start, and returns what the APIC does not show. An error
// means that too little could be read to say anything.
func (c *Controller) Look(ctx context.Context) (unread map[aci.L3Out]error, err error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.synced:
	}
	if err := c.find(ctx); err != nil {
		return nil, err
	}
	unread = c.readAll(ctx, c.watched())
	for _, l := range slices.SortedFunc(maps.Keys(unread), aci.L3Out.Compare) {
		if !forGood(unread[l]) {
			return nil, unread[l]
		}
	}
	return unread, nil
}

// Orphans are all that nobody claims, as Look found it, whether or not the guard holds it.
func (c *Controller) Orphans() plan.Orphans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return plan.FindUnclaimed(c.want, c.have, c.opts.Policy)
}

// Adoption is what of e can be adopted, as Look found it; false when e is not there.
func (c *Controller) Adoption(e aci.ExtEPG, from plan.Source, epg bool) (plan.Adoption, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, exists := c.have.ExtEPG(e)
	return plan.FindAdoption(c.want, c.have, c.opts.Policy, e, from, epg), exists
}

// Watch makes Look read the L3Out of e, also when nobody names it.
func (c *Controller) Watch(e aci.ExtEPG) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch(e.L3Out)
}

// Plan looks once, and returns what Run would do until nothing is left to do, if everything it posts
// succeeds and nothing else happens. It writes nothing, and takes the place of Run.
func (c *Controller) Plan(ctx context.Context) (Preview, error) {
	unread, err := c.Look(ctx)
	if err != nil {
		return Preview{}, err
	}
	if err := c.readFaults(ctx); err != nil {
		c.log.Warn("cannot read the faults of leafs: nothing is said of them", "err", err)
	}
	after := &afterwards{APIC: c.apic, owner: c.opts.Policy.Owner}
	c.apic = after
	c.mu.Lock()
	c.queue = workqueue.NewTypedDelayingQueue[aci.DN]() // nobody takes from it
	defer c.queue.ShutDown()
	c.silent = true
	c.begin()
	for _, e := range c.want.EPGs() {
		c.tellFaults(e)
	}
	c.mu.Unlock()
	preview := Preview{Unread: unread}
	for range maxStages {
		stage, err := c.stage(ctx, after)
		if err != nil {
			return Preview{}, err
		}
		if len(stage) == 0 {
			preview.Problems, preview.Kept = c.found(), c.kept
			for _, held := range c.held {
				preview.Held = slices.AppendSeq(preview.Held, maps.Keys(held))
			}
			slices.Sort(preview.Held)
			return preview, nil
		}
		preview.Posts += len(stage)
		preview.Changes = after.done
	}
	return Preview{}, errors.New("the plan comes to no end: each of its stages asks for another one")
}

// stage compares what is dirty in every domain, and takes what would be written as done.
func (c *Controller) stage(ctx context.Context, after *afterwards) ([]plan.Post, error) {
	c.mu.Lock()
	keys := slices.Sorted(maps.Keys(c.domains))
	c.mu.Unlock()
	var stage []plan.Post
	for _, key := range keys {
		c.mu.Lock()
		if c.shutIn(key) {
			c.mu.Unlock()
			continue // Run would wait until it can read all of it
		}
		d := c.domain(key)
		places := d.places
		d.places = map[aci.Place]struct{}{}
		c.mu.Unlock()
		judged := map[aci.ExtEPG]bool{}
		p, err := c.decide(ctx, key, places, judged)
		if err != nil {
			return nil, err
		}
		if len(p.Reads) > 0 {
			return nil, fmt.Errorf("%s is being changed while it is read", p.Reads[0])
		}
		c.report(key, places, p)
		c.mu.Lock()
		for _, post := range p.Posts(c.opts.Policy.Owner) {
			stage = append(stage, post)
			after.done = append(after.done, post.Changes...)
			for _, ch := range post.Changes {
				c.mark(c.pretend(ch))
			}
		}
		for e := range judged {
			c.have.Unjudge(e)
		}
		c.mu.Unlock()
	}
	return stage, nil
}

// pretend folds what the APIC would announce after a change, and returns what that touches.
func (c *Controller) pretend(ch plan.Change) []aci.Place {
	event := announced(c.opts.Policy.Owner, ch)
	if event.DN == ch.DN {
		c.have.Expect(ch.DN, ch.Status(), ch.Attrs)
	}
	return c.have.Fold(aci.Update{Kind: aci.Event, Root: ch.Place.L3Out.DN(), Objects: []aci.MO{event}})
}

// afterwards is the APIC as it would be after changes.
type afterwards struct {
	APIC
	owner aci.Owner
	done  []plan.Change
}

// ReadEPG reads e as it would be.
func (a *afterwards) ReadEPG(ctx context.Context, e aci.ExtEPG) (aci.Update, error) {
	u, err := a.APIC.ReadEPG(ctx, e)
	u.Objects = a.alter(u.Objects, func(dn aci.DN) bool { return dn.Within(u.Root) })
	return u, err
}

// ReadObjects reads objects as they would be.
func (a *afterwards) ReadObjects(ctx context.Context, dns []aci.DN) ([]aci.MO, error) {
	objects, err := a.APIC.ReadObjects(ctx, dns)
	return a.alter(objects, func(dn aci.DN) bool { return slices.Contains(dns, dn) }), err
}

// alter makes the changes of what was asked for in an answer.
func (a *afterwards) alter(objects []aci.MO, asked func(aci.DN) bool) []aci.MO {
	for _, ch := range a.done {
		if !asked(ch.DN) {
			continue
		}
		event := announced(a.owner, ch)
		i := slices.IndexFunc(objects, func(m aci.MO) bool { return m.DN == event.DN })
		switch {
		case ch.Action == plan.Delete:
			objects = slices.DeleteFunc(objects, func(m aci.MO) bool { return m.DN.Within(ch.DN) })
			continue
		case i >= 0:
			objects[i].Attrs = maps.Clone(objects[i].Attrs)
			maps.Copy(objects[i].Attrs, event.Attrs)
		default:
			objects = append(objects, event)
		}
		if ch.Action == plan.Create {
			objects = append(objects, markOf(a.owner, ch.DN))
		}
	}
	return objects
}

// announced is the event that tells of a change.
func announced(owner aci.Owner, ch plan.Change) aci.MO {
	if ch.Mark && ch.Action == plan.Update {
		return markOf(owner, ch.DN)
	}
	event := aci.MO{Class: aci.ClassExtEPG, DN: ch.DN, Attrs: map[string]string{"status": ch.Status()}}
	if ch.Place.Prefix.IsValid() {
		event.Class = aci.ClassSubnet
	}
	maps.Copy(event.Attrs, ch.Attrs)
	return event
}

// markOf is the owner mark on the object d.
func markOf(owner aci.Owner, d aci.DN) aci.MO {
	return aci.MO{Class: aci.ClassTagAnnotation, DN: d.Child(aci.TagRN(aci.OwnerKey)), Attrs: map[string]string{
		"key": aci.OwnerKey, "value": owner.Mark(d), "status": aci.StatusCreated,
	}}
}

// found is every problem that is known now, sorted.
func (c *Controller) found() []desired.Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[desired.Problem]struct{}{}
	for _, list := range c.problems {
		for _, q := range list {
			all[q] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(all), desired.Problem.Compare)
}
