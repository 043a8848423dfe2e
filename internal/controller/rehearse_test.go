package controller_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// What Plan returns is what Run does next, and looking changes nothing.
func TestPlanIsWhatRunDoes(t *testing.T) {
	for name, c := range map[string]struct {
		do       func(w *world)
		policy   func(*plan.Policy)
		changes  int
		problems []string
		kept     string
	}{
		"nothing is wanted and nothing is there": {do: func(*world) {}},
		"all is in order": {do: func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1")
			w.ours("a/web", "10.0.0.1")
		}},
		"all is new": {changes: 5, do: func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
			w.deploy("db", "c/db", "10.0.0.9")
		}},
		"an L3Out is missing": {
			problems: []string{"L3OutMissing web"},
			do:       func(w *world) { w.deploy("web", "none/web", "10.0.0.1") },
		},
		"an annotation is invalid": {
			problems: []string{"InvalidAnnotation web"},
			do:       func(w *world) { w.annotate("web", "{"); w.pods("web", "10.0.0.1"); w.ours("a/web", "10.0.0.1") },
		},
		"the network team has paused": {
			problems: []string{"Paused web"},
			do: func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.ours("a/web")
				w.tag("a/web", aci.PauseKey, "yes")
			},
		},
		"an EPG is left over": {changes: 1, do: func(w *world) { w.ours("a/web", "10.0.0.1", "10.0.0.2") }},
		"an EPG is left over, with a contract": {
			changes: 1, kept: "a/web consumed contract c",
			do: func(w *world) { w.ours("a/web", "10.0.0.1"); w.child("a/web", "fvRsCons", `"tnVzBrCPName":"c"`) },
		},
		"an EPG is left over, but nothing may be deleted": {
			policy: func(p *plan.Policy) { p.UpsertOnly = true },
			do:     func(w *world) { w.ours("a/web", "10.0.0.1") },
		},
		"marks and more were changed": {changes: 5, do: func(w *world) {
			w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
			w.ours("a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
			w.untag("a/web/10.0.0.1", aci.OwnerKey)
			w.set("a/web/10.0.0.1", `"name":"x","scope":"export-rtctrl"`) // its mark first, then the rest
			w.set("a/web/10.0.0.2", `"name":"x"`)
			w.remove(dn("a/web/10.0.0.3"))
		}},
		"a mark and all in the EPG of somebody else": {changes: 1, do: func(w *world) {
			w.theirs("a/web")
			w.deploy("web", "a/web", "10.0.0.1")
		}},
		"addresses move": {changes: 4, do: func(w *world) {
			w.deploy("web", "b/new", "10.0.0.1")
			w.ours("a/web", "10.0.0.1", "10.0.0.2")
			w.ours("b/other")
			w.deploy("db", "b/other", "10.0.0.2")
		}},
		"an address moves out of the EPG of somebody else": {changes: 3, do: func(w *world) {
			w.theirs("a/web")
			w.ours("b/old", "10.0.0.1")
			w.deploy("web", "a/web", "10.0.0.1")
			w.deploy("old", "b/old")
			w.deploy("db", "a/db")
		}},
		"an address cannot move": {changes: 1, problems: []string{"MoveWaits web", "Paused web"}, do: func(w *world) {
			w.ours("a/web", "10.0.0.1")
			w.ours("b/new")
			w.tag("b/new", aci.PauseKey, "yes")
			w.deploy("web", "b/new", "10.0.0.1")
			w.deploy("db", "a/db")
		}},
		"two want one address": {changes: 3, problems: []string{"AddressConflict web"}, do: func(w *world) {
			w.deploy("db", "a/db", "10.0.0.1")
			w.deploy("web", "b/web")
			w.podNamed("web", "other", "10.0.0.1")
		}},
		"an address moves to another VRF": {changes: 3, do: func(w *world) {
			w.ours("a/web", "10.0.0.1")
			w.deploy("web", "c/web", "10.0.0.1")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{stopped: true, policy: c.policy}, func(w *world) {
				w.hand("uni/tn-T", `{"vzBrCP":{"attributes":{"name":"c"}}}`)
				c.do(w)
				w.sleep(time.Second)
				before := w.sim.Dump("uni")
				got, err := w.preview()
				if err != nil {
					t.Fatal(err)
				}
				w.sleep(time.Second)
				w.wantPosts(0)
				if diff := gocmp.Diff(before, w.sim.Dump("uni")); diff != "" {
					t.Errorf("looking changed something:\n%s", diff)
				}
				if strings.Contains(w.logged(), "a person is needed") || len(w.notes()) > 0 {
					t.Errorf("told %v and logged %s", w.notes(), w.logged())
				}
				var problems []string
				for _, q := range got.Problems {
					problems = append(problems, q.Reason+" "+q.Ref.Name)
				}
				if diff := gocmp.Diff(c.problems, problems); diff != "" {
					t.Errorf("problems (-want +got)\n%s", diff)
				}
				var kept []string
				for e, why := range got.Kept {
					kept = append(kept, e.L3Out.Name+"/"+e.Name+" "+why)
				}
				if strings.Join(kept, ", ") != c.kept {
					t.Errorf("kept %q, want %q", kept, c.kept)
				}

				w.forget()
				w.run()
				w.sleep(time.Minute)
				if diff := gocmp.Diff(writtenBy(t, w.posts()), planned(got)); diff != "" {
					t.Errorf("run did, plan said (-run +plan)\n%s", diff)
				}
				if len(got.Changes) != c.changes || got.Posts != len(w.posts()) {
					t.Errorf("%d changes in %d POSTs are planned, want %d in %d:\n%v",
						len(got.Changes), got.Posts, c.changes, len(w.posts()), got.Changes)
				}

				// In between nothing is left to do.
				w.end()
				w.forget()
				if again, err := w.preview(); err != nil || len(again.Changes) > 0 || again.Posts > 0 {
					t.Errorf("after the run: %v, %v", again.Changes, err)
				}
			})
		})
	}
}

// theirs makes an EPG that somebody else made.
func (w *world) theirs(epg string) {
	w.t.Helper()
	w.set(epg, `"descr":"by hand"`)
}

// planned is what each change is to write, "status DN attribute=value…".
func planned(p controller.Preview) []string {
	var out []string
	for _, ch := range p.Changes {
		var line strings.Builder
		line.WriteString(ch.Status() + " " + string(ch.DN))
		for _, k := range []string{"name", "scope", "annotation"} {
			if v, ok := ch.Attrs[k]; ok {
				line.WriteString(" " + k + "=" + v)
			}
		}
		if ch.Mark {
			line.WriteString(" mark")
		}
		out = append(out, line.String())
	}
	slices.Sort(out)
	return out
}

// writtenBy is the same of requests, without the EPGs that only carry others.
func writtenBy(t *testing.T, posts []apicsim.Request) []string {
	t.Helper()
	type mo map[string]struct {
		Attributes map[string]string
		Children   []json.RawMessage
	}
	var out []string
	var walk func(under string, raw json.RawMessage)
	walk = func(under string, raw json.RawMessage) {
		var m mo
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		for class, body := range m {
			at := under + "/extsubnet-[" + body.Attributes["ip"] + "]"
			name := body.Attributes["name"]
			if class == aci.ClassExtEPG {
				at, name = under+"/instP-"+name, ""
			}
			line, marked := body.Attributes["status"]+" "+at, false
			if name != "" {
				line += " name=" + name
			}
			for _, k := range []string{"scope", "annotation"} {
				if v := body.Attributes[k]; v != "" {
					line += " " + k + "=" + v
				}
			}
			for _, child := range body.Children {
				if strings.Contains(string(child), `{"tagAnnotation"`) && !strings.Contains(string(child), "l3extSubnet") {
					marked = true
					continue
				}
				walk(at, child)
			}
			if marked {
				line += " mark"
			}
			if class != aci.ClassExtEPG || body.Attributes["status"] != aci.StatusModified || marked {
				out = append(out, line)
			}
		}
	}
	for _, p := range posts {
		walk(strings.TrimSuffix(strings.TrimPrefix(p.Path, "/api/mo/"), ".json"), p.Body)
	}
	slices.Sort(out)
	return out
}

// What cannot be read is never planned for, and said.
func TestPlanKnowsWhatItDoesNotKnow(t *testing.T) {
	for name, c := range map[string]struct {
		fault   apicsim.Fault
		changes int
		unread  string
		err     string
	}{
		"an L3Out that the user may not read":  {apicsim.Fault{Match: `GET .*/out-a\.json`, Times: -1, Status: 403, Code: "403", Text: "no"}, 2, "T/a", ""},
		"an L3Out that cannot be read now":     {apicsim.Fault{Match: `GET .*/out-a\.json`, Times: -1, Status: 503}, 0, "", "503"},
		"an APIC that does not tell of marks":  {apicsim.Fault{Match: `GET .*tagAnnotation`, Times: -1, Status: 503}, 0, "", "503"},
		"an answer that contradicts itself":    {apicsim.Fault{Match: `GET .*/out-a\.json`, Times: -1, Empty: true}, 0, "", "incomplete"},
		"an APIC that refuses the credentials": {apicsim.Fault{Match: `aaaLogin`, Times: -1, Status: 401, Code: "401", Text: "wrong"}, 0, "", "401"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{stopped: true}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.deploy("db", "c/db", "10.0.0.1")
				w.ours("a/old", "10.0.0.7")
				w.fault(c.fault)
				got, err := w.preview()
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("error %v, want one about %s", err, c.err)
					}
					return
				}
				var unread strings.Builder
				for l := range got.Unread {
					unread.WriteString(l.String())
				}
				if err != nil || unread.String() != c.unread || len(got.Changes) != c.changes {
					t.Errorf("%v, unread %q, changes %v", err, unread.String(), got.Changes)
				}
			})
		})
	}
}

// A dry run goes on like any other, tells what it would do, and writes nothing.
func TestADryRunWritesNothing(t *testing.T) {
	bubble(t, options{dry: true, sim: apicsim.Options{ObserveTags: true}}, func(w *world) {
		w.ours("a/old", "10.0.0.7")
		w.ours("a/web", "10.0.0.1")
		w.restart()
		w.sleep(time.Second)
		before := w.sim.Dump("uni")
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Second)
		w.deploy("web", "b/web")
		w.annotate("bad", "{")
		w.sleep(3 * time.Hour)
		w.wantPosts(0)
		if diff := gocmp.Diff(before, w.sim.Dump("uni")); diff != "" {
			t.Errorf("something changed:\n%s", diff)
		}
		var told []string
		for line := range strings.Lines(w.logged()) {
			if _, what, ok := strings.Cut(strings.TrimSpace(line), `msg="would apply" `); ok {
				told = append(told, what)
			}
		}
		want := []string{
			"epg=T/a/old changes=1 reason=Unclaimed:1",
			"epg=T/a/web changes=1 reason=Unclaimed:1",
			"epg=T/a/web changes=1 reason=Claimed:1", // and once more when the annotation names another EPG
			"epg=T/b/web changes=2 reason=Claimed:2", // 10.0.0.1 follows when it has left the other one
			"epg=T/b/web changes=1 reason=Claimed:1",
		}
		for _, line := range want {
			if n := strings.Count(fmt.Sprint(told), line); n == 0 || n > 2 {
				t.Errorf("told %d times: %s", n, line)
			}
		}
		if len(told) > 8 {
			t.Errorf("told again and again:\n%s", strings.Join(told, "\n"))
		}
	})
}
