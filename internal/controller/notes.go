package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// Reasons of Kubernetes Events that are not problems of a plan.
const (
	ReasonSynced        = "Synced"        // subnets of the workload were added
	ReasonReverted      = "DriftReverted" // what somebody changed or deleted on the APIC was put back
	ReasonContractsLost = "ContractsLost" // somebody deleted an EPG of ours with contracts, which aci-sync does not restore
	ReasonRefused       = "Refused"       // the APIC refuses a change because of what it says
	ReasonNotReadable   = "NotReadable"   // the user may not read the L3Out
)

// shown is a problem as a person sees it, however many places have it.
type shown struct {
	ref    desired.Ref
	reason string
}

// origin is where a list of problems comes from, which the next look there replaces: a
// workload; an external EPG; an address, whatever EPGs claim it in one domain; or a single
// object that the APIC refused or that is fought over.
type origin struct {
	workload desired.Ref
	domain   aci.DN // of an address
	aci.Place
	from source
}

// source is what found a problem at a place.
type source int

const (
	comparison source = iota
	refusals          // a change that the APIC refused
	fights            // a change that somebody undoes
	apicFaults        // the APIC, of an EPG
)

// foundAt is the origin of what a comparison in a domain finds at p.
func foundAt(domain aci.DN, p aci.Place) origin {
	if p.Prefix.IsValid() {
		return origin{domain: domain, Place: aci.Place{Prefix: p.Prefix}}
	}
	return origin{Place: p}
}

// report makes known what the comparison of places in a domain found, and forgets what it did
// not find any more.
func (c *Controller) report(domain aci.DN, places map[aci.Place]struct{}, p plan.Plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[origin][]desired.Problem{}
	for _, at := range slices.SortedFunc(maps.Keys(p.Problems), aci.Place.Compare) {
		o := foundAt(domain, at)
		found[o] = append(found[o], p.Problems[at]...)
	}
	planned := map[aci.Place]bool{}
	for _, ch := range p.Changes {
		planned[ch.Place] = true
	}
	for at := range places {
		if o := foundAt(domain, at); found[o] == nil {
			c.tell(o, nil)
		}
		if r := c.refused[at]; r != nil && !planned[at] {
			c.forgive(at)
		}
		if p.Kept[at.ExtEPG] == nil {
			delete(c.kept, at.ExtEPG)
			c.recordLater(at.ExtEPG)
		}
		if !c.want.Named(at.ExtEPG) && c.have.Complete(at.L3Out) {
			c.have.Release(at.ExtEPG) // what it was does not matter to anybody
		}
		c.left(at)
	}
	for o, list := range found {
		c.tell(o, list)
	}
	c.hold(places, p.Held, p.Unsettled, p.Orphaned)
	for _, e := range slices.SortedFunc(maps.Keys(p.Kept), aci.ExtEPG.Compare) {
		why := strings.Join(p.Kept[e], ", ")
		if c.kept[e] != why && !c.silent {
			c.log.Warn("no workload names the external EPG any more, but it stays", "epg", e, "reason", why)
		}
		c.kept[e] = why
		c.recordLater(e)
	}
}

// tell replaces the problems of an origin, and records an Event for each that is new to its
// workload: one, however many addresses have it.
func (c *Controller) tell(at origin, list []desired.Problem) {
	old := c.problems[at]
	if len(old) == 0 && len(list) == 0 {
		return
	}
	for _, q := range list {
		k := shown{q.Ref, q.Reason}
		c.shown[k]++
		// A workload with another mistake than before is told; of its many addresses the first
		// one speaks for all.
		if !c.silent && (c.shown[k] == 1 || at.workload != (desired.Ref{}) && !slices.Contains(old, q)) {
			if at.from != refusals { // that is an error, and logged as one
				c.log.Warn("a person is needed", strings.ToLower(q.Ref.Kind), q.Ref.Namespace+"/"+q.Ref.Name,
					"reason", q.Reason, "err", q.Message)
			}
			c.cluster.Note(q.Ref, true, q.Reason, q.Message)
		}
	}
	for _, q := range old {
		k := shown{q.Ref, q.Reason}
		if c.shown[k]--; c.shown[k] == 0 {
			delete(c.shown, k)
		}
	}
	if len(list) == 0 {
		delete(c.problems, at)
	} else {
		c.problems[at] = list
	}
	for _, q := range old {
		if delete(c.origins[q.Ref], at); len(c.origins[q.Ref]) == 0 {
			delete(c.origins, q.Ref)
		}
	}
	for _, q := range list {
		if c.origins[q.Ref] == nil {
			c.origins[q.Ref] = map[origin]struct{}{}
		}
		c.origins[q.Ref][at] = struct{}{}
	}
	for _, q := range slices.Concat(old, list) {
		if e, ok := c.want.Target(q.Ref); ok {
			c.recordLater(e)
		}
	}
}

// applied logs a write and tells the workloads that it was for.
func (c *Controller) applied(p plan.Post, dur time.Duration) {
	told := map[desired.Ref]map[string]bool{}
	for _, ch := range p.Changes {
		c.metrics.change(ch)
		reason := ReasonSynced
		if ch.Reason == plan.Restored || ch.Reason == plan.Drifted || ch.Reason == plan.Unmarked {
			reason = ReasonReverted
		} else if ch.Action != plan.Create {
			continue
		}
		for _, w := range ch.For {
			if told[w] == nil {
				told[w] = map[string]bool{}
			}
			told[w][reason] = true
		}
	}
	c.log.Info("applied", "epg", p.EPG, "changes", len(p.Changes), "reason", reasons(p.Changes),
		"dur", dur.Round(time.Millisecond))
	if lost := p.Changes[0].Lost; len(lost) > 0 {
		msg := fmt.Sprintf("%s: restored; these contracts went with it and are for the network team to restore: %s",
			p.EPG, strings.Join(lost, ", "))
		c.log.Warn("contracts went with a deleted external EPG", "epg", p.EPG, "reason", strings.Join(lost, ", "))
		for _, w := range p.Changes[0].For {
			c.cluster.Note(w, true, ReasonContractsLost, msg)
		}
	}
	for _, w := range slices.SortedFunc(maps.Keys(told), desired.Ref.Compare) {
		// Without numbers, so that equal Events are counted instead of repeated.
		if told[w][ReasonSynced] {
			c.cluster.Note(w, false, ReasonSynced, fmt.Sprintf("addresses were added to external EPG %s", p.EPG))
		}
		if told[w][ReasonReverted] {
			c.cluster.Note(w, false, ReasonReverted, fmt.Sprintf("put back what was changed or deleted on the APIC in external EPG %s", p.EPG))
		}
	}
}

// reasons counts changes by reason: "Claimed:3 Drifted:1".
func reasons(changes []plan.Change) string {
	by := map[plan.Reason]int{}
	for _, ch := range changes {
		by[ch.Reason]++
	}
	var out []string
	for _, r := range slices.Sorted(maps.Keys(by)) {
		out = append(out, fmt.Sprintf("%s:%d", r, by[r]))
	}
	return strings.Join(out, " ")
}
