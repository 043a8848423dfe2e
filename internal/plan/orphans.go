package plan

import (
	"cmp"
	"maps"
	"slices"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
)

// Guard holds back deletions that nothing explains. The zero value holds nothing back.
type Guard struct {
	On    bool
	Limit int // so many may go, and half of all that bear our mark

	// Unsettled says that what a list misses, or what an APIC has again, may not all be told yet: nothing
	// can be counted, and all deletions that nothing explains wait.
	Unsettled bool
}

// Orphans are the objects that bear our mark, that nobody claims, and whose claim was not seen to
// end: what is left over from before this run, what an APIC that was rolled back has again, and what
// the API server suddenly did not list any more.
//
// What changes as clusters do is none: an address that is claimed elsewhere, or that another live
// Pod has than the one it was made for; addresses that are no more than twice those that the workloads
// of their EPG claim there.
type Orphans struct {
	Of     map[aci.ExtEPG][]aci.DN // sorted
	Count  int
	Marked int // all that bear our mark, claimed or not, without what is approved
}

// Exceeds reports whether so many orphans are left alone until a person has looked.
func (o Orphans) Exceeds(g Guard) bool { return g.On && o.Count > g.Limit && 2*o.Count > o.Marked }

// FindOrphans looks at everything that is known of the fabric, except what is approved already. What
// it costs depends on how much bears our mark.
func FindOrphans(want *desired.State, have *observed.State, p Policy) Orphans {
	return find(want, have, p, false)
}

// FindUnclaimed is FindOrphans and counts everything of ours that nobody claims, also what changes as
// clusters do, or is explained.
func FindUnclaimed(want *desired.State, have *observed.State, p Policy) Orphans {
	return find(want, have, p, true)
}

func find(want *desired.State, have *observed.State, p Policy, all bool) Orphans {
	o := Orphans{Of: map[aci.ExtEPG][]aci.DN{}}
	for _, l := range have.L3Outs() {
		for _, e := range have.ExtEPGs(l) {
			g, exists := have.ExtEPG(e)
			if !exists {
				continue
			}
			var dns []aci.DN
			left := 0
			for n := range have.Subnets(e) {
				if !n.Mark.Of(p.Owner) || p.Approved[n.DN] {
					continue
				}
				o.Marked++
				if at := (aci.Place{ExtEPG: e, Prefix: n.Prefix}); all && unclaimed(want, at) || orphaned(want, p, at, n.DN, n.Name) {
					dns = append(dns, n.DN)
					left++
				}
			}
			if !all && want.Named(e) && left <= 2*want.Count(e) {
				dns = nil
			}
			if g.Mark.Of(p.Owner) && !p.Approved[e.DN()] {
				o.Marked++
				if at := (aci.Place{ExtEPG: e}); all && unclaimed(want, at) || orphaned(want, p, at, e.DN(), "") {
					dns = append(dns, e.DN())
				}
			}
			if len(dns) > 0 {
				slices.Sort(dns)
				o.Of[e] = dns
				o.Count += len(dns)
			}
		}
	}
	return o
}

// orphaned reports whether the object d of ours at p, with this name, is one that nobody claims and
// nothing explains. That the Pod it was made for still has the address explains nothing: its
// workload may be missing in a list, or not be selected any more.
func orphaned(want *desired.State, policy Policy, p aci.Place, d aci.DN, name string) bool {
	if policy.Approved[d] || want.Withdrawn(p) || !unclaimed(want, p) {
		return false
	}
	return !p.Prefix.IsValid() || !slices.ContainsFunc(names(want.Borne(p.Prefix)), func(pod string) bool { return pod != name })
}

// unclaimed reports whether nobody claims the address of p, anywhere, or names its EPG.
func unclaimed(want *desired.State, p aci.Place) bool {
	if !p.Prefix.IsValid() {
		return !want.Named(p.ExtEPG)
	}
	return len(want.Claimants(p.Prefix)) == 0 && !want.Held(p.Prefix)
}

// EPGs returns the external EPGs with orphans, sorted.
func (o Orphans) EPGs() []aci.ExtEPG { return slices.SortedFunc(maps.Keys(o.Of), aci.ExtEPG.Compare) }

// guarded reports whether the deletion of the object dn of ours at p, with this name, must wait: for a
// person, or until what is orphaned can be counted.
func (d *differ) guarded(p aci.Place, dn aci.DN, name string) bool {
	if !d.policy.Guard.On || !orphaned(d.want, d.policy, p, dn, name) {
		return false
	}
	d.plan.Orphaned = append(d.plan.Orphaned, p)
	if d.policy.Guard.Unsettled {
		return true
	}
	if d.orphans == nil {
		o := FindOrphans(d.want, d.have, d.policy)
		d.orphans = &o
	}
	if !d.orphans.Exceeds(d.policy.Guard) {
		return false
	}
	_, found := slices.BinarySearch(d.orphans.Of[p.ExtEPG], dn)
	return found
}

// hold notes that the deletion of the object dn at p is guarded.
func (d *differ) hold(p aci.Place, dn aci.DN) {
	if d.policy.Guard.Unsettled {
		d.plan.Unsettled = append(d.plan.Unsettled, p)
		return
	}
	d.plan.Held = append(d.plan.Held, Held{p, dn})
}

// Held is a deletion that waits.
type Held struct {
	Place aci.Place
	DN    aci.DN
}

// Compare orders by DN.
func (h Held) Compare(i Held) int { return cmp.Compare(h.DN, i.DN) }
