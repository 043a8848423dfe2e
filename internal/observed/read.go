package observed

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// install replaces what is known at and below the root of a full read by what it brought, and
// folds over it the events that came since it began.
func (s *State) install(u aci.Update, t *touched) {
	r := s.endRead(u.Root)
	l, ok := aci.L3OutOf(u.Root)
	if !ok && u.Root != aci.Topology {
		return
	}
	e, rest, inEPG := aci.ExtEPGOf(u.Root)
	switch {
	case u.Root == aci.Topology:
		s.installFaults(u.Root, u.Objects)
	case !inEPG:
		s.installL3Out(l, u.Objects, t)
		s.l3outs[l].complete = r == nil || !r.gap
	case s.l3outs[l] == nil:
		return
	case rest == "":
		g := s.parse(u.Objects)[e]
		if g != nil {
			s.judge(e, g, u.Objects)
		}
		s.installEPG(e, g, t)
		s.addFaults(u.Objects)
		s.setPaused(l, e.DN(), pauses(u.Objects)[e.DN()], t)
		t.add(e, netip.Prefix{})
	default:
		s.installSubnet(e, rest, u.Objects, t)
	}
	if r != nil {
		for _, ev := range r.events {
			s.apply(ev, t)
		}
	}
}

func (s *State) installL3Out(l aci.L3Out, objects []aci.MO, t *touched) {
	o := s.l3out(l)
	first := !o.complete
	was := o.vrf
	o.exists, o.vrf = false, aci.VRF{}
	for _, m := range objects {
		switch m.Class {
		case aci.ClassL3Out:
			o.exists = true
		case aci.ClassRsEctx:
			o.vrf = resolved(m.Attrs)
		}
	}
	s.relations.set(l, o.vrf)
	found := s.parse(objects)
	for name := range o.epgs {
		e := aci.ExtEPG{L3Out: l, Name: name}
		if found[e] == nil {
			s.installEPG(e, nil, t)
		}
	}
	for e, g := range found {
		if e.L3Out == l { // else it is no answer to what was asked
			s.installEPG(e, g, t)
		}
	}
	paused := pauses(objects)
	for d := range merged(o.paused, paused) {
		s.setPaused(l, d, paused[d], t)
	}
	if on := nodes(objects); !maps.Equal(on, o.nodes) {
		o.nodes = on
		s.changeAll(o)
	}
	s.installFaults(l.DN(), objects)
	if first || o.vrf != was {
		for name, g := range o.epgs {
			t.all(aci.ExtEPG{L3Out: l, Name: name}, g)
		}
	}
}

// pauses are the objects that bear a pause tag.
func pauses(objects []aci.MO) map[aci.DN]bool {
	out := map[aci.DN]bool{}
	for _, m := range objects {
		if m.Class == aci.ClassTagAnnotation && tagKey(m) == aci.PauseKey {
			out[m.DN.Parent()] = true
		}
	}
	return out
}

// parse builds the EPGs that a read brought. The objects are flat and in any order.
func (s *State) parse(objects []aci.MO) map[aci.ExtEPG]*epg {
	found := map[aci.ExtEPG]*epg{}
	for _, m := range objects {
		if e, rest, ok := aci.ExtEPGOf(m.DN); ok && rest == "" && m.Class == aci.ClassExtEPG {
			g := newEPG(e)
			g.exists = true
			g.ExtEPG = ExtEPG{Annotation: m.Attrs["annotation"], ExtMngdBy: m.Attrs["extMngdBy"], Mark: Mark{Read: true}}
			g.configured(m.Attrs)
			found[e] = g
		}
	}
	for _, m := range objects {
		e, rest, ok := aci.ExtEPGOf(m.DN)
		g := found[e]
		if !ok || g == nil {
			continue
		}
		g.contract(m)
		if m.Class != aci.ClassSubnet {
			continue
		}
		ip, ok := aci.SubnetIP(rest)
		prefix, err := netip.ParsePrefix(ip)
		if !ok || err != nil {
			continue
		}
		n := &Subnet{DN: m.DN, Prefix: prefix.Masked(), Mark: Mark{Read: true}}
		s.merge(n, m.Attrs)
		g.subnets[ip] = n
	}
	for _, m := range objects {
		if m.Class != aci.ClassTagAnnotation || tagKey(m) != aci.OwnerKey {
			continue
		}
		e, rest, ok := aci.ExtEPGOf(m.DN.Parent())
		g := found[e]
		if !ok || g == nil {
			continue
		}
		if rest == "" {
			g.Mark = s.mark(m.Attrs["value"], e.DN())
		} else if ip, ok := aci.SubnetIP(rest); ok && g.subnets[ip] != nil {
			g.subnets[ip].Mark = s.mark(m.Attrs["value"], g.subnets[ip].DN)
		}
	}
	return found
}

// installEPG replaces what is known of e by now, nil for absent, and touches what differs.
func (s *State) installEPG(e aci.ExtEPG, now *epg, t *touched) {
	o := s.l3outs[e.L3Out]
	was := o.epgs[e.Name]
	s.meet(e.DN(), now != nil)
	if now == nil {
		if was != nil && (was.exists || was.doubted) {
			s.gone(e, was, t)
		}
		return
	}
	if was == nil {
		was = newEPG(e)
		o.epgs[e.Name] = was
	}
	if !was.exists || was.doubted || was.Mark != now.Mark || was.Annotation != now.Annotation || was.ExtMngdBy != now.ExtMngdBy ||
		!maps.Equal(was.contracts, now.contracts) {
		t.add(e, netip.Prefix{})
	}
	if was.doubted || was.ExtMngdBy != now.ExtMngdBy {
		t.all(e, was) // what is in it may be written now
	}
	if !was.exists || !maps.Equal(was.unwell(), now.unwell()) {
		s.change(e)
	}
	revived := was.Revived && was.exists && !now.Mark.There
	missed := len(was.vanished) > 0 // before: what this read misses can have gone with the EPG itself
	was.ExtEPG, was.exists, was.doubted, was.contracts = now.ExtEPG, true, false, now.contracts
	was.Revived = revived
	was.recorded = was.recorded || s.ours(now.Mark)
	for ip, n := range was.subnets {
		if now.subnets[ip] == nil {
			if s.ours(n.Mark) && s.Expected(n.DN) != aci.StatusDeleted {
				was.vanished[n.Prefix] = struct{}{}
			}
			s.meet(n.DN, false)
			s.removeSubnet(e, was, ip)
			t.add(e, n.Prefix)
		}
	}
	for ip, n := range now.subnets {
		s.meet(n.DN, true)
		if n.follow(was.subnets[ip]) {
			t.add(e, n.Prefix)
		}
		delete(was.vanished, n.Prefix)
		s.addSubnet(e, was, ip, n)
	}
	if !revived {
		was.last = s.was(was, missed)
		// What is somebody else's now stays that when aci-sync puts subnets into it.
		was.recorded = was.last == Ours
	}
}

func (s *State) installSubnet(e aci.ExtEPG, rest string, objects []aci.MO, t *touched) {
	g := s.epg(e)
	ip, ok := aci.SubnetIP(rest)
	if !ok || g == nil || !g.exists {
		return
	}
	old := g.subnets[ip]
	i := slices.IndexFunc(objects, func(m aci.MO) bool { return m.Class == aci.ClassSubnet })
	if i < 0 {
		if old == nil {
			return
		}
		if s.ours(old.Mark) && s.Expected(old.DN) != aci.StatusDeleted {
			g.vanished[old.Prefix] = struct{}{}
		}
		s.meet(old.DN, false)
		s.removeSubnet(e, g, ip)
		t.add(e, old.Prefix)
		return
	}
	prefix, err := netip.ParsePrefix(ip)
	if err != nil {
		return
	}
	n := &Subnet{DN: objects[i].DN, Prefix: prefix.Masked(), Mark: Mark{Read: true}}
	s.merge(n, objects[i].Attrs)
	for _, m := range objects {
		if m.Class == aci.ClassTagAnnotation && m.DN.Parent() == n.DN && tagKey(m) == aci.OwnerKey {
			n.Mark = s.mark(m.Attrs["value"], n.DN)
		}
	}
	s.meet(n.DN, true)
	if n.follow(old) {
		t.add(e, n.Prefix)
	}
	delete(g.vanished, n.Prefix)
	s.addSubnet(e, g, ip, n)
}

// follow compares what a read brought with what was known, nil for nothing, and reports
// whether they differ.
func (n *Subnet) follow(old *Subnet) bool {
	if old == nil {
		return true
	}
	edited := n.Name != old.Name || !slices.Equal(n.Scope, old.Scope)
	n.Touched = old.Touched || edited
	return edited || n.Annotation != old.Annotation || n.Mark != old.Mark
}

// meet drops the expectation of d that a read has met: a creation that is there, a deletion
// that is not. A read that began before the POST meets neither; its event is still to come.
func (s *State) meet(d aci.DN, there bool) {
	switch x := s.expected[d]; {
	case x == nil:
	case there && x.status == aci.StatusCreated, !there && x.status == aci.StatusDeleted:
		s.met(d)
	}
}

// defaults of the attributes of an l3extInstP that people set.
//
// Source: class metadata of l3extInstP; flags read back empty instead of their default.
var defaults = map[string]string{
	"descr": "", "nameAlias": "", "exceptionTag": "", "floodOnEncap": "disabled", "matchT": "AtleastOne",
	"pcEnfPref": "unenforced", "prefGrMemb": "exclude", "prio": "unspecified", "targetDscp": "unspecified",
}

// judge notes what is in e that neither aci-sync nor the APIC's defaults made. Objects of
// classes that it does not know count: when in doubt the EPG stays.
func (s *State) judge(e aci.ExtEPG, g *epg, objects []aci.MO) {
	g.Judged = true
	ours := map[aci.DN]bool{}
	for _, n := range g.subnets {
		ours[n.DN] = s.ours(n.Mark)
	}
	for _, m := range objects {
		_, rest, ok := aci.ExtEPGOf(m.DN)
		if !ok {
			continue
		}
		switch {
		case rest == "":
			for k, v := range m.Attrs {
				if d, known := defaults[k]; known && v != "" && v != d {
					g.Residue = append(g.Residue, k+" "+v)
				}
			}
			if a := m.Attrs["annotation"]; a != "" && a != s.annotation {
				g.Residue = append(g.Residue, "annotation "+a)
			}
		case m.Class == aci.ClassSubnet:
			if !ours[m.DN] {
				g.Foreign = append(g.Foreign, m.Attrs["ip"])
			}
		case below(ours, e, m.DN), m.Class == aci.ClassTagAnnotation && m.DN.Parent() == e.DN() && tagKey(m) == aci.OwnerKey:
		case strings.HasPrefix(m.Class, "fault"), strings.HasPrefix(m.Class, "health"): // what the fabric says of it
		case m.Class == aci.ClassRsCustQosPol && m.Attrs["tnQosCustomPolName"] == "":
		case m.Class == aci.ClassRsProv:
			g.Residue = append(g.Residue, "provided contract "+m.Attrs["tnVzBrCPName"])
		case m.Class == aci.ClassRsCons:
			g.Residue = append(g.Residue, "consumed contract "+m.Attrs["tnVzBrCPName"])
		default:
			g.Residue = append(g.Residue, fmt.Sprintf("%s %s", m.Class, rest))
		}
	}
	slices.Sort(g.Residue)
	slices.Sort(g.Foreign)
}

// below reports whether d is a child of a subnet in e; those of foreign subnets are told of by
// their subnet.
func below(subnets map[aci.DN]bool, e aci.ExtEPG, d aci.DN) bool {
	for d = d.Parent(); d != "" && d != e.DN(); d = d.Parent() {
		if _, ok := subnets[d]; ok {
			return true
		}
	}
	return false
}
