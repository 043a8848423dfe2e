package controller_test

import (
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// That no goroutine is left is what a bubble itself checks.
func TestTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		before func(w *world)
		most   time.Duration
		want   []string
	}{
		"of an idle controller is immediate": {
			func(*world) {}, 0, []string{"a/web*: 10.0.0.1*"},
		},
		"comes after the write in hand": {
			func(w *world) {
				w.postFault(1, apicsim.Fault{Delay: 1500 * time.Millisecond})
				w.pods("web", "10.0.0.2")
				w.sleep(100 * time.Millisecond)
			}, 1450 * time.Millisecond, []string{"a/web*: 10.0.0.1* 10.0.0.2*"},
		},
		"gives up a write after two seconds": {
			func(w *world) {
				w.postFault(1, apicsim.Fault{Delay: time.Minute})
				w.pods("web", "10.0.0.2")
				w.sleep(100 * time.Millisecond)
			}, 2 * time.Second, []string{"a/web*: 10.0.0.1*"},
		},
		"begins no other write": {
			func(w *world) {
				w.postFault(-1, apicsim.Fault{Delay: time.Second})
				w.pods("web", addrs(2000)...)
				w.sleep(500 * time.Millisecond)
			}, 1000 * time.Millisecond, nil,
		},
		"ends the search for a culprit": {
			func(w *world) {
				w.refuse(badIP, "no")
				w.answerLate(time.Second)
				w.pods("web", addrs(100)...)
				w.sleep(2500 * time.Millisecond)
			}, time.Second, nil,
		},
		"does not wait for a backoff": {
			func(w *world) {
				w.postFault(-1, apicsim.Fault{Status: 503})
				w.pods("web", "10.0.0.2")
				w.sleep(time.Minute)
			}, 0, []string{"a/web*: 10.0.0.1*"},
		},
		"does not wait for a read": {
			func(w *world) {
				w.fault(apicsim.Fault{Match: "page=0", Times: -1, Delay: time.Minute})
				w.sim.CloseSockets()
				w.sleep(10 * time.Second)
			}, 0, []string{"a/web*: 10.0.0.1*"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.sleep(2 * time.Second)
				c.before(w)
				posts := len(w.posts())
				if took := w.end(); took > c.most {
					t.Errorf("the end took %v, want at most %v", took, c.most)
				}
				if n := len(w.posts()) - posts; n > 1 {
					t.Errorf("%d POSTs were answered after the end began", n)
				}
				if c.want != nil {
					w.want(c.want...)
				}
				w.loop.Fold(web(w)) // informers may still be running
			})
		})
	}
}

func TestTheEndDuringTheStart(t *testing.T) {
	for name, f := range map[string]func(w *world){
		"before the cluster is known":    func(w *world) { w.connect() },
		"while marks are looked for":     func(w *world) { w.fault(apicsim.Fault{Match: "tagAnnotation", Times: -1, Status: 503}); w.run() },
		"while an L3Out is read":         func(w *world) { w.fault(apicsim.Fault{Match: "page=0", Times: -1, Delay: time.Hour}); w.run() },
		"while nobody answers the login": func(w *world) { w.fault(apicsim.Fault{Match: "aaaLogin", Times: -1, Delay: time.Hour}); w.run() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{stopped: true}, func(w *world) {
				w.ours("a/web", "10.0.0.1")
				f(w)
				w.sleep(30 * time.Second)
				if took := w.end(); took > 0 {
					t.Errorf("the end took %v", took)
				}
			})
		})
	}
}
