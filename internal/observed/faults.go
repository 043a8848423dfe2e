package observed

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Fault is what the APIC says is wrong with an external EPG: leafs have not programmed it, or it is
// not deployed at all.
type Fault struct {
	Code  string // such as "F0467"; "configSt" or "configIssues" where the EPG itself says so
	Leafs []int  // ids of the leafs that raise it, sorted; none where the EPG itself says so
	Whole bool   // a leaf says it of all that it holds, without saying whose that is
	Text  string // the APIC's words, without what names the EPG, cut
}

// fault is a faultInst or a faultDelegate. Of its attributes those are kept that are not in its DN.
type fault struct {
	code, lc, severity, descr string
	leaf                      int        // that raises it; 0 for none
	epg                       aci.ExtEPG // that it names; zero for none
}

// raised reports whether f tells of something that is wrong now, and has been for a while.
//
// One that soaks may be over in a moment: the APIC itself waits two minutes before it raises it.
// One that is clearing may come back: the APIC waits as long before it calls it cleared. So what is
// raised does not flap.
//
// Source: Cisco APIC Faults, Events, and System Messages Management Guide, "Fault Life Cycle";
// apic-rest.md 6.2.
func (f *fault) raised() bool {
	return f != nil && (f.lc == "raised" || f.lc == "raised-clearing") && f.severity != "cleared"
}

// whole reports whether f is about a leaf as a whole.
//
// Source: docs/docs/validations.md of s:preup, "HW Programming Failure": F3544 counts the prefixes
// of external EPGs that the leaf could not program, F3545 the contract rules. They name neither.
func (f *fault) whole() bool {
	return f.epg == (aci.ExtEPG{}) && f.leaf != 0 && (f.code == "F3544" || f.code == "F3545")
}

// said is what is told of f; zero when it is not raised.
func (f *fault) said() fault {
	if !f.raised() {
		return fault{}
	}
	said := *f
	said.lc, said.severity = "", ""
	return said
}

// Faults returns what the APIC says is wrong with e, sorted by code; nothing when e is not there.
func (s *State) Faults(e aci.ExtEPG) []Fault {
	g := s.epg(e)
	if g == nil || !g.exists {
		return nil
	}
	found := map[string]*Fault{}
	collect := func(of map[aci.DN]*fault) {
		for _, d := range slices.Sorted(maps.Keys(of)) {
			f := of[d]
			if !f.raised() {
				continue
			}
			if found[f.code] == nil {
				found[f.code] = &Fault{Code: f.code, Whole: f.whole(), Text: words(f.descr)}
			}
			if f.leaf != 0 {
				found[f.code].Leafs = append(found[f.code].Leafs, f.leaf)
			}
		}
	}
	collect(s.blamed[e])
	for _, leaf := range s.l3outs[e.L3Out].leafs() {
		collect(s.whole[leaf])
	}
	for attr, v := range g.unwell() {
		found[attr] = &Fault{Code: attr, Text: cut(v)}
	}
	var out []Fault
	for _, f := range found {
		slices.Sort(f.Leafs)
		f.Leafs = slices.Compact(f.Leafs)
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Fault) int { return cmp.Compare(a.Code, b.Code) })
	return out
}

// FaultsChanged returns the external EPGs whose faults may be others than at the last call, sorted.
func (s *State) FaultsChanged() []aci.ExtEPG {
	out := slices.SortedFunc(maps.Keys(s.changed), aci.ExtEPG.Compare)
	clear(s.changed)
	return out
}

// ForgetFaults drops what is known of faults that leafs raise.
func (s *State) ForgetFaults() {
	s.installFaults(aci.Topology, nil)
	delete(s.reading, aci.Topology)
}

// isFault tells objects that the fabric makes to say what is wrong.
func isFault(class string) bool {
	return class == aci.ClassFaultInst || class == aci.ClassFaultDelegate
}

// unwell is what e says of its own state, where that is an end and not on the way to one.
//
// Source: apic-rest.md 4.1 for the values; flags read back empty instead of "none".
func (g ExtEPG) unwell() map[string]string {
	out := map[string]string{}
	if g.ConfigSt == "failed-to-apply" {
		out["configSt"] = g.ConfigSt
	}
	if g.ConfigIssues != "" && g.ConfigIssues != "none" {
		out["configIssues"] = g.ConfigIssues
	}
	return out
}

// leafs are the ids of the leafs that the L3Out is on, sorted.
func (o *l3out) leafs() []int {
	return slices.Compact(slices.Sorted(maps.Values(o.nodes)))
}

// applyFault folds the event of a fault. One that was never heard of may tell but a part of it.
func (s *State) applyFault(m aci.MO) {
	if m.Attrs["status"] == aci.StatusDeleted {
		s.setFault(m.DN, nil)
		return
	}
	f := fault{}
	if old := s.faults[m.DN]; old != nil {
		f = *old
	}
	f.merge(m)
	s.setFault(m.DN, &f)
}

// installFaults replaces what is known of faults below an L3Out, or of all others for aci.Topology,
// by what a read brought.
func (s *State) installFaults(root aci.DN, objects []aci.MO) {
	found := map[aci.DN]bool{}
	for _, m := range objects {
		if isFault(m.Class) {
			found[m.DN] = true
		}
	}
	for d := range maps.Clone(s.faults) {
		if _, below := aci.L3OutOf(d); !found[d] && (d.Within(root) || root == aci.Topology && !below) {
			s.setFault(d, nil)
		}
	}
	s.addFaults(objects)
}

// addFaults takes in the faults that a read brought. A read of all that is below an EPG may or may not
// bring them: that it lacks one means nothing.
func (s *State) addFaults(objects []aci.MO) {
	for _, m := range objects {
		if isFault(m.Class) {
			f := &fault{}
			f.merge(m)
			s.setFault(m.DN, f)
		}
	}
}

// forgetFaults drops those of some faults that are at or below root, which is gone.
func (s *State) forgetFaults(of map[aci.DN]*fault, root aci.DN) {
	for d := range of {
		if d.Within(root) {
			s.setFault(d, nil)
		}
	}
}

// delegatedBy finds the node in the RN of a faultDelegate. Source: docs/docs/validations.md of
// s:preup, "L2/L3 Port Config". unverified: that it is there in those of external EPGs.
var delegatedBy = regexp.MustCompile(`/node-([0-9]+)[/\]]`)

func (f *fault) merge(m aci.MO) {
	for k, to := range map[string]*string{"lc": &f.lc, "severity": &f.severity, "descr": &f.descr} {
		if v, ok := m.Attrs[k]; ok {
			*to = v
		}
	}
	f.descr = strings.TrimPrefix(f.descr, "Fault delegate: ")
	rn := m.DN.RN()
	if i := strings.LastIndex(rn, "fault-"); i >= 0 {
		f.code = rn[i+len("fault-"):]
	}
	f.leaf, _ = aci.NodeOf(m.DN)
	if by := delegatedBy.FindStringSubmatch(rn); by != nil {
		f.leaf, _ = strconv.Atoi(by[1])
	}
	f.epg = blames(m.DN, f.descr)
}

// failedFor is how the APIC begins to say whose configuration a leaf did not take.
//
// Source: apic-rest.md 4.3, and docs/docs/validations.md of s:preup.
var failedFor = regexp.MustCompile(`^Configuration failed for (\S+)(?: node \S+ \S+)? due to `)

// blames finds the external EPG that a fault is at or below, or names: by the place on the leaf where
// it was raised, or in its words. Zero for none.
func blames(d aci.DN, descr string) aci.ExtEPG {
	if e, _, ok := aci.ExtEPGOf(d); ok {
		return e
	}
	var named []string
	for _, rn := range d.RNs() {
		if of, ok := strings.CutPrefix(rn, "rtd-["); ok {
			named = append(named, strings.TrimSuffix(of, "]"))
		}
	}
	if m := failedFor.FindStringSubmatch(descr); m != nil {
		named = append(named, m[1])
	}
	for _, of := range named {
		if e, rest, ok := aci.ExtEPGOf(aci.DN(of)); ok && rest == "" {
			return e
		}
	}
	return aci.ExtEPG{}
}

// maxWords is how much is kept of what the APIC says, in characters: the prefix that collides
// stands near the end of what it says of F0467.
const maxWords = 240

// words is what descr says beside whom it is about.
func words(descr string) string {
	s := descr[len(failedFor.FindString(descr)):]
	s = strings.TrimRight(s, " ;")
	return cut(strings.TrimSuffix(s, ", debug message:")) // as older releases end
}

func cut(s string) string {
	if r := []rune(s); len(r) > maxWords {
		return string(r[:maxWords]) + "…"
	}
	return s
}

// setFault replaces what is known of the fault d, nil for absent. Those that concern neither an
// EPG nor a leaf as a whole are not kept.
func (s *State) setFault(d aci.DN, f *fault) {
	old := s.faults[d]
	if f != nil && f.epg == (aci.ExtEPG{}) && !f.whole() {
		f = nil
	}
	if old != nil {
		delete(s.faults, d)
		drop(s.blamed, old.epg, d)
		drop(s.whole, old.leaf, d)
	}
	if f != nil {
		s.faults[d] = f
		if f.whole() {
			put(s.whole, f.leaf, d, f)
		} else {
			put(s.blamed, f.epg, d, f)
		}
	}
	if old.said() == f.said() {
		return
	}
	for _, x := range []*fault{old, f} {
		switch {
		case x == nil:
		case x.whole():
			for _, o := range s.l3outs {
				if slices.Contains(o.leafs(), x.leaf) {
					s.changeAll(o)
				}
			}
		default:
			s.change(x.epg)
		}
	}
}

func put[K comparable](index map[K]map[aci.DN]*fault, k K, d aci.DN, f *fault) {
	if index[k] == nil {
		index[k] = map[aci.DN]*fault{}
	}
	index[k][d] = f
}

func drop[K comparable](index map[K]map[aci.DN]*fault, k K, d aci.DN) {
	if delete(index[k], d); len(index[k]) == 0 {
		delete(index, k)
	}
}

// change notes that the faults of e may be others.
func (s *State) change(e aci.ExtEPG) { s.changed[e] = struct{}{} }

func (s *State) changeAll(o *l3out) {
	for name := range o.epgs {
		s.change(aci.ExtEPG{L3Out: o.id, Name: name})
	}
}

// applyNode folds the event that an L3Out is, or is no more, on a node.
func (s *State) applyNode(o *l3out, m aci.MO) {
	leaf, ok := nodeOf(m.DN)
	if !ok {
		return
	}
	if m.Attrs["status"] == aci.StatusDeleted {
		delete(o.nodes, m.DN)
	} else {
		o.nodes[m.DN] = leaf
	}
	s.changeAll(o)
}

// nodeOf reads the node from the DN of an l3extRsNodeL3OutAtt.
//
// Source: apic-rest.md 5.1.
func nodeOf(d aci.DN) (int, bool) {
	of, ok := strings.CutPrefix(d.RN(), "rsnodeL3OutAtt-[")
	if !ok {
		return 0, false
	}
	return aci.NodeOf(aci.DN(strings.TrimSuffix(of, "]")))
}

// nodes are those that a read of an L3Out brought.
func nodes(objects []aci.MO) map[aci.DN]int {
	out := map[aci.DN]int{}
	for _, m := range objects {
		if leaf, ok := nodeOf(m.DN); ok && m.Class == aci.ClassRsNode {
			out[m.DN] = leaf
		}
	}
	return out
}
