package apicsim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// claim is a prefix that classifies traffic in a VRF.
type claim struct {
	vnid   string
	prefix netip.Prefix
}

// conflicts knows which external EPGs claim the same prefix in a VRF. The APIC accepts
// that; leafs program one of them and raise F0467 for the others.
//
// Source: apic-rest.md 4.3. The EPG that came first wins, always; on real leafs the winner
// can flip when they reload. unverified: that 0.0.0.0/0 and ::/0 never collide.
type conflicts struct {
	filed map[*node]claim   // subnet with import-security -> where it is in by
	by    map[claim][]*node // its subnets, oldest first
	lost  map[claim][]*node // the external EPGs that lose it
	seen  int               // claims that came to be lost, ever
	sync  bool              // a timer for faults is set
}

func newConflicts() *conflicts {
	return &conflicts{filed: map[*node]claim{}, by: map[claim][]*node{}, lost: map[claim][]*node{}}
}

// collide takes note of what a transaction did to claims. It looks at the outcome: that
// a prefix leaves one EPG and enters another in one transaction is no conflict.
func (t *tx) collide() {
	k := t.s.conflicts
	touched := map[claim]bool{}
	for _, c := range t.changes {
		switch c.n.class.name {
		case aci.ClassSubnet:
			k.file(c.n, c.op == deleted, touched)
		case aci.ClassExtEPG:
			for _, sub := range c.n.children {
				if sub.class.name == aci.ClassSubnet {
					k.file(sub, c.op == deleted, touched)
				}
			}
		}
	}
	for c := range touched {
		k.judge(c)
	}
	if len(touched) > 0 {
		(*t.s.members)[0].faultsLater()
	}
}

func (k *conflicts) file(sub *node, gone bool, touched map[claim]bool) {
	old, filed := k.filed[sub]
	now, claims := claimOf(sub)
	claims = claims && !gone
	if filed == claims && old == now {
		return
	}
	if filed {
		k.by[old] = slices.DeleteFunc(k.by[old], func(n *node) bool { return n == sub })
		if len(k.by[old]) == 0 {
			delete(k.by, old)
		}
		delete(k.filed, sub)
		touched[old] = true
	}
	if claims {
		k.by[now] = append(k.by[now], sub)
		k.filed[sub] = now
		touched[now] = true
	}
}

func claimOf(sub *node) (claim, bool) {
	p, err := netip.ParsePrefix(sub.attr("ip"))
	vnid := sub.parent.attr("scope")
	if err != nil || p.Bits() == 0 || vnid == "0" || !slices.Contains(strings.Split(sub.attr("scope"), ","), "import-security") {
		return claim{}, false
	}
	return claim{vnid, p.Masked()}, true
}

// judge decides who loses c.
func (k *conflicts) judge(c claim) {
	var losers []*node
	if subs := k.by[c]; len(subs) > 1 {
		for _, s := range subs[1:] {
			if s.parent != subs[0].parent && !slices.Contains(losers, s.parent) {
				losers = append(losers, s.parent)
			}
		}
	}
	if len(losers) > 0 && len(k.lost[c]) == 0 {
		k.seen++
	}
	if len(losers) == 0 {
		delete(k.lost, c)
	} else {
		k.lost[c] = losers
	}
}

// verdicts returns the claim that each losing EPG is told about: the first of those it lost.
func (k *conflicts) verdicts() map[*node]claim {
	worst := map[*node]claim{}
	for c, losers := range k.lost {
		for _, epg := range losers {
			if w, had := worst[epg]; !had || cmp.Or(cmp.Compare(c.vnid, w.vnid), c.prefix.Compare(w.prefix)) < 0 {
				worst[epg] = c
			}
		}
	}
	return worst
}

// faultsLater lets the leafs notice after a while.
func (s *Sim) faultsLater() {
	if len(s.opts.Leafs) == 0 || s.conflicts.sync || s.opts.DeployDelay < 0 {
		return
	}
	s.conflicts.sync = true
	s.after(s.opts.DeployDelay, func() {
		s.conflicts.sync = false
		if s.moveFaults() {
			s.faultsLater()
		}
	})
}

// moveFaults brings each fault one step on: created as soaking, raised, cleared, deleted.
// It reports whether a step is left. Source: apic-rest.md 6.2.
func (s *Sim) moveFaults() (more bool) {
	want := map[string]string{} // DN of the fault -> what it says
	for epg, c := range s.conflicts.verdicts() {
		for _, leaf := range s.opts.Leafs {
			dn := fmt.Sprintf("topology/pod-1/node-%d/local/svc-policyelem-id-0/uni/epp/rtd-[%s]/nwissues/fault-F0467",
				leaf, epg.dn)
			want[dn] = fmt.Sprintf("prefix-entry-already-in-use: Prefix entry sys/ctx-[vxlan-%s]/pfx-[%s] is in use;",
				c.vnid, c.prefix)
		}
	}
	t := s.begin()
	for _, n := range slices.Clone(s.fabric.byClass[schema["faultInst"]]) {
		what, stays := want[n.dn]
		delete(want, n.dn)
		switch lc := n.attr("lc"); {
		case stays && lc != "raised":
			t.describe(n, what)
			t.transit(n, "raised", "minor")
			more = more || lc == "retaining"
		case stays:
			t.describe(n, what)
		case lc == "retaining":
			t.drop(n.parent.parent) // with the EPG's place on the leaf
		default:
			t.transit(n, "retaining", "cleared")
			more = true
		}
	}
	for dn, what := range want {
		p, err := parsePath(dn)
		if err != nil {
			continue
		}
		n := t.makePath(p)
		t.describe(n, what)
		n.attrs[n.class.find("created")] = time.Now().Format(stampLayout)
		t.transit(n, "soaking", "minor")
		more = true
	}
	slices.SortStableFunc(t.changes, func(a, b *change) int { return strings.Compare(a.n.dn, b.n.dn) })
	t.commit()
	return more
}

// describe words the fault as faultInst_F0467_full_attributes.json does.
func (t *tx) describe(n *node, what string) {
	epg := n.parent.parent.attr("defDn")
	t.set(n, n.class.find("descr"),
		"Configuration failed for "+epg+" due to Prefix Entry Already Used in Another EPG, debug message: "+what)
	t.set(n, n.class.find("changeSet"),
		"configQual:prefix-entry-already-in-use, configSt:failed-to-apply, debugMessage:"+what+", temporaryError:no")
}

func (t *tx) transit(n *node, lc, severity string) {
	t.set(n, n.class.find("prevSeverity"), n.attr("severity"))
	t.set(n, n.class.find("severity"), severity)
	t.set(n, n.class.find("lc"), lc)
	t.set(n, n.class.find("lastTransition"), time.Now().Format(stampLayout))
}
