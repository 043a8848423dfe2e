package controller_test

import (
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestWhatBecameOfAWrite(t *testing.T) {
	for name, f := range map[string]struct {
		before func(w *world)
		posts  int
	}{
		"its events are lost, and it is read after a while": {
			func(w *world) { w.drop("") }, 1,
		},
		"its events come before its answer": {
			func(w *world) { w.answerLate(2 * time.Second) }, 1,
		},
		"its events come before its answer, which comes after the time for them is over": {
			func(w *world) { w.answerLate(20 * time.Second) }, 1,
		},
		"its answer is lost": {
			func(w *world) { w.postFault(1, apicsim.Fault{After: true, Hangup: true}) }, 1,
		},
		"its answer is lost and its events too": {
			func(w *world) {
				w.drop("")
				w.postFault(1, apicsim.Fault{After: true, Hangup: true})
			}, 1,
		},
		"it is not carried out and nothing is answered": {
			func(w *world) { w.postFault(1, apicsim.Fault{Hangup: true}) }, 2,
		},
		"its answer is an error page although it was carried out": {
			func(w *world) { w.postFault(1, apicsim.Fault{After: true, Status: 503}) }, 1,
		},
		"it is still in progress, and done later": {
			func(w *world) { w.postFault(1, apicsim.Fault{After: true, Status: 202}) }, 1,
		},
		"it was in progress, and nothing came of it": {
			func(w *world) { w.postFault(1, apicsim.Fault{Status: 202}) }, 2,
		},
	} {
		for change, g := range map[string]struct {
			do   func(w *world)
			want []string
		}{
			"a creation": {
				func(w *world) { w.pods("web", "10.0.0.2") }, []string{"a/theirs: 10.0.9.9", "a/web*: 10.0.0.1* 10.0.0.2*"},
			},
			"a new EPG": {
				func(w *world) { w.deploy("api", "a/api", "10.0.0.3") },
				[]string{"a/api*: 10.0.0.3*", "a/theirs: 10.0.9.9", "a/web*: 10.0.0.1*"},
			},
			"a deletion":  {func(w *world) { w.unpod("10.0.0.1") }, []string{"a/theirs: 10.0.9.9", "a/web*:"}},
			"an EPG goes": {func(w *world) { w.undeploy("web", "10.0.0.1") }, []string{"a/theirs: 10.0.9.9"}},
			"an address in an EPG that is not ours": {
				func(w *world) { w.deploy("guest", "a/theirs", "10.0.0.4") },
				[]string{"a/theirs: 10.0.0.4* 10.0.9.9", "a/web*: 10.0.0.1*"},
			},
		} {
			t.Run(change+"/"+name, func(t *testing.T) {
				bubble(t, options{}, func(w *world) {
					w.set("a/theirs/10.0.9.9", `"name":"x"`)
					w.deploy("web", "a/web", "10.0.0.1")
					w.sleep(2 * time.Second)
					w.forget()
					f.before(w)
					g.do(w)
					w.sleep(time.Minute)
					w.want(g.want...)
					w.wantPosts(f.posts)
					w.forget()
					w.sim.ClearFaults()
					w.sleep(7 * time.Minute)
					w.wantPosts(0)
					if n := w.reads("/api/mo/uni/tn-T"); n > 0 {
						t.Errorf("%d reads afterwards", n)
					}
				})
			})
		}
	}
}

// Between what is known and what is written, somebody else was there.
func TestSomebodyElseWasFaster(t *testing.T) {
	for name, f := range map[string]struct {
		somebody func(w *world)
		change   func(w *world)
		want     []string
		posts    int // with all that is to be repaired
	}{
		"and made the EPG": {
			func(w *world) { w.set("a/api", `"descr":"theirs"`) },
			func(w *world) { w.deploy("api", "a/api", "10.0.0.3") },
			[]string{"a/api: 10.0.0.3*", "a/theirs: 10.0.0.4* 10.0.9.9", "a/web*: 10.0.0.1*"},
			2,
		},
		"and made the address": {
			func(w *world) { w.set("a/web/10.0.0.3", `"name":"theirs"`) },
			func(w *world) { w.pods("web", "10.0.0.3", "10.0.0.5") },
			[]string{"a/theirs: 10.0.0.4* 10.0.9.9", "a/web*: 10.0.0.1* 10.0.0.3 10.0.0.5*"},
			2,
		},
		"and deleted the address that is to go": {
			func(w *world) { w.remove(dn("a/web/10.0.0.1")) },
			func(w *world) { w.unpod("10.0.0.1") },
			[]string{"a/theirs: 10.0.0.4* 10.0.9.9", "a/web*:"},
			1,
		},
		"and deleted the EPG": {
			func(w *world) { w.remove(dn("a/web")) },
			func(w *world) { w.pods("web", "10.0.0.3") },
			[]string{"a/theirs: 10.0.0.4* 10.0.9.9", "a/web*: 10.0.0.1* 10.0.0.3*"},
			3,
		},
		"and deleted an EPG that is not ours": {
			func(w *world) { w.remove(dn("a/theirs")) },
			func(w *world) { w.pods("guest", "10.0.0.5") },
			[]string{"a/web*: 10.0.0.1*"},
			2,
		},
		"and deleted the L3Out": {
			func(w *world) { w.remove(dn("a")) },
			func(w *world) { w.pods("web", "10.0.0.3") },
			nil, 1,
		},
	} {
		for mode, upsert := range map[string]bool{"where modified needs the object": false, "where modified makes it": true} {
			for news, lost := range map[string]bool{"": false, "/unheard": true} {
				t.Run(name+"/"+mode+news, func(t *testing.T) {
					bubble(t, options{sim: apicsim.Options{ModifyCreates: upsert}}, func(w *world) {
						w.set("a/theirs/10.0.9.9", `"name":"x"`)
						w.deploy("web", "a/web", "10.0.0.1")
						w.deploy("guest", "a/theirs", "10.0.0.4")
						w.sleep(2 * time.Second)
						w.forget()
						w.beforePost(func() {
							if lost {
								w.drop("")
							}
							f.somebody(w)
							w.sim.ClearFaults()
						})
						f.change(w)
						if w.sleep(10 * time.Second); lost && upsert {
							w.sleep(11 * time.Minute) // an EPG that our POST made again is only found by a read
						}
						if lost && upsert && name == "and deleted an EPG that is not ours" {
							// Nothing tells that it was our POST that made it: what may be a person's stays.
							w.want("a/theirs: 10.0.0.4* 10.0.0.5*", "a/web*: 10.0.0.1*")
							return
						}
						w.want(f.want...)
						if n := len(w.posts()); n > f.posts {
							t.Errorf("%d POSTs, want at most %d:\n%s", n, f.posts, bodies(w.posts()))
						}
						w.forget()
						w.sleep(8 * time.Minute)
						w.wantPosts(0)
					})
				})
			}
		}
	}
}

func TestAForeignEPGIsUsedAgainWhenItsOwnerMakesItAgain(t *testing.T) {
	for mode, upsert := range map[string]bool{"where modified needs the object": false, "where modified makes it": true} {
		t.Run(mode, func(t *testing.T) {
			bubble(t, options{sim: apicsim.Options{ModifyCreates: upsert}}, func(w *world) {
				w.set("a/theirs", `"descr":"x"`)
				w.deploy("guest", "a/theirs", "10.0.0.4")
				w.sleep(time.Second)
				w.remove(dn("a/theirs"))
				w.pods("guest", "10.0.0.5")
				w.sleep(time.Hour)
				w.want()
				w.set("a/theirs", `"descr":"x"`)
				w.sleep(time.Second)
				w.want("a/theirs: 10.0.0.4* 10.0.0.5*")
			})
		})
	}
}

func TestWhatAnAbsentEPGWasIsForgottenWithItsLastWorkload(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("other", "a/other", "10.0.0.1")
		w.set("a/theirs", `"descr":"x"`)
		w.deploy("guest", "a/theirs", "10.0.0.4")
		w.sleep(time.Second)
		w.remove(dn("a/theirs"))
		w.sleep(time.Minute)
		w.undeploy("guest", "10.0.0.4")
		w.sleep(time.Minute)
		w.want("a/other*: 10.0.0.1*")
		w.deploy("new", "a/theirs", "10.0.0.5") // it is as if it had never been there
		w.sleep(time.Minute)
		w.want("a/other*: 10.0.0.1*", "a/theirs*: 10.0.0.5*")
	})
}

func TestAnL3OutThatVanishedIsWaitedFor(t *testing.T) {
	for name, silent := range map[string]bool{"announced": false, "not announced": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.sleep(time.Second)
				w.remove(dn("a"))
				w.sleep(10 * time.Minute)
				w.want()
				if silent {
					w.drop("")
				}
				w.makeL3Out("a")
				wait := 2 * time.Second
				if silent {
					wait = time.Minute
				}
				w.sleep(wait)
				w.want("a/web*: 10.0.0.1*")
			})
		})
	}
}

func TestAMissingL3OutIsLookedForEverMoreRarely(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "new/web", "10.0.0.1")
		w.sleep(time.Minute)
		const read = "out-new.json?query-target=subtree&target-subtree-class=l3extOut,l3extRsEctx,l3extInstP,l3extSubnet,fvRsProv,fvRsCons,l3extRsNodeL3OutAtt,tagAnnotation,faultInst,faultDelegate&page"
		if n := w.reads(read); n != 5 { // at 0, 5, 15, 35 and, for the first time after 60 s more, 75 s
			if n != 4 {
				t.Errorf("%d reads in the first minute", n)
			}
		}
		w.forget()
		w.sleep(time.Hour)
		if n := w.reads(read); n < 55 || n > 65 {
			t.Errorf("%d reads in an hour", n)
		}
		w.forget()
		w.opts.vrfs = map[string]string{"new": "v"}
		w.makeL3Out("new")
		w.sleep(2900 * time.Millisecond)
		w.want("new/web*: 10.0.0.1*")
		before := w.reads(read)
		w.sleep(200 * time.Millisecond)
		if after := w.reads(read); after != before+1 {
			t.Errorf("%d reads 3 s after its creation, want one", after-before)
		}
		w.forget()
		w.sleep(5 * time.Minute)
		if n := w.reads(read); n != 0 {
			t.Errorf("%d reads afterwards", n)
		}
	})
}
