package controller

import (
	"fmt"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// ReasonDriftFight: somebody keeps changing or deleting on the APIC what aci-sync puts back.
const ReasonDriftFight = "DriftFight"

const (
	// fightCount times within fightWindow an object is put back at once; after that somebody
	// means it, and it is put back ever more slowly.
	fightCount  = 3
	fightWindow = time.Minute
	// fightMin and fightMax bound how long the next time waits; each doubles the one before.
	fightMin, fightMax = 20 * time.Second, 10 * time.Minute
)

// fight is an object that was put back lately.
type fight struct {
	backs []time.Time   // the last fightCount times
	wait  time.Duration // before the next time; 0 while it is no fight
}

func (f *fight) last() time.Time { return f.backs[len(f.backs)-1] }

// until is when the object may be put back again, or earlier than now.
func (f *fight) until() time.Time { return f.last().Add(f.wait) }

// over is when it is forgotten, unless it is put back once more: as much time again has passed
// in peace as was waited.
func (f *fight) over() time.Time { return f.last().Add(max(2*f.wait, fightWindow)) }

// putBack reports whether ch restores what somebody changed or deleted.
func putBack(ch plan.Change) bool {
	return ch.Reason == plan.Restored || ch.Reason == plan.Drifted || ch.Reason == plan.Unmarked
}

// fought notes a change that was made. The third in a minute that puts the same object back
// begins a fight, of which its workloads are told.
func (c *Controller) fought(ch plan.Change, now time.Time) {
	if !putBack(ch) {
		return
	}
	f := c.fights[ch.Place]
	if f == nil {
		f = &fight{}
		c.fights[ch.Place] = f
	}
	if f.backs = append(f.backs, now); len(f.backs) > fightCount {
		f.backs = f.backs[1:]
	}
	switch {
	case f.wait > 0:
		f.wait = min(2*f.wait, fightMax)
	case len(f.backs) == fightCount && now.Sub(f.backs[0]) <= fightWindow:
		f.wait = fightMin
		var list []desired.Problem
		for _, w := range ch.For {
			list = append(list, desired.Problem{Ref: w, Reason: ReasonDriftFight, Message: fmt.Sprintf(
				"%s is changed or deleted on the APIC again and again; it is put back ever more slowly", ch.DN)})
		}
		c.tell(origin{Place: ch.Place, from: fights}, list)
	}
}

// truce reports whether ch puts back what is fought over and must wait; it comes back by itself.
func (c *Controller) truce(ch plan.Change, now time.Time) bool {
	f := c.fights[ch.Place]
	if f == nil || !putBack(ch) || !now.Before(f.until()) {
		return false
	}
	c.later[ch.Place] = f.until()
	return true
}

// endFights forgets the fights of a domain that are over, and returns when the next one is;
// zero for never.
func (c *Controller) endFights(key aci.DN, now time.Time) time.Time {
	var next time.Time
	for p, f := range c.fights {
		switch {
		case c.have.Domain(p.L3Out) != key:
		case now.Before(f.over()):
			next = earlier(next, f.over())
		default:
			delete(c.fights, p)
			c.tell(origin{Place: p, from: fights}, nil)
		}
	}
	return next
}
