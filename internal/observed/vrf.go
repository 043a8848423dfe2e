package observed

import (
	"slices"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// relations is which VRF each L3Out of the fabric belongs to, also of those that are not read: what
// the APIC says of l3extRsEctx, fabric-wide.
type relations struct {
	complete bool
	vrfs     map[aci.L3Out]aci.VRF // without those that resolve to none
	unclear  []aci.L3Out           // those of which an event does not tell to which they belong now

	reading bool // a full read is under way; the fields below are of it
	gap     bool
	events  []aci.MO
}

// Related reports whether it is known of all L3Outs that the user sees to which VRF they belong.
func (s *State) Related() bool { return s.relations.complete }

// L3OutsIn returns the L3Outs that belong to v, sorted, also those that were never read. A user who
// does not see the whole fabric is not told of all.
func (s *State) L3OutsIn(v aci.VRF) []aci.L3Out {
	var out []aci.L3Out
	for l := range s.relations.vrfs {
		if w, ok := s.VRF(l); ok && w == v {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, aci.L3Out.Compare)
	return out
}

// Unclear returns the L3Outs of which events did not tell to which VRF they belong now, since the last
// call: they are to be read.
func (s *State) Unclear() []aci.L3Out {
	unclear := s.relations.unclear
	s.relations.unclear = nil
	return unclear
}

// relate takes in an update of all l3extRsEctx.
func (r *relations) relate(u aci.Update) {
	switch u.Kind {
	case aci.Event:
		for _, m := range u.Objects {
			if r.reading {
				r.events = append(r.events, m)
			}
			r.apply(m)
		}
	case aci.Gap:
		r.complete, r.gap = false, true
	case aci.ReadBegin:
		r.reading, r.gap, r.events = true, false, nil
	case aci.FullRead:
		r.vrfs, r.complete = map[aci.L3Out]aci.VRF{}, !r.gap
		for _, m := range slices.Concat(u.Objects, r.events) {
			r.apply(m)
		}
		r.reading, r.events = false, nil
	}
}

// unread ends a read that failed.
func (r *relations) unread() { r.reading, r.events = false, nil }

func (r *relations) apply(m aci.MO) {
	l, ok := aci.L3OutOf(m.DN)
	if !ok || m.Class != aci.ClassRsEctx {
		return
	}
	v, told := target(m)
	if !told {
		if moved(m) {
			r.unclear = append(r.unclear, l)
		}
		return
	}
	r.set(l, v)
}

func (r *relations) set(l aci.L3Out, v aci.VRF) {
	if v == (aci.VRF{}) {
		delete(r.vrfs, l)
		return
	}
	if r.vrfs == nil {
		r.vrfs = map[aci.L3Out]aci.VRF{}
	}
	r.vrfs[l] = v
}

// target is the VRF that an l3extRsEctx says its L3Out belongs to, zero for none; false when an event
// does not tell it, or not whether it is there.
func target(m aci.MO) (aci.VRF, bool) {
	status := m.Attrs["status"]
	if status == aci.StatusDeleted {
		return aci.VRF{}, true
	}
	_, there := m.Attrs["tDn"]
	_, state := m.Attrs["state"]
	if !there || !state && status == aci.StatusModified {
		return aci.VRF{}, false
	}
	return resolved(m.Attrs), true
}

// moved reports whether an event says that an l3extRsEctx points elsewhere, or that what it points to
// came or went.
func moved(m aci.MO) bool {
	for _, attr := range []string{"tDn", "tnFvCtxName", "state"} {
		if _, ok := m.Attrs[attr]; ok {
			return true
		}
	}
	return false
}

// resolved is the VRF that an l3extRsEctx points to, zero when it does not exist.
func resolved(attrs map[string]string) aci.VRF {
	if state := attrs["state"]; state != "" && state != "formed" {
		return aci.VRF{}
	}
	v, _ := aci.ParseVRF(aci.DN(attrs["tDn"]))
	return v
}
