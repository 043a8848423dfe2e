package observed

import (
	"maps"
	"net/netip"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// event is an event with whether it echoes a POST of ours.
type event struct {
	mo  aci.MO
	own bool
}

// Fold takes in an answer or an event and returns the places about which more or other things
// are known now, sorted. A place without prefix says that what is known of the EPG itself
// changed. After the read that makes an L3Out complete, everything in it is touched.
//
// Updates of L3Outs, EPGs and subnets that were never read are ignored, unless they are
// reads themselves.
//
// An update whose root is aci.Universe is about all l3extRsEctx of the fabric: it tells to which VRFs
// L3Outs belong that were not read themselves, and touches no place. Neither do faults, since nothing is
// written or not written because of them: FaultsChanged tells of them.
func (s *State) Fold(u aci.Update) []aci.Place {
	var t touched
	if u.Root == aci.Universe {
		s.relations.relate(u)
		return nil
	}
	switch u.Kind {
	case aci.Event:
		for _, m := range u.Objects {
			ev := event{m, s.own(m)}
			for root, r := range s.reading {
				if m.DN.Within(root) || root == aci.Topology && isFault(m.Class) {
					r.events = append(r.events, ev)
				}
			}
			s.apply(ev, &t)
		}
	case aci.Gap:
		if l, ok := aci.L3OutOf(u.Root); ok && s.l3outs[l] != nil {
			s.l3outs[l].complete = false
		}
		for root, r := range s.reading {
			r.gap = r.gap || root.Within(u.Root)
		}
	case aci.ReadBegin:
		if s.reading[u.Root] == nil {
			s.reading[u.Root] = &reading{}
		}
		s.reading[u.Root].reads++
	case aci.FullRead:
		s.install(u, &t)
	}
	return t.sorted()
}

// apply folds one event.
func (s *State) apply(ev event, t *touched) {
	l, ok := aci.L3OutOf(ev.mo.DN)
	o := s.l3outs[l]
	if isFault(ev.mo.Class) && (!ok || o != nil) {
		s.applyFault(ev.mo)
		return
	}
	if !ok || o == nil {
		return
	}
	e, rest, inEPG := aci.ExtEPGOf(ev.mo.DN)
	switch {
	case ev.mo.Class == aci.ClassTagAnnotation:
		s.applyTag(ev, t)
	case ev.mo.Class == aci.ClassL3Out:
		s.applyL3Out(l, o, ev, t)
	case ev.mo.Class == aci.ClassRsEctx:
		s.applyVRF(l, o, ev, t)
	case ev.mo.Class == aci.ClassRsNode:
		s.applyNode(o, ev.mo)
	case !inEPG:
	case ev.mo.Class == aci.ClassExtEPG && rest == "":
		s.applyEPG(e, o, ev, t)
	case ev.mo.Class == aci.ClassSubnet:
		s.applySubnet(e, rest, o, ev, t)
	default:
		if g := o.epgs[e.Name]; g != nil {
			g.contract(ev.mo)
			s.Unjudge(e)
			t.add(e, netip.Prefix{}) // what kept it from being deleted may be gone
		}
	}
}

func (s *State) applyL3Out(l aci.L3Out, o *l3out, ev event, t *touched) {
	switch ev.mo.Attrs["status"] {
	case aci.StatusCreated:
		// Its children may have been created before the subscription saw them.
		o.exists, o.complete = true, false
	case aci.StatusDeleted:
		for name, g := range o.epgs {
			s.gone(aci.ExtEPG{L3Out: l, Name: name}, g, t)
		}
		o.exists, o.vrf = false, aci.VRF{}
		s.relations.set(l, aci.VRF{})
		clear(o.paused)
		clear(o.nodes)
	}
}

func (s *State) applyVRF(l aci.L3Out, o *l3out, ev event, t *touched) {
	was := o.vrf
	if v, told := target(ev.mo); told {
		o.vrf = v
		s.relations.set(l, v)
	} else if moved(ev.mo) {
		o.complete = false // read it
	}
	if o.vrf != was {
		for name, g := range o.epgs {
			t.all(aci.ExtEPG{L3Out: l, Name: name}, g)
		}
	}
}

func (s *State) applyEPG(e aci.ExtEPG, o *l3out, ev event, t *touched) {
	g := o.epgs[e.Name]
	if ev.mo.Attrs["status"] == aci.StatusDeleted {
		if g == nil {
			return
		}
		if s.gone(e, g, t); ev.own && g.last != Foreign { // what we took back stays its owner's
			delete(o.epgs, e.Name)
		}
		return
	}
	if g == nil {
		g = newEPG(e)
		o.epgs[e.Name] = g
	}
	created := ev.mo.Attrs["status"] == aci.StatusCreated
	if created || !g.exists {
		carried := s.Expected(ev.mo.DN) == aci.StatusModified
		s.met(ev.mo.DN)
		if !created {
			o.complete = false // its creation was never announced, and what is in it neither
		}
		if !g.exists {
			s.change(e)
			g.contracts = map[string]struct{}{}
			// Of one that was known to be there the news may just be late.
			g.Revived = created && carried && !ev.own
		}
		g.exists = true
		switch {
		case ev.own:
			g.Mark, g.recorded, g.last = s.ourMark(), true, Ours
		case g.Revived:
			g.Mark = Mark{Read: true} // our own POST made it, without a mark
		default:
			g.Mark.Read = false
			g.recorded = g.recorded && (!created || carried) // somebody else made it anew; its mark will tell
		}
		t.add(e, netip.Prefix{})
	} else if !ev.own && written(ev.mo) {
		g.Mark.Read = false
		t.add(e, netip.Prefix{})
	}
	if v, ok := ev.mo.Attrs["annotation"]; ok {
		g.Annotation = v
	}
	if g.configured(ev.mo.Attrs) {
		s.change(e)
	}
	if v, ok := ev.mo.Attrs["extMngdBy"]; ok && v != g.ExtMngdBy {
		g.ExtMngdBy = v
		t.all(e, g) // what is in it may be written now
	}
	s.Unjudge(e)
}

// configured takes in what the EPG says of its configuration, and reports whether it is well now and
// was not, or the reverse.
func (g *ExtEPG) configured(attrs map[string]string) bool {
	was := g.unwell()
	if v, ok := attrs["configSt"]; ok {
		g.ConfigSt = v
	}
	if v, ok := attrs["configIssues"]; ok {
		g.ConfigIssues = v
	}
	return !maps.Equal(was, g.unwell())
}

// gone notes that e is not there any more, and what it was.
func (s *State) gone(e aci.ExtEPG, g *epg, t *touched) {
	t.all(e, g)
	if g.exists && !g.Revived {
		g.last = s.was(g, len(g.vanished) > 0)
	}
	s.clear(e, g)
	if o := s.l3outs[e.L3Out]; g.exists && o.paused[e.DN()] {
		s.held[e] = true // its tag went with it, but nobody lifted the pause
	}
	g.ExtEPG, g.exists, g.doubted = ExtEPG{}, false, false
	clear(g.vanished)
	s.forgetFaults(s.blamed[e], e.DN())
	s.change(e)
}

// was says what g is to be remembered as. One that is known as ours and lost its mark is that
// while something else still tells so; missed: subnets of ours went from it.
func (s *State) was(g *epg, missed bool) Last {
	switch by := g.Mark.By; {
	case s.ours(g.Mark):
		return Ours
	case by != "":
		return Other
	case g.recorded && (g.Annotation == s.annotation || missed || s.holdsOurs(g)):
		return Ours
	}
	return Foreign
}

func (s *State) holdsOurs(g *epg) bool {
	for _, n := range g.subnets {
		if s.ours(n.Mark) {
			return true
		}
	}
	return false
}

func (s *State) applySubnet(e aci.ExtEPG, rest string, o *l3out, ev event, t *touched) {
	ip, ok := aci.SubnetIP(rest)
	g := o.epgs[e.Name]
	if !ok {
		return
	}
	if ev.mo.Attrs["status"] == aci.StatusDeleted {
		if g == nil || g.subnets[ip] == nil {
			return
		}
		n := g.subnets[ip]
		if !ev.own && s.ours(n.Mark) {
			g.vanished[n.Prefix] = struct{}{}
		}
		s.removeSubnet(e, g, ip)
		t.add(e, n.Prefix)
		s.Unjudge(e)
		return
	}
	if g == nil || !g.exists {
		o.complete = false // its EPG was never announced
		return
	}
	n := g.subnets[ip]
	if n == nil {
		prefix, err := netip.ParsePrefix(ip)
		if err != nil {
			return // nothing that an address could be compared with
		}
		n = &Subnet{DN: ev.mo.DN, Prefix: prefix.Masked()}
		s.addSubnet(e, g, ip, n)
		if ev.mo.Attrs["status"] != aci.StatusCreated {
			o.complete = false // the event tells but a part of it
		}
	}
	s.merge(n, ev.mo.Attrs)
	n.Touched = !ev.own && (n.Touched || written(ev.mo))
	switch {
	case ev.own && ev.mo.Attrs["status"] == aci.StatusCreated:
		n.Mark = s.ourMark()
		delete(g.vanished, n.Prefix)
	case !ev.own && (written(ev.mo) || ev.mo.Attrs["status"] == aci.StatusCreated):
		n.Mark.Read = false
	}
	t.add(e, n.Prefix)
	if !ev.own {
		s.Unjudge(e)
	}
}

// merge takes in attributes of n. What most subnets have alike is kept once.
func (s *State) merge(n *Subnet, attrs map[string]string) {
	if v, ok := attrs["name"]; ok {
		n.Name = v
	}
	if v, ok := attrs["annotation"]; ok {
		if n.Annotation = v; v == s.annotation {
			n.Annotation = s.annotation
		}
	}
	if v, ok := attrs["scope"]; ok {
		scope, known := s.scopes[v]
		if !known {
			scope = aci.ParseScope(v)
			s.scopes[v] = scope
		}
		n.Scope = scope
	}
}

// written reports whether the event tells that somebody set something.
func written(m aci.MO) bool {
	for k := range m.Attrs {
		if configurable[k] {
			return true
		}
	}
	return false
}

func (s *State) applyTag(ev event, t *touched) {
	key := tagKey(ev.mo)
	deleted := ev.mo.Attrs["status"] == aci.StatusDeleted
	parent := ev.mo.DN.Parent()
	l, _ := aci.L3OutOf(parent)
	if key == aci.PauseKey {
		s.setPaused(l, parent, !deleted, t)
		return
	}
	e, rest, ok := aci.ExtEPGOf(parent)
	g := s.epg(e)
	if !ok || g == nil || !g.exists {
		return
	}
	s.Unjudge(e)
	if key != aci.OwnerKey {
		return
	}
	mark := Mark{Read: deleted} // without a value nothing is known
	if value, ok := ev.mo.Attrs["value"]; ok && !deleted {
		mark = s.mark(value, parent)
	}
	if rest == "" {
		g.Mark = mark
		if s.ours(mark) {
			g.recorded, g.Revived = true, false
		}
		t.add(e, netip.Prefix{})
	} else if ip, ok := aci.SubnetIP(rest); ok && g.subnets[ip] != nil {
		g.subnets[ip].Mark = mark
		t.add(e, g.subnets[ip].Prefix)
	}
}

// tagKey is the key of a tagAnnotation, from its attribute or its relative name.
func tagKey(m aci.MO) string {
	if k, ok := m.Attrs["key"]; ok {
		return k
	}
	k, _ := strings.CutPrefix(m.DN.RN(), "annotationKey-[")
	return strings.TrimSuffix(k, "]")
}

// contract notes a contract relation that came or went.
func (g *epg) contract(m aci.MO) {
	if m.Class != aci.ClassRsProv && m.Class != aci.ClassRsCons {
		return
	}
	if m.Attrs["status"] == aci.StatusDeleted {
		if g.exists { // those that go with their EPG are remembered, to be told of
			delete(g.contracts, m.DN.RN())
		}
		return
	}
	g.contracts[m.DN.RN()] = struct{}{}
}

func newEPG(e aci.ExtEPG) *epg {
	return &epg{
		alone:     []aci.ExtEPG{e},
		contracts: map[string]struct{}{},
		subnets:   map[string]*Subnet{},
		odd:       map[netip.Prefix][]*Subnet{},
		vanished:  map[netip.Prefix]struct{}{},
	}
}
