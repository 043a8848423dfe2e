package controller_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/desired"
)

// What is known from before a restart, and what happened meanwhile.
func TestTheRecordSurvivesARestart(t *testing.T) {
	const invalid = `{"tenant":"T"`
	for name, c := range map[string]struct {
		before func(w *world) // while it runs; a/web is named by web, with 10.0.0.1 and 10.0.0.2
		down   func(w *world)
		want   []string
		record string // of a/web
	}{
		"all as it was": {
			down: func(*world) {}, want: []string{"a/web*: 10.0.0.1* 10.0.0.2*"}, record: "managed=true owner=k1 web 2/2 InSync",
		},
		"the mark was stripped": {
			down: func(w *world) { w.untag("a/web", aci.OwnerKey) },
			want: []string{"a/web*: 10.0.0.1* 10.0.0.2*"}, record: "managed=true owner=k1 web 2/2 InSync",
		},
		"the mark was stripped and the annotation changed": {
			down: func(w *world) { w.untag("a/web", aci.OwnerKey); w.set("a/web", `"annotation":"orchestrator:x"`) },
			want: []string{"a/web*: 10.0.0.1* 10.0.0.2*"}, record: "managed=true owner=k1 web 2/2 InSync",
		},
		"nothing tells any more that it was ours": {
			down: func(w *world) {
				w.untag("a/web", aci.OwnerKey)
				w.set("a/web", `"annotation":""`)
				w.untag("a/web/10.0.0.1", aci.OwnerKey)
				w.set("a/web/10.0.0.1", `"annotation":""`)
				w.remove(dn("a/web/10.0.0.2"))
			},
			want: []string{"a/web: 10.0.0.1 10.0.0.2*"}, record: "managed=false web 2/2 InSync",
		},
		"it was deleted": {
			down: func(w *world) { w.remove(dn("a/web")) },
			want: []string{"a/web*: 10.0.0.1* 10.0.0.2*"}, record: "managed=true owner=k1 web 2/2 InSync",
		},
		"somebody else made it anew": {
			down: func(w *world) { w.remove(dn("a/web")); w.theirs("a/web") },
			want: []string{"a/web: 10.0.0.1* 10.0.0.2*"}, record: "managed=false web 2/2 InSync",
		},
		"its workload was deleted": {
			down: func(w *world) { w.undeploy("web", "10.0.0.1", "10.0.0.2") }, record: "none",
		},
		"its workload was deleted and its mark stripped": {
			down: func(w *world) {
				w.undeploy("web", "10.0.0.1", "10.0.0.2")
				w.untag("a/web", aci.OwnerKey)
			},
			record: "none",
		},
		"a contract was added and its workload deleted": {
			down: func(w *world) {
				w.undeploy("web", "10.0.0.1", "10.0.0.2")
				w.child("a/web", "fvRsProv", `"tnVzBrCPName":"c"`)
			},
			want: []string{"a/web*:"}, record: "managed=true owner=k1 0/0 Kept Kept",
		},
		"the annotation turned invalid before": {
			before: func(w *world) { w.annotate("web", invalid) },
			down:   func(w *world) { w.pods("web", "10.0.0.3"); w.unpod("10.0.0.1") },
			want:   []string{"a/web*: 10.0.0.2* 10.0.0.3*"}, record: "managed=true owner=k1 web 2/2 InvalidAnnotation InvalidAnnotation",
		},
		"the annotation turned invalid meanwhile": {
			down: func(w *world) { w.annotate("web", invalid); w.unpod("10.0.0.1") },
			want: []string{"a/web*: 10.0.0.2*"}, record: "managed=true owner=k1 web 1/1 InvalidAnnotation InvalidAnnotation",
		},
		"the annotation with its own expose turned invalid": {
			before: func(w *world) { w.annotate("web", `{"tenant":"T","l3out":"a","epg":"web","expose":["services"]}`) },
			down:   func(w *world) { w.annotate("web", invalid) },
			want:   []string{"a/web*:"}, record: "managed=true owner=k1 web 0/0 InvalidAnnotation InvalidAnnotation",
		},
		"the annotation turned invalid and the record was lost": {
			down: func(w *world) { w.annotate("web", invalid); clear(w.records); w.pods("web", "10.0.0.3") },
			want: []string{"a/web*: 10.0.0.1* 10.0.0.2*"}, record: "managed=true owner=k1 0/0 InSync",
		},
		"another workload of that name has an invalid annotation": {
			down: func(w *world) {
				w.undeploy("web", "10.0.0.1", "10.0.0.2")
				r := desired.Ref{Kind: desired.KindDeployment, Namespace: "shop", Name: "web"}
				w.annotate("web", invalid)
				w.objects[r].SetUID("another")
			},
			// Held: which EPG it wants is not known.
			want: []string{"a/web*:"}, record: "managed=true owner=k1 0/0 InSync",
		},
		"the record was lost": {
			down: func(w *world) { clear(w.records) },
			want: []string{"a/web*: 10.0.0.1* 10.0.0.2*"}, record: "managed=true owner=k1 web 2/2 InSync",
		},
	} {
		for announced, observe := range map[string]bool{"": false, "/tags are announced": true} {
			t.Run(name+announced, func(t *testing.T) {
				bubble(t, options{sim: apicsim.Options{ObserveTags: observe}}, func(w *world) {
					w.hand("uni/tn-T", `{"vzBrCP":{"attributes":{"name":"c"}}}`)
					w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
					w.sleep(10 * time.Second)
					if got, want := w.record("a/web"), "managed=true owner=k1 web 2/2 InSync"; got != want {
						t.Fatalf("record %s, want %s", got, want)
					}
					if c.before != nil {
						c.before(w)
						w.sleep(time.Minute)
					}
					w.end()
					c.down(w)
					w.run()
					w.sleep(time.Minute)
					w.want(c.want...)
					if got := w.record("a/web"); got != c.record {
						t.Errorf("record %s, want %s", got, c.record)
					}
					w.forget()
					n := w.recorded
					w.sleep(2 * resynced)
					w.want(c.want...)
					w.wantPosts(0)
					if w.recorded != n {
						t.Errorf("records were written %d times although nothing happened", w.recorded-n)
					}
				})
			})
		}
	}
}

// An EPG that was somebody else's when it was there last is not restored, unless it bore the mark
// of another cluster.
func TestTheRecordTellsWhoseAnAbsentEPGWas(t *testing.T) {
	for name, c := range map[string]struct {
		mark         string
		was, want    string
		record, then string
	}{
		"somebody else's": {
			was: "a/web: 10.0.0.1*\n", record: "managed=false web 0/1 EPGGone EPGGone",
			then: "managed=false web 1/1 InSync",
		},
		"another cluster's": {
			mark: aci.Owner("k2").Mark(aci.DN(dn("a/web"))), was: "a/web: 10.0.0.1*\n", want: "a/web*: 10.0.0.1*\n",
			record: "managed=true owner=k1 web 1/1 InSync", then: "managed=true owner=k1 web 1/1 InSync",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.theirs("a/web")
				if c.mark != "" {
					w.tag("a/web", aci.OwnerKey, c.mark)
				}
				w.deploy("web", "a/web", "10.0.0.1")
				w.sleep(10 * time.Second)
				if got := w.fabric(); got != c.was {
					t.Fatalf("fabric %s", got)
				}
				w.end()
				w.remove(dn("a/web"))
				w.run()
				w.sleep(time.Minute)
				if got := w.fabric(); got != c.want {
					t.Errorf("fabric %s, want %s", got, c.want)
				}
				if got := w.record("a/web"); got != c.record {
					t.Errorf("record %s, want %s", got, c.record)
				}
				w.theirs("a/web")
				w.sleep(time.Minute)
				if got := w.record("a/web"); got != c.then {
					t.Errorf("when it is there again: record %s, want %s", got, c.then)
				}
			})
		})
	}
}

// Deleting the record makes aci-sync forget.
func TestARecordThatIsDeletedByHand(t *testing.T) {
	forget := func(w *world) {
		w.mu.Lock()
		for e := range w.records {
			delete(w.records, e)
			defer w.loop.Recorded(e, nil)
		}
		w.mu.Unlock()
	}
	t.Run("an absent EPG that was somebody else's is created", func(t *testing.T) {
		bubble(t, options{}, func(w *world) {
			w.theirs("a/web")
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(10 * time.Second)
			w.remove(dn("a/web"))
			w.sleep(time.Minute)
			w.want()
			forget(w)
			w.sleep(10 * time.Second)
			w.want("a/web*: 10.0.0.1*")
		})
	})
	t.Run("one that bears our mark stays ours", func(t *testing.T) {
		bubble(t, options{}, func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(10 * time.Second)
			forget(w)
			w.sleep(10 * time.Second)
			if got, want := w.record("a/web"), "managed=true owner=k1 web 1/1 InSync"; got != want {
				t.Errorf("record %s, want %s", got, want)
			}
			w.undeploy("web", "10.0.0.1")
			w.sleep(10 * time.Second)
			w.want()
			if got := w.record("a/web"); got != "none" {
				t.Errorf("record %s", got)
			}
		})
	})
	t.Run("the target that only it knew is not known any more", func(t *testing.T) {
		bubble(t, options{}, func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.sleep(10 * time.Second)
			w.annotate("web", "{")
			w.restart()
			w.sleep(10 * time.Second)
			forget(w)
			w.sleep(time.Second)
			w.pods("web", "10.0.0.2")
			w.sleep(time.Minute)
			w.want("a/web*: 10.0.0.1*")
			if !strings.Contains(w.logged(), "no valid target is known") {
				t.Errorf("log:\n%s", w.logged())
			}
		})
	})
}

// A pause by the tag of an EPG outlives the EPG, in this run and in the next, until the record says
// that it is lifted; one by the record is as good.
func TestAPauseOutlivesItsEPG(t *testing.T) {
	lift := func(w *world) {
		w.mu.Lock()
		var lifted []desired.Record
		for e, rec := range w.records {
			rec.Paused = false
			w.records[e] = rec
			lifted = append(lifted, rec)
		}
		w.mu.Unlock()
		for _, rec := range lifted {
			w.loop.Recorded(rec.EPG, &rec)
		}
	}
	for name, unheard := range map[string]bool{"announced": false, "not announced": true} {
		t.Run("a deletion that is "+name, func(t *testing.T) {
			bubble(t, options{sim: apicsim.Options{ObserveTags: true}}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.sleep(10 * time.Second)
				w.tag("a/web", aci.PauseKey, "incident")
				w.sleep(time.Second)
				if unheard {
					w.drop("")
				}
				w.remove(dn("a/web"))
				w.sim.ClearFaults()
				w.sleep(2 * resynced)
				w.want()
				if got, want := w.record("a/web"), "managed=true paused web 0/1 Paused Paused"; got != want {
					t.Errorf("record %s, want %s", got, want)
				}
				w.restart()
				w.sleep(2 * resynced)
				w.want()
				lift(w)
				w.sleep(10 * time.Second)
				w.want("a/web*: 10.0.0.1*")
				if got, want := w.record("a/web"), "managed=true owner=k1 web 1/1 InSync"; got != want {
					t.Errorf("record %s, want %s", got, want)
				}
			})
		})
	}
	t.Run("by the record alone", func(t *testing.T) {
		bubble(t, options{}, func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.sleep(10 * time.Second)
			for e, rec := range w.records {
				rec.Paused = true
				w.records[e] = rec
				w.loop.Recorded(e, &rec)
			}
			w.forget()
			w.unpod("10.0.0.1")
			w.remove(dn("a/web/10.0.0.2"))
			w.sleep(2 * resynced)
			w.wantPosts(0)
			lift(w)
			w.sleep(10 * time.Second)
			w.want("a/web*: 10.0.0.2*")
		})
	})
}

// Churn does not flood the API server, and what is so in the end is recorded.
func TestRecordsAreWrittenRarely(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web")
		w.sleep(10 * time.Second)
		w.recorded = 0
		for _, ip := range addrs(1000) {
			w.pods("web", ip)
			w.sleep(60 * time.Millisecond)
		}
		w.mu.Lock()
		n := w.recorded
		w.mu.Unlock()
		if n > 14 { // one in 5 s
			t.Errorf("written %d times in a minute of churn", n)
		}
		w.sleep(10 * time.Second)
		if got, want := w.record("a/web"), "managed=true owner=k1 web 1000/1000 InSync"; got != want {
			t.Errorf("record %s, want %s", got, want)
		}
	})
}

// A record of another aci-sync may stay for months: it is told of once, and again when it is yet another
// one's, or comes back.
func TestARecordOfAnotherAciSyncIsToldOfOnce(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		is := func(whose string) {
			w.mu.Lock()
			w.others = map[aci.ExtEPG]string{extEPG("a/web"): whose, extEPG("a/db"): "k2"}
			w.mu.Unlock()
			w.sleep(3 * time.Hour)
		}
		told := func(web, db int) {
			t.Helper()
			for e, n := range map[string]int{"a/web": web, "a/db": db} {
				if got := strings.Count(w.logged(), `msg="cannot write a record, will try again" epg=T/`+e); got != n {
					t.Errorf("told %d times of %s, want %d", got, e, n)
				}
			}
		}
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("db", "a/db", "10.0.0.2")
		is("k2")
		w.pods("web", "10.0.0.3") // something to record
		w.sleep(time.Minute)
		told(1, 1)
		is("k3")
		told(2, 1)
		is("")
		told(2, 1)
		if got, want := w.record("a/web"), "managed=true owner=k1 web 2/2 InSync"; got != want {
			t.Errorf("record %s, want %s", got, want)
		}
		w.pods("web", "10.0.0.4")
		is("k3")
		told(3, 1)
	})
}

// What is not recorded yet is, before the end, also when one of the records is another aci-sync's.
func TestTheEndRecordsWhatIsDue(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.sleep(10 * time.Second)
		for i := range 30 {
			w.deploy(fmt.Sprintf("web%d", i), fmt.Sprintf("a/web%d", i))
		}
		w.mu.Lock()
		w.others = map[aci.ExtEPG]string{extEPG("a/web0"): "k2"}
		w.mu.Unlock()
		w.sleep(100 * time.Millisecond)
		w.end()
		if got := len(w.records); got != 29 {
			t.Errorf("%d records", got)
		}
	})
}

// Before everything is known, what is recorded stays as it is.
func TestRecordsAreNotWrittenOnPartialKnowledge(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.theirs("a/net")
		w.deploy("web", "a/web", "10.0.0.1")
		w.deploy("net", "a/net")
		w.sleep(10 * time.Second)
		w.annotate("web", "{")
		w.sleep(10 * time.Second)
		web, net := w.record("a/web"), w.record("a/net")
		w.end()
		w.recorded = 0

		w.connect()
		w.sleep(time.Second)
		w.remind(w.loop)
		w.sleep(time.Minute) // Kubernetes takes its time
		w.fault(failing("out-a"))
		for _, r := range slices.SortedFunc(maps.Keys(w.objects), desired.Ref.Compare) {
			w.loop.Fold(r, w.objects[r])
		}
		w.loop.Synced()
		w.sleep(time.Minute) // and so does the APIC
		if w.recorded != 0 || w.record("a/web") != web || w.record("a/net") != net {
			t.Errorf("written %d times: %s and %s, want %s and %s", w.recorded, w.record("a/web"), w.record("a/net"), web, net)
		}
		w.sim.ClearFaults()
		w.sleep(2 * time.Minute)
		w.want("a/net:", "a/web*: 10.0.0.1*")
		if w.record("a/web") != web || w.record("a/net") != net {
			t.Errorf("in the end %s and %s, want %s and %s", w.record("a/web"), w.record("a/net"), web, net)
		}
	})
}
