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
)

// ReasonCapacityNear: the fabric has almost no room left for what the external EPG is made of, or none.
const ReasonCapacityNear = "CapacityNear"

// Capacity is how much there may be of what a fabric has room for, whoever made it; 0 is no limit.
type Capacity struct{ EPGsPerL3Out, EPGsPerFabric, SubnetsPerVRF int }

// What there is a limit of, by the names of --capacity and of metrics.
const (
	kindL3Out  = "epgs-per-l3out"
	kindFabric = "epgs-per-fabric"
	kindVRF    = "subnets-per-vrf"
)

// DefaultCapacity is what Cisco has verified. Each prefix of a VRF is one LPM entry of every leaf that the
// VRF is on, and 20,000 is what a leaf holds of IPv4 in its default profile.
//
// Source: apic-rest.md 8.
func DefaultCapacity() Capacity {
	return Capacity{EPGsPerL3Out: 250, EPGsPerFabric: 600, SubnetsPerVRF: 20000}
}

// ParseCapacity reads KIND=LIMIT pairs; what is not among them has its default.
func ParseCapacity(list []string) (Capacity, error) {
	c := DefaultCapacity()
	for _, s := range list {
		kind, value, ok := strings.Cut(s, "=")
		limit := c.of(kind)
		if !ok || limit == nil {
			return c, fmt.Errorf("%q is not %s=N, %s=N or %s=N", s, kindL3Out, kindFabric, kindVRF)
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return c, fmt.Errorf("%q: %q is not a number; 0 is no limit", s, value)
		}
		*limit = n
	}
	return c, nil
}

// Strings are what ParseCapacity makes c of.
func (c Capacity) Strings() []string {
	var out []string
	for _, kind := range []string{kindL3Out, kindFabric, kindVRF} {
		out = append(out, fmt.Sprintf("%s=%d", kind, *c.of(kind)))
	}
	return out
}

// of is the limit of a kind, nil of another word.
func (c *Capacity) of(kind string) *int {
	switch kind {
	case kindL3Out:
		return &c.EPGsPerL3Out
	case kindFabric:
		return &c.EPGsPerFabric
	case kindVRF:
		return &c.SubnetsPerVRF
	}
	return nil
}

// A room is called near its limit from warnPercent of it on, and until there is less than calmPercent: what
// comes and goes at the edge is told once.
const warnPercent, calmPercent = 80, 75

// near reports whether used is near limit, as it was or was not before.
func near(was bool, used, limit int) bool {
	percent := warnPercent
	if was {
		percent = calmPercent
	}
	return used*100 >= limit*percent
}

// capacityPatience is how long what changes waits to be counted: what moves is in two places for a moment.
const capacityPatience = 10 * time.Second

// room is what there is a limit of: in an L3Out, in a VRF, or in the fabric.
type room struct{ kind, scope string }

// String says what it is a room for.
func (r room) String() string {
	switch r.kind {
	case kindL3Out:
		return "external EPGs of the L3Out " + r.scope
	case kindVRF:
		return "subnets of the VRF " + r.scope
	}
	return "external EPGs of the fabric"
}

// capacityWatch is what is to be counted, and what was told. The controller's mu guards all but news.
type capacityWatch struct {
	news    chan struct{}     // holds a token when there may be something to do
	judgeAt time.Time         // when it is looked at; zero while nothing changed
	readAt  time.Time         // when the EPGs of the fabric are counted next; zero for at once
	failed  int               // counts in a row
	denied  bool              // they may not be counted, and that was said
	fabric  int               // as counted last; -1 while it is not known
	near    map[room]struct{} // told
}

func newCapacityWatch() capacityWatch {
	return capacityWatch{news: make(chan struct{}, 1), fabric: -1, near: map[room]struct{}{}}
}

// outgrows makes it be looked at, in a while, how much room is left. Callers hold mu.
func (c *Controller) outgrows() {
	if w := &c.capacity; c.opts.Capacity != (Capacity{}) && w.judgeAt.IsZero() {
		w.judgeAt = time.Now().Add(capacityPatience)
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// followCapacity tells when something is near its limit, until ctx ends. What is in an L3Out, and in those
// of its VRF, is known; of the fabric it is counted at each resync. It is for people: nothing is written,
// or not written, because of it.
func (c *Controller) followCapacity(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.capacity.news:
		case <-timer.C:
		}
		c.mu.Lock()
		counts := c.opts.Capacity.EPGsPerFabric > 0 && len(c.watches) > 0
		due := counts && !time.Now().Before(c.capacity.readAt)
		c.mu.Unlock()
		if due {
			c.countEPGs(ctx)
		}
		c.mu.Lock()
		next := c.judgeCapacity(time.Now())
		if counts {
			next = earlier(next, c.capacity.readAt)
		}
		c.mu.Unlock()
		if timer.Stop(); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// countEPGs counts the external EPGs of the fabric. When that fails it is not known how many there are,
// which is not few.
func (c *Controller) countEPGs(ctx context.Context) {
	n, err := c.apic.CountEPGs(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &c.capacity
	w.readAt = time.Now().Add(c.jitter())
	switch {
	case err == nil:
		w.fabric, w.failed, w.denied = n, 0, false
	case ctx.Err() != nil:
		return
	case forGood(err):
		if !w.denied {
			c.log.Warn("cannot count the external EPGs of the fabric: it is not told when they are near their limit", "err", err)
		}
		w.fabric, w.failed, w.denied = -1, 0, true
	default:
		wait := min(recheckMin<<min(w.failed, 10), recheckMax)
		w.readAt = time.Now().Add(wait)
		w.failed++
		w.fabric = -1
		c.log.Warn("cannot count the external EPGs of the fabric, will try again", "err", err, "dur", wait, "attempt", w.failed)
	}
	c.outgrows()
}

// usage is how much there is of all that is limited, as far as it is known: of what L3Outs that are needed
// hold, of their VRFs, and of the fabric. Callers hold mu.
func (c *Controller) usage() map[room]int {
	used := map[room]int{}
	inVRF := map[aci.VRF]int{}
	needs := map[aci.VRF]bool{}
	known := 0
	for l, w := range c.watches {
		if w.lastRead.IsZero() || w.denied {
			continue
		}
		epgs, subnets := c.have.Count(l)
		known += epgs
		v, related := c.have.VRF(l)
		inVRF[v] += subnets
		if !c.needed(l) {
			continue
		}
		needs[v] = needs[v] || related
		if c.opts.Capacity.EPGsPerL3Out > 0 {
			used[room{kindL3Out, l.String()}] = epgs
		}
	}
	for v, yes := range needs {
		if yes && c.opts.Capacity.SubnetsPerVRF > 0 {
			used[room{kindVRF, v.String()}] = inVRF[v]
		}
	}
	if c.opts.Capacity.EPGsPerFabric > 0 && c.capacity.fabric >= 0 {
		used[room{kindFabric, "fabric"}] = max(c.capacity.fabric, known) // some may have come since they were counted
	}
	return used
}

// judgeCapacity tells what came near its limit, and forgets what is not near it any more, if it is time for
// that; it returns when it is, zero for when something changes. Callers hold mu.
func (c *Controller) judgeCapacity(now time.Time) time.Time {
	w := &c.capacity
	if w.judgeAt.IsZero() || now.Before(w.judgeAt) {
		return w.judgeAt
	}
	w.judgeAt = time.Time{}
	used := c.usage()
	rooms := maps.Clone(w.near)
	for r := range used {
		rooms[r] = struct{}{}
	}
	for _, r := range slices.SortedFunc(maps.Keys(rooms), func(a, b room) int { return strings.Compare(a.kind+a.scope, b.kind+b.scope) }) {
		_, was := w.near[r]
		n, known := used[r]
		limit := *c.opts.Capacity.of(r.kind)
		is := known && near(was, n, limit) || !known && r.kind == kindFabric && was
		if is == was {
			continue
		}
		concerned := c.concerned(r)
		if delete(w.near, r); is {
			w.near[r] = struct{}{}
			msg := fmt.Sprintf("%d %s are there, and there may be %d (--capacity)", n, r, limit)
			if len(concerned) > 0 {
				c.about(concerned[0], ReasonCapacityNear, msg) // the first speaks for all
			}
		}
		for _, e := range concerned {
			c.recordLater(e)
		}
	}
	return time.Time{}
}

// concerned are the external EPGs with a record, or a workload, that are in a room; sorted. Callers hold mu.
func (c *Controller) concerned(r room) []aci.ExtEPG {
	in := map[aci.ExtEPG]struct{}{}
	for _, e := range c.want.EPGs() {
		if c.in(r, e) {
			in[e] = struct{}{}
		}
	}
	for e := range c.records.there {
		if c.in(r, e) {
			in[e] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(in), aci.ExtEPG.Compare)
}

// in reports whether e takes room in r. Callers hold mu.
func (c *Controller) in(r room, e aci.ExtEPG) bool {
	switch r.kind {
	case kindL3Out:
		return e.L3Out.String() == r.scope
	case kindVRF:
		v, ok := c.have.VRF(e.L3Out)
		return ok && v.String() == r.scope
	}
	return true
}

// crowded is what is told of e for as long as something that it is part of is near its limit: without a
// number that would change with every Pod. Callers hold mu.
func (c *Controller) crowded(e aci.ExtEPG) []string {
	var out []string
	for r := range c.capacity.near {
		if c.in(r, e) {
			out = append(out, fmt.Sprintf("little room is left, or none: there may be %d %s (--capacity)", *c.opts.Capacity.of(r.kind), r))
		}
	}
	slices.Sort(out)
	return out
}
