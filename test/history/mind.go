package history

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// Claim is an address that belongs in an external EPG, by section 1 of SPEC.md.
type Claim struct {
	EPG, IP  string
	Bearer   string // NAMESPACE::NAME of a Pod or Service
	Workload Ref
	uid      types.UID
	created  int
	paused   bool // its workload is
	frozen   bool // nobody bears the address any more, and only the pause keeps the claim
}

// older orders claims by who wins without an incumbent.
func older(a, b Claim) int {
	if a.created != b.created {
		return a.created - b.created
	}
	return strings.Compare(a.Workload.Namespace+"/"+a.Workload.Name+"/"+a.Workload.Kind,
		b.Workload.Namespace+"/"+b.Workload.Name+"/"+b.Workload.Kind)
}

// aim is a target: an EPG, and what of the workload is exposed.
type aim struct {
	epg            string
	pods, services bool
}

// answer is what an annotation "true" or "false" says.
type answer int

const (
	no answer = iota
	yes
	unclear // it never was valid
)

// memory is what is remembered of a workload.
type memory struct {
	first     bool
	annotated bool   // with a target, valid or not
	own       *aim   // the last valid one, while it is annotated
	recorded  *aim   // by a record of an earlier run, until something newer is known
	ignored   answer // ignore annotation
	pause     answer
	asks      *aim // what it asks for; nil for nothing, or unknown
	unknown   bool // it asks for something that cannot be told
	next      *aim // of a paused one: what it would ask for without the pause
	nextKnown bool
}

// Mind is what an aci-sync was told since it started, as far as it matters what was told before.
type Mind struct {
	begun     bool // it decides; before that, the order in which it is told is not remembered
	told      *Cluster
	workloads map[types.UID]*memory
	defaults  map[types.UID]*aim // namespace -> its last valid default while it has one
	resolved  map[types.UID]bool // Pods whose workload was seen
	claims    []Claim
	members   map[types.UID][]string // workload -> EPGs of records of an earlier run
	exposed   map[types.UID]aim

	ended   map[string]verdict // claimed or named in this run, and not any more -> whether that is explained
	loose   map[string]bool    // addresses of which claims ended in this run, explained perhaps
	carried map[string]bool    // paths and addresses that are so for the aci-sync before, since all was at rest
}

// Member is a workload in the record of an external EPG.
type Member struct {
	UID            types.UID
	EPG            string
	Pods, Services bool // exposed
}

// NewMind is that of an aci-sync that starts and finds records.
func NewMind(records []Member) *Mind {
	m := &Mind{
		told: NewCluster(), workloads: map[types.UID]*memory{}, defaults: map[types.UID]*aim{}, resolved: map[types.UID]bool{},
		members: map[types.UID][]string{}, exposed: map[types.UID]aim{},
		ended: map[string]verdict{}, loose: map[string]bool{}, carried: map[string]bool{},
	}
	m.Recall(records)
	return m
}

// Recall takes in what records hold now.
func (m *Mind) Recall(records []Member) {
	clear(m.members)
	for _, r := range records {
		m.members[r.UID] = append(m.members[r.UID], r.EPG)
		m.exposed[r.UID] = aim{r.EPG, r.Pods, r.Services}
	}
}

// Begin says that aci-sync has been told all that was there when it started, and is in control.
func (m *Mind) Begin() { m.begun = true }

// Hear takes in what the cluster holds now: each change was seen.
func (m *Mind) Hear(c *Cluster) { m.learn(c, false) }

// HearList takes in what a list holds: what it misses was not seen to go.
func (m *Mind) HearList(c *Cluster) { m.learn(c, true) }

func (m *Mind) learn(c *Cluster, list bool) {
	old, claims, names := m.told, m.claims, m.Named()
	defer func() { m.ends(old, claims, names, list) }()
	m.told = c
	there := map[types.UID]bool{}
	for _, n := range c.namespaces {
		there[n.uid] = true
		switch a, valid := parseTarget(n.deflt); {
		case n.deflt == "":
			delete(m.defaults, n.uid)
		case valid:
			m.defaults[n.uid] = &a
		}
	}
	for _, w := range sorted(c.workloads) {
		there[w.uid] = true
		mem := m.workloads[w.uid]
		if mem == nil {
			mem = &memory{first: true}
			if list := m.members[w.uid]; len(list) == 1 {
				a := m.exposed[w.uid]
				mem.recorded = &a
			}
			m.workloads[w.uid] = mem
		}
		m.hear(w, mem)
	}
	maps.DeleteFunc(m.workloads, func(u types.UID, _ *memory) bool { return !there[u] })
	maps.DeleteFunc(m.members, func(u types.UID, _ []string) bool { return !there[u] })
	maps.DeleteFunc(m.defaults, func(u types.UID, _ *aim) bool { return !there[u] })
	pods := map[types.UID]bool{}
	for _, p := range c.pods {
		pods[p.uid] = true
		m.resolved[p.uid] = m.resolved[p.uid] || p.kind != "Deployment" || there[p.owner]
	}
	maps.DeleteFunc(m.resolved, func(u types.UID, _ bool) bool { return !pods[u] })
	m.claim()
}

// hear takes in the annotations of one workload.
func (m *Mind) hear(w workload, mem *memory) {
	had, _ := m.aims(w, mem)
	value, annotated := w.annotations[targetKey]
	switch a, valid := parseTarget(value); {
	case !annotated:
		mem.own = nil
	case valid:
		mem.own = &a
	case !mem.annotated:
		if mem.own = had; mem.first {
			mem.own = nil
		}
	}
	mem.annotated = annotated
	mem.ignored = toggle(w.annotations, ignoreKey, mem.ignored, mem.first)
	mem.pause = toggle(w.annotations, pauseKey, mem.pause, mem.first)
	mem.first = false

	aims, unknown := m.aims(w, mem)
	switch {
	case mem.pause != no && (mem.asks != nil || mem.unknown): // goes on
	case mem.pause != no && mem.recorded != nil:
		mem.asks, mem.unknown = mem.recorded, false
	default:
		mem.asks, mem.unknown = aims, unknown
	}
	mem.next, mem.nextKnown = aims, !unknown
	deflt, has := m.deflt(w)
	if mem.pause == no && (mem.own != nil || !annotated && (deflt != nil || !has)) {
		mem.recorded = nil
	}
}

// deflt is the last valid default of its namespace, and whether that has one.
func (m *Mind) deflt(w workload) (*aim, bool) {
	n := m.told.namespaces[w.ref.Namespace]
	if w.ref.Kind == "Service" || n.deflt == "" {
		return nil, false
	}
	return m.defaults[n.uid], true
}

// aims is what a workload asks for, but for a pause.
func (m *Mind) aims(w workload, mem *memory) (_ *aim, unknown bool) {
	a := mem.own
	if !mem.annotated {
		var has bool
		if a, has = m.deflt(w); !has {
			return nil, false
		}
	}
	switch {
	case mem.ignored == yes:
		return nil, false
	case mem.ignored == unclear:
		return nil, true
	case a == nil:
		a = mem.recorded
	}
	return a, a == nil
}

func toggle(annotations map[string]string, key string, was answer, first bool) answer {
	switch v, there := annotations[key]; {
	case !there, v == "false":
		return no
	case v == "true":
		return yes
	case first:
		return unclear
	}
	return was
}

func parseTarget(value string) (aim, bool) {
	var t struct {
		Tenant, L3Out, EPG string
		Expose             []string
	}
	if json.Unmarshal([]byte(value), &t) != nil {
		return aim{}, false
	}
	all := t.Expose == nil
	return aim{t.L3Out + "/" + t.EPG, all || slices.Contains(t.Expose, "pods"), all || slices.Contains(t.Expose, "services")}, true
}

// claim works out all claims anew; those of paused workloads never end.
func (m *Mind) claim() {
	now := m.borne()
	same := func(a, b Claim) bool { return a.EPG == b.EPG && a.IP == b.IP && a.Bearer == b.Bearer && a.uid == b.uid }
	for _, old := range m.claims {
		mem := m.workloads[old.uid]
		if !m.begun || mem == nil || mem.pause == no || mem.asks == nil || slices.ContainsFunc(now, func(c Claim) bool { return same(c, old) }) {
			continue
		}
		old.frozen, old.paused = true, true
		now = append(now, old)
	}
	m.claims = now
}

// Thaw drops claims that nobody bears and whose subnets are not on the fabric: nothing is left to keep.
func (m *Mind) Thaw(there func(epg, ip string) bool) {
	m.claims = slices.DeleteFunc(m.claims, func(c Claim) bool { return c.frozen && !there(c.EPG, c.IP) })
}

// Same reports whether two minds ask for the same. One that starts forgets what a pause kept, and what an
// annotation said before it became invalid, where no record tells.
func (m *Mind) Same(n *Mind) bool {
	return reflect.DeepEqual(m.claims, n.claims) && reflect.DeepEqual(m.Held(), n.Held()) &&
		reflect.DeepEqual(m.Named(), n.Named()) && m.Unknown() == n.Unknown()
}

// borne are the claims of the Pods and Services that are there.
func (m *Mind) borne() []Claim {
	byUID := map[types.UID]workload{}
	for _, w := range m.told.workloads {
		byUID[w.uid] = w
	}
	var out []Claim
	claim := func(w workload, ips []string, bearer Ref) {
		for _, ip := range ips {
			out = append(out, Claim{
				EPG: m.workloads[w.uid].asks.epg, IP: ip, Bearer: bearer.Namespace + "::" + bearer.Name,
				Workload: w.ref, uid: w.uid, created: w.created, paused: m.workloads[w.uid].pause != no,
			})
		}
	}
	for _, p := range sorted(m.told.pods) {
		w, ok := byUID[p.owner]
		if !ok || !p.counts() || m.workloads[w.uid].asks == nil || !m.workloads[w.uid].asks.pods {
			continue
		}
		claim(w, m.kept(p), p.ref)
	}
	for _, v := range sorted(m.told.workloads) {
		for _, w := range m.servedBy(v) {
			if a := m.workloads[w.uid].asks; a != nil && a.services && m.workloads[v.uid].ignored != unclear {
				claim(w, v.vips, v.ref)
			}
		}
	}
	return out
}

func (p pod) counts() bool { return !p.finished && !p.host }

// kept are the addresses of p that it does not yield to a Pod that stays, because it is on its way out.
func (m *Mind) kept(p pod) []string {
	if !p.terminating {
		return p.ips
	}
	return slices.DeleteFunc(slices.Clone(p.ips), func(ip string) bool {
		for _, q := range m.told.pods {
			if q.uid != p.uid && q.counts() && !q.terminating && slices.Contains(q.ips, ip) {
				return true
			}
		}
		return false
	})
}

// servedBy are the workloads that the addresses of the Service v are for.
func (m *Mind) servedBy(v workload) []workload {
	if v.ref.Kind != "Service" {
		return nil
	}
	mem := m.workloads[v.uid]
	switch {
	case mem.asks != nil || mem.unknown:
		return []workload{v}
	case mem.annotated || mem.ignored == yes || v.selector == "":
		return nil
	}
	var out []workload
	for _, w := range sorted(m.told.workloads) {
		if a := m.workloads[w.uid]; w.ref.Namespace == v.ref.Namespace && w.ref.Kind != "Service" && w.label() == v.selector &&
			(a.asks != nil || a.unknown) {
			out = append(out, w)
		}
	}
	return out
}

// Held are the addresses that cannot be told to whom they belong, or where: nothing may delete them.
func (m *Mind) Held() map[string]bool {
	byUID := map[types.UID]workload{}
	for _, w := range m.told.workloads {
		byUID[w.uid] = w
	}
	held := map[string]bool{}
	for _, p := range m.told.pods {
		w, known := byUID[p.owner]
		if p.counts() && (!m.resolved[p.uid] || known && m.workloads[w.uid].unknown) {
			for _, ip := range m.kept(p) {
				held[ip] = true
			}
		}
	}
	for _, v := range m.told.workloads {
		for _, w := range m.servedBy(v) {
			if m.workloads[w.uid].unknown || m.workloads[v.uid].ignored == unclear {
				for _, ip := range v.vips {
					held[ip] = true
				}
			}
		}
	}
	return held
}

// named tells of an external EPG which workloads name it.
type named struct {
	members []types.UID
	running bool // some of them is not paused
	paused  bool // some that is paused names it, or will, or could
}

// Named is what workloads name, by EPG; the EPG "" stands for any that a paused one could mean.
func (m *Mind) Named() map[string]named {
	out := map[string]named{}
	for _, w := range sorted(m.told.workloads) {
		mem := m.workloads[w.uid]
		if a := mem.asks; a != nil {
			n := out[a.epg]
			n.members = append(n.members, w.uid)
			n.running = n.running || mem.pause == no
			n.paused = n.paused || mem.pause != no
			out[a.epg] = n
		}
		if mem.pause != no && mem.next != nil {
			n := out[mem.next.epg]
			n.paused = true
			out[mem.next.epg] = n
		}
		if mem.pause != no && (mem.unknown || !mem.nextKnown) {
			out[""] = named{paused: true}
		}
	}
	return out
}

// Unknown reports whether the target of some workload is not known.
func (m *Mind) Unknown() bool {
	for _, mem := range m.workloads {
		if mem.unknown {
			return true
		}
	}
	return false
}
