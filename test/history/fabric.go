package history

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The fabric of every history. L3Outs a and b, and x, which no workload names, share VRF v; d and e, of
// two tenants, a VRF of tenant common. Both tenants have a VRF v.
var l3outs = []struct{ name, tenant, vrf string }{
	{"a", "T", "v"}, {"b", "T", "v"}, {"c", "T", "w"}, {"d", "T", "cv"}, {"x", "T", "v"}, {"e", "U", "cv"},
}

// epgs are those that workloads name and people make; the first more often.
var epgs = []string{"a/p", "a/p", "a/p", "a/q", "a/q", "b/p", "b/p", "c/p", "d/p", "e/p"}

// addresses and epgNames are all that there are.
var (
	addresses = []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1"}
	epgNames  = []string{"p", "q"}
)

const (
	// Owner is the cluster id of the aci-sync that is looked at, otherOwner that of another cluster's.
	Owner      = "k1"
	otherOwner = "k2"
)

func tenantOf(l3out string) string {
	for _, l := range l3outs {
		if l.name == l3out {
			return l.tenant
		}
	}
	return "T"
}

// DN is that of "a", "a/p" or "a/p/10.0.0.1".
func DN(path string) string {
	p := strings.SplitN(path, "/", 3)
	d := "uni/tn-" + tenantOf(p[0]) + "/out-" + p[0]
	if len(p) > 1 {
		d += "/instP-" + p[1]
	}
	if len(p) > 2 {
		d += "/extsubnet-[" + p[2] + "/" + length(p[2]) + "]"
	}
	return d
}

func length(ip string) string {
	if strings.Contains(ip, ":") {
		return "128"
	}
	return "32"
}

// place is an L3Out, external EPG or subnet that there can be.
type place struct{ path, dn string }

// places are all of them, sorted, and pathOf their paths by DN: there are few, and they are looked up all the time.
//
//nolint:gochecknoglobals // immutable
var places, pathOf = allPlaces()

func allPlaces() ([]place, map[string]string) {
	var list []place
	paths := map[string]string{}
	add := func(path string) {
		list = append(list, place{path, DN(path)})
		paths[DN(path)] = path
	}
	for _, l := range l3outs {
		add(l.name)
		for _, e := range epgNames {
			add(l.name + "/" + e)
			for _, ip := range addresses {
				add(l.name + "/" + e + "/" + ip)
			}
		}
	}
	slices.SortFunc(list, func(a, b place) int { return strings.Compare(a.path, b.path) })
	return list, paths
}

// Path is the reverse of DN; "" for other objects.
func Path(dn string) string { return pathOf[dn] }

// epgOf is the external EPG of a path, "" for an L3Out.
func epgOf(path string) string {
	p := strings.SplitN(path, "/", 3)
	if len(p) < 2 {
		return ""
	}
	return p[0] + "/" + p[1]
}

func l3outOf(path string) string {
	l, _, _ := strings.Cut(path, "/")
	return l
}

// Paths are those of all L3Outs, external EPGs and subnets that there can be.
func Paths() []string {
	out := make([]string, len(places))
	for i, p := range places {
		out[i] = p.path
	}
	return out
}

// Fabric is a dump of the APIC: DN -> class and attributes that are not the default.
type Fabric map[string]string

// ParseDump reads what apicsim.Sim.Dump("uni") prints.
func ParseDump(dump string) Fabric {
	f := Fabric{}
	for line := range strings.Lines(dump) {
		dn, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		f[dn] = rest
	}
	return f
}

var attribute = regexp.MustCompile(` (\w+)=("(?:[^"\\]|\\.)*")`)

// attr is an attribute of an object, "" for the default.
func (f Fabric) attr(dn, name string) string {
	for _, m := range attribute.FindAllStringSubmatch(f[dn], -1) {
		if m[1] == name {
			v, _ := strconv.Unquote(m[2])
			return v
		}
	}
	return ""
}

func (f Fabric) attrs(dn string) map[string]string {
	out := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(f[dn], -1) {
		out[m[1]], _ = strconv.Unquote(m[2])
	}
	return out
}

func (f Fabric) has(dn string) bool { _, ok := f[dn]; return ok }

func markOf(dn string) string { return dn + "/annotationKey-[aci-sync]" }

func mark(owner, dn string) string { return owner + " " + dn }

// ours reports whether the object bears the mark of this cluster.
func (f Fabric) ours(dn string) bool {
	return f.has(dn) && f.attr(markOf(dn), "value") == mark(Owner, dn)
}

const ourAnnotation = "orchestrator:aci-sync:" + Owner

// lookalike reports whether an object has our annotation and no mark at all.
func (f Fabric) lookalike(dn string) bool {
	return f.has(dn) && !f.has(markOf(dn)) && f.attr(dn, "annotation") == ourAnnotation
}

// classifies reports whether a subnet has import-security, which is the default.
func (f Fabric) classifies(dn string) bool {
	s := f.attr(dn, "scope")
	return f.has(dn) && (s == "" || strings.Contains(s, "import-security"))
}

// VRF is the domain in which prefixes of an L3Out must be unique: the DN of its VRF, or its own
// where that does not resolve.
func (f Fabric) VRF(l3out string) (vrf string, resolves bool) {
	rel := DN(l3out) + "/rsectx"
	if t := f.attr(rel, "tDn"); t != "" && f.attr(rel, "state") == "formed" {
		return t, true
	}
	return DN(l3out), false
}

// tagged reports whether people paused the external EPG, or its L3Out, by a tag.
func (f Fabric) tagged(epg string) bool {
	const tag = "/annotationKey-[aci-sync-paused]"
	return f.has(DN(epg)+tag) || f.has(DN(l3outOf(epg))+tag)
}

// elsewhere reports whether Nexus Dashboard Orchestrator manages the external EPG.
func (f Fabric) elsewhere(epg string) bool { return f.attr(DN(epg), "extMngdBy") == "msc" }

// paths are those of all external EPGs and subnets that are there, sorted.
func (f Fabric) paths() []string {
	var out []string
	for _, p := range places {
		if strings.Contains(p.path, "/") && f.has(p.dn) {
			out = append(out, p.path)
		}
	}
	return out
}

// holders are the external EPGs of a VRF that hold an address and fit, sorted.
func (f Fabric) holders(vrf, ip string, fits func(dn string) bool) []string {
	var out []string
	for _, l := range l3outs {
		if v, _ := f.VRF(l.name); v != vrf {
			continue
		}
		for _, e := range epgNames {
			if dn := DN(l.name + "/" + e + "/" + ip); f.has(dn) && fits(dn) {
				out = append(out, l.name+"/"+e)
			}
		}
	}
	slices.Sort(out)
	return out
}

// within are the DNs at and below dn, sorted, parents first.
func (f Fabric) within(dn string) []string {
	var out []string
	for d := range f {
		if d == dn || strings.HasPrefix(d, dn+"/") {
			out = append(out, d)
		}
	}
	slices.Sort(out)
	return out
}

// Edit is one write of a person: a body, or a deletion.
type Edit struct {
	DN, Body string // no body: delete it
	Seed     bool   // it is what no person can write: see apicsim.Sim.Seed
}

func object(class string, attrs map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		list = append(list, fmt.Sprintf("%q:%q", k, attrs[k]))
	}
	return fmt.Sprintf(`{%q:{"attributes":{%s}}}`, class, strings.Join(list, ","))
}

func set(dn, class string, kv ...string) Edit {
	attrs := map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		attrs[kv[i]] = kv[i+1]
	}
	return Edit{DN: dn, Body: object(class, attrs)}
}

func tag(dn, key, value string) Edit {
	return set(dn+"/annotationKey-["+key+"]", "tagAnnotation", "value", value)
}

// SetUp makes the fabric of every history.
func SetUp() []Edit {
	edits := []Edit{set("uni/tn-common/ctx-cv", "fvCtx")}
	return slices.Concat(edits, makeTenant("T"), makeTenant("U"))
}

func makeTenant(t string) []Edit {
	edits := []Edit{set("uni/tn-"+t, "fvTenant"), set("uni/tn-"+t+"/brc-k", "vzBrCP")}
	if t == "T" {
		edits = append(edits, set("uni/tn-T/ctx-v", "fvCtx"), set("uni/tn-T/ctx-w", "fvCtx"))
	} else {
		edits = append(edits, set("uni/tn-U/ctx-v", "fvCtx")) // of the same name, and another one
	}
	for _, l := range l3outs {
		if l.tenant == t {
			edits = append(edits, makeL3Out(l.name))
		}
	}
	return edits
}

func makeL3Out(name string) Edit {
	for _, l := range l3outs {
		if l.name == name {
			return Edit{DN: DN(name), Body: fmt.Sprintf(`{"l3extOut":{"attributes":{},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":%q}}}]}}`, l.vrf)}
		}
	}
	return Edit{}
}

func isTenant(path string) bool { return path == "T" || path == "U" }

// Edits are what a person writes on the APIC, which is as f shows, to do a step; snapshot is what
// a "rollback" goes back to, nil for none.
func (f Fabric) Edits(s Step, snapshot Fabric) []Edit {
	path := s.arg(0)
	dn := DN(path)
	if isTenant(path) {
		dn = "uni/tn-" + path
	}
	depth := strings.Count(path, "/")
	class := []string{"l3extOut", "l3extInstP"}[min(depth, 1)]
	if depth > 1 {
		class = "l3extSubnet"
	}
	there, l3out := f.has(dn), f.has(DN(l3outOf(path)))
	switch {
	case s.Verb == "rollback":
		return f.rollback(snapshot)
	case s.Verb == "make" && !there && isTenant(path):
		return makeTenant(path)
	case s.Verb == "make" && !there && depth == 0 && f.has("uni/tn-"+tenantOf(path)):
		return []Edit{makeL3Out(path)}
	case s.Verb == "make" && !there && depth == 1 && l3out:
		return []Edit{set(dn, class, "descr", "theirs")}
	case s.Verb == "make" && !there && depth == 2 && l3out:
		scope := "import-security"
		if s.arg(1) == "export" {
			scope = "export-rtctrl"
		}
		var edits []Edit
		if !f.has(DN(epgOf(path))) {
			edits = append(edits, set(DN(epgOf(path)), "l3extInstP", "descr", "theirs"))
		}
		return append(edits, set(dn, class, "descr", "theirs", "scope", scope))
	case s.Verb == "other" && !there && depth > 0 && l3out:
		var edits []Edit
		if !f.has(DN(epgOf(path))) {
			epg := DN(epgOf(path))
			edits = append(edits, set(epg, "l3extInstP", "annotation", "orchestrator:aci-sync:"+otherOwner), tag(epg, "aci-sync", mark(otherOwner, epg)))
		}
		if depth == 2 {
			edits = append(edits, set(dn, class, "annotation", "orchestrator:aci-sync:"+otherOwner), tag(dn, "aci-sync", mark(otherOwner, dn)))
		}
		return edits
	case s.Verb == "copy" && there && !f.has(DN(s.arg(1))) && f.has(DN(l3outOf(s.arg(1)))):
		return f.copies(dn, DN(s.arg(1)))
	case !there:
		return nil
	}
	switch s.Verb {
	case "remove":
		return []Edit{{DN: dn}}
	case "edit":
		return edit(dn, class, s.arg(1))
	case "strip":
		if f.has(markOf(dn)) {
			return []Edit{{DN: markOf(dn)}}
		}
	case "contract":
		return []Edit{set(dn+"/rscons-k", "fvRsCons")}
	case "uncontract":
		if f.has(dn + "/rscons-k") {
			return []Edit{{DN: dn + "/rscons-k"}}
		}
	case "vrf":
		name := s.arg(1)
		if name == "-" {
			name = "nowhere"
		}
		return []Edit{set(dn+"/rsectx", "l3extRsEctx", "tnFvCtxName", name)}
	case "orchestrate":
		if depth == 1 {
			by := "msc"
			if s.arg(1) == "no" {
				by = ""
			}
			return []Edit{{DN: dn, Body: object(class, map[string]string{"dn": dn, "extMngdBy": by}), Seed: true}}
		}
	case "hold":
		return []Edit{tag(dn, "aci-sync-paused", "by hand")}
	case "release":
		if t := dn + "/annotationKey-[aci-sync-paused]"; f.has(t) {
			return []Edit{{DN: t}}
		}
	}
	return nil
}

// edit changes an attribute of an external EPG or a subnet.
func edit(dn, class, what string) []Edit {
	subnet := class == "l3extSubnet"
	switch {
	case class == "l3extOut":
		return nil
	case what == "name" && subnet:
		return []Edit{set(dn, class, "name", "edited")}
	case what == "scope" && subnet:
		return []Edit{set(dn, class, "scope", "export-rtctrl")}
	case what == "flag" && subnet:
		return []Edit{set(dn, class, "scope", "import-security,shared-rtctrl")}
	case what == "descr":
		return []Edit{set(dn, class, "descr", "edited")}
	case what == "annotation":
		return []Edit{set(dn, class, "annotation", "orchestrator:terraform")}
	}
	return nil
}

// derived are what the APIC makes and keeps by itself.
var derived = map[string]bool{"fvRsCustQosPol": true}

func class(line string) string {
	c, _, _ := strings.Cut(line, " ")
	return c
}

// writeAs is the object at dn, to be written at to.
func (f Fabric) writeAs(dn, to string) Edit {
	attrs := f.attrs(dn)
	delete(attrs, "tDn")
	delete(attrs, "state")
	delete(attrs, "extMngdBy")
	return Edit{DN: to, Body: object(class(f[dn]), attrs)}
}

func (f Fabric) copies(from, to string) []Edit {
	var edits []Edit
	for _, d := range f.within(from) {
		if !derived[class(f[d])] {
			edits = append(edits, f.writeAs(d, to+strings.TrimPrefix(d, from)))
		}
	}
	return edits
}

// rollback makes all external EPGs as they were, where their L3Outs are still there.
func (f Fabric) rollback(was Fabric) []Edit {
	if was == nil {
		return nil
	}
	var edits []Edit
	gone := func(d string) bool {
		return slices.ContainsFunc(edits, func(e Edit) bool { return e.Body == "" && strings.HasPrefix(d, e.DN+"/") })
	}
	below := func(f Fabric) []string {
		var out []string
		for _, l := range l3outs {
			for _, d := range f.within(DN(l.name)) {
				if strings.Contains(d, "/instP-") && !derived[class(f[d])] {
					out = append(out, d)
				}
			}
		}
		return out
	}
	for _, d := range below(f) {
		if was[d] != f[d] && !gone(d) && f.has(d) {
			edits = append(edits, Edit{DN: d})
		}
	}
	for _, d := range below(was) {
		if (was[d] != f[d] || gone(d)) && f.has(DN(l3outOf(rootPath(d)))) {
			edits = append(edits, was.writeAs(d, d))
		}
	}
	return edits
}

// rootPath is the path of the external EPG that d is or is in.
func rootPath(d string) string {
	i := strings.Index(d, "/instP-")
	if i < 0 {
		return ""
	}
	end := len(d)
	if j := strings.Index(d[i+1:], "/"); j >= 0 {
		end = i + 1 + j
	}
	return Path(d[:end])
}

// Has reports whether there is an object at a path.
func (f Fabric) Has(path string) bool { return f.has(DN(path)) }
