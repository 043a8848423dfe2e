package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Limits bound what a generated history does. The zero value is everything.
type Limits struct {
	Real bool // only what a real cluster and a real process can be told to
}

// Generate makes the history of a seed. Even seeds are calm: all comes to rest after each burst of steps,
// so that what must be is known to the last object. Odd ones are hasty.
func Generate(seed uint64, l Limits) History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 5)), limits: l, cluster: NewCluster(), mind: NewMind(nil)}
	var h History
	for _, w := range Worlds {
		if g.IntN(3) == 0 && (!l.Real || w == "guard") {
			h.With = append(h.With, w)
		}
	}
	for _, p := range Policies {
		if g.IntN(14) == 0 {
			h.With = append(h.With, p)
		}
	}
	for range 2 + g.IntN(3) {
		g.add(step("target", g.workload(), g.epg()))
	}
	g.add(step("settle"))
	guard := slices.Contains(h.With, "guard")
	for range 4 + g.IntN(8) {
		switch {
		case !guard || g.IntN(5) > 0:
		case g.IntN(4) == 0 && !l.Real:
			g.missing()
		default:
			g.mass()
		}
		if seed%2 == 0 {
			for range 1 + g.IntN(4)*g.IntN(2) {
				g.any()
			}
			g.add(step("settle"))
			continue
		}
		for range 1 + g.IntN(4) {
			g.any()
			if g.IntN(4) > 0 {
				g.add(step("sleep", fmt.Sprintf("%dms", 10+g.IntN(10)*g.IntN(10)*g.IntN(40))))
			}
		}
		if g.IntN(8) == 0 {
			g.add(step("settle"))
		}
	}
	h.Steps = g.steps
	return h
}

// GenerateSet makes a history that ends where an aci-sync could start for the first time: objects of a
// cluster, and others' objects on the fabric.
func GenerateSet(seed uint64) History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 6)), cluster: NewCluster(), mind: NewMind(nil)}
	for range 10 + g.IntN(20) {
		switch g.IntN(8) {
		case 0:
			g.add(step(pick(g, "make", "make", "other"), pick(g, g.rival(), g.epg())))
		case 1:
			g.add(step("vrf", pick(g, "a", "b", "c", "d"), pick(g, "v", "w")))
		default:
			g.inCluster()
		}
	}
	return History{Steps: g.steps}
}

// generator knows the cluster that its steps make, so that what people do on the fabric meets what is there.
type generator struct {
	*rand.Rand
	limits  Limits
	cluster *Cluster
	mind    *Mind
	steps   []Step
	away    []string // tenants and L3Outs that were removed
	down    bool
	deaf    bool
}

func (g *generator) add(s Step) {
	if g.limits.Real && !g.real(&s) {
		return
	}
	g.steps = append(g.steps, s)
	if g.cluster.Apply(s) {
		g.mind.Hear(g.cluster.Clone())
	}
}

// real makes a step one that a real cluster can do, in real time; false when it cannot.
func (g *generator) real(s *Step) bool {
	v, _ := verb(s.Verb)
	switch s.Verb {
	case "vanish", // takes too long
		"strip", "hold", "release": // so does what only a read tells
		return false
	case "kill":
		s.Args = []string{"now"}
	case "delete": // else the garbage collector would delete its Pods, sooner or later
		w := g.cluster.workloads[refOf(s.arg(0))]
		for _, p := range sorted(g.cluster.pods) {
			if p.owner == w.uid {
				g.add(step("gone", p.ref.Namespace+"/"+p.ref.Name))
			}
		}
	case "pod", "host":
		s.Args = s.Args[:3] // no two addresses of one family
		return refOf(s.arg(1)).Kind == "Deployment"
	}
	return !v.Internal
}

func pick[T any](g *generator, list ...T) T { return list[g.IntN(len(list))] }

func (g *generator) workload() string {
	return pick(g, "shop/w1", "shop/w1", "shop/w2", "shop/w2", "shop/w3", "shop/s1", "shop/d1", "lab/w1", "lab/w1", "shop/v1", "lab/v2")
}

func (g *generator) epg() string { return pick(g, epgs...) }

func (g *generator) ip() string {
	return pick(g, "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.4", "fd00::1")
}

// place is where an address is, or could be: mostly one that is claimed.
func (g *generator) place() string {
	if len(g.mind.claims) > 0 && g.IntN(5) > 0 {
		c := pick(g, g.mind.claims...)
		return c.EPG + "/" + c.IP
	}
	return g.epg() + "/" + g.ip()
}

// namedEPG is mostly one that workloads name.
func (g *generator) namedEPG() string {
	if len(g.mind.claims) > 0 && g.IntN(4) > 0 {
		return pick(g, g.mind.claims...).EPG
	}
	return g.epg()
}

// rival is where a subnet bars a claim: its address, elsewhere in the VRF, more often than not.
func (g *generator) rival() string {
	p := g.place()
	epg := epgOf(p)
	return pick(g, "a/p", "a/q", "b/p", "b/q", "x/p", "d/p", "e/p", epg) + strings.TrimPrefix(p, epg)
}

func (g *generator) pod() string {
	return pick(g, "shop/p1", "shop/p2", "shop/p3", "shop/p4", "lab/p1", "lab/p2")
}

// podOf is a Pod and a workload of its namespace.
func (g *generator) podOf() (pod, workload string) {
	pod = g.pod()
	ns, _, _ := strings.Cut(pod, "/")
	if ns == "lab" {
		return pod, "lab/w1"
	}
	return pod, pick(g, "shop/w1", "shop/w1", "shop/w2", "shop/w2", "shop/w3", "shop/s1", "shop/d1")
}

// any adds one thing that happens, or two that belong together.
func (g *generator) any() {
	switch n := g.IntN(100); {
	case n < 55:
		g.inCluster()
	case n < 86:
		g.onFabric()
	default:
		g.toProcess()
	}
}

func (g *generator) inCluster() {
	switch n := g.IntN(40); {
	case n < 9:
		s := step("target", g.workload(), g.epg())
		if g.IntN(6) == 0 {
			s.Args = append(s.Args, pick(g, "pods", "services"))
		}
		g.add(s)
	case n < 11:
		g.add(step("target", g.workload(), "invalid"))
	case n < 13:
		g.add(step("target", g.workload(), "none"))
	case n < 15:
		g.add(step("delete", g.workload()))
	case n < 17:
		g.add(step("pause", g.workload(), pick(g, "true", "true", "true", "false", "none", "none", "yes")))
	case n < 18:
		g.add(step("ignore", g.workload(), pick(g, "true", "true", "none", "none", "yes")))
	case n < 19:
		g.add(step("default", pick(g, "shop", "lab"), pick(g, g.epg(), g.epg(), "none", "invalid")))
	case n < 20:
		g.add(step("vanish", pick(g, "shop", "lab")))
	case n < 30:
		pod, workload := g.podOf()
		s := step("pod", pod, workload, g.ip())
		if g.IntN(10) == 0 {
			s.Verb = "host"
		}
		if other := g.ip(); g.IntN(6) == 0 && other != s.Args[2] {
			s.Args = append(s.Args, other)
		}
		g.add(s)
	case n < 31: // several want an address at once
		ip := g.ip()
		for range 2 + g.IntN(2) {
			pod, workload := g.podOf()
			g.add(step("pod", pod, workload, ip))
		}
	case n < 36:
		g.add(step(pick(g, "gone", "gone", "gone", "ends", "terminates", "terminates"), g.pod()))
	default:
		s := step("vip", pick(g, "shop/v1", "shop/v2", "lab/v2"), pick(g, "x", "x", "y", "-"))
		for range g.IntN(3) {
			s.Args = append(s.Args, g.ip())
		}
		g.add(s)
	}
}

func (g *generator) onFabric() {
	if len(g.away) > 0 && g.IntN(3) == 0 {
		g.add(step("make", g.away[len(g.away)-1]))
		g.away = g.away[:len(g.away)-1]
		return
	}
	switch n := g.IntN(40); {
	case n < 5:
		g.add(step("remove", g.place()))
	case n < 8:
		g.add(step("remove", g.namedEPG()))
	case n < 13:
		what := pick(g, "name", "scope", "flag", "descr", "annotation")
		g.add(step("edit", pick(g, g.place(), g.place(), g.place(), g.namedEPG()), what))
	case n < 16:
		g.add(step("strip", pick(g, g.place(), g.place(), g.namedEPG())))
		if g.IntN(3) == 0 {
			g.add(step("edit", g.steps[len(g.steps)-1].arg(0), "annotation"))
		}
	case n < 20:
		s := step("make", g.rival())
		if g.IntN(4) == 0 {
			s.Args = append(s.Args, "export")
		}
		g.add(s)
	case n < 21:
		g.add(step("make", g.epg()))
	case n < 22:
		g.add(step("orchestrate", g.namedEPG()))
		if g.IntN(2) == 0 {
			g.add(step("orchestrate", g.steps[len(g.steps)-1].arg(0), "no"))
		}
	case n < 24:
		g.add(step("other", pick(g, g.rival(), g.rival(), g.epg())))
	case n < 27:
		g.add(step(pick(g, "contract", "contract", "uncontract"), g.namedEPG()))
	case n < 29:
		g.add(step("copy", g.namedEPG(), pick(g, "a/q", "b/q", "x/p", "a/p", "c/q")))
	case n < 31:
		gone := pick(g, "a", "b", "c", "e", "U", "T")
		g.away = append(g.away, gone)
		g.add(step("remove", gone))
	case n < 34:
		g.add(step("vrf", pick(g, "a", "b", "c", "d", "e", "x"), pick(g, "v", "w", "v", "w", "cv", "-")))
	case n < 36 && len(g.mind.claims) > 0: // what is paused is changed
		c := pick(g, g.mind.claims...)
		g.add(step("settle"))
		g.add(step("hold", pick(g, c.EPG, c.EPG, l3outOf(c.EPG))))
		switch g.IntN(4) {
		case 0:
			g.add(step("edit", c.EPG+"/"+c.IP, pick(g, "name", "scope")))
		case 1:
			g.add(step("remove", pick(g, c.EPG+"/"+c.IP, c.EPG)))
		case 2:
			g.add(step("target", c.Workload.Namespace+"/"+c.Workload.Name, pick(g, g.epg(), "none")))
		default:
			g.add(step("gone", strings.Replace(c.Bearer, "::", "/", 1)))
		}
	case n < 38:
		g.add(step(pick(g, "hold", "release", "release"), pick(g, g.namedEPG(), g.namedEPG(), "a", "b")))
	case n < 39:
		g.add(step("snapshot"))
	default:
		g.add(step("rollback"))
	}
}

func (g *generator) toProcess() {
	if g.down {
		g.down = false
		g.add(step("start"))
		return
	}
	switch g.IntN(14) {
	case 13:
		g.mass()
	case 0:
		g.add(step("stop"))
		g.add(step("start"))
	case 1, 12: // what has addresses changes while it is down
		g.add(step("stop"))
		if len(g.mind.claims) > 0 {
			w := pick(g, g.mind.claims...).Workload
			name := w.Namespace + "/" + w.Name
			g.add(pick(g, step("delete", name), step("delete", name), step("target", name, "invalid"), step("ignore", name, "yes")))
		}
		g.inCluster()
		g.add(step("start"))
	case 2, 3:
		g.down = true
		g.add(step("stop"))
	case 4, 5:
		g.add(step("kill", pick(g, "now", "before", "before", "after", "after")))
	case 6, 7:
		if g.deaf = !g.deaf; g.deaf {
			g.add(step("unwatch"))
			g.inCluster()
		} else {
			g.add(step("relist"))
		}
	case 8:
		g.add(step("miss", pick(g, "shop", "lab")))
	case 9:
		g.add(step("lift", g.namedEPG()))
	default:
		g.add(step("fault", pick(g, "503", "before", "after", "202", "reads", "events", "sessions", "sockets")))
	}
}

// mass ends many claims, and so that no change that is seen explains what is left of them: while aci-sync is down, in
// a list, or before the fabric is as it was when they stood. Sometimes it is seen for once, and explains all.
func (g *generator) mass() {
	for range 2 + g.IntN(3) {
		pod, workload := g.podOf()
		g.add(step("pod", pod, workload, g.ip()))
	}
	g.deaf, g.down = false, false // settling ends both
	g.add(step("settle"))
	switch g.IntN(7) {
	case 0, 1:
		g.add(step("stop"))
		g.many()
		g.add(step("start"))
	case 2, 3:
		g.add(step("unwatch"))
		g.many()
		g.add(step("relist"))
	case 4, 5:
		g.add(step("snapshot"))
		g.many()
		g.add(step("settle"))
		g.add(step("rollback"))
	default:
		g.many()
	}
	g.add(step("settle"))
	if g.IntN(2) == 0 { // what happens beside what is held
		g.inCluster()
	}
}

// missing has a list miss a namespace for a while, and then find it again.
func (g *generator) missing() {
	g.deaf, g.down = false, false
	for range 2 + g.IntN(3) {
		pod, workload := g.podOf()
		g.add(step("pod", pod, workload, g.ip()))
	}
	g.add(step("settle"))
	g.add(step("miss", pick(g, "shop", "shop", "lab")))
	g.add(step("rest"))
	g.add(step("settle"))
}

// many ends most claims.
func (g *generator) many() {
	seen := map[string]bool{}
	for _, c := range slices.Clone(g.mind.claims) {
		w := c.Workload.Namespace + "/" + c.Workload.Name
		if seen[w] || g.IntN(6) == 0 {
			continue
		}
		switch g.IntN(6) {
		case 0:
			g.add(step("target", w, "none"))
		case 1:
			g.add(step("gone", strings.Replace(c.Bearer, "::", "/", 1)))
			continue
		default:
			g.add(step("delete", w))
		}
		seen[w] = true
	}
}
