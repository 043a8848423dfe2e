package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/observed"
)

// Reasons of the condition Ready, besides those of problems.
const (
	ReasonInSync  = "InSync"
	ReasonSyncing = "Syncing" // something is on its way
	ReasonNotRead = "NotRead" // the APIC was not read, or events were lost since
	ReasonKept    = "Kept"    // no workload names it, but it stays
)

const (
	// recordPause is how long what is to be recorded waits for company.
	recordPause = 200 * time.Millisecond
	// recordEvery is how often a record is written that differs only in its status.
	recordEvery = 5 * time.Second
	// recordSpacing is between two writes of whatever records, so that churn does not flood the API
	// server: at most 20 a second.
	recordSpacing = 50 * time.Millisecond
	// lastWords bounds the records that are written at the end.
	lastWords = time.Second
)

// records is what the controller knows of the records that the cluster keeps.
type records struct {
	queue   workqueue.TypedRateLimitingInterface[aci.ExtEPG] // nil before Run, and in a dry run
	there   map[aci.ExtEPG]desired.Record                    // as the cluster holds them
	due     map[aci.ExtEPG]time.Time                         // in the queue, until then
	written map[aci.ExtEPG]time.Time                         // last
	synced  map[aci.ExtEPG]time.Time                         // when the APIC last told of something written there
	present map[aci.ExtEPG]map[netip.Prefix]struct{}         // claimed and on the fabric
	asked   map[aci.ExtEPG]string                            // what is approved and not answered yet
	answers map[aci.ExtEPG]string                            // to what was approved
	settled map[aci.ExtEPG]string                            // what was answered, while the cluster still has it as approved
	tell    map[aci.ExtEPG][]note                            // Events about what may not be recorded yet
}

func newRecords() records {
	return records{
		there: map[aci.ExtEPG]desired.Record{}, due: map[aci.ExtEPG]time.Time{}, written: map[aci.ExtEPG]time.Time{},
		synced: map[aci.ExtEPG]time.Time{}, present: map[aci.ExtEPG]map[netip.Prefix]struct{}{},
		asked: map[aci.ExtEPG]string{}, answers: map[aci.ExtEPG]string{}, settled: map[aci.ExtEPG]string{},
		tell: map[aci.ExtEPG][]note{},
	}
}

// keeps reports whether records are written.
func (c *Controller) keeps() bool { return c.opts.Records && c.writer != nil }

// Recorded takes in the record of e as the cluster holds it now, nil when it is gone. Records
// come before the objects that they tell of. Safe for concurrent use.
func (c *Controller) Recorded(e aci.ExtEPG, rec *desired.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, had := c.records.there[e]
	var t desired.Touched
	switch {
	case rec != nil:
		c.records.there[e] = *rec
		c.want.Remember(*rec)
		c.remember(e, *rec)
		if c.records.asked[e] = rec.Approved; rec.Approved == "" {
			delete(c.records.asked, e)
		}
		c.approve(e, rec.Approved)
		if was.Paused && !rec.Paused {
			c.mark(c.have.Hold(e, false))
		}
		if c.running {
			c.watch(e.L3Out) // it may have been written late, and what it tells be over: that is seen by looking
		}
	case had:
		delete(c.records.there, e)
		delete(c.records.asked, e)
		c.approve(e, "")
		t = c.want.Unremember(was)
		if c.running {
			c.mark(c.have.Unremember(e))
			c.mark(c.have.Hold(e, false))
		}
	}
	c.touched(t)
	c.recordLater(e)
	if c.running {
		c.queue.Add(c.have.Domain(e.L3Out)) // which may end the watch on its L3Out
	}
}

// remember takes a record for what is known of the fabric, once that is looked at.
func (c *Controller) remember(e aci.ExtEPG, rec desired.Record) {
	if c.watches[e.L3Out] == nil {
		return
	}
	switch {
	case rec.Managed == nil:
	case *rec.Managed:
		c.have.Remember(e, observed.Ours)
	case rec.Owner != "":
		c.have.Remember(e, observed.Other)
	default:
		c.have.Remember(e, observed.Foreign)
	}
	if rec.Paused {
		c.mark(c.have.Hold(e, true))
	}
}

// recordLater makes the record of e be compared with what is so now, in a while. Before everything is
// known nothing is recorded.
func (c *Controller) recordLater(e aci.ExtEPG) {
	if c.records.queue != nil && c.running && e != (aci.ExtEPG{}) {
		c.recordIn(e, recordPause)
	}
}

// recordIn puts e into the queue of records, unless it comes out of it before that anyway.
func (c *Controller) recordIn(e aci.ExtEPG, pause time.Duration) {
	at := time.Now().Add(pause)
	if due, ok := c.records.due[e]; ok && !at.Before(due) {
		return
	}
	c.records.due[e] = at
	c.records.queue.AddAfter(e, pause)
}

// recount keeps account of whether the address of p is claimed and on the fabric.
func (c *Controller) recount(p aci.Place) {
	if !p.Prefix.IsValid() || p.ExtEPG == (aci.ExtEPG{}) {
		return
	}
	_, there := c.have.Subnet(p)
	if there = there && c.want.Claims(p); there {
		if c.records.present[p.ExtEPG] == nil {
			c.records.present[p.ExtEPG] = map[netip.Prefix]struct{}{}
		}
		c.records.present[p.ExtEPG][p.Prefix] = struct{}{}
		return
	}
	delete(c.records.present[p.ExtEPG], p.Prefix)
	if len(c.records.present[p.ExtEPG]) == 0 {
		delete(c.records.present, p.ExtEPG)
	}
}

// keepRecords writes records until its queue is shut down, and then those that are due in the
// time that is left.
func (c *Controller) keepRecords(ctx context.Context) {
	others := map[aci.ExtEPG]string{} // those of another aci-sync -> what was logged of that
	for {
		e, down := c.records.queue.Get()
		if down {
			break
		}
		c.mu.Lock()
		delete(c.records.due, e)
		c.mu.Unlock()
		wrote, again, err := c.keepRecord(ctx, e, recordEvery)
		if err == nil {
			delete(others, e)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			if others[e] != err.Error() {
				c.log.Warn("cannot write a record, will try again", "epg", e, "err", err)
			}
			if errors.Is(err, desired.ErrOtherRecord) { // it may be for months, and nobody tells when it is no more
				others[e] = err.Error()
			}
			c.records.queue.AddRateLimited(e)
		case again > 0:
			c.mu.Lock()
			c.recordIn(e, again)
			c.mu.Unlock()
		default:
			c.records.queue.Forget(e)
		}
		c.records.queue.Done(e)
		if wrote {
			sleep(ctx, recordSpacing)
		}
	}
	c.mu.Lock()
	left := slices.SortedFunc(maps.Keys(c.records.due), aci.ExtEPG.Compare)
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for _, e := range left {
		if _, _, err := c.keepRecord(ctx, e, 0); err != nil && !errors.Is(err, desired.ErrOtherRecord) {
			c.log.Warn("cannot write a record", "epg", e, "err", err)
			return
		}
	}
}

// keepRecord writes the record of e if it differs from what the cluster holds. One that differs
// only in its status, and was written less than every ago, is due again later.
func (c *Controller) keepRecord(ctx context.Context, e aci.ExtEPG, every time.Duration) (wrote bool, again time.Duration, err error) {
	c.mu.Lock()
	there, had := c.records.there[e]
	rec, keep := c.recordOf(e)
	st := c.statusOf(e)
	answer := c.records.answers[e]
	left := time.Until(c.records.written[e].Add(every))
	tell := len(c.records.tell[e]) > 0
	c.mu.Unlock()
	if answer != "" && had {
		if err := c.cluster.Answer(ctx, e, answer); err != nil {
			return true, 0, err
		}
		c.mu.Lock()
		delete(c.records.answers, e)
		c.mu.Unlock()
	}
	switch {
	case !keep && !had:
		return false, 0, nil
	case !keep:
		err = c.cluster.Forget(ctx, e)
	case had && rec.Equal(there) && left > 0 && !tell:
		return false, left, nil
	default:
		err = c.cluster.Record(ctx, rec, st)
	}
	if err != nil {
		return true, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.records.tell[e] {
		c.cluster.Note(desired.RefOf(e), true, n.reason, n.message)
	}
	delete(c.records.tell, e)
	if c.records.written[e] = time.Now(); !keep {
		delete(c.records.written, e)
		delete(c.records.synced, e)
	}
	return true, 0, nil
}

// recordOf is what is to be remembered of e; false when nothing is.
func (c *Controller) recordOf(e aci.ExtEPG) (desired.Record, bool) {
	there := c.records.there[e]
	rec := desired.Record{EPG: e, Members: c.want.Members(e), Managed: there.Managed, Owner: there.Owner, Paused: c.have.Held(e)}
	last, by, known := c.have.Standing(e)
	if known {
		rec.Managed = nil
		if by != "" || last != observed.Other {
			rec.Owner = by
		}
		if last != observed.Never {
			ours := last == observed.Ours
			rec.Managed = &ours
		}
	}
	_, exists := c.have.ExtEPG(e)
	wasOurs := there.Managed != nil && *there.Managed
	keep := len(rec.Members) > 0 || rec.Paused || !known && wasOurs || exists && (last == observed.Ours || c.have.HoldsOurs(e))
	return rec, keep
}

// statusOf is how things stand in e.
func (c *Controller) statusOf(e aci.ExtEPG) desired.Status {
	st := desired.Status{
		Desired: c.want.Count(e), Present: len(c.records.present[e]), Synced: c.records.synced[e],
		Problems: c.conditions(e),
	}
	standing := slices.DeleteFunc(slices.Clone(st.Problems), func(q desired.Condition) bool { return remark(q.Reason) })
	_, exists := c.have.ExtEPG(e)
	switch {
	case len(standing) > 0:
		st.Ready = standing[0]
		st.Ready.True = false
	case !c.have.Complete(e.L3Out):
		st.Ready = desired.Condition{Unknown: true, Reason: ReasonNotRead, Message: fmt.Sprintf("L3Out %s is not read yet", e.L3Out)}
	case st.Present < st.Desired:
		st.Ready = desired.Condition{Reason: ReasonSyncing, Message: fmt.Sprintf("%d of %d subnets are on the APIC", st.Present, st.Desired)}
	case !exists:
		st.Ready = desired.Condition{Reason: ReasonSyncing, Message: "the external EPG is not on the APIC yet"}
	default:
		st.Ready = desired.Condition{True: true, Reason: ReasonInSync, Message: "every claimed subnet is on the APIC"}
	}
	return st
}

// remark reports whether a problem does not stand in the way of its external EPG.
func remark(reason string) bool {
	return reason == desired.ReasonHostNetwork || reason == desired.ReasonNotExposed || reason == ReasonCapacityNear
}

// maxNamed is how many workloads a condition names.
const maxNamed = 50

// conditions are the problems of all workloads whose target is e, by reason, and why it stays
// although nobody names it.
func (c *Controller) conditions(e aci.ExtEPG) []desired.Condition {
	messages := map[string]map[string][]string{} // reason -> message -> workloads
	for _, w := range c.want.Workloads(e) {
		for o := range c.origins[w] {
			for _, q := range c.problems[o] {
				if q.Ref != w {
					continue
				}
				if messages[q.Reason] == nil {
					messages[q.Reason] = map[string][]string{}
				}
				if list := messages[q.Reason][q.Message]; !slices.Contains(list, w.String()) {
					messages[q.Reason][q.Message] = append(list, w.String())
				}
			}
		}
	}
	if n := len(c.held[e]); n > 0 {
		messages[ReasonOrphansHeld] = map[string][]string{fmt.Sprintf("%d %s", n, heldMessage): nil}
	}
	if why := c.kept[e]; why != "" {
		messages[ReasonKept] = map[string][]string{"no workload names it any more; it stays because of " + why: nil}
	}
	if near := c.crowded(e); len(near) > 0 {
		messages[ReasonCapacityNear] = map[string][]string{strings.Join(near, "; "): nil}
	}
	var out []desired.Condition
	for _, reason := range slices.Sorted(maps.Keys(messages)) {
		var lines []string
		named := 0
		for _, m := range slices.Sorted(maps.Keys(messages[reason])) {
			who := messages[reason][m]
			if named += len(who); named > maxNamed {
				lines = append(lines, fmt.Sprintf("and more, %d workloads in all", len(c.want.Workloads(e))))
				break
			}
			if len(who) > 0 {
				m = strings.Join(who, ", ") + ": " + m
			}
			lines = append(lines, m)
		}
		out = append(out, desired.Condition{Reason: reason, Message: strings.Join(lines, "; "), True: true})
	}
	return out
}
