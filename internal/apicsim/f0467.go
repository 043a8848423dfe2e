package apicsim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// verdict is what a leaf finds: an external EPG that is not programmed because of a prefix
// that another one holds there.
type verdict struct {
	epg  *node
	leaf int
	lost claim
}

// faults are the DNs at which a leaf, and the APIC on its behalf, say so.
//
// Source: faultInst_F0467_full_attributes.json; for the delegate, two of other causes in
// docs/docs/validations.md of s:preup. unverified: what affected is for an external EPG.
func (v *verdict) faults() (inst, delegate string) {
	return fmt.Sprintf("topology/pod-1/node-%d/local/svc-policyelem-id-0/uni/epp/rtd-[%s]/nwissues/fault-F0467", v.leaf, v.epg.dn),
		fmt.Sprintf("%s/fd-[uni/epp/rtd-[%s]/node-%d/nwissues]-fault-F0467", v.epg.dn, v.epg.dn, v.leaf)
}

// verdicts is what the leafs find now: for each one and external EPG the first prefix that
// it lost there to another EPG deployed on that leaf.
func (s *Sim) verdicts() map[string]*verdict {
	k := s.conflicts
	nodes := map[*node][]int{}
	on := func(epg *node, leaf int) bool {
		out := epg.parent
		if _, known := nodes[out]; !known {
			nodes[out] = deployedOn(out)
		}
		return len(nodes[out]) == 0 || slices.Contains(nodes[out], leaf)
	}
	found := map[string]*verdict{} // DN of the fault -> why
	for c := range k.lost {
		for _, leaf := range s.opts.Leafs {
			var winner *node
			for _, sub := range k.by[c] {
				epg := sub.parent
				if !on(epg, leaf) || epg == winner {
					continue
				}
				if winner == nil {
					winner = epg
					continue
				}
				v := &verdict{epg, leaf, c}
				inst, delegate := v.faults()
				if w := found[inst]; w == nil || cmp.Or(cmp.Compare(c.vnid, w.lost.vnid), c.prefix.Compare(w.lost.prefix)) < 0 {
					found[inst], found[delegate] = v, v
				}
			}
		}
	}
	return found
}

// deployedOn returns the ids of the nodes in the node profiles of an L3Out. An L3Out
// without any counts as deployed on all of Options.Leafs, for tests that do not care.
// Source: apic-rest.md 5.3: an external EPG is programmed on leafs of its own L3Out.
func deployedOn(out *node) []int {
	var ids []int
	for _, profile := range out.children {
		for _, at := range profile.children {
			if at.class.name != "l3extRsNodeL3OutAtt" {
				continue
			}
			dn := at.attr("tDn")
			if id, err := strconv.Atoi(dn[strings.LastIndexByte(dn, '-')+1:]); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// ReloadLeafs lets the leafs of Options.Leafs program everything anew, in the opposite order:
// of the external EPGs that share a prefix, the one that came last has it now, and F0467 goes
// to the others.
//
// Source: apic-rest.md 4.3 and 9: which EPG wins can flip when a leaf reloads.
func (s *Sim) ReloadLeafs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, subs := range s.conflicts.by {
		if len(subs) > 1 {
			slices.Reverse(subs)
			s.conflicts.judge(c)
		}
	}
	(*s.members)[0].faultsLater()
}

// faultsLater lets the leafs notice after a while.
func (s *Sim) faultsLater() {
	if len(s.opts.Leafs) == 0 || s.conflicts.timer || s.opts.DeployDelay < 0 {
		return
	}
	s.conflicts.timer = true
	s.after(s.opts.DeployDelay, func() {
		s.conflicts.timer = false
		if s.moveFaults() {
			s.faultsLater()
		}
	})
}

// moveFaults brings each fault one step on: created as soaking, raised, cleared, deleted.
// It reports whether a step is left. Faults that somebody seeded stay as they are.
// Source: apic-rest.md 6.2.
func (s *Sim) moveFaults() (more bool) {
	want, k := s.verdicts(), s.conflicts
	t := s.begin()
	for _, class := range []string{"faultInst", "faultDelegate"} {
		for _, n := range slices.Clone(s.fabric.byClass[schema[class]]) {
			if !k.raised[n.dn] {
				continue
			}
			v := want[n.dn]
			delete(want, n.dn)
			switch lc := n.attr("lc"); {
			case v != nil:
				t.describe(n, v)
				if lc != "raised" {
					t.transit(n, "raised", "minor")
				}
				more = more || lc == "retaining"
			case lc != "retaining":
				t.transit(n, "retaining", "cleared")
				more = true
			default:
				gone := n
				if class == "faultInst" {
					gone = n.parent.parent // with the EPG's place on the leaf
				}
				t.drop(gone)
				delete(k.raised, n.dn)
			}
		}
	}
	for dn, v := range want {
		p, err := parsePath(dn)
		if err != nil {
			continue
		}
		n := t.makePath(p)
		t.describe(n, v)
		n.attrs[n.class.find("created")] = time.Now().Format(stampLayout)
		t.transit(n, "soaking", "minor")
		k.raised[dn] = true
		more = true
	}
	slices.SortStableFunc(t.changes, func(a, b *change) int { return strings.Compare(a.n.dn, b.n.dn) })
	t.commit()
	return more
}

// describe words the fault as the captures do.
func (t *tx) describe(n *node, v *verdict) {
	what := fmt.Sprintf("prefix-entry-already-in-use: Prefix entry sys/ctx-[vxlan-%s]/pfx-[%s] is in use;", v.lost.vnid, v.lost.prefix)
	intro := ""
	if n.class.name == "faultDelegate" {
		intro = "Fault delegate: "
	}
	t.set(n, n.class.find("descr"), intro+
		"Configuration failed for "+v.epg.dn+" due to Prefix Entry Already Used in Another EPG, debug message: "+what)
	t.set(n, n.class.find("changeSet"),
		"configQual:prefix-entry-already-in-use, configSt:failed-to-apply, debugMessage:"+what+", temporaryError:no")
}

func (t *tx) transit(n *node, lc, severity string) {
	t.set(n, n.class.find("prevSeverity"), n.attr("severity"))
	t.set(n, n.class.find("severity"), severity)
	t.set(n, n.class.find("lc"), lc)
	t.set(n, n.class.find("lastTransition"), time.Now().Format(stampLayout))
}
