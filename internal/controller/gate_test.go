package controller_test

import (
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestNothingIsWrittenBeforeKubernetesIsFolded(t *testing.T) {
	bubble(t, options{stopped: true}, func(w *world) {
		w.ours("a/old", "10.0.0.9")
		w.connect()
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Hour)
		w.wantPosts(0)

		w.loop.Synced()
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1*")
	})
}

// What is ours, stale and could be deleted stays while the fabric is not known; it goes when it
// is.
func TestNothingIsWrittenOnPartialKnowledge(t *testing.T) {
	const marks, readA, readB = `GET /api/class/tagAnnotation`, `GET .*/out-a\.json.*page=0`, `GET .*/out-b\.json.*page=0`
	for name, fault := range map[string]apicsim.Fault{
		"while marked objects cannot be looked for":           {Match: marks, Status: 503},
		"while the answer about marked objects is empty":      {Match: marks, Empty: true},
		"while the L3Out cannot be read":                      {Match: readA, Status: 503},
		"while the answer about the L3Out is empty":           {Match: readA, Empty: true},
		"while an L3Out of the same VRF cannot be read":       {Match: readB, Status: 503},
		"while the answer about an L3Out of the VRF is empty": {Match: readB, Empty: true},
		"while nothing can be subscribed to":                  {Match: `subscription=yes`, Status: 503},
		"while the socket cannot be opened":                   {Match: `GET /socket`, Status: 503},
		"while there is no session":                           {Match: `aaaLogin`, Status: 503},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{stopped: true}, func(w *world) {
				w.ours("a/old", "10.0.0.9")
				w.ours("b/old", "10.0.0.1") // moved to a/web while nobody ran
				w.deploy("web", "a/web", "10.0.0.1")
				fault.Times = -1
				w.fault(fault)
				w.run()
				w.sleep(10 * time.Minute)
				w.wantPosts(0)

				w.sim.ClearFaults()
				w.sleep(2 * time.Minute)
				w.want("a/web*: 10.0.0.1*")
			})
		})
	}
}

func TestNothingIsWrittenWhileAGapIsOpen(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Second)
		w.forget()
		w.fault(apicsim.Fault{Match: `GET /socket`, Times: -1, Status: 503})
		w.sim.CloseSockets()
		w.sleep(time.Millisecond)
		w.unpod("10.0.0.1")
		w.pods("web", "10.0.0.3")
		w.sleep(5 * time.Minute)
		w.wantPosts(0)

		w.remove(dn("a/web/10.0.0.2"))
		w.sim.ClearFaults()
		w.sleep(2 * time.Minute)
		w.want("a/web*: 10.0.0.2* 10.0.0.3*")
	})
}

func TestAnL3OutThatCannotBeReadDelaysItsOwnVRFOnly(t *testing.T) {
	bubble(t, options{stopped: true}, func(w *world) {
		w.ours("a/web", "10.0.0.1")
		w.deploy("web", "a/web", "10.0.0.2")
		w.deploy("api", "c/api", "10.0.1.1")
		w.fault(apicsim.Fault{Match: `GET .*/out-c\.json.*page=0`, Times: -1, Status: 503})
		w.run()
		w.sleep(2 * time.Second)
		w.want("a/web*: 10.0.0.2*")
		w.forget()
		w.sleep(time.Hour)
		if n := len(w.requests()); n > 400 {
			t.Errorf("%d requests in an hour of failure", n)
		}
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.2*", "c/api*: 10.0.1.1*")
	})
}

// A periodic read that fails says nothing about what is known already.
func TestAPeriodicReadThatFailsDelaysNothing(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Second)
		w.fault(apicsim.Fault{Match: `GET .*page=0`, Times: -1, Status: 503})
		w.sleep(12 * time.Minute)
		w.forget()
		w.pods("web", "10.0.0.2")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
	})
}

func TestMarkedObjectsNobodyNamesAreFoundAlthoughTheFirstReadFails(t *testing.T) {
	bubble(t, options{stopped: true}, func(w *world) {
		w.ours("c/old", "10.0.0.9")
		w.fault(apicsim.Fault{Match: `GET .*/out-c\.json.*page=0`, Times: 3, Status: 503})
		w.run()
		w.sleep(time.Minute)
		w.want()
	})
}

func TestARestartWithWhatIsThereWritesNothing(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "2001:db8::1")
		w.deploy("db", "b/db")
		w.deploy("api", "c/api", addrs(600)...)
		w.sleep(5 * time.Second)
		before := w.sim.Dump("uni/tn-T")
		w.forget()
		w.restart()
		w.sleep(time.Hour)
		w.wantPosts(0)
		if w.sim.Dump("uni/tn-T") != before {
			t.Error("something changed")
		}
	})
}

func TestARestartConverges(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.set("a/theirs", `"descr":"x"`)
		w.set("a/theirs/10.9.9.9", `"name":"y"`)
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("gone", "b/gone", "10.0.0.3")
		w.deploy("guest", "a/theirs", "10.0.0.4", "10.0.0.5")
		w.sleep(time.Second)
		w.end()
		w.unpod("10.0.0.1", "10.0.0.4")
		w.pods("web", "10.0.0.6")
		w.undeploy("gone", "10.0.0.3")
		w.set("a/web/10.8.8.8", `"name":"z"`)
		w.remove(dn("a/web/10.0.0.2"))
		w.run()
		w.sleep(5 * time.Second)
		w.want("a/theirs: 10.0.0.5* 10.9.9.9", "a/web*: 10.0.0.2* 10.0.0.6* 10.8.8.8")
	})
}
