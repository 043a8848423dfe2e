package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
)

// Somebody, or another program, undoes at once whatever is put back.
func TestNoWars(t *testing.T) {
	for name, c := range map[string]struct {
		undo   func(w *world)
		undone func(w *world) bool
	}{
		"over the existence of a subnet": {
			undo:   func(w *world) { w.remove(dn(web1)) },
			undone: func(w *world) bool { _, there := w.sim.Lookup(dn(web1)); return !there },
		},
		"over the name of a subnet": {
			undo:   func(w *world) { w.set(web1, `"name":"x"`) },
			undone: func(w *world) bool { attrs, _ := w.sim.Lookup(dn(web1)); return attrs["name"] == "x" },
		},
		"over the flags of a subnet": {
			undo:   func(w *world) { w.set(web1, `"scope":"export-rtctrl"`) },
			undone: func(w *world) bool { attrs, _ := w.sim.Lookup(dn(web1)); return attrs["scope"] == "export-rtctrl" },
		},
		"over the mark of a subnet": {
			undo:   func(w *world) { w.untag(web1, aci.OwnerKey) },
			undone: func(w *world) bool { return !strings.Contains(w.fabric(), "10.0.0.1*") },
		},
		"over the existence of an EPG": {
			undo:   func(w *world) { w.remove(dn("a/web")) },
			undone: func(w *world) bool { _, there := w.sim.Lookup(dn("a/web")); return !there },
		},
		"over the mark of an EPG": {
			undo:   func(w *world) { w.untag("a/web", aci.OwnerKey) },
			undone: func(w *world) bool { return !strings.Contains(w.fabric(), "a/web*") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{sim: apicsim.Options{ObserveTags: true}}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
				w.deploy("db", "a/db", "10.0.0.9")
				w.sleep(2 * time.Second)
				w.forget()

				var backs []time.Duration // when it was put back
				c.undo(w)
				for began := time.Now(); time.Since(began) < 4*time.Hour; w.sleep(500 * time.Millisecond) {
					if !c.undone(w) {
						backs = append(backs, time.Since(began))
						c.undo(w)
					}
				}
				switch {
				case len(backs) < 3 || backs[2] > 10*time.Second:
					t.Errorf("not put back thrice at once: %v", backs)
				case len(backs) < 12 || len(backs) > 40:
					t.Errorf("put back %d times in 4 hours: %v", len(backs), backs)
				}
				for i := 4; i < len(backs); i++ {
					wait, before := backs[i]-backs[i-1], backs[i-1]-backs[i-2]
					if wait < before-2*time.Second || wait > 10*time.Minute+5*time.Second {
						t.Errorf("put back after %v, the time before after %v", wait, before)
					}
				}
				if n := strings.Count(fmt.Sprint(w.notes()), controller.ReasonDriftFight+" web"); n != 1 {
					t.Errorf("told %d times: %v", n, w.notes())
				}
				if n := len(w.posts()); n > 2*len(backs)+2 {
					t.Errorf("%d POSTs to put it back %d times", n, len(backs))
				}

				// Meanwhile others are looked after as ever.
				w.remove(dn("a/db/10.0.0.9"))
				w.pods("db", "10.0.0.8")
				w.sleep(time.Second)
				if got := w.fabric(); !strings.Contains(got, "a/db*: 10.0.0.8* 10.0.0.9*\n") {
					t.Errorf("fabric:\n%s", got)
				}

				// They give up: it is put back within 10 minutes.
				w.sleep(11 * time.Minute)
				w.want("a/db*: 10.0.0.8* 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.2*")

				// After as long in peace it is put back at once again.
				w.sleep(21 * time.Minute)
				if n := w.loop.Remembered()["fights"]; n != 0 {
					t.Errorf("%d fights are remembered", n)
				}
				c.undo(w)
				w.sleep(time.Second)
				w.want("a/db*: 10.0.0.8* 10.0.0.9*", "a/web*: 10.0.0.1* 10.0.0.2*")
			})
		})
	}
}

// Two changes in a minute, or one now and then, are no fight.
func TestNowAndThenIsNoWar(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Second)
		w.forget()
		for range 20 {
			for range 2 {
				w.remove(dn(web1))
				w.sleep(time.Second)
				w.want("a/web*: 10.0.0.1*")
			}
			w.sleep(time.Minute)
		}
		if got := fmt.Sprint(w.notes()); strings.Contains(got, controller.ReasonDriftFight) {
			t.Errorf("told %s", got)
		}
	})
}

// What is claimed no longer, or elsewhere, leaves although it is fought over.
func TestAFightDoesNotHoldUpTheCluster(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(2 * time.Second)
		for range 4 {
			w.set(web1, `"name":"x"`)
			w.sleep(time.Second)
		}
		w.deploy("web", "a/new")
		w.sleep(time.Second)
		w.want("a/new*: 10.0.0.1* 10.0.0.2*")
		w.undeploy("web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Second)
		w.want()
	})
}
