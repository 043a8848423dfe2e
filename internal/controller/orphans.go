package controller

import (
	"maps"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// ReasonOrphansHeld: objects of ours that nobody claims, and whose claim was not seen to end, are so
// many that a person is to look first.
const ReasonOrphansHeld = "OrphansHeld"

// heldPause is when what is held is looked at again: claims may have returned, so that it is not so
// much any more.
const heldPause = 30 * time.Second

// tellPause is how long after the last object that a list missed, or that an APIC has again, nothing is
// deleted for that. Both are told object by object, in much less than a second; on a machine that is busy
// it may take longer.
const tellPause = 5 * time.Second

// tellLimit is how long such a wait lasts at most, if ever more is told.
const tellLimit = 5 * time.Minute

// settlesLater begins or prolongs the wait until all of that is told. Callers hold mu.
func (c *Controller) settlesLater() {
	now := time.Now()
	if now.After(c.unsettled) {
		c.unsettledAt = now
	}
	c.unsettled = earlier(now.Add(tellPause), c.unsettledAt.Add(tellLimit))
}

// readsOn reports whether something that is watched is still to be read, so that not all is known of what
// bears our mark. What the user may not read is not waited for. Callers hold mu.
func (c *Controller) readsOn() bool {
	for l, w := range c.watches {
		if !c.have.Complete(l) && !w.denied {
			return true
		}
	}
	return false
}

// news notes what became an orphan since everything was read, and reports whether something did: more
// may be about to. Callers hold mu.
func (c *Controller) news(orphaned []aci.Place) bool {
	found := false
	for _, p := range orphaned {
		if _, known := c.orphans[p]; !known {
			c.orphans[p] = struct{}{}
			found = true
		}
	}
	if found {
		c.settlesLater()
	}
	if found && !c.silent { // an APIC that was rolled back may have more where nobody looks any more
		c.seeking = true
		c.seekMarks()
	}
	return found
}

// seekMarks has marked objects looked for fabric-wide now.
func (c *Controller) seekMarks() {
	select {
	case c.seek <- struct{}{}:
	default:
	}
}

// sought notes that marked objects were looked for, unless orphans turned up meanwhile, and reports whether that must
// be done again although nobody asked.
func (c *Controller) sought(done bool) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.seeking || len(c.seek) > 0 {
		return false
	}
	c.seeking = !done
	return c.seeking
}

// hold keeps account of the deletions that wait at places, for a person or until all is told, and tells
// of an external EPG in which none waited for a person. Callers hold mu.
func (c *Controller) hold(places map[aci.Place]struct{}, held []plan.Held, unsettled, orphaned []aci.Place) {
	still, orphans := map[aci.Place]bool{}, map[aci.Place]bool{}
	for _, p := range orphaned {
		orphans[p] = true
	}
	for _, p := range unsettled {
		still[p] = true
		c.later[p] = maxTime(c.unsettled, time.Now().Add(tellPause/5))
	}
	for _, h := range held {
		still[h.Place] = true
	}
	for p := range places {
		if !orphans[p] {
			delete(c.orphans, p)
		}
		if e := p.ExtEPG; c.held[e] != nil && !still[p] {
			maps.DeleteFunc(c.held[e], func(_ aci.DN, q aci.Place) bool { return q == p })
			if len(c.held[e]) == 0 {
				delete(c.held, e)
			}
			c.recordLater(e)
		}
	}
	for _, h := range held {
		e := h.Place.ExtEPG
		if c.held[e] == nil {
			c.held[e] = map[aci.DN]aci.Place{}
			c.about(e, ReasonOrphansHeld, heldMessage)
			c.recordLater(e)
		}
		c.held[e][h.DN] = h.Place
		c.later[h.Place] = time.Now().Add(heldPause)
	}
}

const heldMessage = "objects that bear the mark of this cluster and that no workload claims are kept: they are many, and nothing " +
	"explains why they are not claimed; aci-sync prune shows and deletes them"

// about tells of something that concerns an external EPG and no workload: an Event on its ExternalEPG.
func (c *Controller) about(e aci.ExtEPG, reason, message string) {
	if c.silent {
		return
	}
	c.log.Error("a person is needed", "epg", e, "reason", reason, "err", message)
	if !c.keeps() {
		return
	}
	c.records.tell[e] = append(c.records.tell[e], note{reason, message}) // once it is there
}

// note is an Event that is to be recorded.
type note struct{ reason, message string }
