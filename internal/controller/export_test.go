package controller

import "github.com/haystacknetworks/aci-sync/internal/aci"

// Remembered is how much the controller keeps in mind beside what is wanted and what is there.
func (c *Controller) Remembered() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirty := 0
	for _, d := range c.domains {
		dirty += len(d.places)
	}
	return map[string]int{
		"watches": len(c.watches), "domains": len(c.domains), "dirty": dirty, "batches": len(c.batches), "awaits": len(c.awaits),
		"refused": len(c.refused), "fights": len(c.fights), "held": len(c.held), "orphans": len(c.orphans), "later": len(c.later),
		"kept": len(c.kept), "problems": len(c.problems), "shown": len(c.shown), "seen": len(c.have.L3Outs()), "faults": len(c.faults.changed) + len(c.faults.told),
	}
}

// Withdrawn reports whether the controller still has in mind that a claim of p ended.
func (c *Controller) Withdrawn(p aci.Place) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want.Withdrawn(p)
}
