package plan_test

import (
	"encoding/json"
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
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

var worlds = flag.Int("worlds", 120, "how many random worlds to bring in order")

// TestDiff_keeps_its_laws brings random fabrics to what random clusters want, and holds every
// step against what is promised of all of them.
func TestDiff_keeps_its_laws(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*worlds) {
		keepLaws(t, seed)
	}
}

func FuzzDiff(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(keepLaws)
}

func keepLaws(t *testing.T, seed uint64) {
	t.Helper()
	w := newWorld(t, seed)
	const rounds = 5
	for round := range rounds {
		written := false
		w.left(everywhere(w.want, w.have))
		for _, domain := range domains(w.want, w.have) {
			p := w.decide(t, domain)
			w.lawful(t, p)
			posts := p.Posts(us)
			for _, post := range posts {
				w.post(t, post)
			}
			written = written || len(posts) > 0
		}
		if !w.echoes {
			w.readAll()
		}
		if !written {
			break
		}
		if round == rounds-1 {
			t.Fatalf("seed %d: not in order after %d rounds", seed, rounds)
		}
	}
	w.readAll()
	for _, domain := range domains(w.want, w.have) {
		p := w.decide(t, domain)
		// A mark that went unannounced is missed by a read at the earliest.
		p.Changes = slices.DeleteFunc(p.Changes, func(c plan.Change) bool { return c.Reason == plan.Unmarked })
		if len(p.Changes) > 0 {
			t.Fatalf("seed %d: a read of all finds more to do: %v", seed, p.Changes)
		}
	}
}

// TestDiff_of_what_was_touched_is_all_there_is brings random worlds in order, changes one side a
// little, and compares the plan for the places that this touched with the plan for all.
func TestDiff_of_what_was_touched_is_all_there_is(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*worlds) / 3 {
		w := newWorld(t, seed)
		w.policy.UpsertOnly = false
		w.settle(t)
		for range 8 {
			var touched []aci.Place
			if w.rng.IntN(2) == 0 {
				touched = w.workload(pick(w.rng, "a", "b"), pick(w.rng, "web", "api"))
			} else {
				w.disturb(false)
				w.look()
				for _, l := range worldL3Outs {
					touched = append(touched, w.have.Fold(read(w.truth, l.DN()))...)
				}
			}
			touched = append(touched, w.left(touched)...)
			places := w.concerned(touched)
			for _, domain := range domains(w.want, w.have) {
				w.decide(t, domain) // an EPG that stays is read again by whoever looks at it
				some := plan.Diff(w.want, w.have, w.policy, domain, places)
				all := plan.Diff(w.want, w.have, w.policy, domain, everywhere(w.want, w.have))
				if diff := cmp.Diff(doing(all), doing(some)); diff != "" {
					t.Fatalf("seed %d, %s, touched %v (-all +touched)\n%s", seed, domain, touched, diff)
				}
			}
			w.settle(t)
		}
	}
}

// settle brings everything in order.
func (w *someWorld) settle(t *testing.T) {
	t.Helper()
	for range 5 {
		for _, domain := range domains(w.want, w.have) {
			for _, post := range w.decide(t, domain).Posts(us) {
				w.post(t, post)
			}
		}
		w.readAll()
	}
}

// doing is what a plan does, but for deleting EPGs: what keeps one is not compared by a read of
// its L3Out, only announced.
func doing(p plan.Plan) []string {
	var out []string
	for _, c := range p.Changes {
		if c.Action != plan.Delete || c.Place.Prefix.IsValid() {
			out = append(out, c.String())
		}
	}
	for _, d := range p.Reads {
		out = append(out, "read "+string(d))
	}
	return out
}

// left tells what is wanted which of the places are empty, as a controller does, and returns what
// that touched.
func (w *someWorld) left(places []aci.Place) []aci.Place {
	var touched []aci.Place
	for _, p := range places {
		if p.Prefix.IsValid() && w.have.Absent(p) {
			touched = append(touched, w.want.Left(p)...)
		}
	}
	return touched
}

// concerned is what a controller makes of touched places: an EPG stands for all that is claimed
// or held in it, a prefix also for where else it is claimed or held.
func (w *someWorld) concerned(touched []aci.Place) []aci.Place {
	var out []aci.Place
	prefix := func(p netip.Prefix) {
		for _, e := range slices.Concat(w.want.Claimants(p), w.have.Holders(p)) {
			out = append(out, aci.Place{ExtEPG: e, Prefix: p})
		}
	}
	for _, p := range touched {
		switch {
		case p == aci.Place{}:
			return everywhere(w.want, w.have)
		case p.Prefix.IsValid():
			out = append(out, p)
			prefix(p.Prefix)
		default:
			out = append(out, p)
			for q := range w.want.Places(p.ExtEPG) {
				if out = append(out, q); q.Prefix.IsValid() {
					prefix(q.Prefix)
				}
			}
			for n := range w.have.Subnets(p.ExtEPG) {
				out = append(out, aci.Place{ExtEPG: p.ExtEPG, Prefix: n.Prefix})
			}
		}
	}
	return out
}

// someWorld is a cluster, a fabric, and what is known of both.
type someWorld struct {
	golden
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	objects map[aci.DN]aci.MO
	echoes  bool // what is written is told by events, else by reads
}

var (
	worldL3Outs   = []aci.L3Out{{Tenant: "T", Name: "O"}, {Tenant: "T", Name: "P"}, {Tenant: "T", Name: "Q"}, {Tenant: "T", Name: "R"}}
	worldVRFs     = map[string]string{"O": "V", "P": "V", "Q": "W"} // R does not exist
	worldEPGs     = []string{"E1", "E2"}
	worldPrefixes = []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "2001:db8::1"}
)

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

func newWorld(t *testing.T, seed uint64) *someWorld {
	w := &someWorld{golden: *newCase(), t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), objects: map[aci.DN]aci.MO{}}
	rng := w.rng
	w.echoes = rng.IntN(2) == 0
	w.policy.UpsertOnly, w.policy.DeleteUsed = rng.IntN(8) == 0, rng.IntN(4) == 0
	if rng.IntN(6) == 0 {
		w.policy.Allow, _ = plan.ParseAllow([]string{"T/O", "T/Q"})
	}
	if rng.IntN(6) == 0 {
		w.policy.Scope = aci.Scope{"import-security", "shared-rtctrl"}
	}
	w.policy.APIC = pick(rng, "", "6.0(9c)", "5.0(1k)", "what", "5.10(1a)", "6.0(9c)", "6.0(9c)", "4.10(1a)")
	for _, l := range worldL3Outs {
		if vrf := worldVRFs[l.Name]; vrf != "" {
			w.put(aci.ClassL3Out, l.DN(), "name", l.Name)
			w.put(aci.ClassRsEctx, l.DN().Child("rsectx"), "tDn", "uni/tn-T/ctx-"+vrf, "state", "formed")
		}
	}
	for range 1 + rng.IntN(12) {
		w.disturb(false)
	}
	if rng.IntN(2) == 0 { // what was before leaves a memory
		w.readAll()
		for range 1 + rng.IntN(6) {
			w.disturb(false)
		}
	}
	w.readAll()
	for _, ns := range []string{"a", "b"} {
		for _, name := range []string{"web", "api"} {
			w.workload(ns, name)
		}
	}
	w.want.Begin()
	for range rng.IntN(4) {
		w.workload(pick(rng, "a", "b"), pick(rng, "web", "api"))
	}
	w.readAll()
	for range rng.IntN(4) {
		w.disturb(true)
	}
	return w
}

// workload folds a random Deployment, its Service, and now and then a Pod of nobody known, and
// returns what this touched.
func (w *someWorld) workload(ns, name string) []aci.Place {
	rng := w.rng
	value := fmt.Sprintf(`{"tenant":"T","l3out":%q,"epg":%q}`, pick(rng, "O", "O", "P", "Q", "R"), pick(rng, worldEPGs...))
	if rng.IntN(12) == 0 {
		value = "{}"
	}
	paused := pick(rng, "true", "false", "false")
	if w.want.Paused(desired.Ref{Kind: desired.KindDeployment, Namespace: ns, Name: name}) && rng.IntN(2) == 0 {
		paused = "true" // it lasts
	}
	touched := foldYAML(w.t, w.want, fmt.Sprintf(`{kind: Deployment, metadata: {namespace: %s, name: %s, uid: %[1]s-%[2]s,
		creationTimestamp: "202%d-01-01T00:00:00Z", annotations: {%q: %q, %q: %q}}, spec: {template: {metadata: {labels: {app: %[2]s}}}}}`,
		ns, name, rng.IntN(3), desired.Annotation, value, desired.PausedAnnotation, paused))
	var ips []string
	for _, ip := range worldPrefixes {
		if rng.IntN(3) == 0 {
			ips = append(ips, fmt.Sprintf("{ip: %q}", ip))
		}
	}
	touched = append(touched, foldYAML(w.t, w.want, fmt.Sprintf(`{kind: Service, metadata: {namespace: %s, name: %s}, spec: {type: LoadBalancer,
		selector: {app: %[2]s}}, status: {loadBalancer: {ingress: [%s]}}}`, ns, name, strings.Join(ips, ", ")))...)
	if rng.IntN(6) == 0 {
		touched = append(touched, foldYAML(w.t, w.want, fmt.Sprintf(`{kind: Pod, metadata: {namespace: %s, name: %s, ownerReferences: [{kind: ReplicaSet, uid: x,
			controller: true}]}, status: {podIPs: [{ip: %q}]}}`, ns, name, pick(rng, worldPrefixes...)))...)
	}
	return touched
}

func (w *someWorld) put(class string, d aci.DN, attrs ...string) {
	m := aci.MO{Class: class, DN: d, Attrs: map[string]string{}}
	for i := 0; i < len(attrs); i += 2 {
		m.Attrs[attrs[i]] = attrs[i+1]
	}
	w.objects[d] = m
}

// disturb makes, changes or deletes something on the fabric, and lets events tell of it.
func (w *someWorld) disturb(events bool) {
	rng := w.rng
	e := aci.ExtEPG{L3Out: pick(rng, worldL3Outs[:3]...), Name: pick(rng, worldEPGs...)}
	at, class := e.DN(), aci.ClassExtEPG
	attrs := []string{"name", e.Name, "extMngdBy", pick(rng, "", "", "", "", "", "msc"), "descr", pick(rng, "", "", "x")}
	if rng.IntN(3) > 0 {
		ip := pick(rng, append(worldPrefixes, "10.0.0.9/24")...)
		if p, err := netip.ParseAddr(ip); err == nil {
			ip = netip.PrefixFrom(p, p.BitLen()).String()
		}
		if ip == "2001:db8::1/128" && rng.IntN(4) == 0 {
			ip = "2001:DB8::1/128"
		}
		at, class = e.DN().Child(aci.SubnetRN(ip)), aci.ClassSubnet
		attrs = []string{"ip", ip, "name", pick(rng, "a::web", "b::api", "x"), "scope", pick(rng, "import-security", "import-security", "export-rtctrl")}
		if w.objects[e.DN()].Class == "" {
			return
		}
	}
	old, there := w.objects[at]
	if there && rng.IntN(4) == 0 {
		if w.objects[at.Child(aci.TagRN(aci.PauseKey))].Class != "" {
			return // a pause outlives its EPG
		}
		w.remove(at)
		if events {
			w.have.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{{Class: class, DN: at, Attrs: map[string]string{"status": aci.StatusDeleted}}}})
		}
		return
	}
	annotation := pick(rng, us.Annotation(), us.Annotation(), "", "orchestrator:other")
	if events && there {
		annotation = old.Attrs["annotation"] // the hint to read the mark
	}
	w.put(class, at, append(attrs, "annotation", annotation)...)
	tag := at.Child(aci.TagRN(aci.OwnerKey))
	if mark := pick(rng, us.Mark(at), us.Mark(at), us.Mark(at), "", aci.Owner("c2").Mark(at), us.Mark(at+"x")); mark == "" || strings.Contains(string(at), "DB8") {
		delete(w.objects, tag)
	} else if events && annotation != us.Annotation() {
		// Nothing tells of a mark that comes to what does not look like ours, before a read does.
	} else if !there || rng.IntN(2) == 0 {
		w.put(aci.ClassTagAnnotation, tag, "key", aci.OwnerKey, "value", mark)
	}
	if events {
		m := aci.MO{Class: class, DN: at, Attrs: maps.Clone(w.objects[at].Attrs)}
		if m.Attrs["status"] = aci.StatusModified; !there {
			m.Attrs["status"] = aci.StatusCreated
		}
		w.have.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{m}})
	} else {
		switch rng.IntN(16) {
		case 0:
			w.put(aci.ClassTagAnnotation, at.Child(aci.TagRN("color")), "key", "color", "value", "red")
		case 1:
			w.put(aci.ClassTagAnnotation, e.DN().Child(aci.TagRN(aci.PauseKey)), "key", aci.PauseKey, "value", "")
		case 2:
			w.put(aci.ClassRsProv, e.DN().Child("rsprov-web"), "tnVzBrCPName", "web")
		}
	}
}

func (w *someWorld) remove(d aci.DN) {
	maps.DeleteFunc(w.objects, func(k aci.DN, _ aci.MO) bool { return k.Within(d) })
}

func (w *someWorld) readAll() {
	w.look()
	for _, l := range worldL3Outs {
		w.have.Fold(read(w.truth, l.DN()))
	}
}

func (w *someWorld) look() {
	w.truth = nil
	for _, d := range slices.Sorted(maps.Keys(w.objects)) {
		w.truth = append(w.truth, w.objects[d])
	}
}

// decide compares everything in a domain, and makes the reads that this asks for.
func (w *someWorld) decide(t *testing.T, domain aci.DN) plan.Plan {
	t.Helper()
	for range 5 {
		for _, l := range worldL3Outs {
			if !w.have.Complete(l) {
				w.readAll()
			}
		}
		places := everywhere(w.want, w.have)
		before := w.describe()
		p := plan.Diff(w.want, w.have, w.policy, domain, places)
		w.rng.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
		again := plan.Diff(w.want, w.have, w.policy, domain, append(places, places...))
		if diff := cmp.Diff(show(p), show(again)); diff != "" {
			t.Fatalf("seed %d: the order of places matters\n%s", w.seed, diff)
		}
		if diff := cmp.Diff(before, w.describe()); diff != "" {
			t.Fatalf("seed %d: Diff changed what it compares\n%s", w.seed, diff)
		}
		if len(p.Reads) == 0 {
			return p
		}
		w.look()
		for _, d := range p.Reads {
			w.have.Fold(read(w.truth, d))
		}
	}
	t.Fatalf("seed %d: asks for reads again and again", w.seed)
	return plan.Plan{}
}

func show(p plan.Plan) string {
	data, _ := json.Marshal(p.Posts(us))
	return fmt.Sprint(p.Changes, p.Reads, p.Problems, p.Kept, string(data))
}

// describe is what both sides answer.
func (w *someWorld) describe() string {
	var b strings.Builder
	for _, p := range everywhere(w.want, w.have) {
		c, claimed := w.want.Claim(p)
		g, there := w.have.ExtEPG(p.ExtEPG)
		n, holds := w.have.Subnet(p)
		some, all := w.want.PausedIn(p.ExtEPG)
		fmt.Fprintln(&b, w.want.PausedBy(p.Prefix), some, all, w.want.Withdrawn(p))
		fmt.Fprintln(&b, p, c, claimed, g, there, n, holds, w.have.Holders(p.Prefix), w.have.Expected(p.DN()), w.have.Last(p.ExtEPG))
	}
	return b.String()
}

func (w *someWorld) mark(d aci.DN) string {
	return w.objects[d.Child(aci.TagRN(aci.OwnerKey))].Attrs["value"]
}

func (w *someWorld) ours(d aci.DN) bool { return w.mark(d) == us.Mark(d) }

// lawful holds the changes of a plan against what is on the fabric.
func (w *someWorld) lawful(t *testing.T, p plan.Plan) {
	t.Helper()
	for _, c := range p.Changes {
		_, there := w.objects[c.DN]
		e := c.Place.ExtEPG
		switch {
		case c.Action == plan.Create:
			if there || !c.Mark {
				t.Errorf("seed %d: %s: there %v, mark %v", w.seed, c, there, c.Mark)
			}
		case !there:
			t.Errorf("seed %d: %s: is not there", w.seed, c)
		case c.Action == plan.Update && c.Mark:
			ours := w.objects[c.DN].Attrs["annotation"] == us.Annotation()
			if c.DN == e.DN() {
				ours = w.have.Recorded(e) && (ours || slices.ContainsFunc(w.truth, func(m aci.MO) bool {
					return m.Class == aci.ClassSubnet && m.DN.Within(e.DN()) && w.ours(m.DN)
				}))
			}
			if w.mark(c.DN) != "" || !ours || len(c.Attrs) > 0 {
				t.Errorf("seed %d: %s: marks what is not ours", w.seed, c)
			}
		case !w.ours(c.DN):
			t.Errorf("seed %d: %s: is not ours", w.seed, c)
		}
		if c.Action == plan.Delete && w.policy.UpsertOnly && c.Reason != plan.Moved {
			t.Errorf("seed %d: %s: with upsert-only", w.seed, c)
		}
		if c.Action == plan.Delete && c.Place.Prefix.IsValid() && w.want.Held(c.Place.Prefix) {
			t.Errorf("seed %d: %s: is held", w.seed, c)
		}
		if by := w.want.PausedBy(c.Place.Prefix); len(by) > 0 {
			t.Errorf("seed %d: %s: is claimed by %v, paused", w.seed, c, by)
		}
		some, all := w.want.PausedIn(e)
		if all && !c.Place.Prefix.IsValid() || some && c.Action == plan.Delete && !(c.Place.Prefix.IsValid() &&
			(w.want.Withdrawn(c.Place) || c.Reason == plan.Moved)) {
			t.Errorf("seed %d: %s: in what paused workloads name", w.seed, c)
		}
		if c.Action == plan.Delete && !c.Place.Prefix.IsValid() {
			for n := range w.have.Subnets(e) {
				if by := w.want.PausedBy(n.Prefix); len(by) > 0 {
					t.Errorf("seed %d: %s: with %s, claimed by %v, paused", w.seed, c, n.Prefix, by)
				}
			}
		}
		if !w.policy.Allow.Allows(e.L3Out) || w.policy.APIC == "4.10(1a)" || w.have.Paused(e) || w.objects[e.DN()].Attrs["extMngdBy"] == "msc" {
			t.Errorf("seed %d: %s: must not be written", w.seed, c)
		}
	}
}

// post applies a request as a strict APIC would, and checks what it did.
func (w *someWorld) post(t *testing.T, p plan.Post) {
	t.Helper()
	under := p.EPG.L3Out.DN()
	body, err := json.Marshal(p.Body)
	if err != nil {
		t.Fatal(err)
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("seed %d: POST %s %s\n%s", w.seed, under, body, fmt.Sprintf(format, args...))
	}
	for _, word := range []string{`"fvTenant"`, `"l3extOut"`, `"dn"`} {
		if strings.Contains(string(body), word) {
			fail("names %s", word)
		}
	}
	subnets := 0
	for _, c := range p.Body.Children {
		if c.Class == aci.ClassSubnet {
			subnets++
		}
	}
	if subnets > plan.MaxChanges {
		fail("carries %d subnets", subnets)
	}
	before, twice := maps.Clone(w.objects), w.twice()
	if w.echoes {
		w.expect(p)
	}
	events, err := w.apply(under, p.Body)
	if err != nil {
		fail("%v", err)
	}
	for d, where := range w.twice() {
		if len(where) > len(twice[d]) {
			fail("%s is in %v", d, where)
		}
	}
	for d, m := range before {
		now, there := w.objects[d]
		owner := d
		for ; owner != "" && w.objects[owner].Class == "" && before[owner.Parent()].Class != ""; owner = owner.Parent() {
			if before[owner].Class == aci.ClassExtEPG || before[owner].Class == aci.ClassSubnet {
				if before[owner.Child(aci.TagRN(aci.OwnerKey))].Attrs["value"] != us.Mark(owner) {
					fail("%s is gone, and was not ours", owner)
				}
			}
		}
		marked := before[d.Child(aci.TagRN(aci.OwnerKey))].Attrs["value"] == us.Mark(d)
		if there && !marked {
			if diff := cmp.Diff(m, now); diff != "" {
				fail("%s is not ours (-before +after)\n%s", d, diff)
			}
		}
	}
	if !w.echoes {
		return
	}
	w.have.Fold(aci.Update{Kind: aci.Event, Objects: events})
	w.look()
	for _, c := range p.Changes {
		if c.Mark && c.Action == plan.Update { // nothing announces it: it is read
			w.have.Fold(read(w.truth, c.DN))
		}
	}
}

// expect notes what a controller would.
func (w *someWorld) expect(p plan.Post) {
	for _, c := range p.Changes {
		if !c.Mark || c.Action == plan.Create {
			w.have.Expect(c.DN, c.Status(), c.Attrs)
		}
	}
}

// twice are the addresses that are under our mark in several EPGs of a VRF.
func (w *someWorld) twice() map[string][]aci.DN {
	found := map[string][]aci.DN{}
	for d, m := range w.objects {
		if m.Class != aci.ClassSubnet || !w.ours(d) {
			continue
		}
		e, rest, _ := aci.ExtEPGOf(d)
		ip, _ := aci.SubnetIP(rest)
		p := netip.MustParsePrefix(ip).Masked()
		key := worldVRFs[e.L3Out.Name] + " " + p.String()
		if !slices.Contains(found[key], e.DN()) {
			found[key] = append(found[key], e.DN())
		}
	}
	maps.DeleteFunc(found, func(_ string, where []aci.DN) bool { return len(where) < 2 })
	return found
}

// apply writes m below the object under, and returns the events of it. Tags are not announced.
func (w *someWorld) apply(under aci.DN, m aci.MO) ([]aci.MO, error) {
	rn := map[string]string{
		aci.ClassExtEPG: "instP-" + m.Attrs["name"], aci.ClassSubnet: aci.SubnetRN(m.Attrs["ip"]), aci.ClassTagAnnotation: aci.TagRN(m.Attrs["key"]),
	}[m.Class]
	d := under.Child(rn)
	old, there := w.objects[d]
	status := m.Attrs["status"]
	event := aci.MO{Class: m.Class, DN: d, Attrs: maps.Clone(m.Attrs)}
	var events []aci.MO
	switch {
	case w.objects[under].Class == "":
		return nil, fmt.Errorf("%s has no parent", d)
	case status == aci.StatusCreated && there:
		return nil, fmt.Errorf("%s exists already", d)
	case status == aci.StatusModified && !there:
		return nil, fmt.Errorf("%s is to be modified and is not there", d)
	case status == aci.StatusDeleted:
		for _, k := range slices.Sorted(maps.Keys(w.objects)) {
			if k.Within(d) && w.objects[k].Class != aci.ClassTagAnnotation {
				events = append(events, aci.MO{Class: w.objects[k].Class, DN: k, Attrs: map[string]string{"status": aci.StatusDeleted}})
			}
		}
		w.remove(d)
		return events, nil
	case status == "":
		if m.Class != aci.ClassTagAnnotation || m.Attrs["key"] != aci.OwnerKey {
			return nil, fmt.Errorf("%s has no status", d)
		}
	}
	attrs := map[string]string{}
	maps.Copy(attrs, old.Attrs)
	maps.Copy(attrs, m.Attrs)
	delete(attrs, "status")
	changed := !there || !maps.Equal(attrs, old.Attrs)
	w.objects[d] = aci.MO{Class: m.Class, DN: d, Attrs: attrs}
	if changed && m.Class != aci.ClassTagAnnotation {
		events = append(events, event)
	}
	for _, c := range m.Children {
		more, err := w.apply(d, c)
		if err != nil {
			return nil, err
		}
		events = append(events, more...)
	}
	return events, nil
}

// TestPlan_Posts_are_bounded moves a thousand addresses at once.
func TestPlan_Posts_are_bounded(t *testing.T) {
	t.Parallel()
	want, have := crowd(t, 1200, 1201)
	p := plan.Diff(want, have, newCase().policy, "uni/tn-T/ctx-V", everywhere(want, have))
	var sizes []int
	for _, post := range p.Posts(us) {
		sizes = append(sizes, len(post.Changes))
	}
	if diff := cmp.Diff([]int{1}, sizes); diff != "" {
		t.Errorf("one more (-want +got)\n%s", diff)
	}
	want, have = crowd(t, 0, 1200)
	p = plan.Diff(want, have, newCase().policy, "uni/tn-T/ctx-V", everywhere(want, have))
	sizes = nil
	for _, post := range p.Posts(us) {
		sizes = append(sizes, len(post.Changes))
	}
	if diff := cmp.Diff([]int{501, 500, 200}, sizes); diff != "" {
		t.Errorf("all of them, and their EPG (-want +got)\n%s", diff)
	}
}

// crowd is an EPG with n subnets and a workload that claims m addresses in it.
func crowd(t testing.TB, n, m int) (*desired.State, *observed.State) {
	c := newCase()
	addr := func(i int) string { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String() }
	foldYAML(t, c.want, `{kind: Deployment, metadata: {namespace: a, name: web, uid: d,
		annotations: {aci.haystacknetworks.com/l3o: '{"tenant":"T","l3out":"O","epg":"E1"}'}}, spec: {template: {metadata: {labels: {app: web}}}}}`)
	for i := range m {
		svc := service(addr(i))
		svc.Name = fmt.Sprintf("s%d", i)
		c.want.Fold(desired.Ref{Kind: desired.KindService, Namespace: "a", Name: svc.Name}, svc)
	}
	l := worldL3Outs[0]
	e := aci.ExtEPG{L3Out: l, Name: "E1"}
	w := &someWorld{objects: map[aci.DN]aci.MO{}}
	w.put(aci.ClassL3Out, l.DN(), "name", "O")
	w.put(aci.ClassRsEctx, l.DN().Child("rsectx"), "tDn", "uni/tn-T/ctx-V", "state", "formed")
	if n > 0 {
		w.put(aci.ClassExtEPG, e.DN(), "name", "E1", "annotation", us.Annotation())
		w.put(aci.ClassTagAnnotation, e.DN().Child(aci.TagRN(aci.OwnerKey)), "key", aci.OwnerKey, "value", us.Mark(e.DN()))
	}
	for i := range n {
		d := e.DN().Child(aci.SubnetRN(addr(i) + "/32"))
		w.put(aci.ClassSubnet, d, "ip", addr(i)+"/32", "name", fmt.Sprintf("a::s%d", i), "scope", "import-security", "annotation", us.Annotation())
		w.put(aci.ClassTagAnnotation, d.Child(aci.TagRN(aci.OwnerKey)), "key", aci.OwnerKey, "value", us.Mark(d))
	}
	w.look()
	c.have.Fold(read(w.truth, l.DN()))
	return c.want, c.have
}

// BenchmarkDiff is what one address that comes costs, beside many that are there: the fold of
// its Service, the comparison, the request, the fold of its event; and the same when it goes.
func BenchmarkDiff(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			change := comesAndGoes(b, n)
			b.ReportAllocs()
			for b.Loop() {
				change()
			}
		})
	}
}

// BenchmarkDiff_batch is what the comparison and the request of 500 addresses cost that come together,
// beside many that are there.
func BenchmarkDiff_batch(b *testing.B) {
	const batch = 500
	for _, n := range []int{100, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			want, have := crowd(b, n, n+batch)
			policy := newCase().policy
			var dirty []aci.Place
			for _, p := range everywhere(want, have) {
				if _, there := have.Subnet(p); p.Prefix.IsValid() && !there {
					dirty = append(dirty, p)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				posts := plan.Diff(want, have, policy, "uni/tn-T/ctx-V", dirty).Posts(us)
				if len(posts) != 1 || len(posts[0].Changes) != batch {
					b.Fatal(posts)
				}
			}
		})
	}
}

// BenchmarkDiff_read is what comparing an EPG costs that was read, and in which all is in sync.
func BenchmarkDiff_read(b *testing.B) {
	for _, n := range []int{100, 20_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			want, have := crowd(b, n, n)
			policy, all := newCase().policy, everywhere(want, have)
			b.ReportAllocs()
			for b.Loop() {
				if p := plan.Diff(want, have, policy, "uni/tn-T/ctx-V", all); len(p.Changes) != 0 {
					b.Fatal(p.Changes)
				}
			}
		})
	}
}

// TestDiff_costs_the_same_whatever_is_there counts allocations. It is not parallel: others
// allocate, too.
func TestDiff_costs_the_same_whatever_is_there(t *testing.T) {
	few, many := testing.AllocsPerRun(100, comesAndGoes(t, 100)), testing.AllocsPerRun(100, comesAndGoes(t, 10_000))
	t.Logf("allocations of a change: %v with few subnets, %v with many", few, many)
	if many > few {
		t.Errorf("a change allocates %v times beside 10,000 subnets, %v times beside 100", many, few)
	}
}

// comesAndGoes returns what takes one address from the news of its Service to the news of its
// subnet, and back, beside n others in the same EPG.
func comesAndGoes(t testing.TB, n int) func() {
	want, have := crowd(t, n, n)
	policy := newCase().policy
	svc := service("192.0.2.1")
	r := desired.Ref{Kind: desired.KindService, Namespace: "a", Name: "new"}
	return func() {
		for _, there := range []bool{true, false} {
			touched := want.Fold(r, nil)
			if there {
				touched = want.Fold(r, svc)
			}
			p := plan.Diff(want, have, policy, "uni/tn-T/ctx-V", touched.Places)
			if len(p.Changes) != 1 {
				t.Fatal(p.Changes)
			}
			for _, post := range p.Posts(us) {
				for _, c := range post.Changes {
					have.Expect(c.DN, c.Status(), c.Attrs)
					attrs := maps.Clone(c.Attrs)
					if attrs == nil {
						attrs = map[string]string{}
					}
					attrs["status"] = c.Status()
					have.Fold(aci.Update{Kind: aci.Event, Objects: []aci.MO{{Class: aci.ClassSubnet, DN: c.DN, Attrs: attrs}}})
				}
			}
		}
	}
}
