package observed

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// onLeaf is a fault about e on a leaf, as it was captured.
func onLeaf(leaf string, e aci.ExtEPG, attrs ...string) aci.MO {
	return mo(aci.ClassFaultInst, aci.DN("topology/pod-1/node-"+leaf+"/local/svc-policyelem-id-0/uni/epp/rtd-["+string(e.DN())+"]/nwissues/fault-F0467"),
		append([]string{"code", "F0467", "severity", "minor", "lc", "raised", "descr", "Configuration failed"}, attrs...)...)
}

// delegate is the same below the external EPG.
func delegate(leaf string, e aci.ExtEPG, attrs ...string) aci.MO {
	m := onLeaf(leaf, e, attrs...)
	m.Class, m.DN = aci.ClassFaultDelegate, e.DN().Child("fd-["+string(m.DN.Parent())+"]-fault-F0467")
	return m
}

func TestFaults(t *testing.T) {
	t.Parallel()
	const failed = "Configuration failed"
	f0467 := func(on int) []Fault { return []Fault{{Code: "F0467", Text: failed, On: on}} }
	for name, c := range map[string]struct {
		state *State
		then  func(s *State)
		want  []Fault
	}{
		"none":                              {state: with(epgMO(web))},
		"a read brings them":                {state: with(epgMO(web), delegate("101", web), delegate("102", web)), want: f0467(2)},
		"of another EPG":                    {state: with(epgMO(web), epgMO(api), delegate("101", api))},
		"a read brings one that soaks":      {state: with(epgMO(web), delegate("101", web, "lc", "soaking"))},
		"a read brings one that is cleared": {state: with(epgMO(web), delegate("101", web, "severity", "cleared", "lc", "retaining"))},
		"the next read brings none":         {state: with(epgMO(web), delegate("101", web)), then: func(s *State) { s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: []aci.MO{epgMO(web)}}) }},
		"one that soaks is not told":        {state: with(epgMO(web)), then: func(s *State) { s.event(created(delegate("101", web, "lc", "soaking"))) }},
		"one that soaked is raised": {state: with(epgMO(web)), want: f0467(1), then: func(s *State) {
			s.event(created(delegate("101", web, "lc", "soaking")))
			s.event(modified(mo(aci.ClassFaultDelegate, delegate("101", web).DN, "lc", "raised")))
		}},
		"one that is clearing still stands": {state: with(epgMO(web), delegate("101", web)), want: f0467(1), then: func(s *State) {
			s.event(modified(mo(aci.ClassFaultDelegate, delegate("101", web).DN, "lc", "raised-clearing")))
		}},
		"one that is cleared goes": {state: with(epgMO(web), delegate("101", web), delegate("102", web)), want: f0467(1), then: func(s *State) {
			s.event(modified(mo(aci.ClassFaultDelegate, delegate("101", web).DN, "severity", "cleared", "lc", "retaining")))
		}},
		"one that is deleted goes": {state: with(epgMO(web), delegate("101", web)), then: func(s *State) { s.event(deleted(delegate("101", web))) }},
		"they go with their EPG": {state: with(epgMO(web), delegate("101", web)), then: func(s *State) {
			s.event(deleted(epgMO(web)))
			s.event(created(epgMO(web)))
		}},
		"one of its own": {
			state: with(epgMO(web), mo(aci.ClassFaultInst, web.DN().Child("fault-F3941"), "code", "F3941", "severity", "warning", "lc", "raised", "descr", "d")),
			want:  []Fault{{Code: "F3941", Text: "d", On: 1}},
		},
		"its configuration failed": {
			state: with(epgMO(web, "configSt", "failed-to-apply", "configIssues", "x-missing")),
			want:  []Fault{{Code: "configIssues", Text: "x-missing", On: 1}, {Code: "configSt", Text: "failed-to-apply", On: 1}},
		},
		"its configuration failed and is well again": {state: with(epgMO(web, "configSt", "failed-to-apply", "configIssues", "x-missing")), then: func(s *State) {
			s.event(modified(epgMO(web, "configSt", "applied", "configIssues", "")))
		}},
		"on leafs": {state: with(epgMO(web)), want: f0467(2), then: func(s *State) {
			s.SetLeafFaults([]aci.MO{onLeaf("101", web), onLeaf("102", web), onLeaf("103", web, "lc", "soaking"), onLeaf("104", api)})
		}},
		"on leafs and delegated": {state: with(epgMO(web), delegate("101", web)), want: f0467(1), then: func(s *State) {
			s.SetLeafFaults([]aci.MO{onLeaf("101", web)})
		}},
		"on leafs, delegated, and the delegate is cleared": {state: with(epgMO(web), delegate("101", web)), then: func(s *State) {
			s.SetLeafFaults([]aci.MO{onLeaf("101", web)})
			s.event(deleted(delegate("101", web)))
		}},
		"on leafs, and not any more": {state: with(epgMO(web)), then: func(s *State) {
			s.SetLeafFaults([]aci.MO{onLeaf("101", web)})
			s.SetLeafFaults(nil)
		}},
		"about a prefix of the VRF": {
			state: with(epgMO(web, "scope", "77"), subnet(web, "10.0.0.1/32"), epgMO(api, "scope", "78"), subnet(api, "10.0.0.1/32")),
			want:  []Fault{{Code: "F3544", Text: "no room for sys/ctx-[vxlan-77]/pfx-[10.0.0.1/32]", On: 1}},
			then: func(s *State) {
				s.SetLeafFaults([]aci.MO{mo(aci.ClassFaultInst, "topology/pod-1/node-101/sys/x/fault-F3544",
					"code", "F3544", "severity", "major", "lc", "raised", "descr", "no room for sys/ctx-[vxlan-77]/pfx-[10.0.0.1/32]")})
			},
		},
		"about nothing that is known": {state: with(epgMO(web)), then: func(s *State) {
			s.SetLeafFaults([]aci.MO{
				mo(aci.ClassFaultInst, "topology/pod-1/node-101/fault-F3545", "code", "F3545", "severity", "major", "lc", "raised", "descr", "a rule"),
				mo(aci.ClassFaultInst, "topology/pod-1/node-101/fault-F3544", "code", "F3544", "severity", "major", "lc", "raised", "descr", "ctx-[vxlan-1]/pfx-[bad]"),
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.then != nil {
				c.then(c.state)
			}
			if diff := cmp.Diff(c.want, c.state.Faults(web)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// What does not change what is told touches nothing.
func TestFaults_touch_their_EPG_when_they_differ(t *testing.T) {
	t.Parallel()
	s := with(epgMO(web))
	fold := func(m aci.MO) int { return len(s.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{m}})) }
	for i, c := range []struct {
		n, want int
	}{
		{fold(created(delegate("101", web, "lc", "soaking"))), 0},
		{fold(modified(mo(aci.ClassFaultDelegate, delegate("101", web).DN, "lc", "raised"))), 1},
		{fold(modified(mo(aci.ClassFaultDelegate, delegate("101", web).DN, "lastTransition", "now"))), 0},
		{fold(modified(mo(aci.ClassFaultDelegate, delegate("101", web).DN, "severity", "cleared"))), 1},
		{fold(deleted(delegate("101", web))), 0},
		{len(s.SetLeafFaults([]aci.MO{onLeaf("101", web)})), 1},
		{len(s.SetLeafFaults([]aci.MO{onLeaf("101", web)})), 0},
		{len(s.SetLeafFaults(nil)), 1},
	} {
		if c.n != c.want {
			t.Errorf("step %d touches %d places, want %d", i, c.n, c.want)
		}
	}
}
