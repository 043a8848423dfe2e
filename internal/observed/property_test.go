package observed

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

var histories = flag.Int("histories", 120, "how many random histories to fold")

const us = aci.Owner("c1")

var (
	someL3Outs   = []aci.L3Out{{Tenant: "T", Name: "O"}, {Tenant: "T", Name: "P"}}
	someNames    = []string{"E1", "E2"}
	someIPs      = []string{"10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/24", "10.0.0.7/24", "10.0.0.9/24", "2001:db8::1/128", "2001:DB8::1/128", "nonsense"}
	somePrefixes = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32"), netip.MustParsePrefix("10.0.0.0/24"),
		netip.MustParsePrefix("2001:db8::1/128"),
	}
)

// fabric is what an APIC holds, by DN, and the events that it told of it.
type fabric struct {
	rng     *rand.Rand
	objects map[aci.DN]aci.MO
	events  []aci.MO
}

func newFabric(seed uint64) *fabric {
	f := &fabric{rng: rand.New(rand.NewPCG(seed, 2)), objects: map[aci.DN]aci.MO{}}
	for range 40 {
		f.change()
	}
	f.events = nil
	return f
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// set makes or changes an object and announces it; one below nothing is not made.
func (f *fabric) set(class string, d aci.DN, attrs map[string]string) {
	switch class {
	case aci.ClassL3Out, aci.ClassFaultInst, aci.ClassFaultDelegate:
	case aci.ClassRsNode: // its parent is of a class that is not read
		if l, _ := aci.L3OutOf(d); f.objects[l.DN()].Class == "" {
			return
		}
	default:
		if f.objects[d.Parent()].Class == "" {
			return
		}
	}
	old, there := f.objects[d]
	now, event := maps.Clone(old.Attrs), map[string]string{"status": aci.StatusModified}
	if !there {
		now = map[string]string{}
		event["status"] = aci.StatusCreated
	}
	changed := !there
	for k, v := range attrs {
		if now[k] != v || !there {
			now[k], event[k], changed = v, v, true
		}
	}
	if !changed {
		return
	}
	f.objects[d] = aci.MO{Class: class, DN: d, Attrs: now}
	f.events = append(f.events, aci.MO{Class: class, DN: d, Attrs: event})
}

// remove deletes what is at and below d, and announces it, children first or last.
func (f *fabric) remove(d aci.DN) {
	gone := f.below(d)
	if f.rng.IntN(2) == 0 {
		slices.Reverse(gone)
	}
	for _, m := range gone {
		delete(f.objects, m.DN)
		f.events = append(f.events, aci.MO{Class: m.Class, DN: m.DN, Attrs: map[string]string{"status": aci.StatusDeleted}})
	}
}

// below is what is at and below d, sorted.
func (f *fabric) below(d aci.DN) []aci.MO {
	var out []aci.MO
	for _, k := range slices.Sorted(maps.Keys(f.objects)) {
		if k.Within(d) {
			out = append(out, f.objects[k])
		}
	}
	return out
}

// change does what people, controllers and other clusters do.
func (f *fabric) change() {
	rng := f.rng
	l := pick(rng, someL3Outs)
	e := aci.ExtEPG{L3Out: l, Name: pick(rng, someNames)}
	ip := pick(rng, someIPs)
	subnet := e.DN().Child(aci.SubnetRN(ip))
	mark := func(d aci.DN) {
		value := pick(rng, []string{us.Mark(d), us.Mark(d), aci.Owner("c2").Mark(d), us.Mark(d + "x"), "text"})
		f.set(aci.ClassTagAnnotation, d.Child(aci.TagRN(aci.OwnerKey)), map[string]string{"key": aci.OwnerKey, "value": value})
	}
	switch rng.IntN(28) {
	case 0, 1:
		f.set(aci.ClassL3Out, l.DN(), map[string]string{"name": l.Name, "descr": pick(rng, []string{"", "x"})})
	case 2, 3:
		f.set(aci.ClassRsEctx, l.DN().Child("rsectx"), map[string]string{
			"tDn": pick(rng, []string{"uni/tn-T/ctx-V", "uni/tn-T/ctx-W"}), "state": pick(rng, []string{"formed", "formed", "missing-target"}),
		})
	case 4, 5, 6:
		f.set(aci.ClassExtEPG, e.DN(), map[string]string{
			"name": e.Name, "annotation": pick(rng, []string{"", us.Annotation()}), "extMngdBy": pick(rng, []string{"", "", "msc"}),
			"descr": pick(rng, []string{"", "x"}), "configSt": pick(rng, []string{"applied", "applying", "failed-to-apply"}),
			"configIssues": pick(rng, []string{"", "", "none", "some-issue"}),
		})
	case 7, 8, 9, 10, 11, 12:
		f.set(aci.ClassSubnet, subnet, map[string]string{
			"ip": ip, "name": pick(rng, []string{"a::b", "c::d"}), "annotation": pick(rng, []string{"", us.Annotation()}),
			"scope": pick(rng, []string{"import-security", "import-security,shared-rtctrl", "export-rtctrl"}),
		})
	case 13, 14:
		mark(e.DN())
	case 15, 16:
		mark(subnet)
	case 17:
		f.set(aci.ClassTagAnnotation, pick(rng, []aci.DN{l.DN(), e.DN()}).Child(aci.TagRN(aci.PauseKey)),
			map[string]string{"key": aci.PauseKey, "value": "x"})
	case 18:
		f.set(aci.ClassRsProv, e.DN().Child("rsprov-web"), map[string]string{"tnVzBrCPName": "web"})
	case 19:
		f.remove(subnet)
	case 20, 21:
		if all := f.below("uni"); len(all) > 0 {
			f.remove(pick(rng, all).DN)
		}
	case 22:
		f.remove(e.DN())
	case 23:
		if rng.IntN(4) == 0 {
			f.remove(l.DN())
		}
	case 24:
		node := l.DN().Child("lnodep-N").Child("rsnodeL3OutAtt-[" + string(pick(rng, someLeafs)) + "]")
		if f.set(aci.ClassRsNode, node, map[string]string{"rtrId": "1.1.1.1"}); rng.IntN(3) == 0 {
			f.remove(node)
		}
	case 25, 26, 27:
		f.changeFault(e)
	}
}

var someLeafs = []aci.DN{"topology/pod-1/node-101", "topology/pod-2/node-102"}

// changeFault does what leafs do.
func (f *fabric) changeFault(e aci.ExtEPG) {
	rng := f.rng
	at := pick(rng, someLeafs)
	d := pick(rng, []aci.DN{
		at + "/sys/actrl/dbgStatsReport/fault-F3544",
		at + "/local/svc-policyelem-id-0/uni/epp/rtd-[" + e.DN() + "]/nwissues/fault-F0467",
		at + "/elsewhere/fault-F0467",
		e.DN().Child("fd-[uni/epp/rtd-[" + string(e.DN()) + "]/" + string(at)[len("topology/pod-1/"):] + "/nwissues]-fault-F0467"),
		e.DN().Child("fault-F3941"),
	})
	class := aci.ClassFaultInst
	if strings.Contains(d.RN(), "fd-[") {
		class = aci.ClassFaultDelegate
	}
	if d.Within(e.DN()) && f.objects[e.DN()].Class == "" {
		return
	}
	if rng.IntN(5) == 0 {
		f.remove(d)
		return
	}
	f.set(class, d, map[string]string{
		"lc":       pick(rng, []string{"soaking", "raised", "raised", "raised-clearing", "retaining"}),
		"severity": pick(rng, []string{"minor", "minor", "cleared"}),
		"descr":    pick(rng, []string{"80 number of Prefix failed on leaf1", "Configuration failed for " + string(e.DN()) + " due to x"}),
	})
}

// TestState_equals_the_read_that_it_ends_in loses, repeats and shuffles events, and then reads.
func TestState_equals_the_read_that_it_ends_in(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*histories) {
		f := newFabric(seed)
		s := NewState(us)
		for range 40 {
			f.change()
			f.post(s)
			f.rng.Shuffle(len(f.events), func(i, j int) { f.events[i], f.events[j] = f.events[j], f.events[i] })
			for len(f.events) > 0 && f.rng.IntN(3) > 0 {
				m := f.events[0]
				if f.rng.IntN(4) > 0 {
					f.events = f.events[1:]
				}
				if f.rng.IntN(4) > 0 {
					fold(t, seed, s, aci.Update{Kind: aci.Event, Objects: []aci.MO{m}})
				}
			}
			switch l := pick(f.rng, someL3Outs); f.rng.IntN(12) {
			case 0:
				fold(t, seed, s, aci.Update{Kind: aci.Gap, Root: l.DN()})
			case 1, 2:
				f.read(t, seed, s, l.DN())
			case 3:
				f.read(t, seed, s, aci.ExtEPG{L3Out: l, Name: pick(f.rng, someNames)}.DN())
			case 5:
				f.read(t, seed, s, aci.Topology)
			case 4:
				if all := f.below("uni"); len(all) > 0 {
					if m := pick(f.rng, all); m.Class == aci.ClassSubnet {
						f.read(t, seed, s, m.DN)
					}
				}
			}
		}
		f.events = nil
		fresh := NewState(us)
		for _, root := range []aci.DN{someL3Outs[0].DN(), aci.Topology, someL3Outs[1].DN()} {
			f.read(t, seed, s, root)
			f.read(t, seed, fresh, root)
		}
		if diff := cmp.Diff(answers(fresh, false), answers(s, false)); diff != "" {
			t.Fatalf("seed %d (-fresh +folded)\n%s", seed, diff)
		}
	}
}

// post expects now and then what a controller would.
func (f *fabric) post(s *State) {
	if all := f.below("uni"); len(all) > 0 && f.rng.IntN(3) == 0 {
		switch m := pick(f.rng, all); m.Class {
		case aci.ClassExtEPG, aci.ClassSubnet:
			s.Expect(m.DN, pick(f.rng, []string{aci.StatusCreated, aci.StatusModified, aci.StatusDeleted}), nil)
			if f.rng.IntN(2) == 0 {
				s.Unexpect(m.DN)
			}
			if e, _, _ := aci.ExtEPGOf(m.DN); f.rng.IntN(6) == 0 {
				s.Doubt(e)
			}
		}
	}
}

// read is a read in which nothing happens meanwhile.
func (f *fabric) read(t *testing.T, seed uint64, s *State, root aci.DN) {
	t.Helper()
	fold(t, seed, s, aci.Update{Kind: aci.ReadBegin, Root: root})
	objects := f.below(root)
	f.rng.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
	fold(t, seed, s, aci.Update{Kind: aci.FullRead, Root: root, Objects: objects})
}

// TestState_folds_events_over_a_read changes the fabric while it is read page by page, each
// page at another time, and lets events come late, but in order and all of them.
func TestState_folds_events_over_a_read(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*histories) {
		f := newFabric(seed)
		s := NewState(us)
		told := 0
		tell := func(all bool) {
			for told < len(f.events) && (all || f.rng.IntN(3) > 0) {
				fold(t, seed, s, aci.Update{Kind: aci.Event, Objects: f.events[told : told+1]})
				told++
			}
		}
		for range 4 {
			for _, l := range someL3Outs {
				fold(t, seed, s, aci.Update{Kind: aci.ReadBegin, Root: l.DN()})
				var objects []aci.MO
				for _, class := range []string{
					aci.ClassL3Out, aci.ClassRsEctx, aci.ClassExtEPG, aci.ClassSubnet, aci.ClassRsProv, aci.ClassRsNode, aci.ClassTagAnnotation,
					aci.ClassFaultInst, aci.ClassFaultDelegate,
				} {
					for range f.rng.IntN(3) {
						f.change()
					}
					tell(false)
					for _, m := range f.below(l.DN()) {
						if m.Class == class {
							objects = append(objects, m)
						}
					}
				}
				fold(t, seed, s, aci.Update{Kind: aci.FullRead, Root: l.DN(), Objects: objects})
				tell(false)
			}
			fold(t, seed, s, aci.Update{Kind: aci.ReadBegin, Root: aci.Topology})
			var faults []aci.MO
			for _, leaf := range someLeafs {
				for range f.rng.IntN(3) {
					f.change()
				}
				tell(false)
				faults = append(faults, f.below(leaf)...)
			}
			fold(t, seed, s, aci.Update{Kind: aci.FullRead, Root: aci.Topology, Objects: faults})
		}
		tell(true)
		fresh := NewState(us)
		for _, l := range someL3Outs {
			if !s.Complete(l) { // an event told of something that the pages had missed
				f.read(t, seed, s, l.DN())
			}
			f.read(t, seed, fresh, l.DN())
		}
		f.read(t, seed, fresh, aci.Topology)
		want, got := answers(fresh, true), answers(s, true)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("seed %d (-fresh +folded)\n%s", seed, diff)
		}
	}
}

// fold folds u, and checks that the indexes are right and that whatever is answered otherwise
// than before was touched.
func fold(t *testing.T, seed uint64, s *State, u aci.Update) {
	t.Helper()
	before := answers(s, false)
	s.FaultsChanged()
	touched := map[string]bool{}
	for _, p := range s.Fold(u) {
		touched[p.String()] = true
	}
	if err := s.check(); err != "" {
		t.Fatalf("seed %d: after %+v: %s", seed, u, err)
	}
	after := answers(s, false)
	changed := s.FaultsChanged()
	for _, l := range someL3Outs {
		for _, name := range someNames {
			e := aci.ExtEPG{L3Out: l, Name: name}
			if k := "faults of " + e.String(); before[k] != after[k] && !slices.Contains(changed, e) {
				t.Fatalf("seed %d: %+v\n%s: %q -> %q, and only %v are said to differ", seed, u, k, before[k], after[k], changed)
			}
		}
	}
	for k := range merged(before, after) {
		about, _, place := strings.Cut(k, ": ")
		if before[k] != after[k] && place && !touched[about] && !touched[aci.Place{}.String()] {
			t.Fatalf("seed %d: %+v\n%s: %q -> %q, and only %v touched", seed, u, k, before[k], after[k],
				slices.Sorted(maps.Keys(touched)))
		}
	}
}

// answers are what a State answers, but for what it remembers. With vague, a mark that must be
// read again is one that may be anything.
func answers(s *State, vague bool) map[string]string {
	out := map[string]string{}
	mark := func(m Mark) string {
		if vague {
			return ""
		}
		return fmt.Sprint(m)
	}
	for _, l := range someL3Outs {
		vrf, ok := s.VRF(l)
		out["l3out "+l.String()] = fmt.Sprint(s.Complete(l), s.Exists(l), vrf, ok, s.Domain(l))
		for _, name := range someNames {
			e := aci.ExtEPG{L3Out: l, Name: name}
			g, there := s.ExtEPG(e)
			if !there {
				if slices.Collect(s.Subnets(e)) != nil {
					out["wrong "+e.String()] = "is absent and has subnets"
				}
				continue
			}
			if faults := s.Faults(e); faults != nil {
				out["faults of "+e.String()] = fmt.Sprint(faults)
			}
			out[e.String()+": epg"] = fmt.Sprint(g.Annotation, g.ExtMngdBy, mark(g.Mark), s.Contracts(e), s.tagged(e), vrf)
			for _, p := range somePrefixes {
				at := aci.Place{ExtEPG: e, Prefix: p}
				n, there := s.Subnet(at)
				if there {
					out[at.String()+": subnet"] = fmt.Sprint(n.DN, n.Prefix, n.Name, n.Annotation, n.Scope, mark(n.Mark), vrf)
				}
				if there != slices.Contains(s.Holders(p), e) {
					out["wrong "+at.String()] = "is not among the holders"
				}
			}
			var all []string
			for n := range s.Subnets(e) {
				all = append(all, fmt.Sprint(n.DN, n.Name, n.Scope, mark(n.Mark)))
			}
			slices.Sort(all)
			out["all of "+e.String()] = strings.Join(all, "\n")
		}
	}
	return out
}

// tagged reports whether e or its L3Out bears a pause tag. A pause outlives the EPG that bore it, which is
// remembered.
func (s *State) tagged(e aci.ExtEPG) bool {
	paused := s.l3outs[e.L3Out].paused
	return paused[e.DN()] || paused[e.L3Out.DN()]
}

// check holds the indexes against what they are made from; "" when they are right.
func (s *State) check() string {
	holders := map[netip.Prefix]map[aci.ExtEPG]bool{}
	for l, o := range s.l3outs {
		for name, g := range o.epgs {
			e := aci.ExtEPG{L3Out: l, Name: name}
			odd := map[netip.Prefix]int{}
			for ip, n := range g.subnets {
				if holders[n.Prefix] == nil {
					holders[n.Prefix] = map[aci.ExtEPG]bool{}
				}
				holders[n.Prefix][e] = true
				if ip != n.Prefix.String() {
					odd[n.Prefix]++
				}
				if n.DN != e.DN().Child(aci.SubnetRN(ip)) {
					return fmt.Sprintf("%s has the DN %s", ip, n.DN)
				}
			}
			for p, list := range g.odd {
				if len(list) != odd[p] {
					return fmt.Sprintf("%s: %d odd spellings of %s, not %d", e, odd[p], p, len(list))
				}
				for _, n := range list {
					if ip, _ := aci.SubnetIP(n.DN.RN()); g.subnets[ip] != n {
						return fmt.Sprintf("%s: %s is gone", e, n.DN)
					}
				}
			}
			if len(odd) != len(g.odd) {
				return fmt.Sprintf("%s: odd spellings %v, not %v", e, odd, g.odd)
			}
			if !g.exists && len(g.subnets) > 0 {
				return fmt.Sprintf("%s is absent and has subnets", e)
			}
		}
	}
	indexed := 0
	for e, of := range s.blamed {
		for d, f := range of {
			if indexed++; s.faults[d] != f || f.epg != e || len(of) == 0 {
				return fmt.Sprintf("%s is blamed by %s", e, d)
			}
		}
	}
	for leaf, of := range s.whole {
		for d, f := range of {
			if indexed++; s.faults[d] != f || f.leaf != leaf || !f.whole() {
				return fmt.Sprintf("%s is of leaf %d", d, leaf)
			}
		}
	}
	if indexed != len(s.faults) {
		return fmt.Sprintf("%d faults, and %d in the indexes", len(s.faults), indexed)
	}
	if len(holders) != len(s.holders) {
		return fmt.Sprintf("holders of %d prefixes, not %d", len(holders), len(s.holders))
	}
	for p, list := range s.holders {
		want := slices.SortedFunc(maps.Keys(holders[p]), aci.ExtEPG.Compare)
		if !slices.Equal(list, want) {
			return fmt.Sprintf("%s is held by %v, not by %v", p, want, list)
		}
	}
	pending := map[netip.Prefix]int{}
	for d := range s.expected {
		if p, ok := prefixOf(d); ok {
			pending[p]++
		}
	}
	if !maps.Equal(pending, s.pending) {
		return fmt.Sprintf("pending %v, not %v", pending, s.pending)
	}
	return ""
}
