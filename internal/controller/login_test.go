package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// logs counts log lines of a level that hold a text.
func (w *world) logs(level, text string) int {
	n := 0
	for line := range strings.Lines(w.logged()) {
		if strings.Contains(line, "level="+level+" ") && strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// upgrade makes the APIC another release, and ends its sessions as a reboot does.
func (w *world) upgrade(version string) {
	w.sim.SetVersion(version)
	w.sim.ExpireSessions()
}

func TestAnAPICThatIsTooOldIsNotWrittenTo(t *testing.T) {
	t.Run("from the start, until it is upgraded", func(t *testing.T) {
		bubble(t, options{stopped: true, sim: apicsim.Options{Version: "4.2(7v)"}}, func(w *world) {
			w.ours("a/web", "10.0.0.1", "10.0.0.9")
			w.ours("b/old", "10.0.0.2")
			w.set("a/web/10.0.0.1", `"scope":"export-rtctrl"`)
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.deploy("new", "c/new")
			w.run()
			w.sleep(time.Hour)
			w.wantPosts(0)
			w.want("a/web*: 10.0.0.1* 10.0.0.9*", "b/old*: 10.0.0.2*")
			if w.reads("out-a") < 5 {
				t.Error("it is not read")
			}
			w.wantNotes(plan.ReasonAPICTooOld+" web", plan.ReasonAPICTooOld+" new", plan.ReasonMoveWaits+" web")
			if n := w.logs("ERROR", "too old"); n != 1 {
				t.Errorf("logged %d times", n)
			}

			w.deploy("late", "a/late", "10.0.0.3")
			w.sleep(time.Second)
			w.wantNotes(plan.ReasonAPICTooOld + " late")
			w.wantPosts(0)

			w.upgrade("5.0(1k)")
			w.sleep(20 * time.Second)
			w.want("a/late*: 10.0.0.3*", "a/web*: 10.0.0.1* 10.0.0.2*", "c/new*:")
			if w.logs("INFO", "new enough") != 1 {
				t.Error("nobody is told that it goes on")
			}
		})
	})

	t.Run("after a session ended at one that was good", func(t *testing.T) {
		bubble(t, options{}, func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(time.Second)
			w.forget()
			w.upgrade("3.2(1l)")
			w.unpod("10.0.0.1") // the login that tells is made for this write
			w.pods("web", "10.0.0.2")
			w.remove(dn("a/web/10.0.0.1"))
			w.sleep(time.Hour)
			for _, r := range w.posts() {
				if r.Status != 403 {
					t.Errorf("posted %s: %d", r.Body, r.Status)
				}
			}
			w.want("a/web*:")
			w.wantNotes(plan.ReasonAPICTooOld + " web")
			w.upgrade("6.0(9c)")
			w.sleep(20 * time.Second)
			w.want("a/web*: 10.0.0.2*")
			w.wantNotes()
		})
	})

	// Nothing is read again then, for the session lives on.
	t.Run("when a refresh of the session tells it", func(t *testing.T) {
		bubble(t, options{resync: 24 * time.Hour}, func(w *world) {
			w.sim.SetVersion("4.2(7v)")
			w.sleep(10 * time.Minute)
			w.forget()
			w.deploy("web", "a/web", "10.0.0.1")
			w.deploy("api", "c/api", "10.0.0.2")
			w.sleep(time.Minute)
			w.wantPosts(0)
			w.wantNotes(plan.ReasonAPICTooOld+" web", plan.ReasonAPICTooOld+" api")
			w.sim.SetVersion("5.2(1g)")
			w.sleep(10 * time.Minute)
			w.pods("web", "10.0.0.3") // whoever looks next tells all the others
			w.sleep(time.Second)
			w.want("a/web*: 10.0.0.1* 10.0.0.3*", "c/api*: 10.0.0.2*")
		})
	})
}

func TestAnAPICOfUnknownVersionIsWrittenToWithAWarning(t *testing.T) {
	bubble(t, options{sim: apicsim.Options{Version: "a version of the lab"}}, func(w *world) {
		for i := range 5 {
			w.deploy("web", "a/web", "10.0.0.1", fmt.Sprintf("10.0.1.%d", i))
			w.sleep(time.Hour)
			w.sim.ExpireSessions()
		}
		w.want("a/web*: 10.0.0.1* 10.0.1.0* 10.0.1.1* 10.0.1.2* 10.0.1.3* 10.0.1.4*")
		if n := w.logs("WARN", `version="a version of the lab"`); n != 1 {
			t.Errorf("%d warnings", n)
		}
	})
}

// A fabric has a tenant U with an L3Out u besides; user is who may read T only.
const tenantU = `{"fvTenant":{"attributes":{"name":"U"},"children":[{"fvCtx":{"attributes":{"name":"v"}}},{"l3extOut":{"attributes":{"name":"u"},"children":[
	{"l3extRsEctx":{"attributes":{"tnFvCtxName":"v"}}}]}}]}}`

func reader(tenants ...string) apicsim.User {
	return apicsim.User{Name: "admin", Password: "apic-sim", Tenants: tenants}
}

func restricted(o options) options {
	o.sim.Users = []apicsim.User{reader("T")}
	return o
}

// inU is a Deployment for an external EPG of its name in tenant U.
func (w *world) inU(name, l3out string, ips ...string) {
	w.annotate(name, fmt.Sprintf(`{"tenant":"U","l3out":%q,"epg":%q}`, l3out, name))
	w.pods(name, ips...)
}

func TestAUserWithRightsToOneTenantIsEnough(t *testing.T) {
	bubble(t, restricted(options{stopped: true}), func(w *world) {
		w.ours("a/web", "10.0.0.9")
		w.ours("c/gone", "10.0.0.8")
		w.deploy("web", "a/web", "10.0.0.1")
		w.run()
		w.sleep(3 * time.Hour)
		w.want("a/web*: 10.0.0.1*")
		w.sim.ExpireSessions()
		w.deploy("db", "b/db", "10.0.0.2")
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.1*", "b/db*: 10.0.0.2*")
		if n := w.logs("WARN", "not known to read the whole fabric"); n != 1 {
			t.Errorf("warned %d times", n)
		}
		if n := w.logs("WARN", "not known to read the whole fabric") + w.logs("WARN", "events lost"); n != strings.Count(w.logged(), "level=WARN") {
			t.Errorf("other warnings:\n%s", w.logged())
		}
		w.wantNotes()
		w.deploy("typo", "nowhere/x") // in a tenant that may be read
		w.sleep(time.Second)
		w.wantNotes(plan.ReasonL3OutMissing + " typo")
	})
}

func TestAnL3OutThatTheUserIsNotShownIsNotMissing(t *testing.T) {
	for name, l3out := range map[string]string{"and that is there": "u", "whether it is there or not": "none"} {
		t.Run(name, func(t *testing.T) {
			r := prometheus.NewRegistry()
			bubble(t, restricted(options{stopped: true, metrics: r}), func(w *world) {
				w.hand("uni", tenantU)
				w.inU("theirs", l3out, "10.0.0.7")
				w.deploy("web", "a/web", "10.0.0.1")
				w.run()
				w.sleep(time.Second)
				w.want("a/web*: 10.0.0.1*")
				w.inU("late", l3out)
				w.sleep(time.Minute)
				w.wantNotes(controller.ReasonNotReadable+" theirs", controller.ReasonNotReadable+" late")
				w.sleep(3 * time.Hour)
				w.wantNotes()
				if n := w.logs("WARN", "will try again"); n > 2 {
					t.Errorf("said %d times", n)
				}
				if n := w.reads("out-" + l3out); n > 3*130 {
					t.Errorf("read %d times in three hours", n)
				}
				for i, name := range []string{"theirs", "late"} {
					w.undeploy(name, "10.0.0.7")
					w.sleep(time.Minute)
					if got, want := measured(t, r, "acisync_problems", controller.ReasonNotReadable), float64(1-i); got != want {
						t.Errorf("%v workloads have a problem, want %v", got, want)
					}
				}
				if n := w.loop.Remembered()["watches"]; n != 2 { // a, and b in its VRF
					t.Errorf("%d L3Outs are watched", n)
				}
			})
		})
	}
}

func TestRightsThatComeAreUsedAtOnce(t *testing.T) {
	bubble(t, restricted(options{stopped: true}), func(w *world) {
		w.hand("uni", tenantU)
		// Of an earlier run of ours, in an L3Out that nobody names.
		left := aci.DN("uni/tn-U/out-other/instP-left")
		w.hand("uni/tn-U", `{"l3extOut":{"attributes":{"name":"other"},"children":[{"l3extInstP":{"attributes":{"name":"left","annotation":"`+
			owner.Annotation()+`"},"children":[{"tagAnnotation":{"attributes":{"key":"aci-sync","value":"`+owner.Mark(left)+`"}}}]}}]}}`)
		w.inU("theirs", "u", "10.0.0.7")
		w.deploy("web", "a/web", "10.0.0.1")
		w.run()
		w.sleep(time.Hour)
		w.wantNotes(controller.ReasonNotReadable + " theirs")
		w.sim.SetUser(reader("T", "U"))
		w.sim.ExpireSessions()
		w.sleep(5 * time.Second)
		w.wantNotes()
		if got := w.sim.Dump("uni/tn-U"); !strings.Contains(got, "instP-theirs/extsubnet-[10.0.0.7/32]") || strings.Contains(got, "left") {
			t.Errorf("not synced:\n%s", got)
		}
	})
}

func TestRightsThatGoLeaveWhatIsThere(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		// U's L3Out is in a VRF of common, together with one of T.
		w.hand("uni/tn-common", `{"fvCtx":{"attributes":{"name":"shared"}}}`)
		w.hand("uni", strings.ReplaceAll(tenantU, `"tnFvCtxName":"v"`, `"tnFvCtxName":"shared"`))
		w.hand("uni/tn-T", `{"l3extOut":{"attributes":{"name":"s"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"shared"}}}]}}`)
		w.opts.vrfs = map[string]string{"a": "v", "b": "v", "c": "w", "u": "shared", "s": "shared"}
		w.inU("moves", "u", "10.0.0.7", "10.0.0.8")
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Second)
		before := w.sim.Dump("uni/tn-U")
		w.forget()

		w.sim.SetUser(reader("T"))
		w.sim.ExpireSessions()
		w.sleep(10 * time.Second)
		w.wantNotes(controller.ReasonNotReadable + " moves")
		w.deploy("moves", "s/e") // its addresses are still in U
		w.unpod("10.0.0.8")
		w.deploy("web", "a/web", "10.0.0.2")
		w.sleep(3 * time.Hour)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
		if got := w.sim.Dump("uni/tn-U"); got != before {
			t.Errorf("U was changed:\n%s", got)
		}

		w.sim.SetUser(reader("T", "U"))
		w.sim.ExpireSessions()
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*", "s/e*: 10.0.0.7*")
		if got := w.sim.Dump("uni/tn-U"); strings.Contains(got, "instP") {
			t.Errorf("something of ours is left in U:\n%s", got)
		}
	})
}

// The login tells of tenants that were there when it was made.
func TestATenantThatComesAfterTheLoginIsUsed(t *testing.T) {
	o := options{}
	o.sim.Users = []apicsim.User{reader("T", "U")}
	bubble(t, o, func(w *world) {
		w.inU("web", "u", "10.0.0.7")
		w.sleep(time.Hour)
		w.wantNotes(controller.ReasonNotReadable + " web")
		w.hand("uni", tenantU)
		w.sleep(time.Second)
		if got := w.sim.Dump("uni/tn-U"); !strings.Contains(got, "instP-web/extsubnet-[10.0.0.7/32]") {
			t.Errorf("not synced:\n%s", got)
		}
		w.wantNotes()
	})
}

// A real refusal is the same as an empty answer.
func TestAnL3OutThatTheAPICRefusesToShowIsToldOf(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("api", "c/api", "10.0.0.2")
		w.sleep(time.Second)
		w.fault(apicsim.Fault{Match: `GET .*/out-c\.json`, Times: -1, Status: 403, Code: "403", Text: "no rights"})
		w.sleep(15 * time.Minute) // until the periodic read
		w.wantNotes(controller.ReasonNotReadable + " api")
		if !strings.Contains(w.logged(), "(no rights)") {
			t.Error("it is not said what the APIC says")
		}
		w.pods("web", "10.0.0.3")
		w.pods("api", "10.0.0.4") // what is known of c may not be so any more
		w.sleep(time.Hour)
		w.want("a/web*: 10.0.0.1* 10.0.0.3*", "c/api*: 10.0.0.2*")
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.1* 10.0.0.3*", "c/api*: 10.0.0.2* 10.0.0.4*")
		w.wantNotes()
	})
}

// Where it is not known what the user may read, everything that is named is read before anything is
// written: it could hold what was not shown.
func TestALoginThatDoesNotTellRightsIsCareful(t *testing.T) {
	for name, c := range map[string]struct {
		options options
		waits   bool
	}{
		"a login that tells nothing":     {options{silent: true}, true},
		"a user of one tenant":           {restricted(options{}), false},
		"a user who may read everything": {options{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.stopped = true
			bubble(t, c.options, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.deploy("api", "c/api", "10.0.0.2")
				w.deploy("typo", "nowhere/typo")
				w.fault(failing("out-c"))
				w.run()
				w.sleep(10 * time.Second)
				if wrote := len(w.posts()) > 0; wrote == c.waits {
					t.Errorf("wrote: %v", wrote)
				}
				w.sim.ClearFaults()
				w.sleep(time.Minute)
				w.want("a/web*: 10.0.0.1*", "c/api*: 10.0.0.2*")
				w.wantNotes(plan.ReasonL3OutMissing + " typo")
			})
		})
	}
}

// What a WebSocket is refused for is the token, in whose place the next one comes.
func TestAWebSocketThatIsRefusedIsNoMatterOfRights(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Second)
		w.forget()
		w.fault(apicsim.Fault{Match: `GET /socket`, Times: -1, Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"})
		w.sim.CloseSockets()
		w.sleep(10 * time.Minute)
		w.wantNotes()
	})
}
