package apicsim_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestWhatCannotBeRaisedOrSet(t *testing.T) {
	t.Parallel()
	const report = "topology/pod-1/node-101/sys/actrl/dbgStatsReport"
	s := newSim(t, apicsim.Options{Leafs: []int{101}})
	if err := s.Seed([]byte("[" + fabricT + `,{"l3extInstP":{"attributes":{"dn":"uni/tn-T/out-O/instP-E"}}}]`)); err != nil {
		t.Fatal(err)
	}
	before := s.Dump("topology")
	for name, do := range map[string]func() error{
		"a fault of a leaf that is not there": func() error {
			return s.RaiseFault("topology/pod-1/node-102/sys/actrl/dbgStatsReport/fault-F3544", nil)
		},
		"a fault of an EPG that is not there": func() error { return s.RaiseFault("uni/tn-T/out-O/instP-F/fault-F3941", nil) },
		"a fault with an odd code":            func() error { return s.RaiseFault(report+"/fault-X", nil) },
		"what is no fault":                    func() error { return s.RaiseFault("uni/tn-T/out-O/instP-E", nil) },
		"a fault with an odd property":        func() error { return s.RaiseFault(report+"/fault-F3544", map[string]string{"color": "red"}) },
		"the end of what was not raised":      func() error { return s.ClearFault(report + "/fault-F3544") },
		"a property that others set":          func() error { return s.SetState("uni/tn-T/out-O/instP-E", map[string]string{"descr": "x"}) },
		"the state of what is not there":      func() error { return s.SetState("uni/tn-T/out-O/instP-F", map[string]string{"configSt": "applied"}) },
	} {
		if do() == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if after := s.Dump("topology"); after != before {
		t.Errorf("left behind:\n%s", after)
	}
}

// Prefixes come to collide and cease to, on the same leaf and below the same EPG; what was raised
// by hand is not touched by that.
func TestARaisedFaultStaysUntilItIsCleared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, apicsim.Options{Leafs: []int{101}})
		if err := s.Seed([]byte("[" + fabricT + "]")); err != nil {
			t.Fatal(err)
		}
		const issues = "topology/pod-1/node-101/local/svc-policyelem-id-0/uni/epp/rtd-[uni/tn-T/out-O/instP-F]/nwissues"
		for _, epg := range []string{"E", "F"} {
			if err := s.Post("uni/tn-T/out-O", `{"l3extInstP":{"attributes":{"name":"`+epg+
				`"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/32"}}}]}}`); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.RaiseFault(issues+"/fault-F9999", nil); err != nil {
			t.Fatal(err)
		}
		has := func(fault string, want bool) {
			t.Helper()
			if _, is := s.Lookup(issues + "/fault-" + fault); is != want {
				t.Errorf("%s is there: %v", fault, is)
			}
		}
		time.Sleep(time.Second)
		has("F0467", true)
		has("F9999", true)
		if err := s.Delete("uni/tn-T/out-O/instP-E"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		has("F0467", false)
		has("F9999", true)
		if err := s.ClearFault(issues + "/fault-F9999"); err != nil {
			t.Fatal(err)
		}
		if err := s.RaiseFault(issues+"/fault-F9999", nil); err != nil { // before it is gone
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		has("F9999", true)
		if err := s.ClearFault(issues + "/fault-F9999"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		has("F9999", false)
	})
}
