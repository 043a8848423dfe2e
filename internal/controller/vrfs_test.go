package controller_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// Three L3Outs of VRF v, of which workloads name only a, and one of w.
var three = map[string]string{"a": "v", "b": "v", "c": "w", "d": "v"}

const classifies = `"scope":"import-security"`

// point makes an L3Out point to a VRF.
func (w *world) point(l3out, vrf string) {
	w.t.Helper()
	w.hand(dn(l3out), fmt.Sprintf(`{"l3extRsEctx":{"attributes":{"tnFvCtxName":%q}}}`, vrf))
}

func barredBy(name string) string { return plan.ReasonConflict + " " + name }

// A foreign subnet with import-security anywhere in the VRF bars a claim, also in an L3Out that no
// workload names, and lets it in when it goes.
func TestForeignSubnetsInL3OutsThatNobodyNames(t *testing.T) {
	bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
		w.set("b/theirs/10.0.0.1", classifies)
		w.set("d/theirs/10.0.0.2", `"scope":"export-rtctrl"`)
		w.set("c/theirs/10.0.0.3", classifies)
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
		w.run()
		w.sleep(time.Second)
		theirs := []string{"b/theirs: 10.0.0.1", "c/theirs: 10.0.0.3", "d/theirs: 10.0.0.2"}
		w.want("a/web*: 10.0.0.2* 10.0.0.3*", theirs[0], theirs[1], theirs[2])
		w.wantNotes(barredBy("web"))

		w.remove(dn("b/theirs/10.0.0.1"))
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3*", "b/theirs:", theirs[1], theirs[2])

		// One that comes later is told of, and ours stays.
		w.forget()
		w.set("d/theirs/10.0.0.2", classifies)
		w.sleep(time.Minute)
		w.wantNotes(barredBy("web"))
		w.wantPosts(0)

		// With the last workload the interest in all of the VRF ends.
		w.undeploy("web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
		w.sleep(time.Minute)
		if n := w.loop.Remembered()["watches"]; n != 0 {
			t.Errorf("%d L3Outs are watched", n)
		}
		w.sleep(2 * time.Hour)
		if n := w.sim.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

// L3Outs come to a VRF, and leave it, while aci-sync runs: what is in them bars from then on, and no more.
func TestL3OutsThatComeToAVRF(t *testing.T) {
	const barred, in = "a/web*:", "a/web*: 10.0.0.1*"
	for name, c := range map[string]struct {
		before func(w *world)
		come   func(w *world)
	}{
		"a new one":                        {func(*world) {}, func(w *world) { w.makeL3Out("d") }},
		"one that was in another VRF":      {func(w *world) { w.makeL3Out("d"); w.point("d", "w") }, func(w *world) { w.point("d", "v") }},
		"one whose VRF did not exist":      {func(w *world) { w.makeL3Out("d"); w.point("d", "none") }, func(w *world) { w.point("d", "v") }},
		"one that came while nobody heard": {func(*world) {}, func(w *world) { w.sim.CloseSockets(); w.makeL3Out("d") }},
		"one whose coming is never told": {func(*world) {}, func(w *world) {
			w.drop("")
			w.makeL3Out("d")
			w.set("d/theirs/10.0.0.1", classifies)
			w.sim.ClearFaults()
			w.sleep(2 * resynced)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{vrfs: map[string]string{"a": "v", "b": "v", "c": "w", "d": "v"}, stopped: true}, func(w *world) {
				w.remove(dn("d"))
				c.before(w)
				w.run()
				w.deploy("web", "a/web")
				w.sleep(time.Minute)
				w.want("a/web*:")
				c.come(w)
				w.set("d/theirs/10.0.0.1", classifies)
				w.sleep(10 * time.Second)
				w.pods("web", "10.0.0.1")
				w.sleep(10 * time.Second)
				w.want(barred, "d/theirs: 10.0.0.1")
				w.point("d", "w")
				w.sleep(10 * time.Second)
				w.want(in, "d/theirs: 10.0.0.1")
			})
		})
	}
}

// Two tenants use a VRF of tenant common: an address is unique in both.
func TestAVRFOfTenantCommon(t *testing.T) {
	bubble(t, options{vrfs: map[string]string{"a": "v"}, stopped: true}, func(w *world) {
		w.hand("uni/tn-common", `{"fvCtx":{"attributes":{"name":"shared"}}}`)
		w.hand("uni", `{"fvTenant":{"attributes":{"name":"U"},"children":[{"l3extOut":{"attributes":{"name":"u"},"children":[
			{"l3extRsEctx":{"attributes":{"tnFvCtxName":"shared"}}},
			{"l3extInstP":{"attributes":{"name":"theirs"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/32"}}}]}}]}}]}}`)
		w.point("a", "shared")
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.run()
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.2*")
		w.wantNotes(barredBy("web"))
		w.hand("uni/tn-T", `{"fvCtx":{"attributes":{"name":"shared"}}}`) // goes before that of common
		w.point("a", "shared")
		w.sleep(10 * time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
	})
}

// What cannot be read for now may bar: nothing is written in its VRF until it was, and others go on.
func TestAnL3OutOfTheVRFThatCannotBeReadForNow(t *testing.T) {
	bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
		w.fault(failing("out-d"))
		w.set("d/theirs/10.0.0.1", classifies)
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("app", "c/app", "10.0.0.1")
		w.run()
		w.sleep(time.Minute)
		w.want("c/app*: 10.0.0.1*", "d/theirs: 10.0.0.1")
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.2*", "c/app*: 10.0.0.1*", "d/theirs: 10.0.0.1")
	})
}

// The same where it is not known which L3Outs are in the VRF.
func TestRelationsToVRFsThatCannotBeReadForNow(t *testing.T) {
	bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
		w.fault(apicsim.Fault{Match: "GET /api/class/l3extRsEctx", Times: -1, Status: 503})
		w.set("d/theirs/10.0.0.1", classifies)
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.run()
		w.sleep(time.Minute)
		w.want("d/theirs: 10.0.0.1")
		w.sim.ClearFaults()
		w.sleep(2 * time.Minute)
		w.want("a/web*: 10.0.0.2*", "d/theirs: 10.0.0.1")

		// What is known is good until it is known better: a periodic read that fails stops nothing.
		w.fault(apicsim.Fault{Match: "GET /api/class/l3extRsEctx", Times: -1, Status: 503})
		w.sleep(2 * resynced)
		w.pods("web", "10.0.0.3")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.2* 10.0.0.3*", "d/theirs: 10.0.0.1")
	})
}

// What the APIC refuses to show is said once and waited for by nobody.
func TestL3OutsOfTheVRFThatAreNotShown(t *testing.T) {
	for name, match := range map[string]string{"relations": "GET /api/class/l3extRsEctx", "an L3Out": "GET /api/mo/uni/tn-T/out-d"} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
				w.fault(apicsim.Fault{Match: match, Times: -1, Status: 403, Code: "403", Text: "Forbidden"})
				w.set("d/theirs/10.0.0.1", classifies)
				w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
				w.run()
				w.sleep(10 * time.Second)
				w.want("a/web*: 10.0.0.1* 10.0.0.2*", "d/theirs: 10.0.0.1")
				if n := w.logs("WARN", "is not seen, and bars no address"); n != 1 {
					t.Errorf("said %d times", n)
				}
				w.pods("web", "10.0.0.3")
				w.sleep(3 * resynced)
				w.want("a/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3*", "d/theirs: 10.0.0.1")
				w.sim.ClearFaults()
				w.sleep(2 * resynced)
				w.wantNotes(barredBy("web"))
			})
		})
	}
}

// A plan sees what a run would.
func TestAPlanSeesAllL3OutsOfTheVRF(t *testing.T) {
	bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
		w.set("d/theirs/10.0.0.1", classifies)
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		p, err := w.preview()
		if err != nil || len(p.Changes) != 2 || len(p.Problems) != 1 || p.Problems[0].Reason != plan.ReasonConflict {
			t.Errorf("%v, %v, %v", p.Changes, p.Problems, err)
		}
	})
}

// The external EPG whose claim lost, or whose subnet does not classify, is not ready.
func TestAConflictIsInTheStatus(t *testing.T) {
	bubble(t, options{vrfs: three}, func(w *world) {
		w.set("d/theirs/10.0.0.1", classifies)
		w.set("b/net/10.0.0.3", `"scope":"export-rtctrl"`)
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("app", "b/app", "10.0.0.4")
		w.deploy("api", "a/api")
		w.podNamed("api", "api-pod", "10.0.0.4")
		w.deploy("net", "b/net", "10.0.0.3")
		w.sleep(30 * time.Second)
		w.wantRecord("a/web", "managed=true owner=k1 web 1/2 AddressConflict AddressConflict")
		w.wantRecord("b/app", "managed=true owner=k1 app 1/1 InSync")
		w.wantRecord("a/api", "managed=true owner=k1 api 0/1 AddressConflict AddressConflict")
		w.wantRecord("b/net", "managed=false net 1/1 NotClassifying NotClassifying")
		w.remove(dn("d/theirs"))
		w.set("b/net/10.0.0.3", classifies)
		w.sleep(30 * time.Second)
		w.wantRecord("a/web", "managed=true owner=k1 web 2/2 InSync")
		w.wantRecord("b/net", "managed=false net 1/1 InSync")
	})
}

// One address is in two VRFs. When they become one, the older workload keeps it, whatever its name; when they
// part, both have it again. So it is after a restart.
func TestAnL3OutWhoseVRFChanges(t *testing.T) {
	for name, restart := range map[string]func(w *world){"while it runs": func(*world) {}, "over a restart": (*world).restart} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("old", "c/old", "10.0.0.1")
				w.deploy("new", "a/new")
				w.podNamed("new", "new-pod", "10.0.0.1")
				w.sleep(time.Minute)
				w.want("a/new*: 10.0.0.1*", "c/old*: 10.0.0.1*")
				for range 2 {
					w.forget()
					w.point("c", "v")
					restart(w)
					w.sleep(time.Minute)
					w.want("a/new*:", "c/old*: 10.0.0.1*")
					w.wantNotes(barredBy("new"))
					w.forget()
					w.point("c", "w")
					restart(w)
					w.sleep(time.Minute)
					w.want("a/new*: 10.0.0.1*", "c/old*: 10.0.0.1*")
				}
				// One that does not resolve is an island: nothing is unique in it but what is its own.
				w.point("c", "none")
				w.sleep(time.Minute)
				w.want("a/new*: 10.0.0.1*", "c/old*: 10.0.0.1*")
				w.pods("old", "10.0.0.2")
				w.sleep(time.Minute)
				w.want("a/new*: 10.0.0.1*", "c/old*: 10.0.0.1* 10.0.0.2*")
			})
		})
	}
}

// Who has an address keeps it, across restarts, however old the other one is; when it lets go the other
// one takes over, in both directions.
func TestAnAddressIsHandedOver(t *testing.T) {
	for name, restart := range map[string]func(w *world){"while it runs": func(*world) {}, "over restarts": (*world).restart} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				const inA, inB = "a/web*: 10.0.0.1*", "b/app*: 10.0.0.1*"
				w.deploy("web", "a/web")
				w.deploy("app", "b/app")
				w.podNamed("app", "app-pod", "10.0.0.1")
				w.sleep(time.Minute)
				for range 2 {
					w.podNamed("web", "web-pod", "10.0.0.1")
					restart(w)
					w.sleep(time.Minute)
					w.want("a/web*:", inB)
					w.fold(desired.KindPod, "app-pod", nil)
					restart(w)
					w.sleep(time.Minute)
					w.want(inA, "b/app*:")
					w.podNamed("app", "app-pod", "10.0.0.1")
					restart(w)
					w.sleep(time.Minute)
					w.want(inA, "b/app*:")
					w.fold(desired.KindPod, "web-pod", nil)
					restart(w)
					w.sleep(time.Minute)
					w.want("a/web*:", inB)
				}
			})
		})
	}
}

// An L3Out leaves the VRF while others of it are read: nothing of it is kept, and what becomes of it later
// is not taken for what it was.
func TestAnL3OutThatLeavesWhileItsVRFIsRead(t *testing.T) {
	vs := map[string]string{"a": "v", "b": "v", "c": "w", "d": "v", "z": "v"}
	bubble(t, options{vrfs: vs, stopped: true}, func(w *world) {
		w.deploy("other", "c/other")
		w.fault(apicsim.Fault{Match: `GET .*/out-[abd]\.json.*page=0`, Times: -1, Delay: 5 * time.Second})
		w.run()
		w.sleep(time.Minute)
		w.undeploy("other")
		w.sleep(time.Minute)
		w.forget()
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(4 * time.Second)
		w.remove(dn("z"))
		w.sleep(4 * time.Second)
		w.hand("uni/tn-T", `{"l3extOut":{"attributes":{"name":"z"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"w"}}}]}}`) // where nobody is
		w.sleep(time.Minute)
		w.sim.ClearFaults()
		w.sleep(2 * time.Hour)
		m := w.loop.Remembered()
		if m["seen"] != m["watches"] {
			t.Errorf("%d L3Outs are known, %d watched", m["seen"], m["watches"])
		}
		if n := w.sim.Stats().Subscriptions; n > m["watches"]+2 {
			t.Errorf("%d subscriptions for %d watches", n, m["watches"])
		}
		// Its relation is told, and what is in it is not known any more.
		w.sim.CloseSockets()
		w.sleep(time.Minute)
		w.set("z/theirs/10.0.0.2", classifies)
		w.point("z", "v")
		w.sleep(time.Minute)
		w.pods("web", "10.0.0.2")
		w.sleep(time.Minute)
		if f := w.fabric(); strings.Contains(f, "10.0.0.2*") {
			t.Errorf("barred, and written:\n%s", f)
		}
	})
}

// Two workers read an L3Out at the same time, because its VRF changes: no event between is lost.
func TestTwoReadsOfAnL3OutAtATime(t *testing.T) {
	vs := map[string]string{"a": "v", "c": "w", "z": "v"}
	bubble(t, options{vrfs: vs, stopped: true}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("app", "c/app", "10.0.0.2")
		w.run()
		w.sleep(time.Minute)
		var mu sync.Mutex
		n := 0
		read := make(chan struct{})
		w.whenRead(func(r *http.Request) {
			if !strings.Contains(r.URL.Path, "out-z.json") || !strings.Contains(r.URL.RawQuery, "page=0") {
				return
			}
			mu.Lock()
			n++
			mine := n
			mu.Unlock()
			switch mine {
			case 1:
				w.remove(dn("z"))
				w.hand("uni/tn-T", `{"l3extOut":{"attributes":{"name":"z"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"w"}}}]}}`)
				time.Sleep(4 * time.Second)
				close(read)
			case 2:
				time.Sleep(6 * time.Second)
			}
		})
		<-read
		w.sleep(time.Second)
		w.set("z/theirs/10.0.0.5", classifies) // is told
		w.sleep(10 * time.Second)
		w.pods("app", "10.0.0.5")
		w.sleep(10 * time.Second)
		w.want("a/web*: 10.0.0.1*", "c/app*: 10.0.0.2*", "z/theirs: 10.0.0.5")
	})
}

// Relations of L3Outs that are of no use may change all the time: nobody waits for that.
func TestRelationsOfOthersThatChange(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.hand("uni", tenantU)
		w.hand("uni/tn-U", `{"fvCtx":{"attributes":{"name":"x"}}}`)
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Minute)
		w.fault(apicsim.Fault{Match: `GET /api/class/l3extRsEctx`, Times: -1, Delay: 500 * time.Millisecond})
		w.forget()
		late := time.Duration(0)
		began := time.Now()
		for i := range 250 {
			w.hand("uni/tn-U/out-u", fmt.Sprintf(`{"l3extRsEctx":{"attributes":{"tnFvCtxName":%q}}}`, []string{"v", "x"}[i%2]))
			if i == 50 {
				w.pods("web", "10.0.0.2")
				began = time.Now()
			}
			w.sleep(400 * time.Millisecond)
			if i > 50 && late == 0 && strings.Contains(w.fabric(), "10.0.0.2*") {
				late = time.Since(began)
			}
		}
		if late == 0 || late > 5*time.Second {
			t.Errorf("10.0.0.2 came after %v", late)
		}
	})
}

// What was left of ours in an L3Out is gone: it is no reason any more to wait for that L3Out.
func TestAnL3OutInWhichSomethingOfOursWas(t *testing.T) {
	bubble(t, options{stopped: true}, func(w *world) {
		w.ours("b/old")
		w.deploy("web", "a/web", "10.0.0.1")
		w.run()
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.1*")
		w.fault(apicsim.Fault{Match: "GET /api/mo/uni/tn-T/out-b", Times: -1, Status: 403, Code: "403", Text: "Forbidden"})
		w.sleep(resynced)
		w.pods("web", "10.0.0.2")
		w.sleep(resynced)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
	})
}

// An L3Out that was refused, and of which an event tells something, is read again.
func TestAnOverlookedL3OutThatShowsSomething(t *testing.T) {
	bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
		w.fault(apicsim.Fault{Match: `GET .*/out-d\.json.*page=0`, Times: -1, Status: 403, Code: "403", Text: "Forbidden"})
		w.deploy("web", "a/web", "10.0.0.1")
		w.run()
		w.sleep(time.Minute)
		w.sim.ClearFaults()
		w.set("d/theirs/10.0.0.2", classifies)
		w.sleep(20 * time.Second)
		w.pods("web", "10.0.0.2")
		w.sleep(10 * time.Second)
		w.want("a/web*: 10.0.0.1*", "d/theirs: 10.0.0.2")
	})
}

// A plan plans nothing where a run would not write.
func TestAPlanWhereTheVRFIsShut(t *testing.T) {
	bubble(t, options{vrfs: three, stopped: true}, func(w *world) {
		w.fault(apicsim.Fault{Match: "GET /api/mo/uni/tn-T/out-b", Times: -1, Status: 403, Code: "403", Text: "Forbidden"})
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("app", "b/app", "10.0.0.2")
		p, err := w.preview()
		if err != nil {
			t.Fatal(err)
		}
		w.run()
		w.sleep(time.Minute)
		if n := len(w.posts()); (n > 0) != (len(p.Changes) > 0) {
			t.Errorf("planned %v, and a run made %d POSTs", p.Changes, n)
		}
	})
}
