package apicsim

import (
	"net/netip"
	"slices"
	"strings"

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
// Source: apic-rest.md 4.3. The EPG that came first wins, until Sim.ReloadLeafs. unverified: that 0.0.0.0/0 and ::/0 never collide. See f0467.go
// for the faults.
type conflicts struct {
	filed map[*node]claim   // subnet with import-security -> where it is in by
	by    map[claim][]*node // its subnets, oldest first
	lost  map[claim][]*node // the external EPGs that lose it, were they all on one leaf
	seen  int               // claims that came to be lost, ever

	raised map[string]bool // DNs of the faults that this made, and has not taken away
	timer  bool            // leafs will look before long
}

func newConflicts() *conflicts {
	return &conflicts{
		filed: map[*node]claim{}, by: map[claim][]*node{}, lost: map[claim][]*node{}, raised: map[string]bool{},
	}
}

// collide takes note of what a transaction did to claims. It looks at the outcome: that
// a prefix leaves one EPG and enters another in one transaction is no conflict.
func (t *tx) collide() {
	k := t.s.conflicts
	touched := map[claim]bool{}
	moved := false // an L3Out, to or from a leaf
	for _, c := range t.changes {
		switch c.n.class.name {
		case "l3extRsNodeL3OutAtt":
			moved = moved || c.op != modified
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
	if len(touched) > 0 || moved {
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
