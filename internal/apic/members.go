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
//   - it is gone: no connection to it can be made, its certificate is not trusted any more, or it
//     hangs. It is left at once;
//   - it answers 5xx or breaks off, maxFailures times in a row and for at least failingFor; writes are
//     counted on their own too, since a member of a minority may answer reads.
//
// Then the next one is logged in to. Nobody goes back because an earlier one is well again: all of
// them serve the same fabric. Where all of them answer 5xx, as when the whole cluster is throttled,
// each stay is longer than the one before: going round helps nobody then, and costs logins and reads.
//
// A write that was under way when its member was left may still be carried out there, while the
// next one is read and written to. So nothing is concluded from its silence: until 90 s later it is
// unsettled (Client.Settled), and what it does in the end is news like anybody else's.
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
	since       time.Time // of the last of them
	stay        time.Time // until then the member is not left because it fails
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
	var why string
	switch {
	case o.hung:
		why = "it hangs"
	case o.status == 0 && !o.connected:
		why = "it takes no connection"
	case now.Before(h.stay): // it only fails
	case h.all.lasts(now):
		why = "it fails"
	case h.writes.lasts(now):
		why = "it takes no writes"
	}
	if why == "" || len(c.members) == 1 || now.Sub(h.since) < minStay || c.session == nil || c.session.member != member {
		return // of a login, the next one goes elsewhere anyway
	}
	moves := h.moves + 1
	*h = health{moves: moves, since: now, stay: now.Add(c.jitter.doubled(moves, minStay, maxStay))}
	c.suspect, c.session = true, nil
	c.log.Warn("apic member ails, trying the next", "apic", member.Host, "reason", why, "attempt", moves, "code", o.status)
	c.announce()
}

// leftSince reports whether a member was left since then.
func (c *Client) leftSince(then time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.health.since.Before(then)
}

// arrive takes note of a login at member. c.mu is held.
func (c *Client) arrive(member *url.URL) {
	was := c.at
	if c.at = member; was == nil || was == member {
		return
	}
	c.log.Info("apic failover", "apic", member.Host)
	if c.opts.OnFailover != nil {
		c.opts.OnFailover()
	}
}

// connecting makes a request tell when it has a connection. One that turns out to be dead is replaced by
// another, for which it is asked anew.
func connecting(ctx context.Context, connected *atomic.Bool) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { connected.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
}

// watchHang cancels ctx, of a request to member, when the member answers nothing any more. The
// function that it returns ends ctx and the watch.
func (c *Client) watchHang(ctx context.Context, member *url.URL, cancel context.CancelCauseFunc) func() {
	if len(c.members) == 1 {
		return func() { cancel(nil) } // there is no other
	}
	ended := make(chan struct{})
	t := time.AfterFunc(probeAfter, func() {
		defer close(ended)
		for first := true; first || sleep(ctx, probeAfter); first = false {
			if c.hangs(ctx, member) {
				cancel(errHangs)
			}
		}
	})
	return func() {
		cancel(nil)
		if !t.Stop() {
			<-ended
		}
	}
}

// hangs reports whether member answers nothing, asked twice. It is not known to when ctx ends.
func (c *Client) hangs(ctx context.Context, member *url.URL) bool {
	for range 2 {
		if c.alive(ctx, member) {
			return false
		}
	}
	return true
}

// probe is one question whether a member answers.
type probe struct {
	member *url.URL
	began  time.Time
	done   chan struct{} // closed when it is known, or given up
	known  bool          // whether it answers; not before
	ok     bool          // it does; not before
}

// alive asks member whether it answers, one question for all who want to know it at the same time.
// It takes no longer than probeTimeout, and says that it does when ctx ends.
func (c *Client) alive(ctx context.Context, member *url.URL) bool {
	for ctx.Err() == nil {
		c.mu.Lock()
		p := c.probe
		mine := p == nil || p.member != member || time.Since(p.began) >= probeTimeout
		if mine {
			p = &probe{member: member, began: time.Now(), done: make(chan struct{})}
			c.probe = p
		}
		c.mu.Unlock()
		if mine {
			ok := c.ask(ctx, member)
			c.mu.Lock()
			if p.ok, p.known = ok, ctx.Err() == nil; !p.known && c.probe == p {
				c.probe = nil // who asked has got his answer; the others ask anew
			}
			c.mu.Unlock()
			close(p.done)
		}
		select {
		case <-p.done:
			if p.known {
				return p.ok
			}
		case <-ctx.Done():
		}
	}
	return true
}

// ask asks member something that needs no session. Any answer will do.
func (c *Client) ask(ctx context.Context, member *url.URL) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if c.pace(ctx, c.requests) != nil {
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
