package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// patience is a little more than a fault waits to be told.
const patience = 11 * time.Second

// twoLeafs is a fabric with leafs that complain.
func twoLeafs() options { return options{sim: apicsim.Options{Leafs: []int{101, 102}}} }

// ofEPG is the DN of the fault that leaf raises about the EPG at path.
func ofEPG(leaf int, path string) string {
	return fmt.Sprintf("topology/pod-1/node-%d/local/svc-policyelem-id-0/uni/epp/rtd-[%s]/nwissues/fault-F0467", leaf, dn(path))
}

// ofLeaf is the DN of the fault that leaf raises about all that it holds.
func ofLeaf(leaf int, code string) string {
	return fmt.Sprintf("topology/pod-1/node-%d/sys/actrl/dbgStatsReport/fault-%s", leaf, code)
}

// fabricSays lets the fabric itself set attributes, written as `"k":"v"`.
func (w *world) fabricSays(class, dn, attrs string) {
	w.t.Helper()
	if err := w.sim.Seed(fmt.Appendf(nil, `{%q:{"attributes":{"dn":%q,%s}}}`, class, dn, attrs)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) raise(dn, descr string) {
	w.t.Helper()
	w.fabricSays("faultInst", dn, fmt.Sprintf(`"lc":"raised","severity":"minor","descr":%q`, descr))
}

func (w *world) clearFault(dn string) {
	w.t.Helper()
	w.fabricSays("faultInst", dn, `"lc":"retaining","severity":"cleared"`)
}

func (w *world) state(path, key, value string) {
	w.t.Helper()
	w.fabricSays("l3extInstP", dn(path), fmt.Sprintf(`%q:%q`, key, value))
}

// wantProblems fails unless so many problems are known.
func (w *world) wantProblems(n int) {
	w.t.Helper()
	if got := w.loop.Remembered()["shown"]; got != n {
		w.t.Errorf("%d problems at %s, want %d", got, clock(), n)
	}
}

// A foreign subnet with our prefix appears elsewhere in the VRF: the APIC takes it, and leafs
// complain about it. When they reload they complain about ours.
func TestAFaultIsToldOnceAndEnds(t *testing.T) {
	r := prometheus.NewRegistry()
	o := twoLeafs()
	o.metrics = r
	bubble(t, o, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("guest", "a/web", "10.0.0.2")
		w.deploy("other", "b/other", "10.0.0.3")
		w.sleep(time.Minute)
		w.forget()
		w.set("b/theirs/10.0.0.1", `"scope":"import-security"`)
		w.sleep(time.Minute)
		w.wantNotes(plan.ReasonConflict + " web") // the fault is about theirs
		w.sim.ReloadLeafs()
		w.sleep(patience)
		w.wantPosts(0)
		w.wantNotes(controller.ReasonFaultRaised+" guest", controller.ReasonFaultRaised+" web")
		const words = "T/a/web: what the APIC took may not be on the leafs; it says F0467 on 2 leafs (101, 102): " +
			"Prefix Entry Already Used in Another EPG, debug message: prefix-entry-already-in-use: Prefix entry sys/ctx-[vxlan-"
		if !strings.Contains(w.logged(), words) {
			t.Errorf("not in the log: %s", words)
		}
		if got, want := w.record("a/web"), "managed=true owner=k1 guest web 2/2 AddressConflict AddressConflict FaultRaised"; got != want {
			t.Errorf("record %q, want %q", got, want)
		}
		w.sleep(3 * resynced)
		w.wantNotes()
		if n := measured(t, r, "acisync_problems", controller.ReasonFaultRaised); n != 2 {
			t.Errorf("%v workloads have the problem", n)
		}

		w.remove(dn("b/theirs/10.0.0.1"))
		w.sleep(patience)
		w.wantNotes()
		w.wantProblems(0)
		if got, want := w.record("a/web"), "managed=true owner=k1 guest web 2/2 InSync"; got != want {
			t.Errorf("record %q, want %q", got, want)
		}
		if n := measured(t, r, "acisync_problems", controller.ReasonFaultRaised); n != 0 {
			t.Errorf("%v workloads have the problem still", n)
		}
	})
}

func TestFaults(t *testing.T) {
	raised := controller.ReasonFaultRaised
	for name, f := range map[string]func(w *world){
		"one that comes and goes is not told": func(w *world) {
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(3 * time.Second)
			w.clearFault(ofEPG(101, "a/web"))
			w.sleep(time.Minute)
			w.wantNotes()
			w.wantProblems(0)
		},
		"one that flaps is told now and then": func(w *world) {
			for range 100 {
				w.raise(ofEPG(101, "a/web"), "x")
				w.sleep(2 * time.Second)
				w.clearFault(ofEPG(101, "a/web"))
				w.sleep(time.Second)
			}
			if n := len(w.notes()); n > 300/10 {
				w.t.Errorf("told %d times in five minutes", n)
			}
			w.sleep(time.Minute)
			w.wantProblems(0)
		},
		"one that soaks is not told before it is raised": func(w *world) {
			w.fabricSays("faultInst", ofEPG(101, "a/web"), `"lc":"soaking"`)
			w.sleep(2 * time.Minute)
			w.wantNotes()
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes(raised + " web")
		},
		"one more is one more problem only if it is another": func(w *world) {
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes(raised + " web")
			w.raise(ofEPG(102, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes()
			w.state("a/web", "configSt", "failed-to-apply")
			w.sleep(patience)
			w.wantNotes(raised + " web")
			w.wantProblems(1)
			w.clearFault(ofEPG(101, "a/web"))
			w.clearFault(ofEPG(102, "a/web"))
			w.sleep(patience)
			w.wantNotes()
			w.wantProblems(1)
			w.state("a/web", "configSt", "applied")
			w.sleep(patience)
			w.wantProblems(0)
			w.wantNotes()
		},
		"what an EPG goes through after a write is not told": func(w *world) {
			w.state("a/web", "configIssues", "some-issue")
			w.state("a/web", "configSt", "failed-to-apply")
			w.sleep(5 * time.Second)
			w.state("a/web", "configIssues", "")
			w.state("a/web", "configSt", "applied")
			w.sleep(time.Minute)
			w.wantNotes()
		},
		"what an EPG ends in is": func(w *world) {
			w.state("a/web", "configIssues", "some-issue")
			w.sleep(patience)
			w.wantNotes(raised + " web")
			if words := "it says configIssues: some-issue"; !strings.Contains(w.logged(), words) {
				w.t.Errorf("not in the log: %s", words)
			}
			w.state("a/web", "configIssues", "")
			w.sleep(patience)
			w.wantProblems(0)
		},
		"those of EPGs that nobody names are nobody's": func(w *world) {
			w.set("a/theirs", `"descr":"x"`)
			w.ours("a/kept")
			w.child("a/kept", "fvRsProv", `"tnVzBrCPName":"c"`)
			for _, e := range []string{"a/theirs", "a/kept", "b/absent"} {
				w.raise(ofEPG(101, e), "x")
			}
			w.state("a/theirs", "configSt", "failed-to-apply")
			w.sleep(time.Minute)
			w.wantNotes()
			w.wantProblems(0)
		},
		"those of an EPG that is not ours are told to who uses it": func(w *world) {
			w.set("a/theirs", `"descr":"x"`)
			w.deploy("guest", "a/theirs", "10.0.0.7")
			w.sleep(patience)
			w.forget()
			w.raise(ofEPG(101, "a/theirs"), "x")
			w.sleep(patience)
			w.wantNotes(raised + " guest")
		},
		"those of a leaf as a whole concern whoever is on it": func(w *world) {
			w.raise(ofLeaf(101, "F3544"), "80 number of Prefix failed on leaf1")
			w.sleep(patience)
			w.wantNotes()
			w.hand(dn("a"), `{"l3extLNodeP":{"attributes":{"name":"N"},"children":[`+
				`{"l3extRsNodeL3OutAtt":{"attributes":{"tDn":"topology/pod-1/node-101"}}}]}}`)
			w.hand(dn("b"), `{"l3extLNodeP":{"attributes":{"name":"N"},"children":[`+
				`{"l3extRsNodeL3OutAtt":{"attributes":{"tDn":"topology/pod-1/node-102"}}}]}}`)
			w.sleep(patience)
			w.wantNotes(raised + " web")
			const words = "it says F3544 on leaf 101, which may be about this external EPG or others there: " +
				"80 number of Prefix failed on leaf1"
			if !strings.Contains(w.logged(), words) {
				w.t.Errorf("not in the log: %s", words)
			}
			w.raise(ofLeaf(101, "F3544"), "81 number of Prefix failed on leaf1")
			w.sleep(patience)
			w.wantNotes()
			w.remove(dn("a") + "/lnodep-N")
			w.sleep(patience)
			w.wantProblems(0)
		},
		"who comes to an EPG with one is told, who leaves has none": func(w *world) {
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.forget()
			w.deploy("late", "a/web")
			w.sleep(time.Second)
			w.wantNotes(raised + " late")
			w.deploy("late", "b/db")
			w.sleep(time.Second)
			w.wantProblems(1)
			w.wantNotes()
		},
		"one that came and one that went while events were lost": func(w *world) {
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes(raised + " web")
			w.fault(apicsim.Fault{Match: `GET /socket`, Times: -1, Status: 503})
			w.sim.CloseSockets()
			w.sleep(time.Second)
			w.clearFault(ofEPG(101, "a/web"))
			w.raise(ofEPG(101, "b/db"), "x")
			w.sleep(5 * time.Minute)
			w.wantProblems(1) // what was known stands until it is known better
			w.wantNotes()
			w.sim.ClearFaults()
			w.sleep(2 * time.Minute)
			w.wantProblems(1)
			w.wantNotes(raised + " db")
		},
		"one that was never announced": func(w *world) {
			w.drop("fault-F0467")
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes()
			w.sleep(resynced)
			w.wantNotes(raised + " web")
			w.clearFault(ofEPG(101, "a/web"))
			w.sleep(resynced)
			w.wantProblems(0)
		},
		"one that comes while they are read": func(w *world) {
			w.fault(apicsim.Fault{Match: `GET /api/class/faultInst.*page=0`, Delay: 5 * time.Second, Times: -1})
			w.sim.CloseSockets()
			w.sleep(2 * time.Second)
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(20 * time.Second)
			w.wantNotes(raised + " web")
		},
		"they may not be read": func(w *world) {
			w.fault(apicsim.Fault{Match: `GET /api/class/faultInst`, Times: -1, Status: 403, Code: "403", Text: "Not authorized"})
			w.sim.CloseSockets()
			w.raise(ofEPG(101, "a/web"), "x")
			w.pods("web", "10.0.0.5")
			w.sleep(time.Hour)
			w.want("a/web*: 10.0.0.1* 10.0.0.5*", "b/db*: 10.0.0.2*")
			w.wantNotes()
			if n := strings.Count(w.logged(), "cannot read the faults of leafs: only"); n != 1 {
				w.t.Errorf("said %d times that they may not be read", n)
			}
			w.sim.ClearFaults()
			w.sleep(resynced)
			w.wantNotes(raised + " web")
		},
		"only those at an EPG are shown": func(w *world) {
			w.sim.SetUser(reader("T"))
			w.sim.ExpireSessions()
			w.sleep(time.Minute)
			w.fabricSays("faultDelegate", dn("a/web")+"/fd-[uni/epp/rtd-["+dn("a/web")+"]/node-101/nwissues]-fault-F0467",
				`"lc":"raised","descr":"Fault delegate: Configuration failed for `+dn("a/web")+` due to x"`)
			w.sleep(patience)
			w.wantNotes(raised + " web")
			if words := "it says F0467 on leaf 101: x"; !strings.Contains(w.logged(), words) {
				w.t.Errorf("not in the log: %s", words)
			}
			w.sleep(3 * resynced)
			w.wantProblems(1)
		},
		"they cannot be read": func(w *world) {
			w.fault(apicsim.Fault{Match: `GET /api/class/faultInst`, Times: -1, Status: 503})
			w.sim.CloseSockets()
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(time.Hour)
			if n := w.reads("/api/class/faultInst"); n < 55 || n > 70 {
				w.t.Errorf("%d attempts in an hour", n)
			}
			w.wantNotes()
			w.sim.ClearFaults()
			w.sleep(2 * time.Minute)
			w.wantNotes(raised + " web")
		},
		"a restart tells again": func(w *world) {
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes(raised + " web")
			w.restart()
			w.sleep(time.Minute)
			w.wantNotes(raised + " web")
		},
		"one does not keep an EPG": func(w *world) {
			w.raise(ofEPG(101, "a/web"), "x")
			w.raise(dn("a/web")+"/fault-F3941", "x")
			w.sleep(patience)
			w.undeploy("web", "10.0.0.1")
			w.sleep(time.Second)
			w.want("b/db*: 10.0.0.2*")
			w.sleep(patience)
			w.wantProblems(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, twoLeafs(), func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.deploy("db", "b/db", "10.0.0.2")
				w.sleep(time.Minute)
				w.want("a/web*: 10.0.0.1*", "b/db*: 10.0.0.2*")
				w.forget()
				f(w)
			})
		})
	}
}

// What is wrong with an EPG costs its addresses nothing.
func TestFaultsCostNoWritesAndNoReads(t *testing.T) {
	bubble(t, twoLeafs(), func(w *world) {
		w.deploy("web", "a/web", addrs(500)...)
		w.sleep(time.Minute)
		w.forget()
		for range 20 {
			w.raise(ofEPG(101, "a/web"), "x")
			w.state("a/web", "configSt", "failed-to-apply")
			w.sleep(5 * time.Second)
			w.clearFault(ofEPG(101, "a/web"))
			w.state("a/web", "configSt", "applied")
			w.sleep(time.Second)
		}
		if n := len(w.requests()); n > 12 { // two minutes of what is refreshed
			t.Errorf("%d requests:\n%s", n, bodies(w.requests()))
		}
	})
}

func TestFaultsAreFollowedWhileAnL3OutIs(t *testing.T) {
	bubble(t, twoLeafs(), func(w *world) {
		w.sleep(time.Hour)
		if n := w.reads("/api/class/faultInst"); n != 0 {
			t.Errorf("%d reads although nothing is watched", n)
		}
		for range 2 {
			w.forget()
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(time.Second)
			if n := w.reads("/api/class/faultInst"); n != 2 {
				t.Errorf("%d requests to subscribe and read, want 2", n)
			}
			w.raise(ofEPG(101, "a/web"), "x")
			w.sleep(patience)
			w.wantNotes(controller.ReasonFaultRaised + " web")
			w.undeploy("web", "10.0.0.1")
			w.sleep(time.Minute)
			w.want()
			w.clearFault(ofEPG(101, "a/web"))
			w.forget()
			w.sleep(time.Hour)
			if n := w.reads("/api/class/faultInst"); n != 0 {
				t.Errorf("%d reads although nothing is watched any more", n)
			}
			w.wantProblems(0)
			if n := w.loop.Remembered()["faults"]; n != 0 {
				t.Errorf("%d EPGs wait to be looked at", n)
			}
		}
	})
}

func TestPreviewShowsFaults(t *testing.T) {
	bubble(t, twoLeafs(), func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Minute)
		w.raise(ofEPG(101, "a/web"), "x")
		p, err := w.preview()
		if err != nil || len(p.Problems) != 1 || p.Problems[0].Reason != controller.ReasonFaultRaised {
			t.Errorf("%v, %v", p.Problems, err)
		}
		w.fault(apicsim.Fault{Match: `GET /api/class/faultInst`, Times: -1, Status: 403, Code: "403", Text: "Not authorized"})
		if p, err = w.preview(); err != nil || len(p.Problems) != 0 {
			t.Errorf("%v, %v", p.Problems, err)
		}
	})
}
