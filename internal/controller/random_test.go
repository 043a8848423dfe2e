package controller_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// TestRandomHistories mixes changes of the cluster, pauses, edits by hand, faults and restarts, and
// compares what is there in the end with what must be.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := history{
					world: start(t, options{sim: apicsim.Options{ObserveTags: seed%2 == 1, ModifyCreates: seed%3 == 1}}),
					Rand:  rand.New(rand.NewPCG(seed, 1)), target: map[string]string{}, bearer: map[string]string{}, foreign: map[string]string{},
				}
				h.theirs("b/theirs")
				for range 60 {
					h.step()
					h.sleep(time.Duration(h.IntN(3000)) * time.Millisecond)
				}
				h.check()
			})
		})
	}
}

// history is what was done so far.
type history struct {
	*world
	*rand.Rand
	target  map[string]string // Deployment -> EPG
	bearer  map[string]string // address -> Deployment
	foreign map[string]string // DN of what is not ours -> its line of the dump
}

func pick[T any](h *history, list ...T) T { return list[h.IntN(len(list))] }

// step does one thing, chosen by chance.
func (h *history) step() {
	d := pick(h, "w1", "w2", "w3", "w4")
	ip := fmt.Sprintf("10.0.0.%d", 1+h.IntN(9))
	switch h.IntN(22) {
	case 0, 1, 2:
		there := h.target[d] != ""
		h.target[d] = pick(h, "a/x", "a/y", "b/x", "c/x", "b/theirs")
		if there && h.IntN(2) == 0 {
			h.retarget(d, h.target[d]) // it may be paused
		} else {
			h.deploy(d, h.target[d])
		}
	case 3:
		delete(h.target, d)
		for _, ip := range slices.Sorted(maps.Keys(h.bearer)) {
			if h.bearer[ip] == d {
				delete(h.bearer, ip)
				h.unpod(ip)
			}
		}
		h.undeploy(d)
	case 4, 5, 6, 7, 8:
		if h.target[d] != "" {
			h.bearer[ip] = d
			h.pods(d, ip)
		}
	case 9, 10:
		delete(h.bearer, ip)
		h.unpod(ip)
	case 11, 12:
		h.edit()
	case 13:
		if e := pick(h, "a/x", "a/y", "b/x", "c/x"); h.there(e) {
			h.remove(dn(e))
			h.lost(dn(e))
		}
	case 14: // an object of theirs, in an EPG of theirs or ours
		if e := pick(h, "a/x", "b/x", "b/theirs"); h.there(e) {
			h.theirs(fmt.Sprintf("%s/10.0.9.%d", e, h.IntN(5)))
		}
	case 15:
		if h.there("c") {
			h.remove(dn("c"))
		} else {
			h.makeL3Out("c")
		}
	case 16:
		h.fault(pick(h,
			apicsim.Fault{Match: "^POST /api/mo", Status: 503},
			apicsim.Fault{Match: "^POST /api/mo", Hangup: true},
			apicsim.Fault{Match: "^POST /api/mo", Hangup: true, After: true},
			apicsim.Fault{Match: "^POST /api/mo", Status: 202},
			apicsim.Fault{Match: "^POST /api/mo", Delay: time.Second},
			apicsim.Fault{Match: "^GET /api/mo", Status: 503, Times: 3},
			apicsim.Fault{Match: "^GET /api/mo", Empty: true},
			apicsim.Fault{ExpireSessions: true},
		))
	case 17:
		h.sim.CloseSockets()
	case 18:
		// Where "modified" makes an EPG anew, nothing tells that it was ours unless events do.
		if h.IntN(2) == 0 && !h.opts.sim.ModifyCreates {
			h.drop("")
		} else {
			h.sim.ClearFaults()
		}
	case 19:
		if h.IntN(3) == 0 && !h.opts.sim.ModifyCreates {
			h.restart()
		}
	case 20, 21:
		if h.target[d] != "" {
			h.pause(d, pick(h, "true", "true", "false", "", "yes"))
		}
	}
}

func (h *history) there(path string) bool {
	_, ok := h.sim.Lookup(dn(path))
	return ok
}

// edit changes or deletes a subnet of ours.
func (h *history) edit() {
	var all []string
	for line := range strings.Lines(h.sim.Dump("uni/tn-T")) {
		if bearer, _, ok := strings.Cut(line, "/annotationKey-[aci-sync] "); ok && strings.Contains(bearer, "/extsubnet-") {
			all = append(all, bearer)
		}
	}
	if len(all) == 0 {
		return
	}
	d := pick(h, all...)
	switch h.IntN(3) {
	case 0:
		h.remove(d)
	case 1:
		h.hand(d, `{"l3extSubnet":{"attributes":{"name":"edited","descr":"by hand"}}}`)
	case 2:
		h.hand(d, `{"l3extSubnet":{"attributes":{"scope":"export-rtctrl"}}}`)
	}
}

// theirs makes or changes an object that is not ours.
func (h *history) theirs(path string) {
	h.set(path, fmt.Sprintf(`"descr":"theirs %d"`, h.IntN(1000)))
	h.foreign[dn(path)] = h.line(dn(path))
}

// lost forgets what went with d.
func (h *history) lost(d string) {
	maps.DeleteFunc(h.foreign, func(k, _ string) bool { return aci.DN(k).Within(aci.DN(d)) })
}

func (h *history) line(d string) string {
	line, _, _ := strings.Cut(h.sim.Dump(d), "\n")
	return line
}

// check lets all come to rest, and compares.
func (h *history) check() {
	h.t.Helper()
	h.sim.ClearFaults()
	for d := range h.target {
		h.pause(d, "")
	}
	if !h.there("c") {
		h.makeL3Out("c")
	}
	h.sleep(2 * resynced)

	type epg struct{ ours, theirs []string }
	want := map[string]*epg{}
	at := func(name string) *epg {
		if want[name] == nil {
			want[name] = &epg{}
		}
		return want[name]
	}
	for _, e := range h.target {
		at(e)
	}
	for ip, d := range h.bearer {
		at(h.target[d]).ours = append(at(h.target[d]).ours, ip)
	}
	for d, line := range h.foreign {
		e, rest, _ := aci.ExtEPGOf(aci.DN(d))
		at(e.L3Out.Name + "/" + e.Name)
		if ip, ok := aci.SubnetIP(rest); ok {
			at(e.L3Out.Name + "/" + e.Name).theirs = append(at(e.L3Out.Name+"/"+e.Name).theirs, strings.TrimSuffix(ip, "/32"))
		}
		if now := h.line(d); now != line {
			h.t.Errorf("what is not ours was touched: %s\nwas %s", now, line)
		}
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		line := name + "*:"
		if name == "b/theirs" {
			line = name + ":"
		}
		slices.Sort(want[name].ours)
		slices.Sort(want[name].theirs)
		for _, ip := range want[name].ours {
			line += " " + ip + "*"
		}
		for _, ip := range want[name].theirs {
			line += " " + ip
		}
		lines = append(lines, line)
	}
	if diff := gocmp.Diff(strings.Join(lines, "\n")+"\n", h.fabric()); diff != "" {
		h.t.Errorf("fabric (-want +got):\n%s", diff)
	}

	h.forget()
	h.sleep(2 * resynced)
	h.wantPosts(0)
	h.restart()
	h.sleep(time.Minute)
	h.wantPosts(0)
	for _, what := range []string{"dirty", "batches", "awaits", "refused", "later", "problems", "shown"} {
		if n := h.loop.Remembered()[what]; n != 0 {
			h.t.Errorf("%d %s are kept in mind", n, what)
		}
	}
}
