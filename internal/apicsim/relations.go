package apicsim

import (
	"slices"
	"strconv"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// number gives VRFs and external EPGs the numbers that the fabric allocates: the VNID of a
// VRF in scope and seg, a pcTag. unverified: the ranges; those of captures are imitated.
func (t *tx) number(n *node) {
	put := func(name, v string) { n.attrs[n.class.find(name)] = v }
	f := t.s.fabric
	switch n.class.name {
	case aci.ClassVRF:
		vnid := strconv.Itoa(2097152 + 32768*f.vnids)
		f.vnids++ // a transaction that is undone leaves a hole, which nobody minds
		put("scope", vnid)
		put("seg", vnid)
		put("pcTag", strconv.Itoa(32770+f.pcTags))
		f.pcTags++
	case aci.ClassExtEPG:
		put("pcTag", strconv.Itoa(32770+f.pcTags))
		f.pcTags++
	}
}

// relation is a relation by name. Source: apic-rest.md 4.5, and for BGP
// imdata_l3extLNodeP_full_subtree_bgpPeerP.json.
type relation struct {
	class, by string // the relation, and the property that holds the name
	target    string // class of the target
	reverse   string // class of the relation back, "" for one that is not modeled
	standard  string // name of the target in common for an empty name
}

func relations() []relation {
	return []relation{
		{class: aci.ClassRsEctx, by: "tnFvCtxName", target: aci.ClassVRF, reverse: "fvRtEctx", standard: "default"},
		{class: aci.ClassRsProv, by: "tnVzBrCPName", target: "vzBrCP", reverse: "vzRtProv"},
		{class: aci.ClassRsCons, by: "tnVzBrCPName", target: "vzBrCP", reverse: "vzRtCons"},
		{class: "bgpRsPeerPfxPol", by: "tnBgpPeerPfxPolName", target: "bgpPeerPfxPol", standard: "default"},
	}
}

// settle brings what the APIC derives in step with what was written: the targets of
// relations, their reverse, and the VRF number of external EPGs. It runs in the same
// transaction. unverified: a real fabric settles a moment later.
func (t *tx) settle() {
	targets := map[string]bool{} // classes of which one came or went
	for _, c := range t.changes {
		if c.op == created || c.op == deleted {
			targets[c.n.class.name] = true
		}
	}
	for _, r := range relations() {
		// Deletions append to t.changes while this loop runs over it, and so they must: the
		// reverse relation of a deleted one goes too.
		for i := 0; i < len(t.changes); i++ {
			if c := t.changes[i]; c.n.class.name == r.class {
				if c.op == deleted {
					t.unlink(c.n, r, c.n.attr("tDn"))
				} else if c.op != nothing {
					t.resolve(c.n, r)
				}
			}
		}
		if !targets[r.target] {
			continue
		}
		for _, n := range t.s.fabric.byClass[schema[r.class]] {
			if c := t.of[n]; c == nil || c.op == modified {
				t.resolve(n, r)
			}
		}
	}
	t.loopbacks()
	for i := 0; i < len(t.changes); i++ {
		switch c := t.changes[i]; {
		case c.op == deleted || c.op == nothing:
		case c.n.class.name == aci.ClassRsEctx:
			for _, k := range c.n.parent.children {
				t.scope(k)
			}
		case c.n.class.name == aci.ClassExtEPG:
			t.scope(c.n)
		}
	}
	if !targets[aci.ClassVRF] {
		return
	}
	for _, n := range t.s.fabric.byClass[schema[aci.ClassExtEPG]] {
		if c := t.of[n]; c == nil || c.op == modified {
			t.scope(n)
		}
	}
}

// loopbacks marks the BGP peers of a node profile with a node that has no loopback to peer
// from. Source: apic-rest.md 5.1. unverified: that a profile without nodes is fine.
func (t *tx) loopbacks() {
	var profiles []*node
	for _, c := range t.changes {
		n := c.n
		switch n.class.name {
		case "l3extLoopBackIfP":
			n = n.parent
		case "bgpPeerP", "l3extRsNodeL3OutAtt":
		default:
			continue
		}
		at := n.parent
		if c := t.of[at]; at.class.name == "l3extLNodeP" && (c == nil || c.op != deleted) && !slices.Contains(profiles, at) {
			profiles = append(profiles, at)
		}
	}
	for _, profile := range profiles {
		issue := ""
		for _, at := range profile.children {
			if at.class.name != "l3extRsNodeL3OutAtt" || at.attr("rtrIdLoopBack") == "yes" {
				continue
			}
			if !at.has("l3extLoopBackIfP") {
				issue = "no-loopback-configured"
			}
		}
		for _, peer := range profile.sorted() {
			if peer.class.name == "bgpPeerP" {
				t.set(peer, peer.class.find("ConfigIssues"), issue)
			}
		}
	}
}

// resolve looks up the target that n names: in its own tenant, then in common.
//
// Source: apic-rest.md 4.5. unverified: that an unresolved relation has an empty tDn.
func (t *tx) resolve(n *node, r relation) {
	rns := aci.DN(n.dn).RNs()
	name := n.attr(r.by)
	state, qual, tdn, rn := "missing-target", "none", "", ""
	switch {
	case name != "":
		rn = schema[r.target].rn(name)
		for _, tenant := range []string{rns[1], "tn-common"} {
			if target := t.s.fabric.lookup("uni", tenant, rn); target != nil {
				state, tdn = "formed", target.dn
				break
			}
		}
	case r.standard != "":
		rn, qual = schema[r.target].rn(r.standard), "default-target"
		if target := t.s.fabric.lookup("uni", "tn-common", rn); target != nil {
			state, tdn = "formed", target.dn
		}
	}
	before := n.attr("tDn")
	for k, v := range map[string]string{"state": state, "stateQual": qual, "tDn": tdn, "tRn": rn} {
		t.set(n, n.class.find(k), v)
	}
	if before != tdn {
		t.unlink(n, r, before)
	}
	t.link(n, r, tdn) // also when the target was made anew under the same DN
}

// source is the object whose relation n is.
func source(n *node) *node { return n.parent }

func (t *tx) link(n *node, r relation, target string) {
	if target == "" || r.reverse == "" {
		return
	}
	to := t.s.fabric.lookup(aci.DN(target).RNs()...)
	c := schema[r.reverse]
	rn := c.rn(source(n).dn)
	if to == nil || to.children[rn] != nil {
		return
	}
	k := t.create(to, c, rn, to.dn+"/"+rn)
	k.attrs[c.find("tCl")] = source(n).class.name
}

func (t *tx) unlink(n *node, r relation, target string) {
	if target == "" || r.reverse == "" {
		return
	}
	to := t.s.fabric.lookup(aci.DN(target).RNs()...)
	if to == nil {
		return
	}
	if k := to.children[schema[r.reverse].rn(source(n).dn)]; k != nil {
		t.drop(k)
	}
}

// scope copies the VNID of the L3Out's VRF to an external EPG, "0" while there is none.
// Source: apic-rest.md 4.5. unverified: "0".
func (t *tx) scope(epg *node) {
	if epg.class.name != aci.ClassExtEPG {
		return
	}
	v := "0"
	if rel := epg.parent.children["rsectx"]; rel != nil && rel.attr("tDn") != "" {
		if vrf := t.s.fabric.lookup(aci.DN(rel.attr("tDn")).RNs()...); vrf != nil {
			v = vrf.attr("scope")
		}
	}
	t.set(epg, epg.class.find("scope"), v)
}

// deploy lets the new external EPGs reach configSt applied after Options.DeployDelay, in a
// transaction and so an event of its own. Source: apic-rest.md 6.2 and 10.6.
func (t *tx) deploy() {
	s := (*t.s.members)[0]
	var epgs []*node
	for _, c := range t.changes {
		if c.op == created && c.n.class.name == aci.ClassExtEPG {
			epgs = append(epgs, c.n)
		}
	}
	if len(epgs) == 0 || s.opts.DeployDelay < 0 {
		return
	}
	s.after(s.opts.DeployDelay, func() {
		for _, n := range epgs { // each its own transaction, as each its own task
			late := s.begin()
			if p, err := parsePath(n.dn); err == nil && s.fabric.find(p) == n {
				late.set(n, n.class.find("configSt"), "applied")
			}
			late.commit()
		}
	})
}

// after runs f under the lock once d has passed, unless the fabric was closed. The lock
// is held.
func (s *Sim) after(d time.Duration, f func()) *time.Timer {
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.timers, timer)
		if !s.closed {
			f()
		}
	})
	s.timers[timer] = true
	return timer
}
