package apicsim

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// RaiseFault makes the faultInst at dn, or changes it, as the APIC and its leafs do, and no
// write can. attrs are attributes of it by name, nil for none; unless they say otherwise it is
// raised, and of severity minor. It stays until ClearFault, whatever prefixes collide.
//
// A fault can be where one was captured:
//
//	topology/pod-1/node-N/local/svc-policyelem-id-0/uni/epp/rtd-[DN OF EPG]/nwissues/fault-F0467
//	topology/pod-1/node-N/sys/actrl/dbgStatsReport/fault-F3544, and F3545
//
// and right below an L3Out, an external EPG, or a contract relation of one. Node N must be
// there (Options.Leafs), and so must what is below uni.
//
// Source: docs/docs/validations.md of s:preup for the DNs and texts.
func (s *Sim) RaiseFault(dn string, attrs map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := parsePath(dn)
	if err != nil {
		return fmt.Errorf("raise %s: %w", dn, err)
	}
	if at.class().name != "faultInst" {
		return fmt.Errorf("raise %s: it is the DN of no faultInst", dn)
	}
	// Below a node the way to the fault is made; elsewhere its bearer must be there.
	stands := at.parent()
	if at.rns[0] == "topology" {
		stands = path{at.classes[:3], at.rns[:3]}
	}
	if s.fabric.find(stands) == nil {
		return fmt.Errorf("raise %s: %s does not exist", dn, stands.dn())
	}
	known := s.fabric.find(at) != nil
	t := s.begin()
	n := t.makePath(at.dn())
	now := time.Now().Format(stampLayout)
	if !known {
		n.attrs[n.class.find("created")] = now
	}
	all := map[string]string{"lc": "raised", "severity": "minor", "lastTransition": now}
	maps.Copy(all, attrs)
	if err := t.state(n, all); err != nil {
		t.rollback()
		return fmt.Errorf("raise %s: %w", dn, err)
	}
	t.commit()
	s.conflicts.byHand[n.dn] = true
	return nil
}

// ClearFault lets the faultInst at dn, made by RaiseFault, be severity cleared and retained, and
// deletes it after Options.DeployDelay, unless it was raised again.
func (s *Sim) ClearFault(dn string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := parsePath(dn)
	if err != nil {
		return fmt.Errorf("clear %s: %w", dn, err)
	}
	n := s.fabric.find(at)
	if n == nil || !s.conflicts.byHand[n.dn] {
		return fmt.Errorf("clear %s: RaiseFault made no such fault", dn)
	}
	t := s.begin()
	t.transit(n, "retaining", "cleared")
	t.commit()
	first := (*s.members)[0]
	if s.opts.DeployDelay < 0 {
		return nil
	}
	first.after(s.opts.DeployDelay, func() {
		if s.fabric.find(at) != n || n.attr("lc") != "retaining" {
			return
		}
		delete(s.conflicts.byHand, n.dn)
		t := first.begin()
		t.dropFault(n)
		t.commit()
	})
	return nil
}

// SetState sets properties of the object at dn that only the APIC sets, such as configSt and
// configIssues of an external EPG, and announces it like any change.
func (s *Sim) SetState(dn string, attrs map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := parsePath(dn)
	if err != nil {
		return fmt.Errorf("set %s: %w", dn, err)
	}
	n := s.fabric.find(at)
	if n == nil || n.class.phantom {
		return fmt.Errorf("set %s: it does not exist", dn)
	}
	t := s.begin()
	if err := t.state(n, attrs); err != nil {
		t.rollback()
		return fmt.Errorf("set %s: %w", dn, err)
	}
	t.commit()
	return nil
}

// state sets read-only properties.
func (t *tx) state(n *node, attrs map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		i := n.class.find(k)
		if i < 0 || n.class.props[i].access != readOnly {
			return fmt.Errorf("%s has no property %q that only the APIC sets", n.class.name, k)
		}
		t.set(n, i, attrs[k])
	}
	return nil
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

// faultBearers is what stands between a leaf and the faults about all that it programs.
// Source: docs/docs/validations.md of s:preup, whose DN does not tell the classes.
func faultBearers() []*class {
	var list []*class
	for _, p := range []class{
		{name: "(actrl)", prefix: "actrl", parents: []string{"topSystem"}},
		{name: "(report)", prefix: "dbgStatsReport", parents: []string{"(actrl)"}},
	} {
		p.foreign, p.hidden, p.phantom = true, true, true
		list = append(list, &p)
	}
	return list
}
