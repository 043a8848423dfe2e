package controller_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// guarding is a policy with the orphan guard at its default.
func guarding(p *plan.Policy) { p.Guard = plan.Guard{On: true, Limit: 20} }

// miss takes objects out of the cluster without anybody having seen them go, as a list does that
// does not have them.
func (w *world) miss(keep func(desired.Ref) bool) {
	for _, r := range slices.SortedFunc(maps.Keys(w.objects), desired.Ref.Compare) {
		if !keep(r) {
			w.loop.Missed(r)
		}
	}
}

// found lists all objects once more.
func (w *world) found() {
	for _, r := range slices.SortedFunc(maps.Keys(w.objects), desired.Ref.Compare) {
		w.loop.Fold(r, w.objects[r])
	}
}

// holds fails unless so many deletions wait.
func (w *world) holds(r prometheus.Gatherer, n int) {
	w.t.Helper()
	if got := measured(w.t, r, "acisync_orphans_held", ""); got != float64(n) {
		w.t.Errorf("%v deletions wait at %s, want %d", got, clock(), n)
	}
}

func (w *world) wantRecord(epg, want string) {
	w.t.Helper()
	if got := w.record(epg); got != want {
		w.t.Errorf("record of %s at %s: %s, want %s", epg, clock(), got, want)
	}
}

func (w *world) count(what string) int {
	n := 0
	for _, s := range w.notes() {
		if strings.HasPrefix(s, what+" ") {
			n++
		}
	}
	return n
}

// held lists an EPG of ours with addresses, as world.fabric does.
func held(epg string, ips ...string) string {
	ips = slices.Sorted(slices.Values(ips))
	var b strings.Builder
	b.WriteString(epg + "*:")
	for _, ip := range ips {
		b.WriteString(" " + ip + "*")
	}
	return b.String()
}

// Much of ours that nobody claims at a start is kept, and told once; all other work goes on, and
// what is claimed again is kept no longer than that.
func TestOrphansFoundAtAStartAreHeld(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{policy: guarding, metrics: r}, func(w *world) {
		many := addrs(30)
		w.deploy("web", "a/web", many...)
		w.deploy("app", "a/app", "10.9.0.1", "10.9.0.2")
		w.sleep(10 * time.Second)
		w.end()
		w.undeploy("web", many...)
		w.unpod("10.9.0.2")
		w.forget()
		w.opts.metrics = nil // it is registered
		r = prometheus.NewRegistry()
		w.opts.metrics = r
		from := len(w.logged())
		w.run()
		w.sleep(10 * time.Second)
		w.want("a/app*: 10.9.0.1*", held("a/web", many...))
		w.holds(r, 31)
		w.wantRecord("a/web", "managed=true owner=k1 0/0 OrphansHeld OrphansHeld")
		w.wantRecord("a/app", "managed=true owner=k1 app 1/1 InSync")

		// Other work goes on, also in the same EPG.
		w.pods("app", "10.9.0.3")
		w.deploy("api", "a/web", "10.9.1.1")
		w.sleep(10 * time.Second)
		w.want("a/app*: 10.9.0.1* 10.9.0.3*", held("a/web", append(addrs(30), "10.9.1.1")...))
		w.unpod("10.9.1.1")
		w.fold(desired.KindDeployment, "api", nil)
		w.sleep(10 * time.Second)
		w.want("a/app*: 10.9.0.1* 10.9.0.3*", held("a/web", many...))

		// It is told once, however long it lasts.
		w.sleep(2 * resynced)
		if n := w.count(controller.ReasonOrphansHeld); n != 1 {
			t.Errorf("%d Events OrphansHeld: %v", n, w.notes())
		}
		if n := strings.Count(w.logged()[from:], "a person is needed"); n != 1 {
			t.Errorf("%d lines of the log tell of it", n)
		}
		w.want("a/app*: 10.9.0.1* 10.9.0.3*", held("a/web", many...))

		// A third of the claims return: what is left is not so much any more.
		w.deploy("web", "a/web", many[:12]...)
		w.sleep(10 * time.Second)
		w.want("a/app*: 10.9.0.1* 10.9.0.3*", held("a/web", many[:12]...))
		w.sleep(time.Minute)
		w.holds(r, 0)
		w.wantRecord("a/web", "managed=true owner=k1 web 12/12 InSync")
	})
}

// Claims that return elsewhere release what was held here, too.
func TestWhatIsHeldIsReleasedWhenItIsNotSoMuchAnyMore(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{policy: guarding, metrics: r, stopped: true}, func(w *world) {
		few, many := addrs(25), addrs(100)[50:]
		w.ours("a/old", few...)
		w.run()
		w.sleep(10 * time.Second)
		w.holds(r, 26)
		w.deploy("web", "b/web", many...)
		w.sleep(2 * time.Minute)
		w.want(held("b/web", many...))
		w.holds(r, 0)
		w.wantRecord("a/old", "none")
	})
}

// Few orphans go at a start, and many do where they are not half of what is ours.
func TestOrphansThatAreNotManyGo(t *testing.T) {
	for name, c := range map[string]struct{ orphans, claimed int }{
		"few":                   {19, 0}, // and their EPG
		"many, but not half":    {49, 50},
		"many, and just a half": {49, 49}, // two EPGs
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
				all := addrs(c.orphans + c.claimed)
				w.ours("a/old", all[:c.orphans]...)
				w.ours("b/web", all[c.orphans:]...)
				w.deploy("web", "b/web", all[c.orphans:]...)
				w.run()
				w.sleep(10 * time.Second)
				w.want(held("b/web", all[c.orphans:]...))
				if got := w.notes(); len(got) > 0 {
					t.Errorf("told %v", got)
				}
			})
		})
	}
}

// A list of the API server that lacks what is there deletes nothing; when it is there again,
// nothing was.
func TestAListThatMissesEverything(t *testing.T) {
	for name, keep := range map[string]func(desired.Ref) bool{
		"of all kinds":   func(desired.Ref) bool { return false },
		"of Pods":        func(r desired.Ref) bool { return r.Kind != desired.KindPod },
		"of Deployments": func(r desired.Ref) bool { return r.Kind != desired.KindDeployment },
	} {
		t.Run(name, func(t *testing.T) {
			r := prometheus.NewRegistry()
			bubble(t, options{policy: guarding, metrics: r}, func(w *world) {
				many := addrs(30)
				w.deploy("web", "a/web", many...)
				w.deploy("app", "b/app", "10.9.0.1")
				w.sleep(10 * time.Second)
				w.forget()
				w.miss(keep)
				w.sleep(2 * resynced)
				w.want(held("a/web", many...), "b/app*: 10.9.0.1*")
				w.wantPosts(0)
				w.found()
				w.sleep(time.Minute)
				w.want(held("a/web", many...), "b/app*: 10.9.0.1*")
				w.wantPosts(0)
				w.holds(r, 0)
				w.wantRecord("a/web", "managed=true owner=k1 web 30/30 InSync")

				// What is seen to end after that is explained.
				w.undeploy("web", many...)
				w.sleep(10 * time.Second)
				w.want("b/app*: 10.9.0.1*")
			})
		})
	}
}

// What a list misses is told object by object, and that takes a while where there are many: nothing is
// decided before it is all told. What is little then is deleted.
func TestAListThatMissesMuchIsToldSlowly(t *testing.T) {
	bubble(t, options{policy: guarding}, func(w *world) {
		many := addrs(60)
		w.deploy("web", "a/web", many...)
		w.sleep(10 * time.Second)
		w.forget()
		for _, r := range slices.SortedFunc(maps.Keys(w.objects), desired.Ref.Compare) {
			if r.Kind == desired.KindPod {
				w.loop.Missed(r)
				w.sleep(100 * time.Millisecond)
			}
		}
		w.sleep(time.Minute)
		w.want(held("a/web", many...))
		w.wantPosts(0)

		w.found()
		w.sleep(time.Minute)
		w.loop.Missed(desired.Ref{Kind: desired.KindPod, Namespace: "shop", Name: "pod-" + many[0]})
		w.sleep(time.Minute)
		w.want(held("a/web", many[1:]...))
		w.wantPosts(1)
	})
}

// An APIC that is rolled back while we run has objects again that were deleted, and lacks what was
// made since.
func TestAnAPICThatIsRolledBack(t *testing.T) {
	for name, announced := range map[string]bool{"announced": true, "not announced": false} {
		t.Run(name, func(t *testing.T) {
			r := prometheus.NewRegistry()
			bubble(t, options{policy: guarding, metrics: r}, func(w *world) {
				many := addrs(30)
				w.deploy("web", "a/web", "10.9.0.1", "10.9.0.2")
				w.deploy("old", "a/old", many...)
				w.sleep(10 * time.Second)
				w.undeploy("old", many...)
				w.sleep(10 * time.Second)
				w.pods("web", "10.9.0.3")
				w.deploy("new", "b/new", "10.9.0.4")
				w.sleep(10 * time.Second)
				w.want("a/web*: 10.9.0.1* 10.9.0.2* 10.9.0.3*", "b/new*: 10.9.0.4*")
				w.forget()

				if !announced {
					w.drop("")
				}
				w.ours("a/old", many...)
				w.remove(dn("a/web/10.9.0.3"))
				w.remove(dn("b/new"))
				w.sim.ClearFaults()
				w.sim.CloseSockets()
				w.sleep(2 * resynced)
				w.want(held("a/old", many...), "a/web*: 10.9.0.1* 10.9.0.2* 10.9.0.3*", "b/new*: 10.9.0.4*")
				w.holds(r, 31)
				w.wantRecord("a/old", "managed=true owner=k1 0/0 OrphansHeld OrphansHeld")
				w.deploy("old", "a/old", many...)
				w.sleep(time.Minute)
				w.holds(r, 0)
				w.wantRecord("a/old", "managed=true owner=k1 old 30/30 InSync")
			})
		})
	}
}

// A roll-back may be announced object by object, and be found L3Out by L3Out where it is not: nothing is
// counted before it is all told. That is so each time.
func TestAnAPICThatIsRolledBackSlowly(t *testing.T) {
	for name, o := range map[string]apicsim.Options{"tags announced": {ObserveTags: true}, "tags not announced": {}} {
		t.Run(name, func(t *testing.T) {
			r := prometheus.NewRegistry()
			bubble(t, options{sim: o, policy: guarding, metrics: r}, func(w *world) {
				many := addrs(30)
				w.deploy("web", "a/web", "10.9.0.1") // lets us hear of a
				const web = "a/web*: 10.9.0.1*"
				for range 2 {
					w.deploy("old", "a/old", many...)
					w.sleep(10 * time.Second)
					w.undeploy("old", many...)
					w.sleep(time.Minute)
					w.want(web)
					w.ours("a/old")
					for _, ip := range many {
						w.sleep(time.Second)
						w.ours("a/old", ip)
					}
					w.sleep(time.Minute)
					w.want(held("a/old", many...), web)
					w.holds(r, 31)
				}
				// What is little goes, after a while.
				w.undeploy("old", many...)
				w.sleep(time.Minute)
				w.remove(dn("a/old"))
				w.sleep(time.Minute)
				w.ours("a/old", many[:3]...)
				w.sleep(2 * time.Second)
				w.want(held("a/old", many[:3]...), web)
				w.sleep(10 * time.Second)
				w.want(web)
				if n := w.loop.Remembered()["orphans"]; n != 0 {
					t.Errorf("%d orphans are kept in mind", n)
				}
			})
		})
	}
}

// What was seen to end is deleted, however much it is.
func TestExplainedDeletionsAreNeverHeld(t *testing.T) {
	many := addrs(100)
	half := many[:50]
	all := func(w *world) { w.want() }
	for name, c := range map[string]struct {
		do   func(w *world)
		then func(w *world)
	}{
		"a Deployment is deleted, its Pods later": {
			do:   func(w *world) { w.undeploy("web"); w.sleep(30 * time.Second); w.unpod(many...) },
			then: all,
		},
		"a Deployment is deleted, its Pods before": {
			do:   func(w *world) { w.unpod(many...); w.undeploy("web") },
			then: all,
		},
		"scaled to nothing": {
			do: func(w *world) { w.unpod(many...) }, then: func(w *world) { w.want("a/web*:") },
		},
		"another EPG": {
			do: func(w *world) { w.retarget("web", "b/web") }, then: func(w *world) { w.want(held("b/web", many...)) },
		},
		"no annotation": {
			do: func(w *world) { w.annotate("web", "") }, then: all,
		},
		"all addresses change": {
			do: func(w *world) {
				w.unpod(half...)
				for i, ip := range half {
					w.podNamed("web", "pod-"+many[50+i], ip) // of Pods that were there
				}
			},
			then: func(w *world) { w.want(held("a/web", half...)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{policy: guarding}
			bubble(t, o, func(w *world) {
				w.deploy("web", "a/web", many...)
				w.sleep(10 * time.Second)
				w.want(held("a/web", many...))
				w.forget()
				c.do(w)
				w.sleep(time.Minute)
				c.then(w)
				if n := w.count(controller.ReasonOrphansHeld); n != 0 {
					t.Errorf("told %v", w.notes())
				}
			})
		})
	}
}

// What explains a deletion is kept in mind while it cannot be made.
func TestAnExplainedDeletionThatWaitsIsNotHeld(t *testing.T) {
	bubble(t, options{policy: guarding}, func(w *world) {
		many := addrs(30)
		w.deploy("web", "a/web", many...)
		w.sleep(10 * time.Second)
		w.fault(apicsim.Fault{Match: ".*", Times: -1, Status: 503})
		w.sim.CloseSockets()
		w.undeploy("web", many...)
		w.sleep(10 * time.Minute)
		w.sim.ClearFaults()
		w.sleep(2 * time.Minute)
		w.want()
	})
}

// Addresses that change while nobody runs are churn: their workloads are there, and claim others.
func TestChurnWhileDownIsNotHeld(t *testing.T) {
	bubble(t, options{policy: guarding}, func(w *world) {
		before, after := addrs(100)[:50], addrs(100)[50:]
		w.deploy("web", "a/web", before...)
		w.sleep(10 * time.Second)
		w.end()
		w.unpod(before...)
		w.pods("web", after...)
		w.run()
		w.sleep(10 * time.Second)
		w.want(held("a/web", after...))

		// Also when another Pod, of nobody's, has the addresses now.
		w.end()
		w.undeploy("web", after...)
		w.annotate("other", "")
		for _, ip := range after {
			w.podNamed("other", "other-"+ip, ip)
		}
		w.run()
		w.sleep(10 * time.Second)
		w.want()
	})
}

// A mark that was copied with its object makes nothing ours: it is neither an orphan nor deleted.
func TestCopiedMarksAreNoOrphans(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{policy: guarding, metrics: r, stopped: true}, func(w *world) {
		many := addrs(30)
		w.ours("a/web", many[0])
		w.deploy("web", "a/web", many[0])
		w.set("a/copy", `"annotation":"`+owner.Annotation()+`"`)
		w.tag("a/copy", aci.OwnerKey, owner.Mark(aci.DN(dn("a/web"))))
		for _, ip := range many[1:] {
			w.set("a/copy/"+ip, `"annotation":"`+owner.Annotation()+`"`)
			w.tag("a/copy/"+ip, aci.OwnerKey, owner.Mark(aci.DN(dn("a/web/"+ip))))
		}
		copies := w.sim.Dump(dn("a/copy"))
		w.run()
		w.sleep(2 * resynced)
		w.holds(r, 0)
		if got := w.sim.Dump(dn("a/copy")); got != copies {
			t.Errorf("it is now\n%s", got)
		}
		if got := w.notes(); len(got) > 0 {
			t.Errorf("told %v", got)
		}
	})
}

// The guard does not hold what a dry run or a plan tells of otherwise than a run.
func TestAPlanTellsWhatWouldBeHeld(t *testing.T) {
	bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
		w.ours("a/old", addrs(30)...)
		p, err := w.preview()
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Changes) > 0 || len(p.Held) != 31 {
			t.Errorf("%d changes, %d held", len(p.Changes), len(p.Held))
		}
	})
}

// Nothing is counted while an L3Out of whatever VRF is still to be read again after a roll-back.
func TestARollBackThatIsFoundDomainByDomain(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{policy: guarding, metrics: r}, func(w *world) {
		w.deploy("web", "a/web", "10.9.0.1")
		w.deploy("app", "c/app", "10.9.0.2")
		w.sleep(time.Minute)
		many := addrs(30)
		w.drop("")
		w.fault(failing("out-c"))
		w.ours("a/old", many[:15]...)
		w.ours("c/old", many[15:]...)
		w.sim.CloseSockets()
		w.sleep(30 * time.Second)
		w.sim.ClearFaults()
		w.sleep(2 * time.Minute)
		w.want(held("a/old", many[:15]...), "a/web*: 10.9.0.1*", "c/app*: 10.9.0.2*", held("c/old", many[15:]...))
		w.holds(r, 32)
	})
}

// An L3Out that is not in use any more is not followed. What a roll-back brings back there is looked for as soon as
// anything turns up that nothing explains, and nothing is counted before.
func TestARollBackWhereNobodyLooksAnyMore(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{policy: guarding, metrics: r}, func(w *world) {
		w.deploy("web", "a/web", "10.9.0.1")
		w.sleep(time.Minute)
		many := addrs(30)
		w.fault(apicsim.Fault{Match: "GET /api/class/tagAnnotation", Times: 3, Status: 503})
		w.ours("c/old", many[15:]...)
		w.ours("a/old", many[:15]...)
		w.sleep(2 * time.Minute)
		w.want(held("a/old", many[:15]...), "a/web*: 10.9.0.1*", held("c/old", many[15:]...))
		w.holds(r, 32)
	})
}

// What is held, and gone while its domain cannot be looked at, is held no more.
func TestWhatIsHeldAndGoneWhileItsDomainIsShut(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{policy: guarding, metrics: r, stopped: true}, func(w *world) {
		many := addrs(30)
		w.ours("a/old", many...)
		w.deploy("web", "a/web", "10.9.0.1")
		w.deploy("app", "b/app", "10.9.0.2")
		w.run()
		w.sleep(10 * time.Second)
		w.holds(r, 31)
		w.fault(failing("out-b"))
		w.sim.CloseSockets()
		w.sleep(5 * time.Second)
		w.remove(dn("a/old")) // a person sees to it
		w.sleep(5 * time.Minute)
		w.sim.ClearFaults()
		w.sleep(time.Hour)
		w.want("a/web*: 10.9.0.1*", "b/app*: 10.9.0.2*")
		w.holds(r, 0)
		if n := w.loop.Remembered()["orphans"]; n != 0 {
			t.Errorf("%d orphans are kept in mind", n)
		}
		// A workload names it: nothing stands in its way.
		w.deploy("new", "a/old", "10.9.0.3")
		w.sleep(time.Minute)
		w.wantRecord("a/old", "managed=true owner=k1 new 1/1 InSync")
	})
}

// And what is told of it after that is news.
func TestARollBackOfWhatWasHeld(t *testing.T) {
	bubble(t, options{sim: apicsim.Options{ObserveTags: true}, policy: guarding, stopped: true}, func(w *world) {
		many := addrs(30)
		w.ours("a/old", many...)
		w.deploy("web", "a/web", "10.9.0.1")
		w.deploy("app", "b/app", "10.9.0.2")
		w.run()
		w.sleep(10 * time.Second)
		w.fault(failing("out-b"))
		w.sim.CloseSockets()
		w.sleep(5 * time.Second)
		w.remove(dn("a/old"))
		w.sleep(5 * time.Minute)
		w.sim.ClearFaults()
		w.sleep(time.Hour)
		w.ours("a/old")
		for _, ip := range many {
			w.sleep(time.Second)
			w.ours("a/old", ip)
		}
		w.sleep(time.Minute)
		w.want(held("a/old", many...), "a/web*: 10.9.0.1*", "b/app*: 10.9.0.2*")
	})
}
