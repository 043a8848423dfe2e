package history

import (
	"fmt"
	"slices"
	"strings"
)

// Step is one thing that happens: a verb and its arguments. A step that makes no sense where it
// stands, such as the deletion of what is not there, does nothing, so that any part of a history is one.
type Step struct {
	Verb string
	Args []string
}

// String is the step as a line of a script.
func (s Step) String() string { return strings.Join(append([]string{s.Verb}, s.Args...), " ") }

func step(verb string, args ...string) Step { return Step{verb, args} }

// arg is the argument at i, "" where there is none.
func (s Step) arg(i int) string {
	if i < len(s.Args) {
		return s.Args[i]
	}
	return ""
}

// Verb says what a verb is for.
type Verb struct {
	Name, Args, Help string
	Least            int  // arguments that it needs
	Fabric           bool // done by a person on the APIC
	Internal         bool // of the aci-sync in a bubble: a real cluster or process cannot be told to
}

// Verbs are all verbs. Workloads and Services are NAMESPACE/NAME: w1 is a Deployment, s1 a
// StatefulSet, d1 a DaemonSet, v1 a Service. A PATH is an L3Out "a", an external EPG "a/p" or a subnet
// "a/p/10.0.0.1"; in "remove" and "make" also a tenant "U".
var Verbs = []Verb{
	{Name: "target", Args: "WORKLOAD EPG|invalid|none [pods|services]", Least: 2, Help: "annotate a workload, made if need be"},
	{Name: "pause", Args: "WORKLOAD true|false|yes|none", Least: 2, Help: "its pause annotation"},
	{Name: "ignore", Args: "WORKLOAD true|false|yes|none", Least: 2, Help: "its ignore annotation"},
	{Name: "delete", Args: "WORKLOAD", Least: 1, Help: "delete it; its Pods are there until they are gone"},
	{Name: "default", Args: "NAMESPACE EPG|invalid|none", Least: 2, Help: "the default of a namespace"},
	{Name: "vanish", Args: "NAMESPACE", Least: 1, Help: "a namespace goes with all that is in it"},
	{Name: "pod", Args: "POD WORKLOAD IP...", Least: 3, Help: "a new Pod, in the place of the old one of that name"},
	{Name: "host", Args: "POD WORKLOAD IP...", Least: 3, Help: "the same, on its node's network"},
	{Name: "ends", Args: "POD", Least: 1, Help: "it has succeeded"},
	{Name: "terminates", Args: "POD", Least: 1, Help: "it is being deleted"},
	{Name: "gone", Args: "POD", Least: 1, Help: "it is gone"},
	{Name: "vip", Args: "SERVICE LABEL|- [IP...]", Least: 2, Help: "a LoadBalancer that selects templates with app=LABEL"},

	{Name: "remove", Args: "PATH|TENANT", Least: 1, Fabric: true, Help: "delete it, with all below"},
	{Name: "make", Args: "PATH|TENANT [export]", Least: 1, Fabric: true, Help: "make it, if it is not there; export: a subnet without import-security"},
	{Name: "edit", Args: "PATH name|scope|flag|descr|annotation", Least: 2, Fabric: true, Help: "change that of it"},
	{Name: "strip", Args: "PATH", Least: 1, Fabric: true, Help: "take its owner mark off"},
	{Name: "contract", Args: "EPG", Least: 1, Fabric: true, Help: "let it consume a contract"},
	{Name: "uncontract", Args: "EPG", Least: 1, Fabric: true, Help: "end that"},
	{Name: "copy", Args: "EPG EPG", Least: 2, Fabric: true, Help: "copy it whole, marks and all, to where none is"},
	{Name: "other", Args: "PATH", Least: 1, Fabric: true, Help: "make it as another cluster's aci-sync does, if it is not there"},
	{Name: "orchestrate", Args: "EPG [no]", Least: 1, Fabric: true, Help: "Nexus Dashboard Orchestrator manages it, or does not any more"},
	{Name: "vrf", Args: "L3OUT VRF|-", Least: 2, Fabric: true, Help: "its VRF changes, or does not resolve"},
	{Name: "hold", Args: "L3OUT|EPG", Least: 1, Fabric: true, Help: "pause it by a tag"},
	{Name: "release", Args: "L3OUT|EPG", Least: 1, Fabric: true, Help: "take that tag off"},
	{Name: "snapshot", Fabric: true, Help: "keep all external EPGs as they are"},
	{Name: "rollback", Fabric: true, Help: "make them as they were"},

	{Name: "stop", Help: "aci-sync ends"},
	{Name: "start", Help: "it starts, and is told all that there is"},
	{Name: "kill", Args: "now|before|after", Least: 1, Help: "it dies, or does so at its next write, before or after that was carried out"},
	{Name: "unwatch", Internal: true, Help: "nobody tells it of changes of the cluster"},
	{Name: "relist", Internal: true, Help: "it is told what a list has and what it misses"},
	{Name: "miss", Args: "NAMESPACE", Least: 1, Internal: true, Help: "a list misses all of a namespace"},
	{Name: "lift", Args: "EPG", Least: 1, Internal: true, Help: "end a pause that is kept in its ExternalEPG"},
	{Name: "fault", Args: "503|before|after|202|reads|events|sessions|sockets", Least: 1, Help: "the APIC fails once, or loses some events"},
	{Name: "storm", Args: "STORM DURATION", Least: 2, Internal: true, Help: "the APIC or the network fails for a while: see Storms"},
	{
		Name: "replica", Args: "leader|other kill|halt|cut|slow|end DURATION", Least: 3, Internal: true,
		Help: "one of several replicas dies or ends, to start again after that, or does not run, or does not reach the API server, or hardly",
	},
	{Name: "sleep", Args: "DURATION", Least: 1, Help: "let time pass"},
	{Name: "rest", Internal: true, Help: "let all come to rest as far as aci-sync was told, and check it"},
	{Name: "settle", Help: "end all faults, let all come to rest, and check it"},
}

func verb(name string) (Verb, bool) {
	i := slices.IndexFunc(Verbs, func(v Verb) bool { return v.Name == name })
	if i < 0 {
		return Verb{}, false
	}
	return Verbs[i], true
}

// History is what happens, and in what world.
type History struct {
	With  []string // what differs in the world: see Worlds
	Steps []Step
}

// Worlds are the words that may stand behind "with", in the first line of a script.
var Worlds = []string{
	"tags",     // the APIC announces changes of tags
	"modified", // on the APIC, status modified makes what is absent
	"slow",     // a POST takes 300 ms
	"guard",    // the orphan guard's limit is 2
}

// Policies are the words that may stand there beside them: what aci-sync was told to do otherwise.
var Policies = []string{
	"upsert", // --policy=upsert-only
	"always", // --epg-deletion=always
	"allow",  // --allow=T/[ac],U/*
}

// Allowed are the patterns of the policy "allow".
var Allowed = []string{"T/[ac]", "U/*"}

func allowed(l3out string) bool { return l3out == "a" || l3out == "c" || tenantOf(l3out) == "U" }

// String is the history as a script.
func (h History) String() string {
	var b strings.Builder
	if len(h.With) > 0 {
		fmt.Fprintf(&b, "with %s\n", strings.Join(h.With, " "))
	}
	for _, s := range h.Steps {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// Parse reads a script. Empty lines and what follows "#" are for people.
func Parse(text string) (History, error) {
	var h History
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			continue
		case f[0] == "with":
			for _, w := range f[1:] {
				if !slices.Contains(slices.Concat(Worlds, Policies, StormWorlds), w) {
					return History{}, fmt.Errorf("line %d: no world is %q", n, w)
				}
			}
			h.With = append(h.With, f[1:]...)
			continue
		}
		v, ok := verb(f[0])
		if !ok || len(f)-1 < v.Least {
			return History{}, fmt.Errorf("line %d: %q: usage: %s %s", n, f, f[0], v.Args)
		}
		if _, ok := stormOf(Step{f[0], f[1:]}.arg(0)); f[0] == "storm" && !ok {
			return History{}, fmt.Errorf("line %d: no storm is %q", n, f[1])
		}
		h.Steps = append(h.Steps, Step{f[0], f[1:]})
	}
	return h, nil
}
