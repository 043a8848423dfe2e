package observed

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Fault is what the fabric says is wrong with an external EPG.
type Fault struct {
	Code string // such as "F0467"; "configSt" and "configIssues" for what the EPG says itself
	Text string // the fabric's own words
	On   int    // how many leafs or places say it
}

// Faults returns what is wrong with e, sorted by code: faults that are raised at or below it, or on
// leafs about it, and what it says of its configuration. What is soaking or cleared is no fault yet,
// or no longer.
//
// Source: apic-rest.md 4.1, 4.3, 6.2. A 200 for a write does not mean that a leaf was programmed.
func (s *State) Faults(e aci.ExtEPG) []Fault {
	g := s.epg(e)
	if g == nil || !g.exists {
		return nil
	}
	by := map[string]*Fault{}
	add := func(code, text string) {
		if by[code] == nil {
			by[code] = &Fault{Code: code, Text: text}
		}
		f := by[code]
		f.Text = min(f.Text, text) // of several the first, whatever their order
		f.On++
	}
	for _, m := range g.faults {
		add(m.Attrs["code"], strings.TrimPrefix(m.Attrs["descr"], "Fault delegate: "))
	}
	for _, m := range s.leafFaults[e] {
		add(m.Attrs["code"], m.Attrs["descr"])
	}
	if g.ConfigSt == "failed-to-apply" {
		add("configSt", g.ConfigSt)
	}
	if g.ConfigIssues != "" {
		add("configIssues", g.ConfigIssues)
	}
	var out []Fault
	for _, code := range slices.Sorted(maps.Keys(by)) {
		out = append(out, *by[code])
	}
	return out
}

// delegated reports whether a fault on a leaf is told of below the EPG, too. Which of several leafs a
// delegate stands for is not looked at: how its DN names them is not known of a real APIC.
func (g *epg) delegated(m aci.MO) bool {
	if m.Attrs["delegated"] == "no" {
		return false
	}
	for _, d := range g.faults {
		if d.Class == aci.ClassFaultDelegate && d.Attrs["code"] == m.Attrs["code"] {
			return true
		}
	}
	return false
}

// isFault tells objects that the fabric makes to say what is wrong.
func isFault(class string) bool {
	return class == aci.ClassFaultInst || class == aci.ClassFaultDelegate
}

// raised reports whether a fault stands: not soaking any more, and not cleared.
func raised(attrs map[string]string) bool {
	return attrs["severity"] != "cleared" && strings.HasPrefix(attrs["lc"], "raised")
}

// applyFault folds the event of a fault at or below e. Of a modified one the event tells only what
// changed.
func (s *State) applyFault(e aci.ExtEPG, g *epg, m aci.MO, t *touched) {
	if m.Attrs["status"] == aci.StatusDeleted {
		if _, had := g.faults[m.DN]; had {
			delete(g.faults, m.DN)
			t.add(e, netip.Prefix{})
		}
		delete(g.soaking, m.DN)
		return
	}
	old, had := g.faults[m.DN]
	if !had {
		old = g.soaking[m.DN]
	}
	now := aci.MO{Class: m.Class, DN: m.DN, Attrs: merged(old.Attrs, m.Attrs)}
	delete(g.faults, m.DN)
	delete(g.soaking, m.DN)
	if raised(now.Attrs) {
		g.faults[m.DN] = now
	} else {
		g.soaking[m.DN] = now
	}
	if _, has := g.faults[m.DN]; has != had || has && old.Attrs["descr"] != now.Attrs["descr"] {
		t.add(e, netip.Prefix{})
	}
}

// file puts a fault that a read brought where it belongs.
func (g *epg) file(m aci.MO) {
	if raised(m.Attrs) {
		g.faults[m.DN] = m
	} else {
		g.soaking[m.DN] = m
	}
}

// SetLeafFaults replaces what is known of faults on leafs, which no L3Out announces, and returns
// the places whose faults differ. Those about nothing that is known are dropped, and those that
// stand below their external EPG, too, where they are announced.
func (s *State) SetLeafFaults(faults []aci.MO) []aci.Place {
	now := map[aci.ExtEPG][]aci.MO{}
	for _, m := range faults {
		if !raised(m.Attrs) {
			continue
		}
		for _, e := range s.concerned(m) {
			if g := s.epg(e); g == nil || !g.delegated(m) {
				now[e] = append(now[e], m)
			}
		}
	}
	var t touched
	for e := range merged(s.leafFaults, now) {
		before := s.Faults(e)
		was := s.leafFaults[e]
		if s.leafFaults[e] = now[e]; len(now[e]) == 0 {
			delete(s.leafFaults, e)
		}
		if len(was)+len(now[e]) > 0 && !slices.Equal(before, s.Faults(e)) {
			t.add(e, netip.Prefix{})
		}
	}
	return t.sorted()
}

var (
	epgInText    = regexp.MustCompile(`uni/tn-[^/\]\s]+/out-[^/\]\s]+/instP-[^/\]\s,]+`)
	prefixInText = regexp.MustCompile(`ctx-\[vxlan-(\d+)\]/pfx-\[([^\]]+)\]`)
)

// concerned are the external EPGs that a fault on a leaf is about: the one that it names, or else
// those that hold the prefix that it names in that VRF.
//
// Source: the captured F0467 of apic-rest.md 4.3 names both. unverified: what F3544 and F3545 name.
func (s *State) concerned(m aci.MO) []aci.ExtEPG {
	text := string(m.DN) + " " + m.Attrs["descr"] + " " + m.Attrs["changeSet"]
	if e, rest, ok := aci.ExtEPGOf(aci.DN(epgInText.FindString(text))); ok && rest == "" {
		return []aci.ExtEPG{e}
	}
	found := prefixInText.FindStringSubmatch(text)
	if found == nil {
		return nil
	}
	p, err := netip.ParsePrefix(found[2])
	if err != nil {
		return nil
	}
	var out []aci.ExtEPG
	for _, e := range s.holders[p.Masked()] {
		if g, ok := s.ExtEPG(e); ok && g.VNID == found[1] {
			out = append(out, e)
		}
	}
	return out
}

// String is one line in the fabric's words: what it says, and on how many leafs.
func (f Fault) String() string {
	const maxText = 300
	text := f.Text
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return fmt.Sprintf("%s (%d): %s", f.Code, cmp.Or(f.On, 1), text)
}
