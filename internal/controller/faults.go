package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
)

// ReasonFaultRaised: the APIC says that leafs do not have what was written to the external EPG of the
// workload, although it took it.
const ReasonFaultRaised = "FaultRaised"

// faultPatience is how long a change of what is wrong with an external EPG waits to be told: leafs
// raise one after the other, and the state of an EPG passes through others after each write.
const faultPatience = 10 * time.Second

// faultWatch is what is to be done about the faults of external EPGs. The controller's mu guards all
// but news.
type faultWatch struct {
	news    chan struct{}            // holds a token when there may be something to do
	changed map[aci.ExtEPG]time.Time // EPGs whose faults changed -> when that is looked at
	told    map[aci.ExtEPG][]string  // EPGs -> codes of the faults that were told
	readAt  time.Time                // of the next read; zero for at once
	failed  int                      // reads in a row
	denied  bool                     // the user may not read them, and that was said
}

func newFaultWatch() faultWatch {
	return faultWatch{news: make(chan struct{}, 1), changed: map[aci.ExtEPG]time.Time{}, told: map[aci.ExtEPG][]string{}}
}

func (w *faultWatch) wake() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// followFaults reads the faults of leafs, again after each gap, at each resync and when that failed,
// and tells of them, until ctx ends. While no L3Out is watched it has nothing to do. Faults are for
// people: nothing is written, or not written, because of them.
func (c *Controller) followFaults(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.faults.news:
		case <-timer.C:
		}
		c.mu.Lock()
		due := len(c.watches) > 0 && !time.Now().Before(c.faults.readAt)
		c.mu.Unlock()
		if due {
			c.retryFaults(ctx, c.readFaults(ctx))
		}
		c.mu.Lock()
		next := c.tellFaultsDue(time.Now())
		if len(c.watches) > 0 {
			next = earlier(next, maxTime(c.faults.readAt, time.Now()))
		}
		c.mu.Unlock()
		if timer.Stop(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// readFaults reads the faults of leafs once.
func (c *Controller) readFaults(ctx context.Context) error {
	c.mu.Lock()
	c.faults.readAt = time.Now().Add(c.jitter()) // a gap from here on makes it earlier
	c.have.Fold(aci.Update{Kind: aci.ReadBegin, Root: aci.Topology})
	c.mu.Unlock()
	u, err := c.apic.ReadFaults(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.have.Unread(aci.Topology)
	case len(c.watches) == 0: // by now
		c.forgetFaults()
	default:
		c.foldFaults(u)
	}
	return err
}

// retryFaults sees to the next read after one that ended with err. A user who may not read faults is
// told once; rights can be given, so that it is tried again, rarely.
func (c *Controller) retryFaults(ctx context.Context, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.faults
	switch {
	case err == nil:
		w.failed, w.denied = 0, false
	case ctx.Err() != nil:
	case forGood(err):
		if !w.denied {
			c.log.Warn("cannot read the faults of leafs: only those that the APIC shows at an external EPG are told of", "err", err)
		}
		w.failed, w.denied = 0, true
	default:
		wait := min(recheckMin<<min(w.failed, 10), recheckMax)
		w.failed++
		w.readAt = time.Now().Add(wait)
		c.log.Warn("cannot read the faults of leafs, will try again", "err", err, "dur", wait, "attempt", w.failed)
	}
}

// forgetFaults ends the interest in faults of leafs, when no L3Out is watched any more. Callers hold
// mu.
func (c *Controller) forgetFaults() {
	c.apic.Forget(aci.Topology)
	c.have.ForgetFaults()
	c.faults.readAt = time.Time{}
}

// foldFaults takes in a read, an event or a gap of the faults of leafs. What is known outlives a gap,
// until the read that ends it. Callers hold mu.
func (c *Controller) foldFaults(u aci.Update) {
	c.have.Fold(u)
	c.noteFaults()
	if u.Kind == aci.Gap {
		c.faults.readAt = time.Time{}
		c.faults.wake()
	}
}

// noteFaults sets when the EPGs whose faults changed are looked at. Callers hold mu.
func (c *Controller) noteFaults() {
	for _, e := range c.have.FaultsChanged() {
		if _, waits := c.faults.changed[e]; !waits {
			c.faults.changed[e] = time.Now().Add(faultPatience)
			c.faults.wake()
		}
	}
}

// tellFaultsDue tells of the EPGs whose time has come, and returns when the next one's is; zero for
// never. Callers hold mu.
func (c *Controller) tellFaultsDue(now time.Time) time.Time {
	var next time.Time
	for _, e := range slices.SortedFunc(maps.Keys(c.faults.changed), aci.ExtEPG.Compare) {
		at := c.faults.changed[e]
		if now.Before(at) {
			next = earlier(next, at)
			continue
		}
		delete(c.faults.changed, e)
		c.tellFaults(e)
	}
	return next
}

// tellFaults makes known what is wrong with e, to all who name it, unless it is yet to be looked at.
// Callers hold mu.
func (c *Controller) tellFaults(e aci.ExtEPG) {
	if _, waits := c.faults.changed[e]; waits && !c.silent {
		return
	}
	at := origin{Place: aci.Place{ExtEPG: e}, from: apicFaults}
	faults, workloads := c.have.Faults(e), c.want.Workloads(e)
	if len(faults) == 0 || len(workloads) == 0 {
		delete(c.faults.told, e)
		c.tell(at, nil)
		return
	}
	msg := faultMessage(e, faults)
	list := make([]desired.Problem, len(workloads))
	for i, w := range workloads {
		list[i] = desired.Problem{Ref: w, Reason: ReasonFaultRaised, Message: msg}
	}
	codes := make([]string, len(faults))
	for i, f := range faults {
		codes[i] = f.Code
		if !slices.Contains(c.faults.told[e], f.Code) {
			c.tell(at, nil) // one that stands for months must not hide another: it is all told again
		}
	}
	c.faults.told[e] = codes
	c.tell(at, list)
}

func faultMessage(e aci.ExtEPG, faults []observed.Fault) string {
	parts := make([]string, len(faults))
	for i, f := range faults {
		parts[i] = f.Code
		if len(f.Leafs) > 0 {
			parts[i] += " on " + leafs(f.Leafs)
		}
		if f.Whole {
			parts[i] += ", which may be about this external EPG or others there"
		}
		if f.Text != "" {
			parts[i] += ": " + f.Text
		}
	}
	return fmt.Sprintf("%s: what the APIC took may not be on the leafs; it says %s", e, strings.Join(parts, "; "))
}

// maxLeafs is how many leafs a message names.
const maxLeafs = 4

// leafs counts leafs, and names the first of them.
func leafs(ids []int) string {
	if len(ids) == 1 {
		return "leaf " + strconv.Itoa(ids[0])
	}
	var names []string
	for _, id := range ids[:min(len(ids), maxLeafs)] {
		names = append(names, strconv.Itoa(id))
	}
	if len(ids) > maxLeafs {
		names = append(names, "…")
	}
	return fmt.Sprintf("%d leafs (%s)", len(ids), strings.Join(names, ", "))
}
