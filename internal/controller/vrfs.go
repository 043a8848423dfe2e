package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// relate reads to which VRFs the L3Outs of the fabric belong, unless that is known or was found to be
// refused; once more, if it is asked to. It is needed before anything is decided: a foreign subnet in
// any L3Out of a VRF can bar an address. Safe for concurrent use; one call reads, and the others wait.
func (c *Controller) relate(ctx context.Context, again bool) error {
	select {
	case c.relating <- struct{}{}:
		defer func() { <-c.relating }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	skip := len(c.watches) == 0 || !again && c.related()
	if !skip {
		c.have.Fold(aci.Update{Kind: aci.ReadBegin, Root: aci.Universe})
	}
	c.mu.Unlock()
	if skip {
		return nil
	}
	u, err := c.apic.ReadRelations(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heed()
	if err != nil {
		c.have.Unread(aci.Universe)
		if !forGood(err) {
			return fmt.Errorf("read to which VRFs L3Outs belong: %w", err)
		}
		if !c.unrelated {
			c.log.Warn("cannot read to which VRFs L3Outs belong: what is in those that no workload names is not seen, and bars no address",
				"err", err)
		}
		c.unrelated = true
		return nil
	}
	c.unrelated = false
	c.foldRelations(u)
	if len(c.watches) == 0 { // by now
		c.forgetRelations()
		return nil
	}
	if !c.have.Related() {
		return errors.New("read to which VRFs L3Outs belong: events were lost meanwhile")
	}
	return nil
}

// related reports whether it is known of all L3Outs to which VRF they belong, as far as the user is shown
// it. Callers hold mu.
func (c *Controller) related() bool { return c.have.Related() || c.unrelated }

// foldRelations takes in a read, an event or a gap of the relations of L3Outs to VRFs. Callers hold mu.
func (c *Controller) foldRelations(u aci.Update) {
	keys := map[aci.L3Out]aci.DN{}
	for l := range c.watches {
		keys[l] = c.have.Domain(l)
	}
	c.have.Fold(u)
	for _, l := range slices.SortedFunc(maps.Keys(keys), aci.L3Out.Compare) {
		key := keys[l]
		if now := c.have.Domain(l); now != key {
			c.rehome(l, key, now)
		}
		if !c.have.Related() && c.running {
			c.queue.Add(c.have.Domain(l))
		}
	}
	for _, l := range c.have.Unclear() {
		if len(keys) > 0 {
			c.follow(l) // until it is read, and is of no use
		}
	}
	c.watchNeighbors(u)
}

// watchNeighbors watches the L3Outs that an update says to be in the VRF of one that is needed.
// Callers hold mu.
func (c *Controller) watchNeighbors(u aci.Update) {
	used := map[aci.VRF]bool{}
	for l := range c.watches {
		if v, ok := c.have.VRF(l); ok && !used[v] {
			used[v] = c.needed(l)
		}
	}
	for _, m := range u.Objects {
		l, _ := aci.L3OutOf(m.DN)
		if v, ok := c.have.VRF(l); ok && used[v] {
			c.follow(l)
		}
	}
}

// needed reports whether l is watched for its own sake: a workload names it, or something of ours is
// or was in it. Others are watched because they are in the VRF of one that is needed.
func (c *Controller) needed(l aci.L3Out) bool {
	w := c.watches[l]
	return w != nil && w.holds && !c.have.Complete(l) || c.want.NamedIn(l) || c.recorded(l) || c.have.Marked(l)
}

// overlook answers the read of an L3Out that is not needed and cannot be read: it is tried again in
// time. Callers hold mu.
func (c *Controller) overlook(l aci.L3Out, err error) {
	w := c.watches[l]
	if w == nil {
		return
	}
	if !w.denied {
		c.log.Warn("cannot read an L3Out of the VRF: what is in it is not seen, and bars no address", "dn", l.DN(), "err", err)
	}
	w.denied, w.readAt = true, time.Now().Add(c.jitter())
	c.have.Fold(aci.Update{Kind: aci.Gap, Root: l.DN()})
}

// overlooked reports whether l is not needed and may not be read: nobody waits for it.
func (c *Controller) overlooked(l aci.L3Out) bool { return c.watches[l].denied && !c.needed(l) }

// shut reports whether nothing may be decided in a domain because of l, which is in it. Callers hold mu.
func (c *Controller) shut(l aci.L3Out) bool { return !c.have.Complete(l) && !c.overlooked(l) }

// shutIn reports whether nothing may be decided in a domain. Callers hold mu.
func (c *Controller) shutIn(key aci.DN) bool {
	for l := range c.watches {
		if c.have.Domain(l) == key && c.shut(l) {
			return true
		}
	}
	return false
}

// forgetRelations ends the interest in them, when no L3Out is watched any more. Callers hold mu.
func (c *Controller) forgetRelations() {
	c.apic.Forget(aci.Universe)
	c.have.Fold(aci.Update{Kind: aci.Gap, Root: aci.Universe})
}
