package history

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ends notes what was claimed or named until now and is not any more, and whether a change that was seen
// explains that: must for yes, never for no, free where it cannot be told. A list tells of what it misses
// and of what changed; where it tells of both, either may be why.
func (m *Mind) ends(old *Cluster, claims []Claim, names map[string]named, list bool) {
	why := must
	if list {
		switch missing, changed := differ(old, m.told); {
		case missing && changed:
			why = free
		case missing:
			why = never
		}
	}
	if !m.begun {
		why = free // the order in which an aci-sync that starts is told makes claims begin and end
	}
	now, still := map[string]bool{}, m.Named()
	for _, c := range m.claims {
		now[c.EPG+"/"+c.IP] = true
	}
	for _, c := range claims {
		p, because := c.EPG+"/"+c.IP, why
		if c.paused || names[c.EPG].paused {
			because = free // it was kept, and may have ended long before
		}
		if !now[p] {
			m.ended[p] = because
			if because != never {
				m.loose[c.IP] = true
			}
		}
	}
	for e, n := range names {
		if len(n.members) > 0 && len(still[e].members) == 0 {
			if m.ended[e] = why; n.paused {
				m.ended[e] = free
			}
		}
	}
	maps.DeleteFunc(m.ended, func(p string, _ verdict) bool { return now[p] || len(still[p].members) > 0 })
}

// differ reports whether b lacks objects of a, and whether others changed or are new.
func differ(a, b *Cluster) (missing, changed bool) {
	compare(a.namespaces, b.namespaces, &missing, &changed)
	compare(a.workloads, b.workloads, &missing, &changed)
	compare(a.pods, b.pods, &missing, &changed)
	return missing, changed
}

func compare[K comparable, V any](a, b map[K]V, missing, changed *bool) {
	for k, v := range a {
		w, there := b[k]
		*missing = *missing || !there
		*changed = *changed || there && !reflect.DeepEqual(v, w)
	}
	for k := range b {
		_, was := a[k]
		*changed = *changed || !was
	}
}

// Follow takes over from the mind of the aci-sync that ran before: what that saw explains what it wrote to its
// end, and nothing that is found later.
func (m *Mind) Follow(last *Mind) {
	maps.Copy(m.carried, last.carried)
	for p, why := range last.ended {
		m.carried[p] = m.carried[p] || why != never
	}
	for ip := range last.loose {
		m.carried[ip] = true
	}
}

// Rest says that all has come to rest, with the fabric f: what is not there any more needs no explanation, and
// when it returns it has none.
func (m *Mind) Rest(f Fabric, touched func(path string) bool) {
	clear(m.carried)
	maps.DeleteFunc(m.ended, func(p string, _ verdict) bool { return !f.has(DN(p)) })
	for p := range m.ended {
		if touched(p) || !f.ours(DN(p)) {
			m.ended[p] = free // it may be another one, or become ours again
		}
	}
	maps.DeleteFunc(m.loose, func(ip string, _ bool) bool {
		return !slices.ContainsFunc(f.paths(), func(p string) bool { return strings.HasSuffix(p, "/"+ip) && f.ours(DN(p)) })
	})
}

// explained reports whether a change that was seen in this run explains that what is at a path is not claimed, or not
// named. That the last claim of its address ended elsewhere may explain it too.
func (s *Settled) explained(p string) verdict {
	m := s.Mind
	ip := strings.TrimPrefix(p, epgOf(p)+"/")
	why, ended := m.ended[p]
	switch {
	case s.Vague, m.carried[p], m.carried[ip], ended && s.Touched(p):
		return free
	case ended:
		return why
	case m.loose[ip]:
		return free
	}
	return never
}

// orphan reports whether what bears our mark at a path is not claimed, or not named.
func (s *Settled) orphan(p string) bool {
	if p == epgOf(p) {
		return len(s.named[p].members) == 0
	}
	return len(s.claims[strings.TrimPrefix(p, epgOf(p)+"/")]) == 0
}

// guard works out what the orphan guard must hold, and whether it may hold anything else: it counts what surely
// counts beside all that ever bore our mark, and then what may count beside what does.
func (s *Settled) guard() {
	before, after := s.marked(s.Before), s.marked(s.After)
	var sure, perhaps []string
	for p := range before {
		if s.orphan(p) && s.explained(p) == never && s.deletable(p) && !s.bornePerhaps(p) {
			sure = append(sure, p)
		}
	}
	sure = slices.DeleteFunc(slices.Clone(sure), func(p string) bool { return s.churns(p, sure) })
	all := maps.Clone(before)
	maps.Copy(all, after)
	s.guarded = map[string]bool{}
	if s.Exact && !s.Lost && s.exceeds(len(sure), len(all)) {
		for _, p := range sure {
			s.guarded[p] = true
		}
	}
	orphans := slices.DeleteFunc(slices.Collect(maps.Keys(after)), func(p string) bool { return !s.orphan(p) })
	s.loose = map[string]bool{}
	for _, p := range orphans {
		if s.explained(p) != must && !s.churns(p, orphans) && !s.borne(p) {
			perhaps = append(perhaps, p)
		}
	}
	if s.exceeds(len(perhaps), len(after)) {
		for _, p := range perhaps {
			s.loose[p] = true
		}
	}
}

// Guarded reports whether Check found that the orphan guard must hold something.
func (s *Settled) Guarded() bool { return len(s.guarded) > 0 }

func (s *Settled) exceeds(orphans, marked int) bool { return orphans > s.Guard && 2*orphans > marked }

// marked are the paths of all that bears our mark.
func (s *Settled) marked(f Fabric) map[string]bool {
	out := map[string]bool{}
	for _, p := range f.paths() {
		if f.ours(DN(p)) {
			out[p] = true
		}
	}
	return out
}

// deletable reports whether nothing but the guard keeps an orphan.
func (s *Settled) deletable(p string) bool {
	e := epgOf(p)
	_, resolves := s.Before.VRF(l3outOf(p))
	fresh, young := s.perhapsPaused(e)
	switch {
	case !s.writable(e), fresh, young, !resolves, s.named[e].paused, s.named[""].paused:
		return false
	case p == e:
		return !s.Mind.Unknown() && !s.foreign(s.Before, e, true)
	}
	return !s.held[strings.TrimPrefix(p, e+"/")]
}

// churns reports whether a subnet is a stale one of an external EPG whose workloads stand, and claim at least half as
// many others as the orphans that are in it.
func (s *Settled) churns(p string, orphans []string) bool {
	e := epgOf(p)
	if p == e || len(s.named[e].members) == 0 {
		return false
	}
	claimed, left := map[string]bool{}, 0
	for ip, claims := range s.claims {
		if slices.ContainsFunc(claims, func(c Claim) bool { return c.EPG == e }) {
			claimed[ip] = true
		}
	}
	for _, o := range orphans {
		if o != e && epgOf(o) == e {
			left++
		}
	}
	return left <= 2*len(claimed)
}

// borne reports whether another live Pod has the address of a subnet than the one it is named after.
func (s *Settled) borne(p string) bool {
	return !s.Touched(p) && slices.ContainsFunc(s.others(p), func(q pod) bool { return q.counts() && !q.terminating })
}

func (s *Settled) bornePerhaps(p string) bool { return len(s.others(p)) > 0 }

// others are the Pods that have the address of a subnet, but for the one that it is named after.
func (s *Settled) others(p string) []pod {
	ip, name := strings.TrimPrefix(p, epgOf(p)+"/"), s.Before.attr(DN(p), "name")
	return slices.DeleteFunc(sorted(s.Mind.told.pods), func(q pod) bool {
		return !slices.Contains(q.ips, ip) || q.ref.Namespace+"::"+q.ref.Name == name
	})
}

// foreign reports whether something is in an external EPG, or set of it, that is not ours; but for subnets, if
// ours do not count.
func (s *Settled) foreign(f Fabric, e string, but bool) bool {
	dn := DN(e)
	for k, v := range f.attrs(dn) {
		if k != "annotation" || v != ourAnnotation {
			return true
		}
	}
	return slices.ContainsFunc(f.within(dn), func(d string) bool {
		b := bearer(d)
		if class(f[d]) == "fvRsCons" && s.Policies["always"] {
			return false
		}
		return d != dn && d != markOf(dn) && !derived[class(f[d])] && (!but || !f.ours(b) || d != b && d != markOf(b))
	})
}
