package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

func TestMoves(t *testing.T) {
	for name, f := range map[string]func(w *world){
		"an address leaves one EPG before it enters the other": func(w *world) {
			w.deploy("web", "b/web")
			w.sleep(time.Second)
			w.want("a/db*: 10.0.0.9*", "b/web*: 10.0.0.1* 10.0.0.2*")
			w.wantPosts(3) // a/web whole, b/web itself, and what moves; the laws see to the order
		},
		"nothing enters when the way out fails": func(w *world) {
			w.fault(apicsim.Fault{Match: "^POST .*/out-a", Status: 503})
			w.deploy("web", "b/web")
			w.sleep(300 * time.Millisecond)
			if f := w.fabric(); !strings.Contains(f, "a/web*: 10.0.0.1* 10.0.0.2*\n") {
				w.t.Errorf("fabric:\n%s", f)
			}
			w.sleep(2 * time.Second)
			w.want("a/db*: 10.0.0.9*", "b/web*: 10.0.0.1* 10.0.0.2*")
			if n := len(w.posts()); n > 4 {
				w.t.Errorf("%d POSTs", n)
			}
		},
		"nothing enters while the way out is still in progress, and may come to nothing": func(w *world) {
			w.fault(apicsim.Fault{Match: "^POST .*/out-a", Status: 202})
			w.deploy("web", "b/web")
			w.sleep(3 * time.Second)
			w.want("a/db*: 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.2*", "b/web*:")
			w.sleep(10 * time.Second)
			w.want("a/db*: 10.0.0.9*", "b/web*: 10.0.0.1* 10.0.0.2*")
		},
		"nothing enters where the claim went while a write elsewhere is in doubt": func(w *world) {
			w.drop("")
			w.pods("web", "10.0.0.3")
			w.sleep(5 * time.Second)
			w.sim.ClearFaults()
			w.deploy("web", "b/web")
			w.sleep(10 * time.Second)
			w.want("a/db*: 10.0.0.9*", "b/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3*")
		},
		"nothing leaves for an EPG that the APIC refuses to make": func(w *world) {
			w.refuse(`"name":"new","status":"created"`, "too many external EPGs")
			w.deploy("web", "b/new")
			w.sleep(3 * time.Second)
			w.want("a/db*: 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.2*")
			w.refuse(`"name":"new","status":"created"`, "")
			w.sleep(10 * time.Second)
			w.want("a/db*: 10.0.0.9*", "b/new*: 10.0.0.1* 10.0.0.2*")
		},
		"nothing enters while the way out is refused": func(w *world) {
			w.deploy("web2", "a/web")
			w.refuse(`"ip":"10.0.0.1/32","status":"deleted"`, "cannot be deleted: Dn0="+dn("a/web/10.0.0.1"))
			w.deploy("web", "b/web")
			w.sleep(time.Minute)
			w.want("a/db*: 10.0.0.9*", "a/web*: 10.0.0.1*", "b/web*: 10.0.0.2*")
			if n := len(w.posts()); n > 10 {
				w.t.Errorf("%d POSTs in a minute:\n%s", n, bodies(w.posts()))
			}
			w.refuse(`"ip":"10.0.0.1/32","status":"deleted"`, "")
			w.sleep(2 * time.Minute)
			w.want("a/db*: 10.0.0.9*", "a/web*:", "b/web*: 10.0.0.1* 10.0.0.2*")
		},
		"two EPGs swap their addresses": func(w *world) {
			w.deploy("web", "a/db")
			w.deploy("db", "a/web")
			w.sleep(time.Second)
			w.want("a/db*: 10.0.0.1* 10.0.0.2*", "a/web*: 10.0.0.9*")
			if n := len(w.posts()); n > 4 {
				w.t.Errorf("%d POSTs", n)
			}
		},
		"an address stays while its new L3Out is not there, and moves when it is": func(w *world) {
			w.deploy("web", "new/web")
			w.sleep(time.Minute)
			w.want("a/db*: 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.2*")
			w.wantPosts(0)
			w.opts.vrfs = map[string]string{"a": "v", "b": "v", "c": "w", "new": "v"}
			w.makeL3Out("new")
			w.sleep(2 * time.Second)
			w.want("a/db*: 10.0.0.9*", "new/web*: 10.0.0.1* 10.0.0.2*")
		},
		"also when the creation of the L3Out is not announced": func(w *world) {
			w.deploy("web", "new/web")
			w.sleep(time.Minute)
			w.drop("out-new")
			w.opts.vrfs = map[string]string{"a": "v", "b": "v", "c": "w", "new": "v"}
			w.makeL3Out("new")
			w.sleep(time.Minute)
			w.want("a/db*: 10.0.0.9*", "new/web*: 10.0.0.1* 10.0.0.2*")
		},
		"an address moves to another VRF": func(w *world) {
			w.deploy("web", "c/web")
			w.sleep(time.Second)
			w.want("a/db*: 10.0.0.9*", "c/web*: 10.0.0.1* 10.0.0.2*")
		},
		"and stays as long as the other VRF cannot take it": func(w *world) {
			w.set("c/theirs", `"descr":"x"`)
			w.tag("c", "aci-sync-paused", "yes")
			w.deploy("web", "c/web")
			w.sleep(time.Minute)
			w.want("a/db*: 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.2*", "c/theirs:")
			w.untag("c", "aci-sync-paused")
			w.sleep(12 * time.Minute)
			w.want("a/db*: 10.0.0.9*", "c/theirs:", "c/web*: 10.0.0.1* 10.0.0.2*")
		},
		"a Pod of another workload takes the address over": func(w *world) {
			w.unpod("10.0.0.1")
			w.pods("db", "10.0.0.1")
			w.sleep(time.Second)
			w.want("a/db*: 10.0.0.1* 10.0.0.9*", "a/web*: 10.0.0.2*")
		},
		"a thousand addresses move in few writes": func(w *world) {
			w.pods("web", addrs(1000)...)
			w.sleep(3 * time.Second)
			w.forget()
			w.deploy("web", "b/web")
			w.sleep(3 * time.Second)
			if n := len(w.posts()); n > 5 {
				w.t.Errorf("%d POSTs", n)
			}
			if n := strings.Count(w.fabric(), "*"); n != 1002+1+2 {
				w.t.Errorf("%d objects of ours", n)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
				w.deploy("db", "a/db", "10.0.0.9")
				w.sleep(2 * time.Second)
				w.forget()
				f(w)
			})
		})
	}
}

func TestUpsertOnlyDeletesNothingExceptToMove(t *testing.T) {
	bubble(t, options{policy: func(p *plan.Policy) { p.UpsertOnly = true }}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Second)
		w.unpod("10.0.0.2")
		w.deploy("web", "b/web")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.2*", "b/web*: 10.0.0.1*")
		w.undeploy("web", "10.0.0.1")
		w.restart()
		w.sleep(time.Hour)
		w.want("a/web*: 10.0.0.2*", "b/web*: 10.0.0.1*")
	})
}
