package controller_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// pause annotates the Deployment web; "" takes the annotation off.
func (w *world) pause(value string) {
	const name = "web"
	d := w.objects[desired.Ref{Kind: desired.KindDeployment, Namespace: "shop", Name: name}].(*appsv1.Deployment).DeepCopy()
	if d.Annotations[desired.PausedAnnotation] = value; value == "" {
		delete(d.Annotations, desired.PausedAnnotation)
	}
	w.fold(desired.KindDeployment, name, d)
}

// retarget changes what a Deployment that may be paused is annotated for.
func (w *world) retarget(name, epg string) {
	d := w.objects[desired.Ref{Kind: desired.KindDeployment, Namespace: "shop", Name: name}].(*appsv1.Deployment).DeepCopy()
	d.Annotations[desired.Annotation] = fmt.Sprintf(`{"tenant":"T","l3out":%q,"epg":%q}`, epg[:1], epg[2:])
	w.fold(desired.KindDeployment, name, d)
}

// wantForgotten fails if it is kept in mind that the claim of the address at path ended.
func (w *world) wantForgotten(path string) {
	w.t.Helper()
	d := aci.DN(dn(path))
	e, rest, _ := aci.ExtEPGOf(d)
	ip, _ := aci.SubnetIP(rest)
	if w.loop.Withdrawn(aci.Place{ExtEPG: e, Prefix: netip.MustParsePrefix(ip)}) {
		w.t.Errorf("that the claim of %s ended is kept in mind", path)
	}
}

// Whatever happens to a paused workload on both sides waits for the end of the pause.
func TestAPausedWorkloadStaysAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		do           func(w *world)
		during, then string
	}{
		"Pods go": {
			do: func(w *world) { w.unpod("10.0.0.1", "10.0.0.2") }, during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*:",
		},
		"Pods come": {
			do: func(w *world) { w.pods("web", "10.0.0.3") }, during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3*",
		},
		"a Pod comes and goes": {
			do:     func(w *world) { w.pods("web", "10.0.0.3"); w.sleep(time.Second); w.unpod("10.0.0.3") },
			during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*: 10.0.0.1* 10.0.0.2*",
		},
		"a subnet is deleted by hand": {
			do: func(w *world) { w.remove(dn("a/web/10.0.0.1")) }, during: "a/web*: 10.0.0.2*", then: "a/web*: 10.0.0.1* 10.0.0.2*",
		},
		"a subnet is deleted by hand, and its Pod goes": {
			do:     func(w *world) { w.remove(dn("a/web/10.0.0.1")); w.unpod("10.0.0.1") },
			during: "a/web*: 10.0.0.2*", then: "a/web*: 10.0.0.2*",
		},
		"the external EPG is deleted by hand": {
			do: func(w *world) { w.remove(dn("a/web")) }, during: "", then: "a/web*: 10.0.0.1* 10.0.0.2*",
		},
		"marks are taken off": {
			do:     func(w *world) { w.untag("a/web", aci.OwnerKey); w.untag("a/web/10.0.0.1", aci.OwnerKey) },
			during: "a/web: 10.0.0.1 10.0.0.2*", then: "a/web*: 10.0.0.1* 10.0.0.2*",
		},
		"its target changes": {
			do: func(w *world) { w.retarget("web", "b/new") }, during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "b/new*: 10.0.0.1* 10.0.0.2*",
		},
		"a restart": {
			do: func(w *world) { w.restart() }, during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*: 10.0.0.1* 10.0.0.2*",
		},
		"Pods go, and a restart": {
			do:     func(w *world) { w.unpod("10.0.0.1"); w.sleep(time.Minute); w.restart() },
			during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*: 10.0.0.2*",
		},
		"Pods go during a restart": {
			do:     func(w *world) { w.end(); w.unpod("10.0.0.1"); w.run() },
			during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*: 10.0.0.2*",
		},
		"a restart, and Pods go": {
			do:     func(w *world) { w.restart(); w.sleep(time.Minute); w.unpod("10.0.0.1") },
			during: "a/web*: 10.0.0.1* 10.0.0.2*", then: "a/web*: 10.0.0.2*",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{resync: time.Hour}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
				w.sleep(time.Minute)
				w.pause("true")
				w.sleep(time.Minute)
				w.wantNotes(plan.ReasonPaused + " web")
				c.do(w)
				w.sleep(3 * time.Hour)
				want := func(fabric string) {
					t.Helper()
					if fabric == "" {
						w.want()
					} else {
						w.want(fabric)
					}
				}
				want(c.during)
				w.wantPosts(0)
				w.pause("")
				w.sleep(2 * time.Second)
				want(c.then)
				w.wantForgotten("a/web/10.0.0.1")
			})
		})
	}
}

// What is left for a pause alone goes within moments of its end, also when nobody claims it.
func TestTheEndOfAPauseLetsGoOfWhatWasFound(t *testing.T) {
	bubble(t, options{resync: time.Hour, stopped: true}, func(w *world) {
		w.ours("a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("api", "a/web", "10.0.0.3")
		w.pause("true")
		w.run()
		w.sleep(3 * time.Hour)
		w.want("a/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3*")
		w.unpod("10.0.0.3") // that it goes is seen, and it never was of a paused one
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
		w.wantForgotten("a/web/10.0.0.3")
		w.undeploy("web", "10.0.0.1") // which ends its pause
		w.sleep(time.Second)
		w.want("a/web*:")
	})
}

// An address that a paused workload claims is not written for others either; one that it let go
// of, and that is not on the fabric, is theirs at once.
func TestAnAddressOfAPausedWorkloadIsNobodyElses(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("api", "b/api", "10.0.0.9")
		w.sleep(time.Minute)
		w.pause("true")
		w.sleep(time.Second)
		w.wantNotes(plan.ReasonPaused + " web")
		w.unpod("10.0.0.1")
		w.podNamed("api", "second", "10.0.0.1")
		w.sleep(time.Hour)
		w.want("a/web*: 10.0.0.1*", "b/api*: 10.0.0.9*")
		w.wantNotes(plan.ReasonPaused + " api")
		w.pods("web", "10.0.0.2")
		w.sleep(time.Hour)
		w.unpod("10.0.0.2")
		w.podNamed("api", "third", "10.0.0.2")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1*", "b/api*: 10.0.0.2* 10.0.0.9*")
		w.pause("false")
		w.sleep(time.Second)
		w.want("a/web*:", "b/api*: 10.0.0.1* 10.0.0.2* 10.0.0.9*")
		w.forget()
		w.pause("true")
		w.sleep(time.Second)
		w.wantNotes(plan.ReasonPaused + " web")
	})
}

// A pause that comes while a request is prepared or on its way stops what has not gone out.
func TestAPauseStopsWhatHasNotGoneOut(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", addrs(1200)...) // three requests
		w.beforePost(func() { w.pause("true") })
		w.sleep(time.Minute)
		w.wantPosts(1)
		w.pause("")
		w.sleep(time.Minute)
		if got := len(w.posts()); got != 3 {
			t.Errorf("%d requests", got)
		}
	})
}
