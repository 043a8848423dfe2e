package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
)

// Reasons of problems that a comparison finds.
const (
	ReasonL3OutMissing = "L3OutMissing" // the tenant or the L3Out does not exist (yet)
	ReasonNotAllowed   = "NotAllowed"   // --allow does not name the L3Out
	ReasonAPICTooOld   = "APICTooOld"   // the APIC is older than aci.MinVersion
	ReasonPaused       = desired.ReasonPaused
	ReasonForeignOwner = "ManagedElsewhere" // Nexus Dashboard Orchestrator manages the EPG
	ReasonEPGGone      = "EPGGone"          // its owner deleted an EPG that is not ours
	ReasonConflict     = "AddressConflict"  // another workload, or a foreign subnet, has the prefix
	ReasonMoveWaits    = "MoveWaits"        // the address stays until its new place can take it
	ReasonNotClassify  = "NotClassifying"   // a foreign subnet is used that lacks import-security
)

// Diff compares want and have at the given places and says what to do in one domain: the VRF,
// or the L3Out that stands in for it, under whose key one writer works. The results do not
// depend on the order of places. All L3Outs of the domain must be complete.
//
//	EPG                    | named by a workload            | named by none
//	absent, never seen     | create, with our mark          | -
//	absent, was ours       | create again (Restored)        | -
//	absent, was foreign    | wait: its owner decides        | -
//	absent, other cluster's| create                         | -
//	bears our mark         | -                              | delete if nothing but ours is in it
//	lost our mark          | mark alone (Unmarked)          | as to the left, then by its mark
//	revived by our POST    | mark alone; if it was foreign and holds only ours, delete
//	looks like ours, unread| read
//	foreign                | -                              | -
//
//	subnet, by prefix      | claimed, and the claim wins    | not claimed in this EPG, or lost
//	absent                 | create (Claimed, Restored)     | -
//	bears our mark         | put back name and scope flags  | delete, unless held or its new place cannot take it
//	our annotation, no mark| mark alone (Unmarked), if none | -
//	                       | of ours is elsewhere in the VRF|
//	foreign                | use it as it is                | -
//
//	while workloads are paused          |
//	address that one of them claims     | written nowhere, whoever else claims it
//	EPG that they alone name            | neither created nor marked
//	EPG that one of them names          | not deleted, whatever it holds
//	  our subnet in it, not claimed     | stays, unless the end of its claim was seen
//
// Whatever else is paused, not allowed, managed elsewhere, in doubt, or under way already is left,
// and everything on an APIC that is too old.
func Diff(want *desired.State, have *observed.State, p Policy, domain aci.DN, places []aci.Place) Plan {
	d := differ{
		want: want, have: have, policy: p, domain: domain,
		fates: map[aci.ExtEPG]fate{}, reads: map[aci.DN]struct{}{},
		epgs: map[aci.ExtEPG]struct{}{}, whole: map[aci.ExtEPG]bool{}, told: map[told]struct{}{},
		plan: Plan{Problems: map[aci.Place][]desired.Problem{}, Kept: map[aci.ExtEPG][]string{}},
	}
	prefixes := map[netip.Prefix]struct{}{}
	for _, q := range places {
		if q.Prefix.IsValid() {
			prefixes[q.Prefix] = struct{}{}
		}
		// What is in an EPG can decide about it when nobody names it, or when it lost its mark.
		if q.ExtEPG != (aci.ExtEPG{}) && (!q.Prefix.IsValid() || !want.Named(q.ExtEPG) || d.unmarked(q.ExtEPG)) && d.inDomain(q.ExtEPG) {
			d.epgs[q.ExtEPG] = struct{}{}
		}
	}
	for _, prefix := range slices.SortedFunc(maps.Keys(prefixes), netip.Prefix.Compare) {
		d.prefix(prefix)
	}
	for _, e := range slices.SortedFunc(maps.Keys(d.epgs), aci.ExtEPG.Compare) {
		d.epg(e)
	}
	d.plan.Changes = slices.DeleteFunc(d.plan.Changes, func(c Change) bool {
		return c.Action == Delete && c.Place.Prefix.IsValid() && d.whole[c.Place.ExtEPG]
	})
	if p.Only {
		d.plan.Changes = slices.DeleteFunc(d.plan.Changes, func(c Change) bool {
			return !(c.Action == Delete && p.Approved[c.DN]) && c.Reason != Adopted
		})
	}
	slices.SortStableFunc(d.plan.Changes, func(a, b Change) int { return a.Place.Compare(b.Place) })
	d.plan.Reads = slices.Sorted(maps.Keys(d.reads))
	slices.SortFunc(d.plan.Held, Held.Compare)
	d.plan.Held = slices.Compact(d.plan.Held)
	return d.plan
}

// fate is what can become of an EPG as a place for subnets.
type fate int

const (
	unsure  fate = iota // not known enough: decide nothing
	barred              // a person must see to it; a problem says why
	ready               // it is there
	created             // this plan creates it
	leaving             // we made it against its owner's will, and take it back
)

type differ struct {
	want   *desired.State
	have   *observed.State
	policy Policy
	domain aci.DN
	fates  map[aci.ExtEPG]fate
	reads  map[aci.DN]struct{}
	epgs   map[aci.ExtEPG]struct{} // to be decided about as such
	whole  map[aci.ExtEPG]bool     // deleted with all that is in them
	told   map[told]struct{}       // what is in plan.Problems
	plan   Plan

	orphans *Orphans // nil until the guard asks
}

// told is a problem at a place.
type told struct {
	at aci.Place
	desired.Problem
}

func (d *differ) inDomain(e aci.ExtEPG) bool { return d.have.Domain(e.L3Out) == d.domain }

// fate works out, once, whether subnets can be written in e.
func (d *differ) fate(e aci.ExtEPG) fate {
	f, ok := d.fates[e]
	if ok {
		return f
	}
	f = unsure
	switch g, exists := d.have.ExtEPG(e); {
	case !d.policy.Allow.Allows(e.L3Out):
		f = barred
		d.problem(aci.Place{ExtEPG: e}, ReasonNotAllowed, "%s: --allow does not name the L3Out %s", e, e.L3Out)
	case aci.TooOld(d.policy.APIC):
		f = barred
		d.problem(aci.Place{ExtEPG: e}, ReasonAPICTooOld,
			"%s: nothing is written: the APIC runs release %s, and aci-sync needs %s or newer", e, d.policy.APIC, aci.MinVersion)
	case !d.have.Complete(e.L3Out):
	case !d.have.Exists(e.L3Out):
		f = barred
		d.problem(aci.Place{ExtEPG: e}, ReasonL3OutMissing,
			"%s: L3Out %s does not exist on the APIC; it is waited for", e, e.L3Out)
	case d.have.Doubted(e):
		d.reads[e.DN()] = struct{}{}
	case d.have.Paused(e):
		f = barred
		d.problem(aci.Place{ExtEPG: e}, ReasonPaused, "%s: paused %s", e, pausedBy(d.have, e))
	case exists && strings.Contains(g.ExtMngdBy, "msc"):
		f = barred
		d.problem(aci.Place{ExtEPG: e}, ReasonForeignOwner,
			"%s: managed by Nexus Dashboard Orchestrator (extMngdBy %s), not written", e, g.ExtMngdBy)
	case d.have.Expected(e.DN()) == aci.StatusDeleted:
	case exists && g.Revived && !g.Mark.There && d.have.Last(e) == observed.Foreign && !(g.Judged && used(g)):
		f = leaving
		if d.inDomain(e) {
			d.epgs[e] = struct{}{}
		}
	case exists:
		f = ready
	case d.have.Expected(e.DN()) == aci.StatusCreated:
		f = ready // on its way
	case !d.want.Named(e):
	case d.have.Last(e) == observed.Foreign:
		f = barred
		d.problem(aci.Place{ExtEPG: e}, ReasonEPGGone,
			"%s: the external EPG was not made by aci-sync and was deleted on the APIC; it is used again when it is there again", e)
	case d.paused(e):
		f = barred // those who name it are told as such
	default:
		f = created
		if d.inDomain(e) {
			d.epgs[e] = struct{}{}
		}
	}
	d.fates[e] = f
	return f
}

// pausedBy says how e is paused, so that people know where to lift it.
func pausedBy(have *observed.State, e aci.ExtEPG) string {
	if have.Held(e) {
		return "by the annotation aci.haystacknetworks.com/paused of its ExternalEPG"
	}
	return "on the APIC by the tag " + aci.PauseKey
}

// paused reports whether all workloads that name e are paused.
func (d *differ) paused(e aci.ExtEPG) bool {
	_, all := d.want.PausedIn(e)
	return all
}

// used reports whether an EPG that was read holds more than our subnets.
func used(g observed.ExtEPG) bool { return len(g.Foreign) > 0 || len(g.Residue) > 0 }

// problem tells those who want a place of one there. Places of other domains have a writer of
// their own, who tells theirs.
func (d *differ) problem(at aci.Place, reason, format string, args ...any) {
	if d.inDomain(at.ExtEPG) {
		d.tell(at, d.workloads(at), reason, format, args...)
	}
}

func (d *differ) tell(at aci.Place, whom []desired.Ref, reason, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	for _, w := range whom {
		t := told{at, desired.Problem{Ref: w, Reason: reason, Message: msg}}
		if _, again := d.told[t]; !again {
			d.told[t] = struct{}{}
			d.plan.Problems[at] = append(d.plan.Problems[at], t.Problem)
		}
	}
}

// workloads are who is told of a problem at a place.
func (d *differ) workloads(at aci.Place) []desired.Ref {
	if !at.Prefix.IsValid() {
		return d.want.Workloads(at.ExtEPG)
	}
	c, _ := d.want.Claim(at)
	return c.Workloads
}

// epg decides about an EPG as such; its subnets are decided by prefix.
func (d *differ) epg(e aci.ExtEPG) {
	f := d.fate(e)
	g, exists := d.have.ExtEPG(e)
	dn := e.DN()
	switch {
	case f == created:
		reason, lost := Claimed, []string(nil)
		if d.have.Last(e) == observed.Ours {
			reason, lost = Restored, d.have.Contracts(e)
		}
		d.plan.Changes = append(d.plan.Changes, Change{
			Action: Create, Place: aci.Place{ExtEPG: e}, DN: dn, Mark: true, Reason: reason,
			Attrs: map[string]string{"annotation": d.policy.Owner.Annotation()},
			By:    d.want.Workloads(e), For: d.running(d.want.Workloads(e)), Lost: lost,
		})
	case !exists:
	case f == leaving:
		d.deleteEPG(e, g, Revived)
	case f != ready:
	case g.Mark.Of(d.policy.Owner):
		if !d.want.Named(e) {
			d.deleteEPG(e, g, Unclaimed)
		}
	case d.adopts(dn, g.Mark, g.Annotation):
		if !g.Mark.Read {
			d.reads[dn] = struct{}{}
			return
		}
		d.plan.Changes = append(d.plan.Changes, Change{
			Action: Update, Place: aci.Place{ExtEPG: e}, DN: dn, Mark: true, Reason: Adopted,
			Attrs:  map[string]string{"annotation": d.policy.Owner.Annotation()}, // else it says that others orchestrate it
			Before: map[string]string{"annotation": g.Annotation},
			By:     d.want.Workloads(e), For: d.want.Workloads(e),
		})
	case !g.Mark.Read && d.perhapsMarked(e, g):
		d.reads[dn] = struct{}{} // made just now; events do not bear marks
	case !g.Mark.There && !d.paused(e) && (g.Revived || d.have.Recorded(e) && d.leftByUs(e, g)):
		if !g.Mark.Read {
			d.reads[dn] = struct{}{}
			return
		}
		d.plan.Changes = append(d.plan.Changes, Change{
			Action: Update, Place: aci.Place{ExtEPG: e}, DN: dn, Mark: true, Reason: Unmarked,
			By: d.want.Workloads(e), For: d.running(d.want.Workloads(e)),
		})
	}
}

// adopts reports whether the object dn is to be ours: a person said so, and it is not of somebody
// else by now. What it bears may have to be read.
func (d *differ) adopts(dn aci.DN, m observed.Mark, annotation string) bool {
	from, ok := d.policy.Adopt[dn]
	return ok && (!m.Read || from.has(m.By, annotation))
}

// perhapsMarked reports whether an EPG looks as if it bore a mark that matters: ours, as what a
// leader before us made; of one that is named also another cluster's, for it is restored by
// whoever claims it.
func (d *differ) perhapsMarked(e aci.ExtEPG, g observed.ExtEPG) bool {
	by := aci.AnnotatedBy(g.Annotation)
	return by == d.policy.Owner || by != "" && d.want.Named(e)
}

// unmarked reports whether e is recorded as ours and bears no mark.
func (d *differ) unmarked(e aci.ExtEPG) bool {
	g, exists := d.have.ExtEPG(e)
	return exists && !g.Mark.There && d.have.Recorded(e)
}

// leftByUs reports whether an EPG recorded as ours, that bears no mark now, is still ours.
func (d *differ) leftByUs(e aci.ExtEPG, g observed.ExtEPG) bool {
	if g.Annotation == d.policy.Owner.Annotation() {
		return true
	}
	for n := range d.have.Subnets(e) {
		if n.Mark.Of(d.policy.Owner) {
			return true
		}
	}
	return false
}

// deleteEPG deletes e when nothing is in it but what is ours and may go.
func (d *differ) deleteEPG(e aci.ExtEPG, g observed.ExtEPG, reason Reason) {
	if some, _ := d.want.PausedIn(e); some || d.policy.UpsertOnly || d.want.Unknown() {
		return
	}
	held := false
	for n := range d.have.Subnets(e) {
		if !n.Mark.Of(d.policy.Owner) {
			continue // foreign, or not read: the judgement sees it
		}
		if d.policy.Only && !d.policy.Approved[n.DN] {
			return // it would go with the EPG
		}
		if d.have.Pending(n.Prefix) && d.have.Expected(n.DN) != aci.StatusDeleted || len(d.want.PausedBy(n.Prefix)) > 0 {
			return
		}
		if _, claimed := d.want.Claim(aci.Place{ExtEPG: e, Prefix: n.Prefix}); reason != Revived &&
			(claimed || d.want.Held(n.Prefix) || !d.mayLeave(n.Prefix)) {
			return
		}
		held = held || reason == Unclaimed && d.guarded(aci.Place{ExtEPG: e, Prefix: n.Prefix}, n.DN, n.Name)
	}
	if self := (aci.Place{ExtEPG: e}); reason == Unclaimed && d.guarded(self, e.DN(), "") {
		d.hold(self, e.DN())
		held = true
	}
	if held {
		return
	}
	if !g.Judged {
		d.reads[e.DN()] = struct{}{}
		return
	}
	var why []string
	for _, ip := range g.Foreign {
		why = append(why, "subnet "+ip)
	}
	if !d.policy.DeleteUsed {
		why = append(why, g.Residue...)
	}
	if len(why) > 0 {
		d.plan.Kept[e] = why
		return
	}
	d.whole[e] = true
	c := Change{Action: Delete, Place: aci.Place{ExtEPG: e}, DN: e.DN(), Reason: reason}
	for n := range d.have.Subnets(e) {
		c.with = append(c.with, n.Prefix)
	}
	slices.SortFunc(c.with, netip.Prefix.Compare)
	d.plan.Changes = append(d.plan.Changes, c)
}

// mayLeave reports whether an address can leave where it is: nobody claims it, or somebody
// who does can take it, in this domain first.
func (d *differ) mayLeave(p netip.Prefix) bool {
	claimants := d.want.Claimants(p)
	if len(claimants) == 0 {
		return true
	}
	if w, ok := d.winner(p, d.domain); ok {
		return d.canTake(w, p)
	}
	return slices.ContainsFunc(claimants, func(e aci.ExtEPG) bool {
		w, ok := d.winner(p, d.have.Domain(e.L3Out))
		return ok && d.canTake(w, p)
	})
}

// canTake reports whether p is in e or can be put there.
func (d *differ) canTake(e aci.ExtEPG, p netip.Prefix) bool {
	if slices.Contains(d.have.Holders(p), e) {
		return true
	}
	f := d.fate(e)
	_, bar := d.bar(e, p)
	return (f == ready || f == created) && !bar
}

// winner is the claimant of p in a domain that has it: the one that holds our marked subnet
// already, else the one with the oldest workload.
func (d *differ) winner(p netip.Prefix, domain aci.DN) (aci.ExtEPG, bool) {
	var best aci.ExtEPG
	var bestClaim desired.Claim
	bestHolds, found := false, false
	for _, e := range d.want.Claimants(p) {
		if d.have.Domain(e.L3Out) != domain || !d.policy.Allow.Allows(e.L3Out) {
			continue
		}
		c, _ := d.want.Claim(aci.Place{ExtEPG: e, Prefix: p})
		n, there := d.have.Subnet(aci.Place{ExtEPG: e, Prefix: p})
		holds := there && n.Mark.Of(d.policy.Owner)
		if !found || holds && !bestHolds || holds == bestHolds && older(c, bestClaim) {
			best, bestClaim, bestHolds, found = e, c, holds, true
		}
	}
	return best, found
}

func older(a, b desired.Claim) bool {
	if !a.Since.Equal(b.Since) {
		return a.Since.Before(b.Since)
	}
	x, y := a.Workloads[0], b.Workloads[0]
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Kind, y.Kind)) < 0
}

// bar finds a foreign subnet with prefix p and import-security in another EPG of the VRF of e:
// the APIC would accept ours and then program neither (F0467).
func (d *differ) bar(e aci.ExtEPG, p netip.Prefix) (aci.ExtEPG, bool) {
	for _, h := range d.have.Holders(p) {
		if h == e || d.have.Domain(h.L3Out) != d.have.Domain(e.L3Out) {
			continue
		}
		n, _ := d.have.Subnet(aci.Place{ExtEPG: h, Prefix: p})
		if !n.Mark.Of(d.policy.Owner) && n.Scope.Contains(aci.Scope{"import-security"}) {
			return h, true
		}
	}
	return aci.ExtEPG{}, false
}

// prefix decides about one address in this domain: what leaves, then what enters.
func (d *differ) prefix(p netip.Prefix) {
	if by := d.want.PausedBy(p); len(by) > 0 {
		d.tellPaused(p, by)
		return
	}
	if d.have.Pending(p) {
		return // an event or a read will bring it here again
	}
	winner, won := d.winner(p, d.domain)
	left := true // nothing of ours stays elsewhere in the domain
	for _, h := range d.have.Holders(p) {
		if d.inDomain(h) && !(won && h == winner) {
			left = d.leave(h, p) && left
		}
	}
	for _, e := range d.want.Claimants(p) {
		if won && e != winner && d.inDomain(e) && d.policy.Allow.Allows(e.L3Out) {
			d.problem(aci.Place{ExtEPG: e, Prefix: p}, ReasonConflict,
				"%s is claimed for %s too, which has it; it follows when that lets go", p.Addr(), winner)
		} else if d.inDomain(e) {
			d.fate(e) // tells what bars it
		}
	}
	if !won {
		return
	}
	place := aci.Place{ExtEPG: winner, Prefix: p}
	if n, there := d.have.Subnet(place); there {
		d.keep(place, n)
	} else {
		d.enter(place, left)
	}
}

// tellPaused tells the others that claim p that it is not written because of paused workloads.
func (d *differ) tellPaused(p netip.Prefix, by []desired.Ref) {
	for _, e := range d.want.Claimants(p) {
		if at := (aci.Place{ExtEPG: e, Prefix: p}); d.inDomain(e) {
			d.tell(at, d.running(d.workloads(at)), ReasonPaused,
				"%s is claimed by %s too, which is paused: it is not written until that pause ends", p.Addr(), by[0])
		}
	}
}

// running are those of the workloads that are not paused.
func (d *differ) running(list []desired.Ref) []desired.Ref {
	return slices.DeleteFunc(list, d.want.Paused)
}

// leave deletes our subnet p from h, where it is not to be. It returns false when one of ours
// stays there for now.
func (d *differ) leave(h aci.ExtEPG, p netip.Prefix) bool {
	n, _ := d.have.Subnet(aci.Place{ExtEPG: h, Prefix: p})
	if !n.Mark.Of(d.policy.Owner) {
		if !n.Mark.Read {
			d.reads[n.DN] = struct{}{}
			return false
		}
		return true // not ours: neither deleted nor waited for
	}
	reason := Unclaimed
	if claimants := d.want.Claimants(p); len(claimants) > 0 {
		reason = Moved
	}
	some, _ := d.want.PausedIn(h)
	switch {
	case d.policy.UpsertOnly && reason != Moved:
		return false
	case some && reason != Moved && !d.want.Withdrawn(aci.Place{ExtEPG: h, Prefix: p}):
		return false // it may be of a paused workload, which lost it unseen
	case d.want.Held(p):
		d.stays(p, h, "stays in %s while it is not known to whom a Pod or Service with this address belongs", h)
		return false
	case !d.mayLeave(p):
		d.stays(p, h, "stays in %s until its new place can take it", h)
		return false
	case d.fate(h) != ready:
		if d.fate(h) == barred {
			d.stays(p, h, "stays in %s, which must not be written", h)
		}
		return false
	case !n.Mark.Read:
		d.reads[n.DN] = struct{}{}
		return false
	case reason == Unclaimed && d.guarded(aci.Place{ExtEPG: h, Prefix: p}, n.DN, n.Name):
		d.hold(aci.Place{ExtEPG: h, Prefix: p}, n.DN)
		return false
	}
	d.plan.Changes = append(d.plan.Changes, Change{
		Action: Delete, Place: aci.Place{ExtEPG: h, Prefix: p}, DN: n.DN, Reason: reason,
	})
	return true
}

// stays tells those who claim p elsewhere why it does not leave h. While it is not known whether
// the new place can take it, nothing is told yet.
func (d *differ) stays(p netip.Prefix, h aci.ExtEPG, format string, args ...any) {
	for _, e := range d.want.Claimants(p) {
		if e != h && d.fate(e) != unsure {
			d.tell(aci.Place{ExtEPG: h, Prefix: p}, d.workloads(aci.Place{ExtEPG: e, Prefix: p}),
				ReasonMoveWaits, "%s "+format, append([]any{p.Addr()}, args...)...)
		}
	}
}

// keep looks after a claimed subnet that is there.
func (d *differ) keep(place aci.Place, n observed.Subnet) {
	claim, _ := d.want.Claim(place)
	owner := d.policy.Owner
	change := Change{Action: Update, Place: place, DN: n.DN, Reason: Drifted, By: claim.By, For: claim.Workloads}
	switch {
	case n.Mark.Of(owner):
		if h, bar := d.bar(place.ExtEPG, place.Prefix); bar {
			d.problem(place, ReasonConflict,
				"%s is in %s of the same VRF, too, as a subnet that is not ours: the APIC programs only one of them", place.Prefix.Addr(), h)
		}
		change.Attrs, change.Before = map[string]string{}, map[string]string{}
		if names := names(claim.By); !slices.Contains(names, n.Name) {
			change.Attrs["name"], change.Before["name"] = names[0], n.Name
			if n.Mark.Read && !n.Touched {
				change.Reason = Renamed
			}
		}
		if !n.Scope.Contains(d.policy.Scope) {
			change.Attrs["scope"], change.Before["scope"] = n.Scope.Union(d.policy.Scope).String(), n.Scope.String()
			change.Reason = Drifted
		}
		if len(change.Attrs) == 0 {
			return
		}
	case d.adopts(n.DN, n.Mark, n.Annotation):
		if n.Mark.Read && d.elsewhere(place) {
			return
		}
		change.Mark, change.Reason = true, Adopted
		change.Attrs, change.Before = map[string]string{"annotation": owner.Annotation()}, map[string]string{"annotation": n.Annotation}
	case n.Annotation == owner.Annotation() && (!n.Mark.There || !n.Mark.Read):
		if n.Mark.Read && d.elsewhere(place) {
			return // it is ours again when that has left
		}
		change.Mark, change.Reason = true, Unmarked
	case !n.Scope.Contains(aci.Scope{"import-security"}):
		d.problem(place, ReasonNotClassify,
			"%s is in %s as a subnet that is not ours and lacks import-security: its traffic is not classified", place.Prefix.Addr(), place.ExtEPG)
		return
	default:
		return
	}
	if d.fate(place.ExtEPG) != ready {
		return
	}
	if !n.Mark.Read {
		d.reads[n.DN] = struct{}{}
		return
	}
	d.plan.Changes = append(d.plan.Changes, change)
}

// elsewhere reports whether one of ours with the prefix of place is in another EPG of the domain.
func (d *differ) elsewhere(place aci.Place) bool {
	return slices.ContainsFunc(d.have.Holders(place.Prefix), func(h aci.ExtEPG) bool {
		n, _ := d.have.Subnet(aci.Place{ExtEPG: h, Prefix: place.Prefix})
		return h != place.ExtEPG && d.inDomain(h) && n.Mark.Of(d.policy.Owner)
	})
}

// enter creates a claimed subnet that is not there, once it left where it was.
func (d *differ) enter(place aci.Place, left bool) {
	f := d.fate(place.ExtEPG)
	if f != ready && f != created {
		return
	}
	if h, bar := d.bar(place.ExtEPG, place.Prefix); bar {
		d.problem(place, ReasonConflict,
			"%s is in %s of the same VRF as a subnet that is not ours: the APIC would program neither", place.Prefix.Addr(), h)
		return
	}
	if !left {
		return
	}
	claim, _ := d.want.Claim(place)
	reason := Claimed
	if f == ready && d.have.Vanished(place) || f == created && d.have.Last(place.ExtEPG) == observed.Ours {
		reason = Restored
	}
	d.plan.Changes = append(d.plan.Changes, Change{
		Action: Create, Place: place, DN: place.SubnetDN(place.Prefix), Mark: true, Reason: reason, By: claim.By, For: claim.Workloads,
		Attrs: map[string]string{
			"name":       names(claim.By)[0],
			"scope":      d.policy.Scope.String(),
			"annotation": d.policy.Owner.Annotation(),
		},
	})
}

// names are what a subnet may be called: NAMESPACE::NAME of who bears its address, cut to the
// 64 characters that the APIC allows.
func names(by []desired.Ref) []string {
	out := make([]string, len(by))
	for i, r := range by {
		s := r.Namespace + "::" + r.Name
		out[i] = s[:min(len(s), 64)]
	}
	return out
}
