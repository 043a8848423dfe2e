package controller_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// What is not ours: nobody's, another cluster's, or with a mark that is a copy.
func strangers(w *world, path string) map[string]func() {
	return map[string]func(){
		"nobody's":          func() {},
		"another cluster's": func() { w.tag(path, aci.OwnerKey, aci.Owner("k2").Mark(aci.DN(dn(path)))) },
		"a copy":            func() { w.tag(path, aci.OwnerKey, owner.Mark(aci.DN(dn(path)+"x"))) },
	}
}

func TestASubnetThatIsNotOurs(t *testing.T) {
	const at = "a/web/10.0.0.2"
	theirs := func(w *world) { w.set(at, `"name":"x","scope":"export-rtctrl,import-security"`) }
	for name, c := range map[string]struct {
		do    func(w *world, theirs func())
		want  string
		posts int // besides the one for 10.0.0.1
	}{
		"is used when it was there before": {func(w *world, theirs func()) {
			theirs()
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		}, "a/web*: 10.0.0.1* 10.0.0.2", 0},
		"is used when it appears before its Pod": {func(w *world, theirs func()) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(time.Second)
			theirs()
			w.sleep(time.Second)
			w.pods("web", "10.0.0.2")
		}, "a/web*: 10.0.0.1* 10.0.0.2", 0},
		"stays when the claim ends": {func(w *world, theirs func()) {
			theirs()
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.sleep(time.Second)
			w.unpod("10.0.0.2")
		}, "a/web*: 10.0.0.1* 10.0.0.2", 0},
		"is ours from when it was deleted": {func(w *world, theirs func()) {
			theirs()
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.sleep(time.Second)
			w.remove(dn(at))
		}, "a/web*: 10.0.0.1* 10.0.0.2*", 1},
		"is ours from when it was deleted without a word": {func(w *world, theirs func()) {
			theirs()
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.sleep(time.Second)
			unheard(func(w *world) { w.remove(dn(at)) })(w)
			w.sleep(resynced)
		}, "a/web*: 10.0.0.1* 10.0.0.2*", 1},
		"comes to nothing when its claim has ended before": {func(w *world, theirs func()) {
			theirs()
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.sleep(time.Second)
			w.unpod("10.0.0.2")
			w.sleep(time.Second)
			w.remove(dn(at))
		}, "a/web*: 10.0.0.1*", 0},
	} {
		for whose := range strangers(nil, at) {
			t.Run(name+"/"+whose, func(t *testing.T) {
				bubble(t, options{}, func(w *world) {
					w.ours("a/web")
					w.sleep(time.Second)
					c.do(w, func() { theirs(w); strangers(w, at)[whose]() })
					w.sleep(time.Second)
					w.want(c.want)
					w.wantPosts(1 + c.posts)
					if attrs, there := w.sim.Lookup(dn(at)); there && c.posts == 0 && attrs["name"] != "x" {
						t.Errorf("its name is %q", attrs["name"])
					}
					w.forget()
					w.sleep(2 * resynced)
					w.want(c.want)
					w.wantPosts(0)
				})
			})
		}
	}
}

func TestAnEPGThatIsNotOurs(t *testing.T) {
	const gone, used, made = "", "a/web: 10.0.0.1*", "a/web*: 10.0.0.1*"
	for name, c := range map[string]struct {
		do   func(w *world, theirs func())
		want map[string]string // by whose it is
	}{
		"stays when its last workload goes": {func(w *world, theirs func()) {
			w.undeploy("web", "10.0.0.1")
		}, map[string]string{"nobody's": "a/web:", "another cluster's": "a/web:", "a copy": "a/web:"}},
		"is not restored, unless a cluster had made it": {func(w *world, theirs func()) {
			w.remove(dn("a/web"))
		}, map[string]string{"nobody's": gone, "another cluster's": made, "a copy": gone}},
		"is not restored when its deletion is found by a read": {func(w *world, theirs func()) {
			unheard(func(w *world) { w.remove(dn("a/web")) })(w)
			w.sleep(resynced)
		}, map[string]string{"nobody's": gone, "another cluster's": made, "a copy": gone}},
		"is used when somebody makes it again": {func(w *world, theirs func()) {
			w.remove(dn("a/web"))
			w.set("a/web", `"descr":"x"`)
			theirs()
			w.sleep(time.Second)
		}, map[string]string{"nobody's": used, "another cluster's": used, "a copy": used}},
		"is not restored with its L3Out": {func(w *world, theirs func()) {
			w.remove(dn("a"))
			w.sleep(10 * time.Minute)
			w.makeL3Out("a")
			w.sleep(time.Minute)
		}, map[string]string{"nobody's": gone, "another cluster's": made, "a copy": gone}},
		"is used when its L3Out comes back with it": {func(w *world, theirs func()) {
			w.remove(dn("a"))
			w.sleep(10 * time.Minute)
			w.makeL3Out("a")
			w.set("a/web", `"descr":"x"`)
			theirs()
			w.sleep(time.Minute)
		}, map[string]string{"nobody's": used, "another cluster's": used, "a copy": used}},
		"goes with its L3Out, unheard": {func(w *world, theirs func()) {
			unheard(func(w *world) { w.remove(dn("a")) })(w)
			w.sleep(resynced)
			w.makeL3Out("a")
			w.sleep(time.Minute)
		}, map[string]string{"nobody's": gone, "another cluster's": made, "a copy": gone}},
	} {
		for whose := range strangers(nil, "a/web") {
			t.Run(name+"/"+whose, func(t *testing.T) {
				bubble(t, options{}, func(w *world) {
					theirs := strangers(w, "a/web")[whose]
					w.set("a/web", `"descr":"x"`)
					theirs()
					w.deploy("web", "a/web", "10.0.0.1")
					w.sleep(time.Second)
					w.want(used)
					c.do(w, theirs)
					w.sleep(time.Second)
					if c.want[whose] == "" {
						w.want()
						w.sleep(2 * resynced)
						w.want()
						return
					}
					w.want(c.want[whose])
				})
			})
		}
	}
}

// An EPG that another cluster makes while we look on bears its mark, though no event says so.
func TestAnEPGThatAnotherClusterMadeMeanwhileIsRestored(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("db", "a/db", "10.0.0.9")
		w.sleep(time.Second)
		w.hand(dn("a"), `{"l3extInstP":{"attributes":{"name":"web","annotation":"orchestrator:aci-sync:k2"},"children":[
			{"tagAnnotation":{"attributes":{"key":"aci-sync","value":"k2 `+dn("a/web")+`"}}}]}}`)
		w.sleep(time.Second)
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Second)
		w.want("a/db*: 10.0.0.9*", "a/web: 10.0.0.1*")
		w.remove(dn("a/web"))
		w.sleep(time.Second)
		w.want("a/db*: 10.0.0.9*", "a/web*: 10.0.0.1*")
	})
}

func TestWhatOrchestratorManagesIsNotWritten(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		orchestrate := func(path, by string) {
			body := fmt.Sprintf(`{"l3extInstP":{"attributes":{"dn":%q,"extMngdBy":%q}}}`, dn(path), by)
			if err := w.sim.Seed([]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
		w.deploy("old", "a/old", "10.0.0.9")
		w.sleep(time.Minute)
		orchestrate("a/web", "msc")
		orchestrate("a/old", "msc")
		w.sleep(time.Second)
		w.forget()
		w.unpod("10.0.0.1")
		w.remove(dn("a/web/10.0.0.2"))
		w.set("a/web/10.0.0.3", `"name":"x"`)
		w.undeploy("old", "10.0.0.9")
		w.sleep(time.Hour)
		w.want("a/old*: 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.3*")
		w.wantPosts(0)
		w.restart()
		w.sleep(time.Minute)
		w.wantPosts(0)
		w.wantNotes(plan.ReasonForeignOwner + " web")
		orchestrate("a/web", "")
		orchestrate("a/old", "")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.2* 10.0.0.3*")
	})
}

// What is ours and in nobody's way is looked for in the whole fabric, also while all is quiet: a
// roll-back of the APIC may have brought it.
func TestMarkedObjectsThatAppearAreFoundByThePeriodicRead(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Minute)
		w.ours("c/old", "10.0.0.9")
		w.set("c/theirs/10.0.0.8", `"name":"x"`)
		w.sleep(resynced)
		w.want("a/web*: 10.0.0.1*", "c/theirs: 10.0.0.8")
	})
}

// After a restart a Pod whose ReplicaSet is gone belongs to nobody known: what it has stays.
func TestAPodWhoseOwnerIsNotKnownKeepsItsAddress(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("db", "a/db", "10.0.0.2")
		w.sleep(time.Second)
		w.end()
		w.fold(desired.KindReplicaSet, "web-rs", nil)
		w.fold(desired.KindReplicaSet, "db-rs", nil)
		w.undeploy("db")
		w.forget()
		w.run()
		w.sleep(time.Hour)
		w.want("a/db*: 10.0.0.2*", "a/web*: 10.0.0.1*")
		w.wantPosts(0)
		w.unpod("10.0.0.1", "10.0.0.2")
		w.sleep(2 * time.Second)
		w.want("a/web*:")
	})
}

// Somebody makes an EPG of ours anew while nobody hears of it: it is theirs, as it is over a restart.
func TestAnEPGThatSomebodyMadeAnewWhileNobodyHeard(t *testing.T) {
	for name, attrs := range map[string]string{"plain": "", "described": `,"descr":"by hand"`} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
				w.sleep(time.Minute)
				w.drop("")
				w.remove(dn("a/web"))
				w.hand(dn("a"), `{"l3extInstP":{"attributes":{"name":"web"`+attrs+`}}}`)
				w.sim.ClearFaults()
				w.sim.CloseSockets()
				w.sleep(time.Minute)
				w.want("a/web: 10.0.0.1* 10.0.0.2*")
				w.undeploy("web", "10.0.0.1", "10.0.0.2")
				w.sleep(time.Minute)
				w.want("a/web:")
			})
		})
	}
}
