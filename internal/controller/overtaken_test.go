package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// TestWhatOvertakesAPlanIsRespected changes the world while the first of two POSTs of one plan,
// to a/db, is answered: the second one, to a/web, is not as planned any more.
func TestWhatOvertakesAPlanIsRespected(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(w *world)
		want      string // of a/web
	}{
		"a mark that somebody took off": {func(w *world) {
			w.untag("a/web/10.0.0.1", "aci-sync")
			w.set("a/web/10.0.0.1", `"descr":"mine","annotation":""`)
		}, "a/web*: 10.0.0.1 10.0.0.2*"},
		"a gap in the events": {func(w *world) {
			w.drop("10.0.0.1/32")
			w.untag("a/web/10.0.0.1", "aci-sync")
			w.set("a/web/10.0.0.1", `"descr":"mine","annotation":""`)
			w.sim.CloseSockets()
		}, "a/web*: 10.0.0.1 10.0.0.2*"},
		"a pause": {func(w *world) {
			w.tag("a/web", "aci-sync-paused", "yes")
			w.set("a/web", `"descr":"incident"`)
		}, "a/web*: 10.0.0.1* 10.0.0.2*"},
		"a claim that is back": {func(w *world) {
			w.pods("web", "10.0.0.1")
		}, "a/web*: 10.0.0.1* 10.0.0.2*"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{sim: apicsim.Options{ObserveTags: true}}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
				w.deploy("db", "a/db", "10.0.0.8", "10.0.0.9")
				w.sleep(4 * time.Second)
				w.forget()
				w.answerLate(200 * time.Millisecond)
				w.beforePost(func() { c.meanwhile(w) })
				w.unpod("10.0.0.9", "10.0.0.1")
				w.sleep(15 * time.Second)
				w.want("a/db*: 10.0.0.8*", c.want)
				for _, p := range w.posts() {
					if strings.Contains(bodies(w.posts()), `"ip":"10.0.0.1/32","status":"deleted"`) {
						t.Errorf("a POST deletes 10.0.0.1 all the same: %s", p.Path)
					}
				}
			})
		})
	}
}

func TestAnL3OutThatTheUserMayNotReadStopsNobodyElse(t *testing.T) {
	forbidden := apicsim.Fault{Match: `GET .*/out-c\.json`, Times: -1, Status: 403, Code: "403", Text: "no rights"}

	t.Run("at the start, when marks cannot be searched for either", func(t *testing.T) {
		bubble(t, options{stopped: true}, func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.deploy("typo", "c/typo", "10.0.0.7")
			w.fault(apicsim.Fault{Match: "GET .*class/tagAnnotation", Times: -1, Status: 403, Code: "403", Text: "no rights"})
			w.fault(forbidden)
			w.run()
			w.sleep(time.Minute)
			w.want("a/web*: 10.0.0.1*")
		})
	})

	t.Run("while it runs, for hours", func(t *testing.T) {
		bubble(t, options{}, func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(2 * time.Second)
			w.fault(forbidden)
			w.deploy("typo", "c/typo", "10.0.0.7")
			for i := range 240 {
				ip := fmt.Sprintf("10.7.0.%d", i+1)
				w.pods("web", ip)
				w.sleep(10 * time.Second)
				if !strings.Contains(w.fabric(), " "+ip+"*") {
					t.Fatalf("%s is not there after 10 s, at %s", ip, clock())
				}
				w.sleep(30 * time.Second)
			}
		})
	})
}

func TestAWriteIsNotRepeatedAfterTheEnd(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(4 * time.Second)
		w.fault(apicsim.Fault{
			Match: "^POST /api/mo/uni", Times: 1, Delay: time.Second,
			Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)",
		})
		w.pods("web", "10.0.0.3")
		w.sleep(500 * time.Millisecond)
		w.end()
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1*")
	})
}
