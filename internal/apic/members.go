package apic

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// A session stays at the member that made it until that member ails:
//   - no connection to it can be made, or it hangs: at once;
//   - it answers 5xx or breaks off, maxFailures times in a row and for at least failingFor; writes are
//     counted on their own too, since a member of a minority may answer reads.
//
// Then the next one is logged in to. Nobody goes back because an earlier one is well again: all of
// them serve the same fabric. Where all of them ail, each stay is longer than the one before.
const (
	maxFailures = 3
	failingFor  = 5 * time.Second

	minStay = 5 * time.Second
	maxStay = 5 * time.Minute
	// stayMemory is how long all must be well until stays are short again.
	stayMemory = 10 * time.Minute

	// A request that is not answered within probeAfter makes the client ask the member something
	// that costs nothing, on a connection of its own. No answer to that within probeTimeout, twice,
	// means that it hangs: that is 20 s. A read of much may well take longer than probeAfter.
	probeAfter   = 10 * time.Second
	probeTimeout = 5 * time.Second
	probePath    = "/api/aaaListDomains.json"
)

var errHangs = errors.New("the APIC member answers nothing any more")

// outcome is what became of a request.
type outcome struct {
	status    int  // of the answer; 0 for none
	connected bool // it got to a connection
	hung      bool // and the member answers nothing at all
	write     bool
}

func (o outcome) failed() bool { return o.status == 0 || o.status >= http.StatusInternalServerError }

// failing counts failures in a row.
type failing struct {
	times int
	since time.Time // of the first of them
}

func (f *failing) note(failed bool, now time.Time) {
	switch {
	case !failed:
		*f = failing{}
	case f.times == 0:
		*f = failing{1, now}
	default:
		f.times++
	}
}

// lasts reports whether it is more than bad luck.
func (f *failing) lasts(now time.Time) bool {
	return f.times >= maxFailures && now.Sub(f.since) >= failingFor
}

// health is how the present member does. Client.mu guards it.
type health struct {
	all, writes failing
	moves       int       // to other members lately
	stay        time.Time // until then the member is not left
}

// judge takes note of how member answered a request, and leaves it when it ails.
func (c *Client) judge(member *url.URL, s *session, o outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judgeSession(s, o.status)
	if member != c.members[c.member] {
		return
	}
	now, h := time.Now(), &c.health
	c.suspect = o.failed()
	h.all.note(o.failed(), now)
	if o.write {
		h.writes.note(o.failed(), now)
	}
	if !o.failed() && now.Sub(h.stay) > stayMemory {
		h.moves = 0
	}
	ails := o.hung || o.status == 0 && !o.connected || h.all.lasts(now) || h.writes.lasts(now)
	if !ails || len(c.members) == 1 || now.Before(h.stay) || c.session == nil || c.session.member != member {
		return // of a login, the next one goes elsewhere anyway
	}
	moves := h.moves + 1
	*h = health{moves: moves, stay: now.Add(doubled(moves, minStay, maxStay))}
	c.suspect, c.session = true, nil
	c.log.Warn("apic member ails, trying the next", "apic", member.Host, "attempt", moves, "code", o.status)
	c.announce()
}

// connecting makes a request tell when it has a connection.
func connecting(ctx context.Context, connected *atomic.Bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
}

// watchHang cancels ctx, of a request to member, when the member answers nothing any more. The
// function that it returns ends the watch.
func (c *Client) watchHang(ctx context.Context, member *url.URL, cancel context.CancelCauseFunc) func() {
	if len(c.members) == 1 {
		return func() {} // there is no other
	}
	t := time.AfterFunc(probeAfter, func() {
		for first := true; first || sleep(ctx, probeAfter); first = false {
			if !c.alive(ctx, member) && !c.alive(ctx, member) {
				cancel(errHangs)
			}
		}
	})
	return func() { t.Stop() }
}

// probe is one question whether a member answers.
type probe struct {
	member *url.URL
	began  time.Time
	done   chan struct{} // closed when it is known
	ok     bool          // not before
}

// alive asks member whether it answers, for all who want to know it at the same time.
func (c *Client) alive(ctx context.Context, member *url.URL) bool {
	c.mu.Lock()
	p := c.probe
	if p == nil || p.member != member || time.Since(p.began) >= probeTimeout {
		p = &probe{member: member, began: time.Now(), done: make(chan struct{})}
		c.probe = p
		go func() { // ends within probeTimeout
			defer close(p.done)
			p.ok = c.ask(context.WithoutCancel(ctx), member)
		}()
	}
	c.mu.Unlock()
	select {
	case <-p.done:
		return p.ok
	case <-ctx.Done():
		return true
	}
}

// ask asks member something that needs no session. Any answer will do.
func (c *Client) ask(ctx context.Context, member *url.URL) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if c.requests.Wait(ctx) != nil {
		return true // too much is asked as it is
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, member.JoinPath(probePath).String(), http.NoBody)
	if err != nil {
		return true
	}
	req.Close = true
	start, status := time.Now(), 0
	resp, err := c.prober.Do(req)
	if err == nil {
		status = resp.StatusCode
		_ = resp.Body.Close()
	}
	if c.opts.OnRequest != nil {
		c.opts.OnRequest("probe", status, time.Since(start))
	}
	return err == nil
}
