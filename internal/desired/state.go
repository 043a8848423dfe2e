package desired

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Ref names a Kubernetes object.
type Ref struct{ Kind, Namespace, Name string }

// String is "Kind namespace/name".
func (r Ref) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// Compare orders by kind, namespace, name.
func (r Ref) Compare(q Ref) int {
	return cmp.Or(cmp.Compare(r.Kind, q.Kind), cmp.Compare(r.Namespace, q.Namespace), cmp.Compare(r.Name, q.Name))
}

// Problem is something that a person must see to; it is not an error. Ref is the workload
// that it concerns.
type Problem struct {
	Ref     Ref
	Reason  string // one of the Reason constants of desired and plan
	Message string // one line: what is wrong, where, and what was kept
}

// Compare orders by workload, reason, message.
func (p Problem) Compare(q Problem) int {
	return cmp.Or(p.Ref.Compare(q.Ref), cmp.Compare(p.Reason, q.Reason), cmp.Compare(p.Message, q.Message))
}

// Reasons of problems that show in Kubernetes alone.
const (
	ReasonInvalidAnnotation = "InvalidAnnotation"
	ReasonHostNetwork       = "HostNetwork"
	ReasonNotExposed        = "NotExposed" // an annotated Service that claims nothing
	ReasonPaused            = "Paused"     // somebody paused the workload, or the EPG or its L3Out on the APIC
)

// Options of a State. The zero value exposes nothing, in all namespaces.
type Options struct {
	Expose     Expose          // for annotations without a list of their own
	Namespaces labels.Selector // namespaces whose workloads count; nil means all
}

// Claim is one address that belongs in one external EPG.
type Claim struct {
	By        []Ref     // the Pods and Services that bear the address, sorted
	Workloads []Ref     // the workloads they belong to, oldest first
	Since     time.Time // creation of the oldest of these workloads
}

// Touched is what may differ after a fold. A place without EPG stands for its prefix
// wherever it is; the zero place stands for everything.
type Touched struct {
	Places    []aci.Place
	Workloads []Ref
}

// State is which address belongs in which external EPG. It is not safe for concurrent use.
type State struct {
	opts       Options
	namespaces map[string]*namespace
	workloads  map[types.UID]*workload // those that have Pods
	byName     map[Ref]*workload
	owners     map[types.UID]types.UID         // ReplicaSet -> controlling Deployment, "" for none
	replicas   map[Ref]types.UID               // ReplicaSet by name
	below      map[types.UID]map[*pod]struct{} // ReplicaSet or workload, seen or not -> its Pods
	pods       map[Ref]*pod
	holders    map[netip.Addr][]*pod // address -> Pods that report it
	services   map[Ref]*service
	claims     map[netip.Prefix][]*give
	held       map[netip.Prefix]int // prefix -> bearers whose target cannot be told
	epgs       map[aci.ExtEPG]*epg
	l3outs     map[aci.L3Out]int      // L3Out -> how many of epgs are in it
	unknown    map[*workload]struct{} // workloads that count and whose target is not known
	memories   map[Ref]memory         // what records say
	begun      bool                   // something is done about it: see Begin
	missing    bool                   // what is folded now was not seen to go
	withdrawn  map[aci.Place]struct{} // claims that ended by a change that was seen

	// next are the paused workloads that will name an EPG when their pause ends; pausedUnknown those of
	// which that, or what they name until then, is not known.
	next          map[aci.ExtEPG]map[*workload]struct{}
	pausedUnknown map[*workload]struct{}

	// hostNetwork counts, by workload, seen or not, the Pods that use their node's address.
	hostNetwork map[types.UID]int
}

// epg is what is wanted of one external EPG.
type epg struct {
	workloads map[*workload]struct{}
	paused    map[*workload]struct{} // those of workloads that are paused
	prefixes  map[netip.Prefix]int   // prefix -> gives
}

// give is one reason for an address to be in an EPG. There is one for each address of each Pod, so it is kept small.
type give struct {
	prefix   netip.Prefix
	epg      unique.Handle[aci.ExtEPG]
	bearer   Ref
	workload *workload
}

func (g give) place() aci.Place { return aci.Place{ExtEPG: g.epg.Value(), Prefix: g.prefix} }

// bearer is a Pod or a Service with what it gave at the last fold.
type bearer struct {
	ref   Ref
	gives []*give // the same as in claims
	holds []netip.Prefix
}

// NewState returns an empty State.
func NewState(o Options) *State {
	return &State{
		opts:       o,
		namespaces: map[string]*namespace{},
		workloads:  map[types.UID]*workload{},
		byName:     map[Ref]*workload{},
		owners:     map[types.UID]types.UID{},
		replicas:   map[Ref]types.UID{},
		below:      map[types.UID]map[*pod]struct{}{},
		pods:       map[Ref]*pod{},
		holders:    map[netip.Addr][]*pod{},
		services:   map[Ref]*service{},
		claims:     map[netip.Prefix][]*give{},
		held:       map[netip.Prefix]int{},
		epgs:       map[aci.ExtEPG]*epg{},
		l3outs:     map[aci.L3Out]int{},
		unknown:    map[*workload]struct{}{},
		memories:   map[Ref]memory{},
		withdrawn:  map[aci.Place]struct{}{},

		next:          map[aci.ExtEPG]map[*workload]struct{}{},
		pausedUnknown: map[*workload]struct{}{},
		hostNetwork:   map[types.UID]int{},
	}
}

// Begin says that all that exists now has been folded, and that from here on the caller follows
// what is on the fabric and tells of it by Left. Only what is folded after it is a change that
// was seen: before, the order in which objects happen to be told makes claims begin and end, and
// nothing is remembered of those that ended.
func (s *State) Begin() { s.begun = true }

// Withdrawn reports that the last claim of p ended by a change that was seen since Begin, of an
// object that was changed or deleted; for a place without prefix, that the last workload let go
// of the external EPG. It is what explains that something at p is to be deleted. It is forgotten
// when p is claimed again, or told gone by Left.
func (s *State) Withdrawn(p aci.Place) bool {
	_, ok := s.withdrawn[p]
	return ok
}

// Left says that no subnet is at p on the fabric, and none of ours is on its way there. What is
// remembered for the sake of one is forgotten: that its claim was withdrawn, and claims that
// nobody bears any more but that a pause keeps. It may be called for any place, at any time; where
// it is wrong, a deletion is unexplained that was explained. It returns the places that it touched.
func (s *State) Left(p aci.Place) []aci.Place {
	var touched []aci.Place
	for _, g := range slices.Clone(s.claims[p.Prefix]) {
		if g.workload.frozen[*g] != nil && g.epg.Value() == p.ExtEPG {
			delete(g.workload.frozen, *g)
			s.unclaim(*g)
			touched = []aci.Place{p}
		}
	}
	delete(s.withdrawn, p)
	return touched
}

// Paused reports whether the workload r is paused: all that it claims stays as it is.
func (s *State) Paused(r Ref) bool {
	w := s.byName[r]
	return w != nil && w.paused
}

// PausedBy returns the paused workloads that claim p for any EPG, sorted: while there is one, the
// address is written nowhere.
func (s *State) PausedBy(p netip.Prefix) []Ref {
	var out []Ref
	for _, g := range s.claims[p] {
		if g.workload.paused {
			out = append(out, g.workload.ref)
		}
	}
	slices.SortFunc(out, Ref.Compare)
	return slices.Compact(out)
}

// PausedIn reports whether some paused workload names e: e is its target, or will be when its
// pause ends, or could be as long as that is not known. It also reports whether e is the target of
// workloads that are all paused.
func (s *State) PausedIn(e aci.ExtEPG) (some, all bool) {
	some = len(s.pausedUnknown)+len(s.next[e]) > 0
	if g := s.epgs[e]; g != nil {
		return some || len(g.paused) > 0, len(g.paused) > 0 && len(g.paused) == len(g.workloads)
	}
	return some, false
}

// Borne returns the Pods that have not finished and report the address, whoever they belong to.
func (s *State) Borne(p netip.Prefix) []Ref {
	var out []Ref
	for _, q := range s.holders[p.Addr()] {
		if q.counts {
			out = append(out, q.ref)
		}
	}
	slices.SortFunc(out, Ref.Compare)
	return out
}

// Claim returns who wants the prefix of p in the EPG of p.
func (s *State) Claim(p aci.Place) (Claim, bool) {
	var c Claim
	var ws []*workload
	for _, g := range s.claims[p.Prefix] {
		if g.epg.Value() == p.ExtEPG {
			c.By = append(c.By, g.bearer)
			ws = append(ws, g.workload)
		}
	}
	if len(ws) == 0 {
		return Claim{}, false
	}
	slices.SortFunc(c.By, Ref.Compare)
	c.By = slices.Compact(c.By)
	slices.SortFunc(ws, (*workload).compare)
	c.Since = ws[0].created
	for _, w := range slices.Compact(ws) {
		c.Workloads = append(c.Workloads, w.ref)
	}
	return c, true
}

// Claimants returns the EPGs that the prefix is claimed for, sorted.
func (s *State) Claimants(p netip.Prefix) []aci.ExtEPG {
	var out []aci.ExtEPG
	for _, g := range s.claims[p] {
		out = append(out, g.epg.Value())
	}
	slices.SortFunc(out, aci.ExtEPG.Compare)
	return slices.Compact(out)
}

// Held reports that somebody bears the prefix whose target cannot be told (its owner is not
// resolved, or its annotation was never valid): nothing may delete it anywhere.
func (s *State) Held(p netip.Prefix) bool { return s.held[p] > 0 }

// Unknown reports that some workload has an annotation whose target is not known: no EPG may
// be deleted, for it could be the one.
func (s *State) Unknown() bool { return len(s.unknown) > 0 }

// Workloads returns the workloads whose target is e, sorted.
func (s *State) Workloads(e aci.ExtEPG) []Ref {
	g := s.epgs[e]
	if g == nil {
		return nil
	}
	var out []Ref
	for w := range g.workloads {
		out = append(out, w.ref)
	}
	slices.SortFunc(out, Ref.Compare)
	return out
}

// Named reports whether some workload names e.
func (s *State) Named(e aci.ExtEPG) bool { return s.epgs[e] != nil && len(s.epgs[e].workloads) > 0 }

// NamedIn reports whether some workload names an EPG of l.
func (s *State) NamedIn(l aci.L3Out) bool { return s.l3outs[l] > 0 }

// EPGs returns every EPG that is named by a workload, sorted.
func (s *State) EPGs() []aci.ExtEPG {
	return slices.SortedFunc(maps.Keys(s.epgs), aci.ExtEPG.Compare)
}

// Places yields e itself and every place in it that is claimed, in no order.
func (s *State) Places(e aci.ExtEPG) iter.Seq[aci.Place] {
	return func(yield func(aci.Place) bool) {
		g := s.epgs[e]
		if g == nil || !yield(aci.Place{ExtEPG: e}) {
			return
		}
		for p := range g.prefixes {
			if !yield(aci.Place{ExtEPG: e, Prefix: p}) {
				return
			}
		}
	}
}

// AllWorkloads returns every workload that was folded, annotated or not, Services among them,
// sorted.
func (s *State) AllWorkloads() []Ref { return slices.SortedFunc(maps.Keys(s.byName), Ref.Compare) }

// Target returns what the workload asks for; false when that is nothing or not known.
func (s *State) Target(r Ref) (aci.ExtEPG, bool) {
	w := s.byName[r]
	if w == nil || w.target == nil {
		return aci.ExtEPG{}, false
	}
	return w.target.EPG, true
}

// Problems returns what a person must see to at the workload r.
func (s *State) Problems(r Ref) []Problem {
	w := s.byName[r]
	if w == nil {
		return nil
	}
	var out []Problem
	problem := func(reason, message string) { out = append(out, Problem{Ref: r, Reason: reason, Message: message}) }
	if w.paused && w.asks() {
		problem(ReasonPaused, fmt.Sprintf("paused by the annotation %s: nothing that it claims is written, and what changes here takes effect when the pause ends",
			PausedAnnotation))
	}
	if !w.ns.chosen {
		return out
	}
	if m := w.pause.problem(PausedAnnotation, pauseKept); m != "" {
		problem(ReasonInvalidAnnotation, m)
	}
	v := s.services[r]
	if v != nil && v.loadBalancer && w.paused && w.own.value == nil && !w.asks() {
		problem(ReasonInvalidAnnotation, fmt.Sprintf("annotation %s: pauses nothing, for this Service is not annotated with %s; pause the workloads that it selects",
			PausedAnnotation, Annotation))
	}
	if m := w.ignore.problem(IgnoreAnnotation, ignoreKept); m != "" {
		problem(ReasonInvalidAnnotation, m)
	}
	if a := w.setting(); a != nil && a.err != nil && w.ignore.is != yes {
		where := Annotation
		if a != &w.own {
			where = DefaultAnnotation + " of the namespace"
		}
		problem(ReasonInvalidAnnotation, a.problem(where, w.target))
	}
	expose := w.expose(s.opts.Expose)
	if v != nil && w.target != nil {
		switch {
		case !v.loadBalancer:
			problem(ReasonNotExposed, "is not of type LoadBalancer: nothing is claimed")
		case !expose.Services:
			problem(ReasonNotExposed, `services are not exposed: nothing is claimed; "expose": ["services"] in the annotation claims its addresses`)
		}
	}
	if s.hostNetwork[w.uid] > 0 && w.target != nil && expose.Pods {
		problem(ReasonHostNetwork, "Pods with hostNetwork bear the address of their node: it is not claimed")
	}
	return out
}

// ignoreKept says what an invalid IgnoreAnnotation means.
var ignoreKept = map[answer]string{
	no:    "it is not ignored, as before",
	yes:   "it is ignored, as before",
	maybe: "whether it was ignored is not known, so nothing of it is added or deleted",
}

// pauseKept says what an invalid PausedAnnotation means.
var pauseKept = map[answer]string{
	no:    "it is not paused, as before",
	yes:   "it is paused, as before",
	maybe: "whether it was paused is not known, so it is",
}

// set replaces what b gives and holds, and adds the places that differ to t.
func (s *State) set(b *bearer, gives []give, holds []netip.Prefix, t *Touched) {
	if slices.EqualFunc(b.gives, gives, (*give).is) && slices.Equal(b.holds, holds) {
		return
	}
	for _, g := range b.gives {
		if slices.Contains(gives, *g) {
			continue
		}
		t.Places = append(t.Places, g.place())
		if s.begun && g.workload.paused {
			g.workload.frozen[*g] = g
		} else {
			s.unclaim(*g)
		}
	}
	now := make([]*give, 0, len(gives))
	for _, g := range gives {
		if i := slices.IndexFunc(b.gives, func(had *give) bool { return had.is(g) }); i >= 0 {
			now = append(now, b.gives[i])
			continue
		}
		t.Places = append(t.Places, g.place())
		if frozen := g.workload.frozen[g]; frozen != nil {
			delete(g.workload.frozen, g)
			now = append(now, frozen)
		} else {
			now = append(now, s.claim(g))
		}
	}
	for _, p := range b.holds {
		if s.held[p]--; s.held[p] == 0 {
			delete(s.held, p)
			t.Places = append(t.Places, aci.Place{Prefix: p})
		}
	}
	for _, p := range holds {
		if s.held[p]++; s.held[p] == 1 {
			t.Places = append(t.Places, aci.Place{Prefix: p})
		}
	}
	b.gives, b.holds = now, holds
}

func (g *give) is(h give) bool { return *g == h }

func (s *State) claim(g give) *give {
	s.claims[g.prefix] = append(s.claims[g.prefix], &g)
	s.epg(g.epg.Value()).prefixes[g.prefix]++
	delete(s.withdrawn, g.place())
	return &g
}

func (s *State) unclaim(g give) {
	list := s.claims[g.prefix]
	i := slices.IndexFunc(list, func(had *give) bool { return had.is(g) })
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(s.claims, g.prefix)
	} else {
		s.claims[g.prefix] = list
	}
	e := s.epgs[g.epg.Value()]
	if e.prefixes[g.prefix]--; e.prefixes[g.prefix] == 0 {
		if delete(e.prefixes, g.prefix); s.begun && !s.missing {
			s.withdrawn[g.place()] = struct{}{}
		}
	}
	s.drop(g.epg.Value())
}

func (s *State) epg(e aci.ExtEPG) *epg {
	g := s.epgs[e]
	if g == nil {
		g = &epg{map[*workload]struct{}{}, map[*workload]struct{}{}, map[netip.Prefix]int{}}
		s.epgs[e] = g
		s.l3outs[e.L3Out]++
	}
	return g
}

// drop forgets e once nothing wants it.
func (s *State) drop(e aci.ExtEPG) {
	if g := s.epgs[e]; g != nil && len(g.workloads) == 0 && len(g.prefixes) == 0 {
		delete(s.epgs, e)
		if s.l3outs[e.L3Out]--; s.l3outs[e.L3Out] == 0 {
			delete(s.l3outs, e.L3Out)
		}
	}
}

// claimable reports whether an address can belong to a workload, and as which prefix.
func claimable(a netip.Addr) (netip.Prefix, bool) {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, a.BitLen()), true
}
