package controller_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// epg is an EPG such as "a/web".
func epg(path string) aci.ExtEPG {
	l3out, name, _ := strings.Cut(path, "/")
	return aci.ExtEPG{L3Out: aci.L3Out{Tenant: "T", Name: l3out}, Name: name}
}

// objects are the DNs of paths, sorted.
func objects(paths ...string) []aci.DN {
	var out []aci.DN
	for _, p := range paths {
		out = append(out, aci.DN(dn(p)))
	}
	slices.Sort(out)
	return out
}

// in are the paths of an EPG and addresses in it.
func in(epg string, ips ...string) []string {
	out := []string{epg}
	for _, ip := range ips {
		out = append(out, epg+"/"+ip)
	}
	return out
}

// request reads "prune", "adopt prototype --epg" and the like.
func request(t *testing.T, text string) plan.Request {
	t.Helper()
	r, ok := plan.ParseApproval(text + " hash")
	if !ok {
		t.Fatalf("%q is no request", text)
	}
	return r
}

// approve writes an approval into the record of an EPG, as the command does.
func (w *world) approve(path, approval string) {
	w.t.Helper()
	e := epg(path)
	w.mu.Lock()
	rec, ok := w.records[e]
	rec.Approved = approval
	w.records[e] = rec
	w.answers = nil
	w.mu.Unlock()
	if !ok {
		w.t.Fatalf("no record of %s", path)
	}
	w.loop.Recorded(e, &rec)
}

// wantAnswers compares the answers since the last approval, without what they answer.
func (w *world) wantAnswers(approval string, want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, a := range w.answers {
		rest, ok := strings.CutPrefix(a, approval+": ")
		if !ok {
			w.t.Errorf("the answer %q is to something else", a)
		}
		got = append(got, rest)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("answers at %s: %q, want %q", clock(), got, want)
	}
}

// A person approves, by the record, that what is held is deleted; the live controller does it and
// answers, and the rest is still held.
func TestPruneByALiveController(t *testing.T) {
	many := addrs(60)
	first, rest := many[:30], many[30:]
	for name, c := range map[string]struct {
		before func(w *world) // while it runs
		about  func() []aci.DN
		answer string
		gone   bool
	}{
		"what was shown": {answer: controller.AnswerDone, gone: true},
		"less than there is": {
			about: func() []aci.DN { return objects(in("a/old", first[1:]...)...) }, answer: controller.AnswerOutdated,
		},
		"what is claimed again": {
			before: func(w *world) { w.deploy("old", "a/old", first[0]) }, answer: controller.AnswerOutdated,
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
				w.ours("a/old", first...)
				w.ours("c/old", rest...)
				w.run()
				w.sleep(10 * time.Second)
				w.want(held("a/old", first...), held("c/old", rest...))
				if c.before != nil {
					c.before(w)
					w.sleep(10 * time.Second)
				}
				about := objects(in("a/old", first...)...)
				if c.about != nil {
					about = c.about()
				}
				was := w.fabric()
				approval := plan.Request{}.Approve(about)
				w.approve("a/old", approval)
				w.sleep(10 * time.Second)
				w.wantAnswers(approval, c.answer)
				if !c.gone {
					if got := w.fabric(); got != was {
						t.Errorf("fabric %s, was %s", got, was)
					}
				} else {
					w.want(held("c/old", rest...))
					w.wantRecord("a/old", "none")
				}
				w.sleep(2 * resynced)
				w.wantAnswers(approval, c.answer)
				w.wantRecord("c/old", "managed=true owner=k1 0/0 OrphansHeld OrphansHeld")
			})
		})
	}
}

// What is approved in an EPG that stays is done there, and that it stays is said.
func TestPruneOfAnEPGThatIsUsed(t *testing.T) {
	bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
		many := addrs(30)
		w.hand("uni/tn-T", `{"vzBrCP":{"attributes":{"name":"c"}}}`)
		w.ours("a/old", many...)
		w.child("a/old", "fvRsProv", `"tnVzBrCPName":"c"`)
		w.run()
		w.sleep(10 * time.Second)
		w.want(held("a/old", many...))
		approval := plan.Request{}.Approve(objects(in("a/old", many...)...))
		w.approve("a/old", approval)
		w.sleep(30 * time.Second)
		w.want("a/old*:")
		w.wantRecord("a/old", "managed=true owner=k1 0/0 Kept Kept")
		w.wantAnswers(approval, "30 of 31 done: the external EPG stays because of provided contract c")
	})
}

// An approval that means nothing to us is answered, and nothing is done.
func TestAnApprovalThatIsNotUnderstood(t *testing.T) {
	for _, text := range []string{"prune", "prune all abc", "adopt x abc", "adopt prototype --all abc", "x"} {
		t.Run(text, func(t *testing.T) {
			bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
				many := addrs(30)
				w.ours("a/old", many...)
				w.run()
				w.sleep(10 * time.Second)
				w.approve("a/old", text)
				w.sleep(time.Minute)
				w.wantAnswers(text, controller.AnswerUnknown)
				w.want(held("a/old", many...))
			})
		})
	}
}

// An approval waits for the read of its L3Out, and for the start of the controller.
func TestAnApprovalWaitsUntilAllIsKnown(t *testing.T) {
	many := addrs(30)
	approval := plan.Request{}.Approve(objects(in("a/old", many...)...))
	t.Run("events were lost", func(t *testing.T) {
		bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
			w.ours("a/old", many...)
			w.run()
			w.sleep(10 * time.Second)
			w.fault(failing("out-a"))
			w.sim.CloseSockets()
			w.sleep(time.Second)
			w.approve("a/old", approval)
			w.sleep(30 * time.Second)
			w.wantAnswers(approval)
			w.want(held("a/old", many...))
			w.sim.ClearFaults()
			w.sleep(time.Minute)
			w.wantAnswers(approval, controller.AnswerDone)
			w.want()
		})
	})
	t.Run("made while nobody runs", func(t *testing.T) {
		bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
			w.ours("a/old", many...)
			w.run()
			w.sleep(10 * time.Second)
			w.end()
			e := epg("a/old")
			rec := w.records[e]
			rec.Approved = approval
			w.records[e] = rec
			w.run()
			w.sleep(time.Minute)
			w.wantAnswers(approval, controller.AnswerDone)
			w.want()
		})
	})
}

// Nothing is written where a pause stands, and whoever approved is told so.
func TestAnApprovalWhereAPauseStands(t *testing.T) {
	many := addrs(30)
	for name, c := range map[string]struct {
		policy func(*plan.Policy)
		do     func(w *world)
		answer string
	}{
		"the EPG is paused":   {do: func(w *world) { w.tag("a/old", aci.PauseKey, "x") }, answer: "0 of 31 done: T/a/old is paused"},
		"the L3Out is paused": {do: func(w *world) { w.tag("a", aci.PauseKey, "x") }, answer: "0 of 31 done: T/a/old is paused"},
		"the L3Out is not allowed": {
			policy: func(p *plan.Policy) { p.Allow, _ = plan.ParseAllow([]string{"T/b"}) }, answer: "0 of 31 done: --allow does not name the L3Out T/a",
		},
		"nothing may be deleted": {
			policy: func(p *plan.Policy) { p.UpsertOnly = true }, answer: "0 of 31 done: --policy=upsert-only deletes nothing",
		},
		"the APIC refuses": {
			do: func(w *world) { w.refuse(`"deleted"`, "no") }, answer: "0 of 31 done: see its conditions and the log, and look again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{stopped: true, policy: func(p *plan.Policy) {
				guarding(p)
				if c.policy != nil {
					c.policy(p)
				}
			}}, func(w *world) {
				w.ours("a/old", many...)
				w.run()
				w.sleep(10 * time.Second)
				if c.do != nil {
					c.do(w)
				}
				w.sleep(10 * time.Second)
				approval := plan.Request{}.Approve(objects(in("a/old", many...)...))
				w.approve("a/old", approval)
				w.sleep(time.Minute)
				w.wantAnswers(approval, c.answer)
				w.want(held("a/old", many...))
			})
		})
	}
}

// foreign makes EPGs and addresses of a source: a/web with .1 to .3 that are to be adopted, and .9
// that nobody claims; the workload claims .1 to .4, of which .4 is of another source.
func (w *world) foreign(source string) {
	attrs, tag := `"annotation":""`, aci.Owner("")
	other := `"annotation":"` + plan.PrototypeAnnotation + `"`
	switch {
	case source == "prototype":
		attrs, other = other, attrs
	case source == "cluster:k2":
		tag = "k2"
	}
	w.set("a/web", attrs)
	for i, path := range append([]string{"a/web"}, "a/web/10.0.0.1", "a/web/10.0.0.2", "a/web/10.0.0.3", "a/web/10.0.0.9") {
		if i > 0 {
			w.set(path, attrs+`,"scope":"import-security","name":"theirs"`)
		}
		if tag != "" {
			w.tag(path, aci.OwnerKey, tag.Mark(aci.DN(dn(path))))
		}
	}
	w.set("a/web/10.0.0.4", other)
}

// What exists and is claimed is adopted when a person says so, and from then on is ours: kept,
// moved and deleted; the rest is left as it is.
func TestAdopt(t *testing.T) {
	for _, source := range []string{"prototype", "cluster:k2", "unmanaged"} {
		for _, whole := range []bool{false, true} {
			for _, live := range []string{"by the live controller", "by the live controller, all made while it runs", "by itself"} {
				name := source + map[bool]string{true: " --epg"}[whole]
				t.Run(name+"/"+live, func(t *testing.T) {
					bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
						about := in("a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
						star := "*"
						if !whole {
							about, star = about[1:], ""
						}
						w.deploy("late", "b/late", "10.9.0.1")
						made := live == "by the live controller, all made while it runs"
						if made {
							w.run()
							w.sleep(10 * time.Second)
						}
						w.foreign(source)
						w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
						want := "a/web" + star + ": 10.0.0.1* 10.0.0.2* 10.0.0.3* 10.0.0.4 10.0.0.9"
						late := "b/late*: 10.9.0.1*"
						r := request(t, "adopt "+name)
						if live == "by itself" {
							w.forget()
							if err := w.apply(time.Minute, controller.Request{EPG: epg("a/web"), Plan: r, Objects: objects(about...)}); err != nil {
								t.Fatal(err)
							}
							w.want(want)
							w.wantPosts(1)
							w.run()
							w.sleep(10 * time.Second)
						} else {
							if !made {
								w.run()
							}
							w.sleep(10 * time.Second)
							w.want("a/web: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.9", late)
							approval := r.Approve(objects(about...))
							w.approve("a/web", approval)
							w.sleep(30 * time.Second)
							w.wantAnswers(approval, controller.AnswerDone)
						}
						w.want(want, late)
						if got := w.sim.Dump(dn("a/web/10.0.0.2")); !strings.Contains(got, owner.Annotation()) {
							t.Errorf("what was adopted says that others orchestrate it: %s", got)
						}
						if whole {
							w.wantRecord("a/web", "managed=true owner=k1 web 4/4 InSync")
						}

						// It is ours: put right, and deleted.
						w.set("a/web/10.0.0.1", `"scope":"export-rtctrl"`)
						w.remove(dn("a/web/10.0.0.2"))
						w.sleep(30 * time.Second)
						w.want(want, late)
						if got := w.sim.Dump(dn("a/web/10.0.0.1")); !strings.Contains(got, "import-security") || !strings.Contains(got, "shop::pod-10.0.0.1") {
							t.Errorf("drift of what was adopted is not put right: %s", got)
						}
						w.unpod("10.0.0.1", "10.0.0.4")
						w.sleep(30 * time.Second)
						w.want("a/web"+star+": 10.0.0.2* 10.0.0.3* 10.0.0.4 10.0.0.9", late)
					})
				})
			}
		}
	}
}

// What turned out to be of somebody else than it looked like is not adopted.
func TestWhatIsNotOfTheSourceIsNotAdopted(t *testing.T) {
	bubble(t, options{policy: guarding}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(10 * time.Second)
		w.unpod("10.0.0.1")
		w.sleep(10 * time.Second)
		w.set("a/web/10.0.0.1", `"name":"theirs","scope":"import-security"`)
		w.sleep(time.Second)
		w.pods("web", "10.0.0.1")
		w.sleep(10 * time.Second)
		// It is made anew by another cluster, and what is heard of that says nothing of the mark.
		approval := request(t, "adopt unmanaged").Approve(objects("a/web/10.0.0.1"))
		w.drop("annotationKey")
		w.remove(dn("a/web/10.0.0.1"))
		w.set("a/web/10.0.0.1", `"name":"theirs","scope":"import-security"`)
		w.tag("a/web/10.0.0.1", aci.OwnerKey, aci.Owner("k2").Mark(aci.DN(dn("a/web/10.0.0.1"))))
		w.approve("a/web", approval)
		w.sleep(30 * time.Second)
		w.want("a/web*: 10.0.0.1 10.0.0.2*")
		w.wantAnswers(approval, "0 of 1 done: see its conditions and the log, and look again")
		if !strings.Contains(w.sim.Dump(dn("a/web/10.0.0.1")), "k2 ") {
			t.Error("the mark of another cluster was overwritten")
		}
	})
}

// apply does what a command without a live controller does, for no longer than so long.
func (w *world) apply(within time.Duration, requests ...controller.Request) error {
	w.t.Helper()
	w.opts.unrecorded = true
	defer func() { w.opts.unrecorded = false }()
	loop, end := w.another(false)
	defer end()
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), within, errTooLong)
	defer cancel()
	err := loop.Apply(ctx, requests)
	synctest.Wait()
	return err
}

var errTooLong = errors.New("took too long")

// Without a live controller a command does what was approved and nothing else, though much is to do.
func TestApplyDoesWhatWasApprovedAndNothingElse(t *testing.T) {
	bubble(t, options{policy: guarding, stopped: true}, func(w *world) {
		many := addrs(60)
		first, rest := many[:30], many[30:]
		w.ours("a/old", first...)
		w.ours("c/old", rest...)
		w.ours("a/web", "10.9.0.1", "10.9.0.2")
		w.set("a/web/10.9.0.1", `"scope":"export-rtctrl","name":"x"`)              // drift
		w.deploy("web", "a/web", "10.9.0.1", "10.9.0.3", first[0])                 // .2 is to go, .3 to come, one to move
		w.untag("a/web/10.9.0.1", aci.OwnerKey)                                    // its mark is to come back
		w.deploy("new", "b/new", "10.9.0.4")                                       // is to be created
		rec := desired.Record{EPG: epg("c/old"), Managed: new(true), Owner: owner} // of a run before
		w.records[epg("c/old")] = rec
		w.forget()
		about := objects(in("a/old", first[1:]...)...)
		// The EPG cannot go while an address in it is to move.
		err := w.apply(time.Minute, controller.Request{EPG: epg("a/old"), Objects: about})
		if err == nil || !strings.HasPrefix(err.Error(), "T/a/old: 29 of 30 done: ") {
			t.Errorf("error %v", err)
		}
		w.want("a/old*: "+first[0]+"*", "a/web*: 10.9.0.1 10.9.0.2*", held("c/old", rest...))
		if w.recorded > 0 || len(w.notes()) > 0 || len(w.records) != 1 {
			t.Errorf("%d records, %v", w.recorded, w.notes())
		}
	})
}

// A command says what kept it from doing what was approved.
func TestApplyThatCannot(t *testing.T) {
	many := addrs(30)
	all := objects(in("a/old", many...)...)
	for name, c := range map[string]struct {
		policy func(*plan.Policy)
		do     func(w *world)
		about  []aci.DN
		says   string
		within time.Duration
	}{
		"outdated":               {about: all[1:], says: "T/a/old: " + controller.AnswerOutdated},
		"the EPG is gone":        {do: func(w *world) { w.remove(dn("a/old")) }, says: "T/a/old: " + controller.AnswerOutdated},
		"the EPG is paused":      {do: func(w *world) { w.tag("a/old", aci.PauseKey, "x") }, says: "T/a/old is paused"},
		"nothing may be deleted": {policy: func(p *plan.Policy) { p.UpsertOnly = true }, says: "--policy=upsert-only"},
		"the L3Out cannot be read": {
			do: func(w *world) { w.fault(failing("out-a")) }, says: "took too long", within: time.Minute,
		},
		"the APIC cannot write": {
			do: func(w *world) { w.postFault(-1, apicsim.Fault{Status: 503}) }, says: "took too long", within: time.Minute,
		},
		"the APIC refuses": {do: func(w *world) { w.refuse(`"deleted"`, "no such luck") }, says: "0 of 31"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{stopped: true, policy: func(p *plan.Policy) {
				guarding(p)
				if c.policy != nil {
					c.policy(p)
				}
			}}, func(w *world) {
				w.ours("a/old", many...)
				if c.do != nil {
					c.do(w)
				}
				w.forget()
				about := c.about
				if about == nil {
					about = all
				}
				began := time.Now()
				err := w.apply(time.Minute, controller.Request{EPG: epg("a/old"), Objects: about})
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want one that says %q", err, c.says)
				}
				if took := time.Since(began); took > max(c.within, 30*time.Second)+5*time.Second {
					t.Errorf("it took %v", took)
				}
				if name != "the EPG is gone" {
					w.want(held("a/old", many...))
				}
			})
		})
	}
}
