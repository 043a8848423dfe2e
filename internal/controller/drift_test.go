package controller_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

var apicsimExists = apicsim.Fault{Status: 400, Code: "103", Text: "Cannot create; object already exists."}

const resynced = 12 * time.Minute // longer than the resync interval with its jitter

// What is put back, what is left, and how soon.
func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		do    func(w *world)
		after time.Duration // 0 is a second
		attr  string        // of a/web/10.0.0.1, "name=value", that must be there
		want  string        // of a/web; "" is as before
		posts int
	}{
		"the name of a subnet is put back":              {do: func(w *world) { w.set(web1, `"name":"x"`) }, attr: "name=shop::pod-10.0.0.1", posts: 1},
		"a flag that we need is put back":               {do: func(w *world) { w.set(web1, `"scope":"export-rtctrl"`) }, attr: "scope=export-rtctrl,import-security", posts: 1},
		"a flag that we do not need stays":              {do: func(w *world) { w.set(web1, `"scope":"import-security,shared-rtctrl"`) }, attr: "scope=import-security,shared-rtctrl"},
		"the description of a subnet stays":             {do: func(w *world) { w.set(web1, `"descr":"x"`) }, attr: "descr=x"},
		"the alias of a subnet stays":                   {do: func(w *world) { w.set(web1, `"nameAlias":"x"`) }, attr: "nameAlias=x"},
		"the annotation of a subnet stays":              {do: func(w *world) { w.set(web1, `"annotation":"orchestrator:nd"`) }, attr: "annotation=orchestrator:nd"},
		"another tag of a subnet stays":                 {do: func(w *world) { w.tag(web1, "x", "y") }},
		"the description of the EPG stays":              {do: func(w *world) { w.set("a/web", `"descr":"x"`) }},
		"the annotation of the EPG stays":               {do: func(w *world) { w.set("a/web", `"annotation":"orchestrator:nd"`) }},
		"the QoS class of the EPG stays":                {do: func(w *world) { w.set("a/web", `"prio":"level1"`) }},
		"the QoS policy of the EPG stays":               {do: func(w *world) { w.child("a/web", "fvRsCustQosPol", `"tnQosCustomPolName":"gold"`) }},
		"the preferred group of the EPG stays":          {do: func(w *world) { w.set("a/web", `"prefGrMemb":"include"`) }},
		"a contract of the EPG stays":                   {do: func(w *world) { w.child("a/web", "fvRsProv", `"tnVzBrCPName":"c"`) }},
		"another tag of the EPG stays":                  {do: func(w *world) { w.tag("a/web", "x", "y") }},
		"a foreign subnet in the EPG stays":             {do: func(w *world) { w.set("a/web/10.0.9.9", `"name":"x"`) }, want: "a/web*: 10.0.0.1* 10.0.0.2* 10.0.9.9"},
		"a deleted subnet is restored":                  {do: func(w *world) { w.remove(dn(web1)) }, posts: 1},
		"a deleted EPG is restored with its subnets":    {do: func(w *world) { w.remove(dn("a/web")) }, posts: 1},
		"a deleted subnet without an event is restored": {do: unheard(func(w *world) { w.remove(dn(web1)) }), after: resynced, posts: 1},
		"a deleted EPG without an event is restored":    {do: unheard(func(w *world) { w.remove(dn("a/web")) }), after: resynced, posts: 1},
		"a changed name without an event is put back":   {do: unheard(func(w *world) { w.set(web1, `"name":"x"`) }), after: resynced, attr: "name=shop::pod-10.0.0.1", posts: 1},
		"a subnet that lost its mark gets it back":      {do: func(w *world) { w.untag(web1, aci.OwnerKey) }, after: resynced, posts: 1},
		"an EPG that lost its mark gets it back":        {do: func(w *world) { w.untag("a/web", aci.OwnerKey) }, after: resynced, posts: 1},
		"a subnet that lost mark and annotation is not ours": {
			do: func(w *world) { w.set(web1, `"annotation":""`); w.untag(web1, aci.OwnerKey) }, after: resynced,
			want: "a/web*: 10.0.0.1 10.0.0.2*",
		},
		"a subnet with another cluster's mark is not ours": {
			do: func(w *world) { w.tag(web1, aci.OwnerKey, aci.Owner("k2").Mark(aci.DN(dn(web1)))) }, after: resynced,
			want: "a/web*: 10.0.0.1 10.0.0.2*",
		},
		"a mark that was stripped is seen before a deletion": {
			do: func(w *world) {
				w.set(web1, `"annotation":"","descr":"taken over"`)
				w.untag(web1, aci.OwnerKey)
				w.unpod("10.0.0.1")
			},
			want: "a/web*: 10.0.0.1 10.0.0.2*",
		},
		"a mark that was stripped is seen before an overwrite": {
			do: func(w *world) {
				w.untag(web1, aci.OwnerKey)
				w.set(web1, `"annotation":"","name":"taken"`)
			},
			want: "a/web*: 10.0.0.1 10.0.0.2*", attr: "name=taken",
		},
	} {
		for pushed, observe := range map[string]bool{"": false, "/tags are announced": true} {
			t.Run(name+pushed, func(t *testing.T) {
				bubble(t, options{sim: apicsim.Options{ObserveTags: observe}}, func(w *world) {
					w.hand("uni/tn-T", `{"vzBrCP":{"attributes":{"name":"c"}}}`)
					w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
					w.sleep(2 * time.Second)
					w.forget()
					c.do(w)
					after := max(c.after, time.Second)
					if observe && !strings.Contains(name, "without an event") {
						after = time.Second
					}
					w.sleep(after)
					w.want(cmp.Or(c.want, "a/web*: 10.0.0.1* 10.0.0.2*"))
					w.wantPosts(c.posts)
					attrs, _ := w.sim.Lookup(dn(web1))
					if k, v, _ := strings.Cut(c.attr, "="); k != "" && attrs[k] != v {
						t.Errorf("%s is %q, want %q", k, attrs[k], v)
					}
					dump := w.sim.Dump("uni/tn-T")
					w.forget()
					w.sleep(2 * resynced)
					w.wantPosts(0)
					if w.sim.Dump("uni/tn-T") != dump {
						t.Error("something changed later")
					}
				})
			})
		}
	}
}

const web1 = "a/web/10.0.0.1"

// unheard loses the events of what f does.
func unheard(f func(w *world)) func(w *world) {
	return func(w *world) {
		w.drop("")
		f(w)
		w.sim.ClearFaults()
	}
}

func TestWhatIsPausedIsNotWritten(t *testing.T) {
	for _, at := range []string{"a", "a/web"} {
		for pushed, observe := range map[string]bool{"": false, ", tags announced": true} {
			t.Run(at+pushed, func(t *testing.T) {
				bubble(t, options{sim: apicsim.Options{ObserveTags: observe}}, func(w *world) {
					w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
					w.sleep(time.Minute)
					w.tag(at, aci.PauseKey, "yes")
					w.forget()
					w.unpod("10.0.0.1")
					w.remove(dn("a/web/10.0.0.2"))
					w.set("a/web/10.0.0.3", `"name":"x"`)
					w.sleep(time.Hour)
					w.want("a/web*: 10.0.0.1* 10.0.0.3*")
					w.wantPosts(0)
					if got := fmt.Sprint(w.notes()); got != "["+plan.ReasonPaused+" web]" {
						t.Errorf("told %s", got)
					}
					w.untag(at, aci.PauseKey)
					if w.sleep(time.Second); !observe {
						w.sleep(resynced)
					}
					w.want("a/web*: 10.0.0.2* 10.0.0.3*")
				})
			})
		}
	}
}

// A pause that is lifted is noticed by the periodic read at the latest, or by the first write
// that asks.
func TestAPauseThatIsLiftedIsNoticed(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Minute)
		w.tag("a/web", aci.PauseKey, "yes")
		w.remove(dn("a/web/10.0.0.1"))
		w.sleep(time.Second)
		w.want("a/web*:")
		w.untag("a/web", aci.PauseKey)
		w.sleep(resynced)
		w.want("a/web*: 10.0.0.1*")
	})
}

// Whether an EPG that nobody names goes is judged at the last moment.
func TestEPGDeletion(t *testing.T) {
	gone, kept := []string{"a/db*: 10.0.0.9*"}, []string{"a/db*: 10.0.0.9*", "a/web*:"}
	for name, c := range map[string]struct {
		do     func(w *world)
		policy func(*plan.Policy)
		want   []string
		later  func(w *world) // what lets a kept one go, if anything
	}{
		"with nothing else in it it goes":          {do: func(*world) {}, want: gone},
		"with a tag of somebody it stays":          {do: func(w *world) { w.tag("a/web", "x", "y") }, want: kept},
		"with a description it stays":              {do: func(w *world) { w.set("a/web", `"descr":"x"`) }, want: kept},
		"with a preferred group it stays":          {do: func(w *world) { w.set("a/web", `"prefGrMemb":"include"`) }, want: kept},
		"with the annotation of somebody it stays": {do: func(w *world) { w.set("a/web", `"annotation":"x"`) }, want: kept},
		"with a QoS policy it stays":               {do: func(w *world) { w.child("a/web", "fvRsCustQosPol", `"tnQosCustomPolName":"gold"`) }, want: kept},
		"with a changed annotation and no mark it stays": {
			do:   func(w *world) { w.untag("a/web", aci.OwnerKey); w.set("a/web", `"annotation":"x"`) },
			want: kept, // the mark comes back as long as it holds a marked subnet
		},
		"with a contract it stays until that goes": {
			do:    func(w *world) { w.child("a/web", "fvRsCons", `"tnVzBrCPName":"c"`) },
			later: func(w *world) { w.remove(dn("a/web") + "/rscons-c") }, want: kept,
		},
		"with a foreign subnet it stays until that goes": {
			do:    func(w *world) { w.set("a/web/10.0.9.9", `"name":"x"`) },
			later: func(w *world) { w.remove(dn("a/web/10.0.9.9")) },
			want:  []string{"a/db*: 10.0.0.9*", "a/web*: 10.0.9.9"},
		},
		"always means also with a contract": {
			do:     func(w *world) { w.child("a/web", "fvRsProv", `"tnVzBrCPName":"c"`); w.set("a/web", `"descr":"x"`) },
			policy: func(p *plan.Policy) { p.DeleteUsed = true }, want: gone,
		},
		"always does not mean with foreign subnets": {
			do:     func(w *world) { w.set("a/web/10.0.9.9", `"name":"x"`) },
			policy: func(p *plan.Policy) { p.DeleteUsed = true }, want: []string{"a/db*: 10.0.0.9*", "a/web*: 10.0.9.9"},
		},
		"upsert-only keeps all": {
			do: func(*world) {}, policy: func(p *plan.Policy) { p.UpsertOnly = true },
			want: []string{"a/db*: 10.0.0.9*", "a/web*: 10.0.0.1*"},
		},
	} {
		moments := map[string]func(w *world){
			"/long before": func(w *world) {
				c.do(w)
				w.sleep(time.Second)
				w.undeploy("web", "10.0.0.1")
			},
			"/in the same moment": func(w *world) {
				w.undeploy("web", "10.0.0.1")
				c.do(w)
			},
			"/unheard, after a read that was for something else": func(w *world) {
				w.drop("")
				w.pods("web", "10.0.0.2")
				w.sleep(6 * time.Second)
				w.remove(dn("a/web/10.0.0.2"))
				c.do(w)
				w.undeploy("web", "10.0.0.1", "10.0.0.2")
				w.sleep(time.Minute)
				w.sim.ClearFaults()
			},
			"/unheard, in the moment before": func(w *world) {
				w.undeploy("web", "10.0.0.1")
				w.sleep(49 * time.Millisecond)
				unheard(c.do)(w)
			},
		}
		for when, f := range moments {
			t.Run(name+when, func(t *testing.T) {
				bubble(t, options{policy: c.policy}, func(w *world) {
					w.hand("uni/tn-T", `{"vzBrCP":{"attributes":{"name":"c"}}}`)
					w.deploy("web", "a/web", "10.0.0.1")
					w.deploy("db", "a/db", "10.0.0.9")
					w.sleep(time.Minute)
					f(w)
					w.sleep(2 * time.Second)
					w.want(c.want...)
					w.forget()
					w.sleep(2 * time.Hour)
					w.want(c.want...)
					w.wantPosts(0)
					if n := len(w.requests()); n > 2*60*6 {
						t.Errorf("%d requests in two hours", n)
					}
					if n := strings.Count(w.logged(), "but it stays"); n > 2 {
						t.Errorf("told %d times that it stays", n)
					}
					if c.later != nil {
						c.later(w)
						w.sleep(time.Second)
						w.want(gone...)
					}
				})
			})
		}
	}
}

func TestAPeriodicReadLooksAtEverything(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("db", "a/db", "10.0.0.9")
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Second)
		w.set("a/web", `"descr":"x"`)
		w.undeploy("web", "10.0.0.1")
		w.sleep(2 * time.Second)
		w.want("a/db*: 10.0.0.9*", "a/web*:")
		w.drop("") // what kept it goes, and nobody says so
		w.set("a/web", `"descr":""`)
		w.sleep(time.Second)
		w.sim.ClearFaults()
		w.want("a/db*: 10.0.0.9*", "a/web*:")
		w.sleep(15 * time.Minute)
		w.want("a/db*: 10.0.0.9*")
	})
}
