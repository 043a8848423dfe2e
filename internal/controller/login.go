package controller

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// diff compares places of a domain, as the APIC that answers now allows. Callers hold mu.
func (c *Controller) diff(key aci.DN, places []aci.Place) plan.Plan {
	c.heed()
	policy := c.opts.Policy
	policy.Guard.Unsettled = time.Now().Before(c.unsettled) || c.seeking || c.readsOn()
	p := plan.Diff(c.want, c.have, policy, key, places)
	if c.news(p.Orphaned) && !policy.Guard.Unsettled {
		policy.Guard.Unsettled = true
		p = plan.Diff(c.want, c.have, policy, key, places)
	}
	return p
}

// heed takes in what the APIC said at the newest login, if that is news. It is asked after each
// read and before each comparison: a fail-over can lead to another version, a login to other
// rights. Callers hold mu.
func (c *Controller) heed() {
	l, known := c.apic.Login()
	if !known || c.heeded && l.Equal(c.login) {
		return
	}
	old, first := c.login, !c.heeded
	c.login, c.heeded = l, true
	if first || l.Version != old.Version {
		c.heedVersion(old.Version)
	}
	if first || !l.SameRights(old) {
		c.heedRights(old)
	}
}

func (c *Controller) heedVersion(old string) {
	now := c.login.Version
	c.opts.Policy.APIC = now
	_, known := aci.ParseVersion(now)
	switch {
	case aci.TooOld(now):
		c.log.Error("the APIC is too old, nothing is written", "version", now, "err", "release "+aci.MinVersion+" or newer is needed")
	case !known:
		c.log.Warn("the APIC does not tell a release that is understood, taking it for new enough", "version", now)
	case aci.TooOld(old):
		c.log.Info("the APIC is new enough, writing again", "version", now)
	}
	if c.running && aci.TooOld(now) != aci.TooOld(old) {
		c.mark([]aci.Place{{}})
	}
}

func (c *Controller) heedRights(old aci.Login) {
	if !c.login.ReadsAll() {
		c.log.Warn("the user is not known to read the whole fabric: what is ours and not shown stays, unless a workload names its L3Out; "+
			"of faults on leafs those may be missed that no external EPG shows", "reason", domains(c.login))
	}
	if !c.running {
		return
	}
	for _, l := range c.list() {
		w := c.watches[l]
		if w.denied || old.MayRead(l.DN()) != c.login.MayRead(l.DN()) {
			w.readAt = time.Now()
			c.hurry(l)
		}
	}
	select {
	case c.rights <- struct{}{}:
	default:
	}
	c.faults.readAt = time.Time{}
	c.faults.wake()
}

func domains(l aci.Login) string {
	if l.Domains == nil {
		return "the login tells no security domains"
	}
	return "security domains: " + cmp.Or(strings.Join(l.Domains, ", "), "none")
}

// hurry ends the backoff of the domain of l: there is reason to think that a read works now.
func (c *Controller) hurry(l aci.L3Out) {
	key := c.have.Domain(l)
	d := c.domain(key)
	d.failures, d.notBefore = 0, time.Time{}
	c.queue.Add(key)
}

// errNotShown: an empty answer about what the login says the user may not read. It does not mean
// that there is nothing.
var errNotShown = errors.New("the user may not read it")

// denied reports whether a read failed because of the user's rights.
func denied(err error) bool { return errors.Is(err, errNotShown) || answered(err, 403) }

// answered reports whether the APIC answered a read with an error of this HTTP status, in a session
// that is good. The WebSocket is not that: what it is refused for is the token.
func answered(err error, status int) bool {
	answer, ok := errors.AsType[*aci.Error](err)
	return ok && answer.Status == status && answer.Op != "socket" && !errors.Is(err, aci.ErrSession)
}

// notShown answers the read of an L3Out that the user may not read: what was known of it is not
// complete any more, and those who name it are told. Its domain stays shut, since nobody knows
// what addresses are there.
func (c *Controller) notShown(l aci.L3Out, err error) {
	w := c.watches[l]
	if w == nil {
		return
	}
	w.denied = true
	c.have.Fold(aci.Update{Kind: aci.Gap, Root: l.DN()})
	why := domains(c.login)
	if answer, ok := errors.AsType[*aci.Error](err); ok {
		why = answer.Text
	}
	for _, e := range c.want.EPGs() {
		if e.L3Out != l {
			continue
		}
		var problems []desired.Problem
		for _, to := range c.want.Workloads(e) {
			problems = append(problems, desired.Problem{Ref: to, Reason: ReasonNotReadable, Message: fmt.Sprintf(
				"%s: the APIC user may not read the L3Out %s, so that nothing is known of it and nothing is written (%s)", e, l, why)})
		}
		c.tell(origin{Place: aci.Place{ExtEPG: e}}, problems)
	}
	for o := range c.problems {
		if o == (origin{Place: o.Place}) && !o.Prefix.IsValid() && o.L3Out == l && !c.want.Named(o.ExtEPG) {
			c.tell(o, nil)
		}
	}
}
