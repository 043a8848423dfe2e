package observed

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// rsectx is the relation of the L3Out T/name to a VRF of T.
func rsectx(name string, attrs ...string) aci.MO {
	return mo(aci.ClassRsEctx, aci.L3Out{Tenant: "T", Name: name}.DN().Child("rsectx"), attrs...)
}

func formed(name, vrf string) aci.MO {
	return rsectx(name, "tDn", "uni/tn-T/ctx-"+vrf, "state", "formed", "tnFvCtxName", vrf)
}

func allOf(objects ...aci.MO) aci.Update {
	return aci.Update{Kind: aci.FullRead, Root: aci.Universe, Objects: objects}
}

// in lists the L3Outs of T/V and T/W, and says whether that is all, and of which ones it is not clear.
func (s *State) in() string {
	names := func(vrf string) (out []string) {
		for _, l := range s.L3OutsIn(aci.VRF{Tenant: "T", Name: vrf}) {
			out = append(out, l.Name)
		}
		return out
	}
	var text strings.Builder
	text.WriteString(fmt.Sprint(names("V"), names("W"), s.Related()))
	for _, l := range s.Unclear() {
		text.WriteString(" unclear " + l.Name)
	}
	return text.String()
}

func TestState_knows_the_VRFs_of_L3Outs_that_it_did_not_read(t *testing.T) {
	t.Parallel()
	event := func(objects ...aci.MO) aci.Update {
		return aci.Update{Kind: aci.Event, Root: aci.Universe, Objects: objects}
	}
	gap := aci.Update{Kind: aci.Gap, Root: aci.Universe}
	begin := aci.Update{Kind: aci.ReadBegin, Root: aci.Universe}
	full := allOf(formed("A", "V"), formed("B", "V"), formed("C", "W"))
	unread := aci.L3Out{Tenant: "T", Name: "A"}
	for name, tt := range map[string]struct {
		updates []aci.Update
		want    string
	}{
		"nothing was read":   {nil, "[] [] false"},
		"all was read":       {[]aci.Update{full}, "[A B] [C] true"},
		"it was read again":  {[]aci.Update{full, allOf(formed("B", "W"))}, "[] [B] true"},
		"one comes":          {[]aci.Update{full, event(created(formed("D", "V")))}, "[A B D] [C] true"},
		"one goes":           {[]aci.Update{full, event(deleted(rsectx("A")))}, "[B] [C] true"},
		"one moves":          {[]aci.Update{full, event(modified(formed("A", "W")))}, "[B] [A C] true"},
		"its VRF goes":       {[]aci.Update{full, event(modified(rsectx("A", "tDn", "uni/tn-T/ctx-V", "state", "missing-target")))}, "[B] [C] true"},
		"one moves, somehow": {[]aci.Update{full, event(modified(rsectx("A", "tnFvCtxName", "W")))}, "[A B] [C] true unclear A"},
		"one is described":   {[]aci.Update{full, event(modified(rsectx("A", "annotation", "x")))}, "[A B] [C] true"},
		"events are lost":    {[]aci.Update{full, gap}, "[A B] [C] false"},
		"and it is read":     {[]aci.Update{full, gap, begin, full}, "[A B] [C] true"},
		"lost meanwhile":     {[]aci.Update{full, begin, gap, full}, "[A B] [C] false"},
		"one comes meanwhile": {
			[]aci.Update{begin, event(created(formed("D", "W"))), event(deleted(rsectx("A"))), full}, "[B] [C D] true",
		},
		"one that was read moves": {
			[]aci.Update{
				full,
				{Kind: aci.FullRead, Root: unread.DN(), Objects: []aci.MO{mo(aci.ClassL3Out, unread.DN()), formed("A", "V")}},
				{Kind: aci.Event, Root: unread.DN(), Objects: []aci.MO{modified(formed("A", "W"))}},
			}, "[B] [A C] true",
		},
		"what an L3Out says itself is believed": {
			[]aci.Update{full, {Kind: aci.FullRead, Root: unread.DN(), Objects: []aci.MO{mo(aci.ClassL3Out, unread.DN()), formed("A", "W")}}},
			"[B] [A C] true",
		},
		"one is not there": {[]aci.Update{full, {Kind: aci.FullRead, Root: unread.DN()}}, "[B] [C] true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := NewState(us)
			for _, u := range tt.updates {
				if places := s.Fold(u); u.Root == aci.Universe && len(places) > 0 {
					t.Errorf("touches %v", places)
				}
			}
			if diff := cmp.Diff(tt.want, s.in()); diff != "" {
				t.Errorf("L3Outs of V and W (-want +got)\n%s", diff)
			}
		})
	}
}
