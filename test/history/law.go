package history

import (
	"fmt"
	"slices"
	"strings"
)

// Transaction is one POST of the aci-sync that is looked at: the fabric before and after it.
type Transaction struct {
	Before, After Fabric
	// Fresh reports whether a person touched an object, or the VRF of an L3Out, so lately that aci-sync
	// need not know of it.
	Fresh func(path string) bool
	// UnderWay reports whether a person touched an object while the POST was on its way.
	UnderWay func(path string) bool
	// Stripped reports whether a person took the mark off an object, and nothing announced that. Only the mark
	// of what somebody is known to have touched is read anew before it is deleted or changed.
	Stripped func(path string) bool
	// Recorded reports whether the cluster remembers that an external EPG is ours, or this aci-sync made it.
	Recorded func(epg string) bool
	// Modified: a POST that modifies what is absent makes it, on this APIC.
	Modified bool
	// Policies are what aci-sync was told to do otherwise.
	Policies map[string]bool
}

// Written returns what a transaction did that SPEC.md forbids at any time: it wrote what does not bear
// our mark, or more of it than what is critical, or put a prefix where the VRF has it already.
func (t Transaction) Written() []string {
	var bad []string
	complain := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	for dn, line := range t.After {
		switch was, there := t.Before[dn]; {
		case !there:
			if why := t.made(dn); why != "" {
				complain("makes %s %s: %s", dn, line, why)
			}
		case was != line:
			if why := t.changed(dn); why != "" {
				complain("changes %s from %s to %s: %s", dn, was, line, why)
			}
		}
	}
	for dn, line := range t.Before {
		if !t.After.has(dn) {
			if why := t.deleted(dn); why != "" {
				complain("deletes %s %s: %s", dn, line, why)
			}
		}
	}
	bad = append(bad, t.untouchable()...)
	slices.Sort(bad)
	return bad
}

// untouchable returns what changed where nothing may.
func (t Transaction) untouchable() []string {
	var bad []string
	for _, l := range l3outs {
		if t.Policies["allow"] && !allowed(l.name) && !t.same(DN(l.name)) {
			bad = append(bad, fmt.Sprintf("writes below %s: --allow does not name it", l.name))
		}
		for _, name := range epgNames {
			e := l.name + "/" + name
			if t.Before.elsewhere(e) && !t.Fresh(e) && !t.same(DN(e)) {
				bad = append(bad, fmt.Sprintf("writes in %s: Nexus Dashboard Orchestrator manages it", e))
			}
			if t.Policies["upsert"] && t.Before.has(DN(e)) && !t.After.has(DN(e)) {
				bad = append(bad, fmt.Sprintf("deletes %s: the policy is upsert-only", e))
			}
		}
	}
	return bad
}

// same reports whether nothing changed at and below dn but what the APIC keeps by itself.
func (t Transaction) same(dn string) bool {
	differs := func(a, b Fabric) bool {
		return slices.ContainsFunc(a.within(dn), func(d string) bool { return a[d] != b[d] && !derived[class(a[d])] })
	}
	return !differs(t.Before, t.After) && !differs(t.After, t.Before)
}

// bearer is the external EPG or subnet that dn is or is in, "" for others.
func bearer(dn string) string {
	for d := dn; ; {
		if p := Path(d); strings.Contains(p, "/") {
			return d
		}
		i := strings.LastIndexByte(d, '/')
		if i < 0 {
			return ""
		}
		d = d[:i]
	}
}

func (t Transaction) made(dn string) string {
	b := bearer(dn)
	path := Path(b)
	switch {
	case b == "":
		return "it is not below an external EPG"
	case derived[class(t.After[dn])]:
		return ""
	case dn == b && !t.After.ours(dn) && t.Modified && t.Fresh(path):
		// A subnet that somebody deleted while it was put right: see decision 2.
		return ""
	case dn == b && !t.After.ours(dn):
		if t.Modified && epgOf(path) == path {
			return ""
		}
		return "without our mark"
	case dn == b:
	case dn != markOf(b) || !t.After.ours(b):
		return "it is not our mark"
	case t.Before.has(b) && path != epgOf(path) && !t.Before.lookalike(b):
		return "its bearer has not just our annotation"
	case t.Before.has(b) && path == epgOf(path) && !t.Recorded(path) && !t.Modified:
		return "its bearer is not recorded as ours"
	}
	if dn == b && path != epgOf(path) || dn == markOf(b) && path != epgOf(path) && t.Before.has(b) {
		return t.twice(path)
	}
	return ""
}

// twice says where else in the VRF an address is that came to be ours.
func (t Transaction) twice(path string) string {
	epg := epgOf(path)
	ip := strings.TrimPrefix(path, epg+"/")
	vrf, _ := t.After.VRF(l3outOf(path))
	if t.Fresh(l3outOf(path)) {
		return ""
	}
	created := !t.Before.Has(path) // what has been there gets its mark back, whoever came beside it
	for _, h := range t.After.holders(vrf, ip, func(dn string) bool { return t.After.ours(dn) || created && t.After.classifies(dn) }) {
		if h == epg || t.Fresh(h) || t.Fresh(h+"/"+ip) || t.Fresh(l3outOf(h)) {
			continue
		}
		if t.After.ours(DN(h + "/" + ip)) {
			return "one of ours is in " + h
		}
		return "F0467, for a foreign one is in " + h
	}
	return ""
}

func (t Transaction) changed(dn string) string {
	was, is := t.Before.attrs(dn), t.After.attrs(dn)
	switch {
	case bearer(dn) != dn || epgOf(Path(dn)) == Path(dn):
		return "nothing of it is ours to change"
	case !t.Before.ours(dn) && !t.Stripped(Path(dn)):
		return "it does not bear our mark"
	}
	for _, m := range []map[string]string{was, is} {
		for k := range m {
			if k != "name" && k != "scope" && was[k] != is[k] {
				return k + " is not critical"
			}
		}
	}
	if t.UnderWay(Path(dn)) {
		return "" // a flag that came meanwhile goes: the APIC merges objects, not flags
	}
	for flag := range strings.SplitSeq(was["scope"], ",") {
		if is["scope"] != "" && !strings.Contains(is["scope"], flag) || is["scope"] == "" && flag != "" && flag != "import-security" {
			return "it loses the flag " + flag
		}
	}
	return ""
}

func (t Transaction) deleted(dn string) string {
	b := bearer(dn)
	epg := epgOf(Path(b))
	whole := epg != "" && !t.After.has(DN(epg))
	switch {
	case whole && (t.Before.ours(DN(epg)) || t.Stripped(epg)) && (t.Fresh(Path(b)) || t.Fresh(epg)):
		return "" // put there while the POST was on its way, after the EPG was read
	case b == "":
		if strings.Contains(dn, "/rtfvCons-") {
			return "" // the other end of a contract: what has it is looked at as such
		}
		return "it is not below an external EPG"
	case dn == b && !t.Before.ours(dn) && t.Stripped(Path(dn)), dn == markOf(b) && t.Stripped(Path(b)):
		return ""
	case dn == b && !t.Before.ours(dn):
		if t.Modified && epg == Path(b) && !t.Recorded(epg) {
			return "" // it may be what a POST of ours made; what is in it is looked at as such
		}
		return "it does not bear our mark"
	case dn == b && dn == DN(epg):
		for k, v := range t.Before.attrs(dn) {
			if t.Policies["always"] && k != "extMngdBy" {
				continue
			}
			if k != "annotation" || v != ourAnnotation {
				return "somebody set its " + k
			}
		}
		return ""
	case dn == b, b != DN(epg) && !t.After.has(b), derived[class(t.Before[dn])]:
		return ""
	case whole && dn == markOf(b):
		return ""
	case whole && b == DN(epg) && t.Policies["always"]:
		return "" // contracts, too; foreign subnets are looked at as such
	}
	return "it is not ours"
}
