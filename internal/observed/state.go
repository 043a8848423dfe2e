package observed

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"unique"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Mark is what is known of the owner mark of an object. The value itself is not kept: it repeats the DN.
type Mark struct {
	Read  bool      // false: events said that the object was touched, or nothing was read yet
	There bool      // the object bears a tagAnnotation aci-sync, whatever it says
	By    aci.Owner // whose mark it is; "" for nobody's, such as that of a copy
}

// Of reports whether it is the mark of o.
func (m Mark) Of(o aci.Owner) bool { return o != "" && m.By == o }

// Subnet is an l3extSubnet.
type Subnet struct {
	DN         aci.DN
	Prefix     netip.Prefix
	Name       string
	Annotation string
	Scope      aci.Scope
	Mark       Mark
	Touched    bool // somebody else wrote it since aci-sync last did
}

// ExtEPG is an l3extInstP. The attributes that aci-sync does not look at are not kept.
type ExtEPG struct {
	Annotation   string
	ExtMngdBy    string
	Mark         Mark
	ConfigSt     string
	ConfigIssues string
	// Revived: a POST of ours that meant to modify it made it.
	Revived bool
	// Judged: all of the EPG was read and nothing in it changed since. Only then Residue and
	// Foreign say something.
	Judged  bool
	Residue []string // what is set or stands in it that neither we nor the APIC's defaults made
	Foreign []string // prefixes of the subnets in it that are not ours
}

// Last is what an external EPG was when it was last there.
type Last int

// What an absent EPG was.
const (
	Never   Last = iota // not seen, or seen and forgotten
	Ours                // it bore our mark
	Foreign             // it bore no mark: its owner decides whether it comes back
	Other               // it bore another cluster's mark: whoever claims it restores it
)

// State is what the APIC holds of the L3Outs that were folded. It is not safe for concurrent
// use: it has one writer, who also answers questions about it.
type State struct {
	owner    aci.Owner
	l3outs   map[aci.L3Out]*l3out
	holders  map[netip.Prefix][]aci.ExtEPG // prefix -> EPGs that hold it; the lists are never changed
	expected map[aci.DN]*expectation
	pending  map[netip.Prefix]int // prefix -> subnets with an expectation
	reading  map[aci.DN]*reading
	held     map[aci.ExtEPG]bool // paused by a record

	annotation string               // that of our objects
	scopes     map[string]aci.Scope // by how the APIC spells them; they are few, and never changed

	relations relations

	faults  map[aci.DN]*fault
	blamed  map[aci.ExtEPG]map[aci.DN]*fault // EPG -> faults that name it
	whole   map[int]map[aci.DN]*fault        // leaf -> faults of all that it holds
	changed map[aci.ExtEPG]struct{}          // whose faults may be others than at the last call of FaultsChanged
}

type l3out struct {
	id       aci.L3Out
	complete bool
	exists   bool
	vrf      aci.VRF // zero when the relation does not resolve
	epgs     map[string]*epg
	paused   map[aci.DN]bool // the L3Out's DN, or an EPG's
	nodes    map[aci.DN]int  // l3extRsNodeL3OutAtt -> the id of its node
}

type epg struct {
	ExtEPG
	alone     []aci.ExtEPG // the EPG itself, as the holder of all that only it holds
	exists    bool
	last      Last
	recorded  bool // ours, as known before its mark went
	contracts map[string]struct{}
	doubted   bool                       // what it holds must be read again before anything is decided
	subnets   map[string]*Subnet         // by the ip as the APIC spells it
	odd       map[netip.Prefix][]*Subnet // those that the APIC spells otherwise than we would
	vanished  map[netip.Prefix]struct{}
}

// reading is a full read that is under way, with the events since it began; or several of the same root,
// with the events since the first one began: what they tell is as true of the others.
type reading struct {
	reads  int
	events []event
	gap    bool
}

// NewState returns a State that knows nothing. Marks of o are ours.
func NewState(o aci.Owner) *State {
	return &State{
		owner:    o,
		l3outs:   map[aci.L3Out]*l3out{},
		holders:  map[netip.Prefix][]aci.ExtEPG{},
		expected: map[aci.DN]*expectation{},
		pending:  map[netip.Prefix]int{},
		reading:  map[aci.DN]*reading{},
		held:     map[aci.ExtEPG]bool{},

		annotation: o.Annotation(),
		scopes:     map[string]aci.Scope{},

		faults:  map[aci.DN]*fault{},
		blamed:  map[aci.ExtEPG]map[aci.DN]*fault{},
		whole:   map[int]map[aci.DN]*fault{},
		changed: map[aci.ExtEPG]struct{}{},
	}
}

// Complete reports whether l was read whole and no event below it was lost since.
func (s *State) Complete(l aci.L3Out) bool {
	o := s.l3outs[l]
	return o != nil && o.complete
}

// Exists reports whether l is on the fabric, as far as is known.
func (s *State) Exists(l aci.L3Out) bool {
	o := s.l3outs[l]
	return o != nil && o.exists
}

// VRF returns the VRF that l belongs to; false while that is not known or does not resolve. Of an L3Out
// that was not read whole the relations of the fabric tell it.
func (s *State) VRF(l aci.L3Out) (aci.VRF, bool) {
	o := s.l3outs[l]
	if v, ok := s.relations.vrfs[l]; ok && (o == nil || !o.complete) {
		return v, true
	}
	return o.belongs()
}

// belongs is the VRF that was read or told last.
func (o *l3out) belongs() (aci.VRF, bool) {
	if o == nil {
		return aci.VRF{}, false
	}
	return o.vrf, o.vrf != aci.VRF{}
}

// Domain is the DN of the VRF in which prefixes of l must be unique, and the key under which
// one writer works; l's own DN stands in while its VRF is not known.
func (s *State) Domain(l aci.L3Out) aci.DN {
	if v, ok := s.VRF(l); ok {
		return v.DN()
	}
	return l.DN()
}

// L3Outs returns every L3Out that was folded, sorted, also those that do not exist.
func (s *State) L3Outs() []aci.L3Out {
	return slices.SortedFunc(maps.Keys(s.l3outs), aci.L3Out.Compare)
}

// ExtEPG returns the external EPG e; false when it is not there.
func (s *State) ExtEPG(e aci.ExtEPG) (ExtEPG, bool) {
	g := s.epg(e)
	if g == nil || !g.exists {
		return ExtEPG{}, false
	}
	return g.ExtEPG, true
}

// Last returns what e was when it was last there.
func (s *State) Last(e aci.ExtEPG) Last {
	if g := s.epg(e); g != nil {
		return g.last
	}
	return Never
}

// Recorded reports whether e is known to have been ours in this run.
func (s *State) Recorded(e aci.ExtEPG) bool {
	g := s.epg(e)
	return g != nil && g.recorded
}

// Contracts returns the RNs of the contract relations that e has, or had when it went.
func (s *State) Contracts(e aci.ExtEPG) []string {
	g := s.epg(e)
	if g == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(g.contracts))
}

// Subnet returns the subnet at p, however the APIC spells its prefix; of several spellings in
// one EPG the one that aci-sync would use.
func (s *State) Subnet(p aci.Place) (Subnet, bool) {
	if g := s.epg(p.ExtEPG); g != nil {
		if n := g.spelling(p.Prefix); n != nil {
			return *n, true
		}
	}
	return Subnet{}, false
}

// Absent reports that there is no subnet at p, or no external EPG for a place without prefix, and
// that no POST of ours is under way that could put one there. Of an L3Out that was never read
// nothing is known to be absent.
func (s *State) Absent(p aci.Place) bool {
	if !p.Prefix.IsValid() {
		_, there := s.ExtEPG(p.ExtEPG)
		return s.l3outs[p.L3Out] != nil && !there && s.Expected(p.DN()) == ""
	}
	_, there := s.Subnet(p)
	return s.l3outs[p.L3Out] != nil && !there && !s.Pending(p.Prefix)
}

// Subnets yields the subnets of e in no order.
func (s *State) Subnets(e aci.ExtEPG) iter.Seq[Subnet] {
	return func(yield func(Subnet) bool) {
		if g := s.epg(e); g != nil {
			for _, n := range g.subnets {
				if !yield(*n) {
					return
				}
			}
		}
	}
}

// ExtEPGs returns the external EPGs of l that are there or were, sorted.
func (s *State) ExtEPGs(l aci.L3Out) []aci.ExtEPG {
	o := s.l3outs[l]
	if o == nil {
		return nil
	}
	var out []aci.ExtEPG
	for name := range o.epgs {
		out = append(out, aci.ExtEPG{L3Out: l, Name: name})
	}
	slices.SortFunc(out, aci.ExtEPG.Compare)
	return out
}

// Holders returns the EPGs that hold a subnet with prefix p, whoever owns it, sorted.
func (s *State) Holders(p netip.Prefix) []aci.ExtEPG { return s.holders[p] }

// Vanished reports whether a subnet of ours at p was deleted by somebody else.
func (s *State) Vanished(p aci.Place) bool {
	if g := s.epg(p.ExtEPG); g != nil {
		_, ok := g.vanished[p.Prefix]
		return ok
	}
	return false
}

// Unvanish forgets that a subnet of ours at p was deleted: nobody claims it any more, so it is not restored.
func (s *State) Unvanish(p aci.Place) {
	if g := s.epg(p.ExtEPG); g != nil {
		delete(g.vanished, p.Prefix)
	}
}

// Ours reports whether the mark m was read and is ours.
func (s *State) Ours(m Mark) bool { return m.Read && s.ours(m) }

// ours also believes marks that must be read anew before anything is done about it.
func (s *State) ours(m Mark) bool { return m.Of(s.owner) }

// mark is what value, as just told, says as the owner mark of the object d.
func (s *State) mark(value string, d aci.DN) Mark {
	m := Mark{Read: true, There: value != "", By: aci.MarkedBy(value, d)}
	m.By = unique.Make(m.By).Value() // not a part of value, which would be kept for it
	return m
}

// ourMark is the mark of what a POST of ours made.
func (s *State) ourMark() Mark { return Mark{Read: true, There: true, By: s.owner} }

// Paused reports whether somebody paused e, or its L3Out.
func (s *State) Paused(e aci.ExtEPG) bool {
	o := s.l3outs[e.L3Out]
	return s.held[e] || o != nil && (o.paused[e.L3Out.DN()] || o.paused[e.DN()])
}

// SetPaused replaces what is known of the pause tags at and below l, and returns the places
// that differ: the zero place, which stands for everything, when it is l itself, for there may
// be EPGs wanted in it that were never there.
func (s *State) SetPaused(l aci.L3Out, dns []aci.DN) []aci.Place {
	now := map[aci.DN]bool{}
	for _, d := range dns {
		now[d] = true
	}
	var t touched
	for d := range merged(s.l3out(l).paused, now) {
		s.setPaused(l, d, now[d], &t)
	}
	return t.sorted()
}

// setPaused notes whether d, which is l or an EPG in it, bears a pause tag.
func (s *State) setPaused(l aci.L3Out, d aci.DN, paused bool, t *touched) {
	o := s.l3outs[l]
	if o.paused[d] == paused {
		return
	}
	if paused {
		o.paused[d] = true
	} else {
		delete(o.paused, d)
	}
	if d == l.DN() {
		t.add(aci.ExtEPG{}, netip.Prefix{})
	}
	for name, g := range o.epgs {
		if e := (aci.ExtEPG{L3Out: l, Name: name}); d == l.DN() || d == e.DN() {
			t.all(e, g)
		}
	}
}

// Owned counts the subnets and external EPGs that bear our mark.
func (s *State) Owned() (subnets, epgs int) {
	for _, o := range s.l3outs {
		for _, g := range o.epgs {
			if g.exists && s.ours(g.Mark) {
				epgs++
			}
			for _, n := range g.subnets {
				if s.ours(n.Mark) {
					subnets++
				}
			}
		}
	}
	return subnets, epgs
}

// Count counts the external EPGs and the subnets of l, whoever made them.
func (s *State) Count(l aci.L3Out) (epgs, subnets int) {
	o := s.l3outs[l]
	if o == nil {
		return 0, 0
	}
	for _, g := range o.epgs {
		if g.exists {
			epgs++
			subnets += len(g.subnets)
		}
	}
	return epgs, subnets
}

// Marked reports whether anything at or below l bears our mark, or is expected to.
func (s *State) Marked(l aci.L3Out) bool {
	o := s.l3outs[l]
	if o == nil {
		return false
	}
	for _, g := range o.epgs {
		if g.exists && s.ours(g.Mark) {
			return true
		}
		for _, n := range g.subnets {
			if s.ours(n.Mark) {
				return true
			}
		}
	}
	for d := range s.expected {
		if d.Within(l.DN()) {
			return true
		}
	}
	return false
}

// Forget drops all that is known of l.
func (s *State) Forget(l aci.L3Out) {
	if o := s.l3outs[l]; o != nil {
		for name, g := range o.epgs {
			s.clear(aci.ExtEPG{L3Out: l, Name: name}, g)
		}
		delete(s.l3outs, l)
	}
	if r := s.reading[l.DN()]; r != nil {
		r.gap = true // it does not end well
	}
	s.forgetFaults(s.faults, l.DN())
}

// Unread ends a read of root, begun with aci.ReadBegin, that failed: events are no longer kept
// for it.
func (s *State) Unread(root aci.DN) {
	if root == aci.Universe {
		s.relations.unread()
	}
	s.endRead(root)
}

// endRead returns what was kept for a read of root, nil for nothing, and forgets it with the last one.
func (s *State) endRead(root aci.DN) *reading {
	r := s.reading[root]
	if r == nil {
		return nil
	}
	if r.reads--; r.reads == 0 {
		delete(s.reading, root)
	}
	return r
}

// Release forgets what an absent EPG was, once no workload names it.
func (s *State) Release(e aci.ExtEPG) {
	if g := s.epg(e); g != nil && !g.exists {
		delete(s.l3outs[e.L3Out].epgs, e.Name)
	}
}

func (s *State) l3out(l aci.L3Out) *l3out {
	o := s.l3outs[l]
	if o == nil {
		o = &l3out{id: l, epgs: map[string]*epg{}, paused: map[aci.DN]bool{}, nodes: map[aci.DN]int{}}
		s.l3outs[l] = o
	}
	return o
}

func (s *State) epg(e aci.ExtEPG) *epg {
	if o := s.l3outs[e.L3Out]; o != nil {
		return o.epgs[e.Name]
	}
	return nil
}

// clear takes the subnets of e out of the index.
func (s *State) clear(e aci.ExtEPG, g *epg) {
	for ip := range g.subnets {
		s.removeSubnet(e, g, ip)
	}
}

func (s *State) addSubnet(e aci.ExtEPG, g *epg, ip string, n *Subnet) {
	if g.subnets[ip] == nil {
		list := s.holders[n.Prefix]
		if len(list) == 0 {
			s.holders[n.Prefix] = g.alone
		} else if i, found := slices.BinarySearchFunc(list, e, aci.ExtEPG.Compare); !found {
			s.holders[n.Prefix] = slices.Insert(slices.Clone(list), i, e)
		}
	}
	g.forgetOdd(g.subnets[ip], ip)
	if ip != n.Prefix.String() {
		g.odd[n.Prefix] = append(g.odd[n.Prefix], n)
	}
	g.subnets[ip] = n
}

// forgetOdd takes n out of the index of odd spellings, if it is there.
func (g *epg) forgetOdd(n *Subnet, ip string) {
	if n == nil || ip == n.Prefix.String() {
		return
	}
	list := slices.DeleteFunc(g.odd[n.Prefix], func(m *Subnet) bool { return m == n })
	if g.odd[n.Prefix] = list; len(list) == 0 {
		delete(g.odd, n.Prefix)
	}
}

func (s *State) removeSubnet(e aci.ExtEPG, g *epg, ip string) {
	n := g.subnets[ip]
	if n == nil {
		return
	}
	delete(g.subnets, ip)
	g.forgetOdd(n, ip)
	if g.spelling(n.Prefix) != nil {
		return
	}
	list := slices.DeleteFunc(slices.Clone(s.holders[n.Prefix]), func(f aci.ExtEPG) bool { return f == e })
	if len(list) == 0 {
		delete(s.holders, n.Prefix)
	} else {
		s.holders[n.Prefix] = list
	}
}

// spelling returns the first of the subnets with prefix p, however the APIC spells them. The
// APIC keeps host bits, so that one EPG can hold a prefix more than once.
func (g *epg) spelling(p netip.Prefix) *Subnet {
	if n := g.subnets[p.String()]; n != nil || len(g.odd) == 0 {
		return n
	}
	var found *Subnet
	for _, n := range g.odd[p] {
		if found == nil || n.DN < found.DN {
			found = n
		}
	}
	return found
}

// touched collects places without duplicates.
type touched map[aci.Place]struct{}

func (t *touched) add(e aci.ExtEPG, p netip.Prefix) {
	if *t == nil {
		*t = touched{}
	}
	(*t)[aci.Place{ExtEPG: e, Prefix: p}] = struct{}{}
}

// all adds e and everything in it.
func (t *touched) all(e aci.ExtEPG, g *epg) {
	t.add(e, netip.Prefix{})
	for _, n := range g.subnets {
		t.add(e, n.Prefix)
	}
}

func (t *touched) sorted() []aci.Place {
	return slices.SortedFunc(maps.Keys(*t), aci.Place.Compare)
}

func merged[K comparable, V any](a, b map[K]V) map[K]V {
	m := maps.Clone(a)
	if m == nil {
		m = map[K]V{}
	}
	maps.Copy(m, b)
	return m
}
