package observed

import (
	"net/netip"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Remember takes in what was recorded of e in an earlier run. It is for an e that was not read
// yet; of one that is known only that it was ours is kept, as its mark may be gone.
func (s *State) Remember(e aci.ExtEPG, last Last) {
	if last == Never {
		return
	}
	o := s.l3out(e.L3Out)
	g := o.epgs[e.Name]
	if g == nil {
		g = newEPG(e)
		o.epgs[e.Name] = g
	}
	g.recorded = g.recorded || last == Ours
	if !g.exists && g.last == Never {
		g.last = last
	}
}

// Unremember forgets that e is recorded, because a person said so: what it was when it is absent,
// and that it was ours when it bears no mark.
func (s *State) Unremember(e aci.ExtEPG) []aci.Place {
	g := s.epg(e)
	switch {
	case g == nil:
		return nil
	case g.exists:
		g.recorded = s.ours(g.Mark)
	default:
		delete(s.l3outs[e.L3Out].epgs, e.Name)
	}
	return []aci.Place{{ExtEPG: e}}
}

// Standing returns what e is, or was when it was last there, and whose mark it bears; false while
// that cannot be told.
func (s *State) Standing(e aci.ExtEPG) (last Last, by aci.Owner, known bool) {
	if !s.Complete(e.L3Out) {
		return Never, "", false
	}
	g := s.epg(e)
	switch {
	case g == nil:
		return Never, "", true
	case !g.exists:
		return g.last, "", true
	case !g.Mark.Read && !g.Mark.There && aci.AnnotatedBy(g.Annotation) != "":
		return Never, "", false
	}
	return s.was(g, len(g.vanished) > 0), g.Mark.By, true
}

// Hold notes whether e is paused although no tag says so, whether e exists or not, and returns the
// places that this touches: by a record, or by a tag that was deleted together with e.
func (s *State) Hold(e aci.ExtEPG, hold bool) []aci.Place {
	if s.held[e] == hold {
		return nil
	}
	if hold {
		s.held[e] = true
	} else {
		delete(s.held, e)
	}
	t := touched{}
	if g := s.epg(e); g != nil {
		t.all(e, g)
	}
	t.add(e, netip.Prefix{})
	return t.sorted()
}

// Held reports whether e is paused although no tag says so.
func (s *State) Held(e aci.ExtEPG) bool { return s.held[e] }

// HoldsOurs reports whether a subnet in e bears our mark.
func (s *State) HoldsOurs(e aci.ExtEPG) bool {
	g := s.epg(e)
	return g != nil && s.holdsOurs(g)
}
