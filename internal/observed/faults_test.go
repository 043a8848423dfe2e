package observed

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// collides is what the APIC says of an EPG one of whose prefixes another EPG has.
func collides(e aci.ExtEPG) string {
	return "Configuration failed for " + string(e.DN()) + " due to Prefix Entry Already Used in Another EPG, debug message: " +
		"prefix-entry-already-in-use: Prefix entry sys/ctx-[vxlan-2621440]/pfx-[10.0.0.1/32] is in use;"
}

// inWords are these words without what names the EPG.
const inWords = "Prefix Entry Already Used in Another EPG, debug message: prefix-entry-already-in-use: " +
	"Prefix entry sys/ctx-[vxlan-2621440]/pfx-[10.0.0.1/32] is in use"

func ofEPG(leaf int, e aci.ExtEPG) aci.DN {
	return aci.DN(fmt.Sprintf("topology/pod-1/node-%d/local/svc-policyelem-id-0/uni/epp/rtd-[%s]/nwissues/fault-F0467", leaf, e.DN()))
}

func ofLeaf(leaf int, code string) aci.DN {
	return aci.DN(fmt.Sprintf("topology/pod-1/node-%d/sys/actrl/dbgStatsReport/fault-%s", leaf, code))
}

// delegate is the fault that an EPG shows of a leaf.
func delegate(leaf int, e aci.ExtEPG, attrs ...string) aci.MO {
	m := faultMO(e.DN().Child(fmt.Sprintf("fd-[uni/epp/rtd-[%s]/node-%d/nwissues]-fault-F0467", e.DN(), leaf)),
		append([]string{"descr", "Fault delegate: " + collides(e)}, attrs...)...)
	m.Class = aci.ClassFaultDelegate
	return m
}

// faultMO is a raised fault.
func faultMO(d aci.DN, attrs ...string) aci.MO {
	return mo(aci.ClassFaultInst, d, append([]string{"lc", "raised", "severity", "minor"}, attrs...)...)
}

func onNode(leaf int) aci.MO {
	return mo(aci.ClassRsNode, wan.DN().Child("lnodep-N").Child(fmt.Sprintf("rsnodeL3OutAtt-[topology/pod-1/node-%d]", leaf)))
}

// faults is the read of all faults.
func faults(objects ...aci.MO) aci.Update {
	return aci.Update{Kind: aci.FullRead, Root: aci.Topology, Objects: objects}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	both := func() *State { return with(epgMO(web), epgMO(api), onNode(101), onNode(102)) }
	full := "80 number of Prefix failed on leaf1"
	for name, tt := range map[string]struct {
		then func(*State)
		want []Fault // of web; api has none
	}{
		"none": {func(*State) {}, nil},
		"one, named by its place on the leaf": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web), "descr", collides(web))))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one of several leafs": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(102, web), "descr", "later"), faultMO(ofEPG(101, web), "descr", collides(web))))
		}, []Fault{{Code: "F0467", Leafs: []int{101, 102}, Text: inWords}}},
		"one on a port of the leaf": {func(s *State) {
			s.event(created(faultMO(aci.DN("topology/pod-1/node-101/local/svc-policyelem-id-0/uni/epp/rtd-["+web.DN()+
				"]/node-101/stpathatt-[eth1/7]/nwissues/fault-F0467"), "descr", "Configuration failed for "+string(web.DN())+
				" node 101 eth1/7 due to Encap Already Used in Another EPG, debug message: ")))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: "Encap Already Used in Another EPG"}}},
		"one, named in its words": {func(s *State) {
			s.event(created(faultMO("topology/pod-1/node-101/elsewhere/fault-F0467", "descr", collides(web))))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one that names its L3Out": {func(s *State) {
			s.event(created(faultMO("topology/pod-1/node-101/elsewhere/fault-F0467", "descr",
				"Configuration failed for uni/tn-T/out-O node 101 eth1/7 due to Interface Configured as L2, debug message:")))
		}, nil},
		"one of another EPG": {func(s *State) {
			other := aci.ExtEPG{L3Out: wan, Name: "E9"}
			s.Fold(faults(faultMO(ofEPG(101, other), "descr", collides(other))))
		}, nil},
		"one that soaks":           {func(s *State) { s.event(created(faultMO(ofEPG(101, web), "lc", "soaking"))) }, nil},
		"one that soaks, clearing": {func(s *State) { s.event(created(faultMO(ofEPG(101, web), "lc", "soaking-clearing"))) }, nil},
		"one that soaked and was raised": {func(s *State) {
			s.event(created(faultMO(ofEPG(101, web), "lc", "soaking", "descr", collides(web))))
			s.event(modified(mo(aci.ClassFaultInst, ofEPG(101, web), "lc", "raised")))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one that is clearing": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web), "lc", "raised-clearing", "descr", collides(web))))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one that is cleared and retained": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web))))
			s.event(modified(mo(aci.ClassFaultInst, ofEPG(101, web), "lc", "retaining", "severity", "cleared")))
		}, nil},
		"one whose severity alone is cleared": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web))))
			s.event(modified(mo(aci.ClassFaultInst, ofEPG(101, web), "severity", "cleared")))
		}, nil},
		"one that is deleted": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web))))
			s.event(deleted(mo(aci.ClassFaultInst, ofEPG(101, web))))
		}, nil},
		"one that a read does not bring any more": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web))))
			s.Fold(faults())
		}, nil},
		"one that came while the faults were read": {func(s *State) {
			s.Fold(aci.Update{Kind: aci.ReadBegin, Root: aci.Topology})
			s.event(created(faultMO(ofEPG(101, web), "descr", "x")))
			s.event(created(faultMO("elsewhere/fault-F0467", "descr", collides(web))))
			s.Fold(faults())
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one that is kept over a gap": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web), "descr", "x")))
			s.Fold(aci.Update{Kind: aci.Gap, Root: aci.Topology})
			s.Fold(aci.Update{Kind: aci.ReadBegin, Root: aci.Topology})
			s.Unread(aci.Topology)
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: "x"}}},
		"one whose creation was never announced": {func(s *State) {
			s.event(modified(mo(aci.ClassFaultInst, ofEPG(101, web), "lc", "raised")))
		}, []Fault{{Code: "F0467", Leafs: []int{101}}}},
		"one of an EPG that is gone": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web))))
			s.event(deleted(epgMO(web)))
		}, nil},
		"one that is forgotten": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web))))
			s.ForgetFaults()
		}, nil},
		"one that only the EPG shows": {func(s *State) {
			s.event(created(delegate(101, web)))
			s.event(created(delegate(102, web, "lc", "soaking")))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one that the EPG and leafs show": {func(s *State) {
			s.event(created(delegate(101, web)))
			s.Fold(faults(faultMO(ofEPG(101, web), "descr", collides(web)), faultMO(ofEPG(102, web), "descr", collides(web))))
		}, []Fault{{Code: "F0467", Leafs: []int{101, 102}, Text: inWords}}},
		"one that the EPG shows without the leaf": {func(s *State) {
			m := delegate(101, web)
			m.DN = web.DN().Child("fd-[uni/epp/rtd-[" + string(web.DN()) + "]/nwissues]-fault-F0467")
			s.event(created(m))
		}, []Fault{{Code: "F0467", Text: inWords}}},
		"one of the EPG's own": {func(s *State) {
			s.event(created(faultMO(web.DN().Child("fault-F3941"), "descr", "x")))
		}, []Fault{{Code: "F3941", Text: "x"}}},
		"one that a read of the L3Out does not bring any more": {func(s *State) {
			s.event(created(delegate(101, web)))
			s.Fold(aci.Update{Kind: aci.FullRead, Root: wan.DN(), Objects: []aci.MO{mo(aci.ClassL3Out, wan.DN()), epgMO(web)}})
		}, nil},
		"one that a read of faults on leafs cannot bring": {func(s *State) {
			s.event(created(delegate(101, web)))
			s.Fold(faults())
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one on a leaf that a read of the L3Out cannot bring": {func(s *State) {
			s.Fold(faults(faultMO(ofEPG(101, web), "descr", collides(web))))
			s.Fold(aci.Update{Kind: aci.FullRead, Root: wan.DN(), Objects: []aci.MO{mo(aci.ClassL3Out, wan.DN()), epgMO(web)}})
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"a read of the EPG may bring one and may not": {func(s *State) {
			s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: []aci.MO{epgMO(web), delegate(101, web)}})
			s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: []aci.MO{epgMO(web)}})
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: inWords}}},
		"one that goes with its EPG": {func(s *State) {
			s.event(created(delegate(101, web)))
			s.event(deleted(epgMO(web)))
			s.event(created(epgMO(web)))
		}, nil},
		"a state that is an end": {func(s *State) {
			s.event(modified(mo(aci.ClassExtEPG, web.DN(), "configSt", "failed-to-apply", "configIssues", "some-issue")))
		}, []Fault{{Code: "configIssues", Text: "some-issue"}, {Code: "configSt", Text: "failed-to-apply"}}},
		"a state that a read brings": {func(s *State) {
			s.Fold(aci.Update{Kind: aci.FullRead, Root: web.DN(), Objects: []aci.MO{epgMO(web, "configSt", "failed-to-apply")}})
		}, []Fault{{Code: "configSt", Text: "failed-to-apply"}}},
		"a state on the way": {func(s *State) {
			s.event(modified(mo(aci.ClassExtEPG, web.DN(), "configSt", "temp-failed-to-apply", "configIssues", "none")))
		}, nil},
		"long words are cut": {func(s *State) {
			s.event(created(faultMO(ofEPG(101, web), "descr", strings.Repeat("ä", 300))))
		}, []Fault{{Code: "F0467", Leafs: []int{101}, Text: strings.Repeat("ä", 240) + "…"}}},
		"several, in order": {func(s *State) {
			s.event(modified(mo(aci.ClassExtEPG, web.DN(), "configSt", "failed-to-apply")))
			s.Fold(faults(faultMO(ofEPG(102, web), "descr", collides(web))))
		}, []Fault{{Code: "F0467", Leafs: []int{102}, Text: inWords}, {Code: "configSt", Text: "failed-to-apply"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := both()
			tt.then(s)
			if diff := cmp.Diff(tt.want, s.Faults(web)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if got := s.Faults(api); got != nil {
				t.Errorf("and of the other EPG %v", got)
			}
		})
	}
	t.Run("of a leaf as a whole are of every EPG there", func(t *testing.T) {
		t.Parallel()
		s := both()
		s.Fold(faults(faultMO(ofLeaf(101, "F3544"), "descr", full), faultMO(ofLeaf(102, "F3545")), faultMO(ofLeaf(103, "F3544"))))
		want := []Fault{{Code: "F3544", Leafs: []int{101}, Whole: true, Text: full}, {Code: "F3545", Leafs: []int{102}, Whole: true}}
		for _, e := range []aci.ExtEPG{web, api} {
			if diff := cmp.Diff(want, s.Faults(e)); diff != "" {
				t.Errorf("%s (-want +got)\n%s", e, diff)
			}
		}
		s.FaultsChanged()
		s.event(deleted(onNode(101)))
		if diff := cmp.Diff(want[1:], s.Faults(web)); diff != "" {
			t.Errorf("without the leaf (-want +got)\n%s", diff)
		}
		if got := s.FaultsChanged(); !slices.Equal(got, []aci.ExtEPG{web, api}) {
			t.Errorf("changed: %v", got)
		}
	})
}

// What soaks, is retained or says nothing new costs nobody a look.
func TestFaults_that_change_nothing_are_not_told_of(t *testing.T) {
	t.Parallel()
	s := with(epgMO(web))
	s.FaultsChanged()
	for _, m := range []aci.MO{
		created(faultMO(ofEPG(101, web), "lc", "soaking", "descr", "x")),
		modified(mo(aci.ClassFaultInst, ofEPG(101, web), "lc", "soaking-clearing")),
		modified(mo(aci.ClassFaultInst, ofEPG(101, web), "lc", "retaining", "severity", "cleared")),
		deleted(mo(aci.ClassFaultInst, ofEPG(101, web))),
		created(faultMO("topology/pod-1/node-101/elsewhere/fault-F0467", "descr", "Configuration failed for uni/tn-T/out-O due to x")),
		modified(mo(aci.ClassExtEPG, web.DN(), "configSt", "applying")),
	} {
		s.event(m)
	}
	if got := s.FaultsChanged(); len(got) > 0 {
		t.Errorf("changed: %v", got)
	}
	s.event(created(faultMO(ofEPG(101, web))))
	if places := s.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{created(faultMO(ofEPG(102, web)))}}); len(places) > 0 {
		t.Errorf("touched: %v", places)
	}
	if got := s.FaultsChanged(); !slices.Equal(got, []aci.ExtEPG{web}) {
		t.Errorf("changed: %v", got)
	}
	s.event(modified(mo(aci.ClassFaultInst, ofEPG(101, web), "occur", "2", "lc", "raised-clearing")))
	if got := s.FaultsChanged(); len(got) > 0 {
		t.Errorf("changed by clearing: %v", got)
	}
}
