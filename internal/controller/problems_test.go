package controller_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// web is the Deployment web, as Fold takes it.
func web(w *world) (desired.Ref, metav1.Object) {
	r := desired.Ref{Kind: desired.KindDeployment, Namespace: "shop", Name: "web"}
	return r, w.objects[r]
}

// wantNotes compares what was told since the last forget.
func (w *world) wantNotes(want ...string) {
	w.t.Helper()
	got := w.notes()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Fatalf("told %q at %s, want %q", got, clock(), want)
	}
	w.forget()
}

// A problem is told once for each workload, however many addresses have it, and again only
// when it returns.
func TestProblems(t *testing.T) {
	ips := addrs(20)
	for name, f := range map[string]func(w *world){
		"a missing L3Out": func(w *world) {
			w.opts.vrfs = map[string]string{"a": "v", "b": "v", "c": "w", "new": "v"}
			w.deploy("web", "new/web", ips...)
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonL3OutMissing + " web")
			w.deploy("late", "new/web") // without a Pod
			w.sleep(time.Second)
			w.wantNotes(plan.ReasonL3OutMissing + " late")
			w.makeL3Out("new")
			w.sleep(10 * time.Second)
			w.wantNotes()
			w.remove(dn("new"))
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonL3OutMissing+" web", plan.ReasonL3OutMissing+" late")
			w.undeploy("late")
			w.sleep(time.Second)
			w.deploy("late", "new/web")
			w.sleep(time.Second)
			w.wantNotes(plan.ReasonL3OutMissing + " late")
		},
		"an L3Out that is not allowed": func(w *world) {
			w.hand("uni/tn-common", `{"l3extOut":{"attributes":{"name":"x"}}}`)
			w.annotate("web", `{"tenant":"infra","l3out":"x","epg":"y"}`)
			w.pods("web", ips...)
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonNotAllowed + " web")
		},
		"an invalid annotation": func(w *world) {
			w.deploy("web", "a/web", ips...)
			w.sleep(time.Second)
			w.annotate("web", "{}")
			w.sleep(time.Hour)
			w.wantNotes(desired.ReasonInvalidAnnotation + " web")
			w.deploy("web", "a/web")
			w.sleep(time.Second)
			w.wantNotes()
			w.annotate("web", "{}")
			w.sleep(time.Second)
			w.wantNotes(desired.ReasonInvalidAnnotation + " web")
		},
		"a conflict": func(w *world) {
			w.deploy("web", "a/web", ips...)
			w.sleep(time.Second)
			for _, ip := range ips { // the same addresses, in other Pods
				w.podNamed("db", "twin-"+ip, ip)
			}
			w.deploy("db", "b/db")
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonConflict + " db")
			w.undeploy("web", ips...)
			w.sleep(time.Second)
			w.wantNotes()
			if got := w.fabric(); len(got) < 200 || got[:6] != "b/db*:" {
				w.t.Errorf("fabric:\n%s", got)
			}
		},
		"a foreign subnet that bars": func(w *world) {
			w.set("b/theirs/10.1.0.1", `"scope":"import-security"`)
			w.deploy("db", "b/db")
			w.sleep(time.Second)
			w.deploy("web", "a/web", ips...)
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonConflict + " web")
			w.remove(dn("b/theirs/10.1.0.1"))
			w.sleep(time.Second)
			w.wantNotes()
		},
		"a move that waits, of many addresses and into another VRF": func(w *world) {
			w.deploy("web", "a/web", ips...)
			w.sleep(time.Second)
			w.deploy("web", "new/web")
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonL3OutMissing+" web", plan.ReasonMoveWaits+" web")
			w.pods("web", "10.0.9.9")
			w.unpod("10.1.0.1")
			w.sleep(time.Hour)
			w.wantNotes()
		},
		"a pause": func(w *world) {
			w.deploy("web", "a/web", ips...)
			w.deploy("db", "b/db", "10.0.0.1")
			w.sleep(time.Second)
			w.tag("a", aci.PauseKey, "yes")
			w.tag("b/db", aci.PauseKey, "yes")
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonPaused+" web", plan.ReasonPaused+" db")
			w.sleep(time.Hour)
			w.wantNotes()
			w.untag("a", aci.PauseKey)
			w.sleep(resynced)
			w.tag("a", aci.PauseKey, "yes")
			w.sleep(resynced)
			w.wantNotes(plan.ReasonPaused + " web")
		},
		"an EPG that its owner deleted": func(w *world) {
			w.set("a/theirs", `"descr":"x"`)
			w.deploy("web", "a/theirs", ips...)
			w.sleep(time.Second)
			w.remove(dn("a/theirs"))
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonEPGGone + " web")
			w.set("a/theirs", `"descr":"x"`)
			w.sleep(time.Second)
			w.wantNotes()
		},
		"subnets that do not classify": func(w *world) {
			for _, ip := range ips {
				w.set("a/theirs/"+ip, `"scope":"export-rtctrl"`)
			}
			w.deploy("web", "a/theirs", ips...)
			w.sleep(time.Hour)
			w.wantNotes(plan.ReasonNotClassify + " web")
		},
		"contracts that went with an EPG of ours": func(w *world) {
			w.hand("uni/tn-T", `{"vzBrCP":{"attributes":{"name":"c"}}}`)
			w.deploy("web", "a/web", ips...)
			w.sleep(2 * time.Second)
			w.child("a/web", "fvRsProv", `"tnVzBrCPName":"c"`)
			w.sleep(time.Second)
			w.remove(dn("a/web"))
			w.sleep(time.Hour)
			w.wantNotes(controller.ReasonContractsLost+" web", controller.ReasonReverted+" web")
		},
		"drift": func(w *world) {
			w.deploy("web", "a/web", ips...)
			w.sleep(2 * time.Second)
			for _, ip := range ips {
				w.remove(dn("a/web/" + ip))
			}
			w.sleep(time.Second)
			w.wantNotes("DriftReverted web")
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) { f(w) })
		})
	}
}

func TestOneL3OutThatAlwaysFailsDisturbsNoOther(t *testing.T) {
	vrfs := map[string]string{}
	for i := range 8 {
		vrfs[fmt.Sprintf("l%d", i)] = fmt.Sprintf("v%d", i)
	}
	bubble(t, options{vrfs: vrfs, stopped: true}, func(w *world) {
		for i := range 8 {
			w.deploy(fmt.Sprintf("w%d", i), fmt.Sprintf("l%d/e", i), fmt.Sprintf("10.0.0.%d", i))
		}
		w.fault(failing("out-l3"))
		w.run()
		w.sleep(3 * time.Second)
		want := []string{
			"l0/e*: 10.0.0.0*", "l1/e*: 10.0.0.1*", "l2/e*: 10.0.0.2*",
			"l4/e*: 10.0.0.4*", "l5/e*: 10.0.0.5*", "l6/e*: 10.0.0.6*", "l7/e*: 10.0.0.7*",
		}
		w.want(want...)
		w.restart()
		w.sleep(3 * time.Second)
		w.want(want...)
		for i := range 8 {
			w.pods(fmt.Sprintf("w%d", i), fmt.Sprintf("10.0.1.%d", i))
		}
		w.sleep(time.Second)
		w.forget()
		w.end()
		w.undeploy("w0", "10.0.0.0", "10.0.1.0")
		w.run()
		w.sleep(5 * time.Second)
		w.wantPosts(1)
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		w.wantPosts(2)
	})
}
