package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
)

// PrototypeAnnotation is what the Python prototype of 2021 wrote into annotation.
const PrototypeAnnotation = "orchestrator:aci-k8-haystack"

// Source is whose objects are adopted; the zero value is those that bear no mark and are not the
// prototype's.
type Source struct {
	Prototype bool      // those of the Python prototype
	Cluster   aci.Owner // those that bear the mark of another cluster
}

// ParseSource reads prototype, cluster:ID or unmanaged.
func ParseSource(s string) (Source, error) {
	id, isCluster := strings.CutPrefix(s, "cluster:")
	switch {
	case s == "prototype":
		return Source{Prototype: true}, nil
	case s == "unmanaged":
		return Source{}, nil
	case isCluster:
		owner, err := aci.ParseOwner(id)
		return Source{Cluster: owner}, err
	}
	return Source{}, fmt.Errorf("%q is neither prototype, cluster:ID nor unmanaged", s)
}

// String is what ParseSource reads.
func (s Source) String() string {
	switch {
	case s.Prototype:
		return "prototype"
	case s.Cluster != "":
		return "cluster:" + string(s.Cluster)
	}
	return "unmanaged"
}

// has reports whether an object that bears the mark of by, "" for nobody's, and this annotation is of s.
func (s Source) has(by aci.Owner, annotation string) bool {
	switch {
	case s.Cluster != "":
		return by == s.Cluster
	case by != "":
		return false
	}
	return s.Prototype == (annotation == PrototypeAnnotation)
}

// Adoption is what of one external EPG is to be ours.
type Adoption struct {
	Take  []aci.DN // sorted
	Leave []Left   // sorted
}

// Left is an object that is not adopted.
type Left struct {
	DN  aci.DN
	Why string
}

// FindAdoption looks for what of e and in it can be adopted from a source: subnets that a live claim
// names, and e itself only if asked for. Everything that is not ours already is in one of the two
// lists.
func FindAdoption(want *desired.State, have *observed.State, p Policy, e aci.ExtEPG, from Source, epg bool) Adoption {
	var a Adoption
	leave := func(d aci.DN, why string) { a.Leave = append(a.Leave, Left{d, why}) }
	g, exists := have.ExtEPG(e)
	if !exists {
		return a
	}
	dn := e.DN()
	switch {
	case g.Mark.Of(p.Owner):
	case !from.has(g.Mark.By, g.Annotation):
		leave(dn, "is not of "+from.String())
	case !want.Named(e):
		leave(dn, "no workload names it")
	case !epg:
		leave(dn, "is adopted with --epg only")
	default:
		a.Take = append(a.Take, dn)
	}
	for n := range have.Subnets(e) {
		switch {
		case n.Mark.Of(p.Owner):
		case !from.has(n.Mark.By, n.Annotation):
			leave(n.DN, "is not of "+from.String())
		case !want.Claims(aci.Place{ExtEPG: e, Prefix: n.Prefix}):
			leave(n.DN, "no workload claims it")
		default:
			a.Take = append(a.Take, n.DN)
		}
	}
	slices.Sort(a.Take)
	slices.SortFunc(a.Leave, func(x, y Left) int { return strings.Compare(string(x.DN), string(y.DN)) })
	return a
}
