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
)

// Action is what a change does. It prints as itself.
type Action rune

// The actions.
const (
	Create Action = '+'
	Update Action = '~'
	Delete Action = '-'
)

// String is the sign of the action.
func (a Action) String() string { return string(a) }

// Reason says why a change is made.
type Reason string

// Reasons of changes.
const (
	Claimed   Reason = "Claimed"   // a workload asks for it
	Restored  Reason = "Restored"  // somebody deleted what is ours and still claimed
	Drifted   Reason = "Drifted"   // somebody changed a critical attribute of what is ours
	Unmarked  Reason = "Unmarked"  // what is ours lost its mark
	Renamed   Reason = "Renamed"   // the Pod or Service that it was named after let go
	Unclaimed Reason = "Unclaimed" // nobody asks for it any more
	Moved     Reason = "Moved"     // it is claimed elsewhere in the VRF, or was lost to an older claim
	Adopted   Reason = "Adopted"   // a person gives it to us
	Revived   Reason = "Revived"   // our own POST made an EPG that it meant to modify
)

// Change is one object to write.
type Change struct {
	Action Action
	Place  aci.Place
	DN     aci.DN
	Attrs  map[string]string // to be written; naming attributes and status apart
	Before map[string]string // of an Update: what the attributes are now
	Mark   bool              // the owner mark is written: with a Create, or alone
	Reason Reason
	By     []desired.Ref // the Pods and Services that bear it; of an EPG, the workloads
	For    []desired.Ref // the workloads that ask for it
	Lost   []string      // of an EPG to be restored: contract relations that went with it

	with []netip.Prefix // of the Delete of an EPG: what goes with it
}

// Routine reports whether the change follows from the cluster alone. All others put back or
// delete something, and are made only on a fresh look at the pause tags.
func (c Change) Routine() bool { return c.Action == Create && c.Reason == Claimed }

// String is one line for people.
func (c Change) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", c.Action, c.DN)
	if c.Action == Update {
		for _, k := range slices.Sorted(maps.Keys(c.Attrs)) {
			fmt.Fprintf(&b, " %s:%q->%q", k, c.Before[k], c.Attrs[k])
		}
		if c.Mark {
			b.WriteString(" mark")
		}
	}
	fmt.Fprintf(&b, " %s", c.Reason)
	for i, r := range c.By {
		if b.WriteString(map[bool]string{true: " by ", false: ", "}[i == 0]); i == 3 {
			fmt.Fprintf(&b, "%d more", len(c.By)-i)
			break
		}
		b.WriteString(r.String())
	}
	return b.String()
}

// Plan is what Diff found.
type Plan struct {
	// Changes in the order in which they are to be written: what leaves before what enters.
	Changes []Change
	// Reads are DNs that must be read before more can be decided: an EPG whole, a subnet with
	// its mark. Changes that do not depend on them are in Changes all the same.
	Reads []aci.DN
	// Problems that a person must see to, by place.
	Problems map[aci.Place][]desired.Problem
	// Held are deletions that wait for a person, because nothing explains them and they are many.
	Held []Held
	// Orphaned are places of deletions that nothing explains, also of those that do not wait.
	Orphaned []aci.Place
	// Unsettled are places of deletions that wait for no more than that Guard.Unsettled ends.
	Unsettled []aci.Place
	// Kept are EPGs that no workload names any more and that stay, with the reason.
	Kept map[aci.ExtEPG][]string
}

// Empty reports whether there is nothing to write and nothing to read.
func (p Plan) Empty() bool { return len(p.Changes) == 0 && len(p.Reads) == 0 }

// Post is one request: a body for the DN of an L3Out. Its changes succeed or fail together.
type Post struct {
	EPG     aci.ExtEPG
	Body    aci.MO
	Changes []Change
	Second  bool // what enters after it left elsewhere: only when the POSTs before succeeded
}

// MaxChanges is how many subnets one POST carries at most; an EPG and marks ride along.
const MaxChanges = 500

// Posts puts the changes into as few requests as the order allows, in order: owner marks that
// are put back go alone; then, EPG by EPG, all that does not wait for another EPG to let go of
// an address; then the addresses that moved.
func (p Plan) Posts(owner aci.Owner) []Post {
	leaving := map[string]aci.ExtEPG{}
	for _, c := range p.Changes {
		if c.Action == Delete {
			leaving[c.Place.Prefix.String()] = c.Place.ExtEPG
			for _, q := range c.with {
				leaving[q.String()] = c.Place.ExtEPG
			}
		}
	}
	const (
		marks = iota
		first
		second
	)
	rounds := [3]map[aci.ExtEPG][]Change{{}, {}, {}}
	for _, c := range p.Changes {
		round := first
		if c.Action == Update && c.Mark {
			round = marks
		} else if from, moves := leaving[c.Place.Prefix.String()]; moves && c.Action == Create &&
			c.Place.Prefix.IsValid() && from != c.Place.ExtEPG {
			round = second
		}
		rounds[round][c.Place.ExtEPG] = append(rounds[round][c.Place.ExtEPG], c)
	}
	var posts []Post
	for round, byEPG := range rounds {
		// EPGs that are new come first, so that no address leaves for one that the APIC refuses;
		// then what only lets go, for it takes nothing from anybody.
		epgs := slices.SortedFunc(maps.Keys(byEPG), func(a, b aci.ExtEPG) int {
			return cmp.Or(cmp.Compare(rank(byEPG[a]), rank(byEPG[b])), a.Compare(b))
		})
		for _, e := range epgs {
			for chunk := range chunks(byEPG[e]) {
				posts = append(posts, Post{e, Body(owner, e, chunk), chunk, round == second})
			}
		}
	}
	return posts
}

func rank(list []Change) int {
	rank := 1
	for _, c := range list {
		switch {
		case c.Action == Create && !c.Place.Prefix.IsValid():
			return 0
		case c.Action == Create:
			rank = 2
		}
	}
	return rank
}

// chunks cuts the changes of one EPG into pieces of MaxChanges subnets, the EPG itself first.
func chunks(list []Change) func(func([]Change) bool) {
	slices.SortStableFunc(list, func(a, b Change) int { return a.Place.Compare(b.Place) })
	size := MaxChanges
	if !list[0].Place.Prefix.IsValid() {
		size++
	}
	return func(yield func([]Change) bool) {
		for len(list) > 0 {
			n := min(size, len(list))
			if !yield(list[:n:n]) {
				return
			}
			list, size = list[n:], MaxChanges
		}
	}
}

// Body is the l3extInstP that carries the changes of e, to be posted to the DN of its L3Out.
// It names neither the tenant nor the L3Out: if they are gone the APIC says so, instead of
// making them anew.
func Body(owner aci.Owner, e aci.ExtEPG, changes []Change) aci.MO {
	epg := aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": e.Name, "status": aci.StatusModified}}
	for _, c := range changes {
		mo := &epg
		if c.Place.Prefix.IsValid() {
			ip, _ := aci.SubnetIP(c.DN.RN())
			epg.Children = append(epg.Children, aci.MO{Class: aci.ClassSubnet, Attrs: map[string]string{"ip": ip}})
			mo = &epg.Children[len(epg.Children)-1]
		}
		maps.Copy(mo.Attrs, c.Attrs)
		mo.Attrs["status"] = c.Status()
		if c.Mark {
			tag := aci.MO{Class: aci.ClassTagAnnotation, Attrs: map[string]string{
				"key": aci.OwnerKey, "value": owner.Mark(c.DN),
			}}
			if c.Action == Create {
				tag.Attrs["status"] = aci.StatusCreated
			}
			mo.Children = append(mo.Children, tag)
		}
	}
	return epg
}

// Status is the status attribute that carries out the change.
func (c Change) Status() string {
	switch c.Action {
	case Create:
		return aci.StatusCreated
	case Delete:
		return aci.StatusDeleted
	default:
		return aci.StatusModified
	}
}
