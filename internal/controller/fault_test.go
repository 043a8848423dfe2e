package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// A 200 does not mean that a leaf was programmed: what the fabric says is told, once, as long as it
// says so.
func TestFaultsAreTold(t *testing.T) {
	bubble(t, options{sim: apicsim.Options{Leafs: []int{101, 102}}}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("db", "a/db", "10.0.0.9")
		w.sleep(10 * time.Second)
		w.forget()
		// Somebody has the same prefix elsewhere in the VRF; then ours comes anew, so that it loses.
		w.set("b/theirs/10.0.0.1", `"scope":"import-security"`)
		w.sleep(10 * time.Second)
		w.set("a/web/10.0.0.1", `"scope":"export-rtctrl"`)
		w.sleep(10 * time.Second)
		if got := fmt.Sprint(w.notes()); strings.Count(got, plan.ReasonFault+" web") != 1 || strings.Contains(got, plan.ReasonFault+" db") {
			t.Errorf("told %s", got)
		}
		if got, want := w.record("a/web"), "managed=true owner=k1 web 2/2 FaultRaised FaultRaised"; got != want {
			t.Errorf("record %s, want %s", got, want)
		}
		for _, c := range w.statuses[extEPG("a/web")].Problems {
			if c.Reason == plan.ReasonFault && (!strings.Contains(c.Message, "F0467 (2): ") || !strings.Contains(c.Message, "10.0.0.1/32")) {
				t.Errorf("it says %s", c.Message)
			}
		}

		// The fault is known after a restart, and goes when its reason goes.
		w.restart()
		w.sleep(10 * time.Second)
		if got := w.record("a/web"); !strings.Contains(got, plan.ReasonFault) {
			t.Errorf("after a restart: record %s", got)
		}
		w.remove(dn("b/theirs"))
		w.sleep(20 * time.Second)
		if got, want := w.record("a/web"), "managed=true owner=k1 web 2/2 InSync"; got != want {
			t.Errorf("record %s, want %s", got, want)
		}
		w.wantPosts(1) // the flag that was put back
	})
}

// Who may not read faults on leafs works all the same, and says so once.
func TestFaultsThatCannotBeReadStopNothing(t *testing.T) {
	bubble(t, options{stopped: true}, func(w *world) {
		w.fault(apicsim.Fault{Match: "GET /api/class/faultInst", Times: -1, Status: 403, Code: "403", Text: "no"})
		w.run()
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Hour)
		w.want("a/web*: 10.0.0.1*")
		if n := strings.Count(w.logged(), "cannot read faults"); n != 1 {
			t.Errorf("said %d times", n)
		}
	})
}
