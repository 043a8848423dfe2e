package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Storm is a way in which the APIC, or the network before it, fails for a while.
type Storm struct {
	Name, Help string
	Lossy      bool // changes may go unheard, and nothing tells that they did
	Unheard    bool // and only a periodic read can tell: of what was lost, or that what is refused for good is not any more
	Refuses    bool // it refuses sessions or credentials, which is met with a backoff of up to half an hour
}

// Storms are all of them. Several may overlap.
var Storms = []Storm{
	{Name: "down", Help: "503 with HTML to every request"},
	{Name: "writes", Help: "503 to every write"},
	{Name: "reads", Help: "503 to every read"},
	{Name: "logins", Help: "503 to logins and refreshes, as when throttled"},
	{Name: "slow", Help: "3 s for every answer"},
	{Name: "crawl", Help: "20 s for every answer"},
	{Name: "hangup", Help: "every request is cut off before it is looked at"},
	{Name: "mute", Help: "writes are done, and then cut off"},
	{Name: "late", Help: "writes are done, and answered by 504"},
	{Name: "accepted", Help: "writes are answered by 202, and not done"},
	{Name: "empty", Help: "reads answer with totalCount and nothing else"},
	{Name: "big", Help: "reads are refused: result too big", Unheard: true},
	{Name: "tokens", Help: "tokens are refused, and logins are not", Refuses: true},
	{Name: "sessions", Help: "every write ends all sessions before it is looked at", Refuses: true},
	{Name: "password", Help: "the password is refused, and all sessions end first", Refuses: true},
	{Name: "sockets", Help: "every read closes all sockets"},
	{Name: "socketless", Help: "503 to every new socket, and the old ones close first"},
	{Name: "unlocated", Help: "subscriptions are refused: no socket is found (405)"},
	{Name: "expired", Help: "refreshes of subscriptions are refused (400)"},
	{Name: "forgotten", Help: "refreshes of subscriptions are answered, and the subscriptions end nevertheless", Lossy: true, Unheard: true},
	{Name: "silent", Help: "all events are lost", Lossy: true, Unheard: true},
	{Name: "refused", Help: "connections are refused, and the old ones are cut first"},
	{Name: "stalled", Help: "nothing travels"},
}

// StormWorlds are the words that may stand behind "with" beside Worlds.
var StormWorlds = []string{
	"storms", // convergence and requests are bounded
	"unread", // nothing is read but at a start and after a gap
	"two",    // replicas, one of which leads
	"three",
	"dry", // a dry run beside them
}

// GenerateStorms makes the history of a seed in which storms come over the steps of others, time passes in
// between, and all is to be right again soon after.
func GenerateStorms(seed uint64) History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 7)), cluster: NewCluster(), mind: NewMind(nil)}
	h := History{With: []string{"storms"}}
	g.unread = g.IntN(2) == 0
	if g.unread {
		h.With = append(h.With, "unread", "tags") // tags that nobody announces only a read tells of
	}
	for _, w := range Worlds {
		if g.IntN(4) == 0 && !slices.Contains(h.With, w) {
			h.With = append(h.With, w)
		}
	}
	for range 2 + g.IntN(3) {
		g.add(step("target", g.workload(), g.epg()))
		pod, workload := g.podOf()
		g.add(step("pod", pod, workload, g.ip()))
	}
	if g.IntN(4) > 0 {
		g.add(step("settle"))
	}
	for range 2 + g.IntN(3) {
		for range 2 + g.IntN(4) {
			g.storm()
			for range g.IntN(4) {
				g.any()
			}
			g.pass()
		}
		g.add(step("settle"))
	}
	h.Steps = g.steps
	return h
}

// storm adds up to two storms.
func (g *generator) storm() {
	for range 1 + g.IntN(2)*g.IntN(2) {
		d := time.Duration(1+g.IntN(20)) * time.Second
		switch g.IntN(6) {
		case 0:
			d *= 60
		case 1, 2:
			d *= 5
		}
		s := pick(g, Storms...)
		for g.unread && s.Unheard {
			s = pick(g, Storms...)
		}
		g.add(step("storm", s.Name, d.String()))
	}
}

// pass lets time pass: moments, minutes, sometimes hours.
func (g *generator) pass() {
	switch g.IntN(12) {
	case 0:
		g.add(step("sleep", fmt.Sprintf("%dm", 10+g.IntN(50))))
	case 1, 2:
		g.add(step("sleep", fmt.Sprintf("%dm", 1+g.IntN(9))))
	case 3, 4, 5:
		g.add(step("sleep", fmt.Sprintf("%ds", 1+g.IntN(59))))
	case 6, 7, 8, 9:
		g.add(step("sleep", fmt.Sprintf("%dms", 10+g.IntN(2000))))
	}
}

// stormOf is the storm of a name.
func stormOf(name string) (Storm, bool) {
	for _, s := range Storms {
		if s.Name == name {
			return s, true
		}
	}
	return Storm{}, false
}

// Storm is the storm that a step is.
func (s Step) Storm() (Storm, time.Duration) {
	storm, _ := stormOf(s.arg(0))
	d, _ := time.ParseDuration(s.arg(1))
	return storm, d
}

// GenerateLeaders makes the history of a seed in which two or three replicas run over one cluster, and are killed,
// halted or cut off, in storms, too.
func GenerateLeaders(seed uint64) History {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 8)), cluster: NewCluster(), mind: NewMind(nil)}
	h := History{With: []string{"storms", pick(g, "two", "two", "three")}}
	for _, w := range append([]string{"dry"}, Worlds...) {
		if g.IntN(4) == 0 {
			h.With = append(h.With, w)
		}
	}
	for range 2 + g.IntN(3) {
		g.add(step("target", g.workload(), g.epg()))
		pod, workload := g.podOf()
		g.add(step("pod", pod, workload, g.ip()))
	}
	for range 2 + g.IntN(3) {
		for range 2 + g.IntN(4) {
			if g.IntN(3) == 0 {
				g.storm()
			}
			if g.IntN(3) > 0 {
				d := time.Duration(1+g.IntN(30)) * time.Second
				g.add(step("replica", pick(g, "leader", "leader", "leader", "other"), pick(g, "kill", "halt", "halt", "cut", "slow", "end"), d.String()))
			}
			if g.IntN(3) == 0 { // who does not run is to write, and another one leads when it runs again
				g.add(step("replica", "leader", "halt", fmt.Sprintf("%ds", 13+g.IntN(15))))
				for range 3 {
					g.add(step("sleep", fmt.Sprintf("%dms", 500+g.IntN(5000))))
					pod, workload := g.podOf()
					g.add(step("pod", pod, workload, g.ip()))
				}
			}
			if g.IntN(2) == 0 { // there is something to write about when a lease runs out
				g.add(step("sleep", fmt.Sprintf("%dms", 7000+g.IntN(9000))))
				for range 3 {
					g.add(step("remove", g.place()))
					g.inCluster()
					g.add(step("sleep", fmt.Sprintf("%dms", 100+g.IntN(2000))))
				}
			}
			for range g.IntN(5) {
				if g.IntN(3) > 0 {
					g.inCluster()
				} else {
					g.onFabric()
				}
				if g.IntN(2) == 0 {
					g.add(step("sleep", fmt.Sprintf("%dms", 10+g.IntN(400)*g.IntN(10))))
				}
			}
			g.pass()
		}
		g.add(step("settle"))
	}
	h.Steps = g.steps
	return h
}

// Ours reports whether the object at a path bears the mark of this cluster.
func (f Fabric) Ours(path string) bool { return f.ours(DN(path)) }

// Name is the name of the object at a path.
func (f Fabric) Name(path string) string { return f.attr(DN(path), "name") }
