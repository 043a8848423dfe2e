package apic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

const (
	loginPath  = "/api/aaaLogin.json"
	logoutPath = "/api/aaaLogout.json"
)

// session is what a login or a refresh gave. It is never changed: a refresh makes a new
// one with the same login number. Token, WebSocket and subscriptions belong to one member.
type session struct {
	login  uint64 // number of the login it descends from
	member *url.URL
	token  aci.Secret

	start     time.Time     // of the login
	end       time.Time     // of its life, whatever is refreshed; zero when the APIC named none
	refreshed time.Time     // when the token was made
	lifetime  time.Duration // of the token

	said aci.Login
	node aci.DN // of the member, such as "topology/pod-1/node-1"; empty when it did not say
}

// over reports whether the APIC is known to refuse s.
func (s *session) over(now time.Time) bool {
	return !now.Before(s.refreshed.Add(s.lifetime)) || s.ended(now)
}

// ended reports whether the life of s is at its end.
func (s *session) ended(now time.Time) bool { return !s.end.IsZero() && !now.Before(s.end) }

// nextRefresh is when to refresh s: after half to two thirds of the token's lifetime, or a
// little before the session ends.
func (s *session) nextRefresh() time.Time {
	t := s.refreshed.Add(jitter(s.lifetime/2, s.lifetime*2/3))
	if !s.end.IsZero() && s.renewal().Before(t) {
		return s.renewal()
	}
	return t
}

// renewal is when to log in anew because the life of s ends.
func (s *session) renewal() time.Time {
	return s.end.Add(-min(time.Minute, s.end.Sub(s.start)/20))
}

// jitter is a random duration from lo up to hi.
func jitter(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + rand.N(hi-lo)
}

// Backoff of logins and of the WebSocket: from 1 s, doubling, up to 30 s; of refused
// credentials from 2 min up to 30 min, so that an APIC that locks accounts after a few
// failures within minutes does not lock this one.
const (
	minBackoff        = time.Second
	maxBackoff        = 30 * time.Second
	minRefusedBackoff = 2 * time.Minute
	maxRefusedBackoff = 30 * time.Minute
)

// doubled is lo after the first failure, twice that after the second, at most hi; with a
// quarter of jitter on top.
func doubled(failures int, lo, hi time.Duration) time.Duration {
	d := lo << min(max(failures-1, 0), 16)
	d = min(d, hi)
	return jitter(d, d+d/4)
}

// loginBackoff says until when nobody logs in.
type loginBackoff struct {
	until    time.Time
	err      error      // of the last login, for those who ask meanwhile; nil when all is well
	failures int        // since the last login that worked
	refused  int        // those of them that were for the credentials
	password aci.Secret // that was refused
	useless  int        // logins that worked while the session was refused nevertheless
}

var errClosed = errors.New("the APIC client has ended")

// login returns a session other than stale, which may be nil: the present one, or that of
// a new login. At most one login or refresh is under way; the others wait for it and share
// what comes of it. A member that gives no session sends it on to the next, until all were asked.
// While logins back off it returns the last error at once.
//
// It returns an error with aci.ErrSession when the APIC refuses the credentials.
func (c *Client) login(ctx context.Context, stale *session) (*session, error) {
	for asked := 1; ; asked++ {
		s, err := c.replace(ctx, stale, c.logIn)
		if err == nil || asked >= len(c.members) || ctx.Err() != nil {
			return s, err
		}
	}
}

// replace returns the present session if it is usable and not stale; else the one that f
// makes, which runs in one goroutine at a time.
func (c *Client) replace(
	ctx context.Context, stale *session, f func(context.Context) (*session, error),
) (*session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		now := time.Now()
		switch s := c.session; {
		case c.closed:
			return nil, errClosed
		case s != nil && s != stale && !s.over(now):
			return s, nil
		case c.renewing:
			if err := c.wait(ctx); err != nil {
				return nil, err
			}
			continue
		case now.Before(c.backoff.until):
			return nil, c.backoff.err
		}
		c.renewing = true
		c.mu.Unlock()
		s, err := f(ctx)
		c.mu.Lock()
		c.renewing = false
		if err == nil {
			c.session = s
		}
		c.announce()
		return s, err
	}
}

// wait lets go of c.mu until something changed or ctx ended.
func (c *Client) wait(ctx context.Context) error {
	changed := c.changed
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// logIn logs in at the present member, or at the next one if the present one failed, and
// keeps account of failures.
//
// Source: apic-rest.md 1.1; the throttle of aaaLogin is 2 requests a second (7).
func (c *Client) logIn(ctx context.Context) (*session, error) {
	c.mu.Lock()
	if c.suspect {
		c.member, c.suspect = (c.member+1)%len(c.members), false
	}
	member := c.members[c.member]
	c.logins++
	number := c.logins
	c.mu.Unlock()

	password, err := c.opts.password()
	var s *session
	if err == nil {
		s, err = c.authenticate(ctx, member, password)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		s.login, c.lifetime = number, unproven
		c.backoff.failures, c.backoff.refused, c.backoff.password, c.backoff.err = 0, 0, "", nil
		c.arrive(member)
		return s, nil
	case ctx.Err() != nil:
		return nil, err // says nothing about the APIC
	}
	err = c.backoff.add(err, password, len(c.members))
	if !time.Now().Before(c.backoff.until) {
		c.log.Warn("apic login failed, trying the next", "apic", member.Host, "err", err)
	}
	return nil, err
}

func (c *Client) authenticate(ctx context.Context, member *url.URL, password aci.Secret) (*session, error) {
	if err := c.authRate.Wait(ctx); err != nil {
		return nil, fmt.Errorf("login: %w", cause(ctx, err))
	}
	body, err := json.Marshal(map[string]any{"aaaUser": map[string]any{
		"attributes": map[string]string{"name": c.username, "pwd": string(password)},
	}})
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	s := &session{member: member, start: time.Now()}
	if err := c.token(ctx, s, nil, request{op: "login", path: loginPath, body: body}); err != nil {
		return nil, err
	}
	if _, known := aci.ParseVersion(s.said.Version); !known {
		c.askVersion(ctx, s)
	}
	return s, nil
}

// versionTimeout bounds the question for the version, which holds up a login.
const versionTimeout = 10 * time.Second

// askVersion asks for the version of the APIC when the login does not tell it. Without an answer
// it stays unknown.
//
// Source: apic-rest.md 7, and 1.1 for the attribute node of a login. unverified: that a user
// with rights to one tenant only is shown nothing, instead of being refused.
func (c *Client) askVersion(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeoutCause(ctx, versionTimeout, errVersion)
	defer cancel()
	rep, err := c.send(ctx, s, request{op: "version", path: "/api/class/firmwareCtrlrRunning.json"})
	if err != nil {
		c.log.Debug("apic version not told", "apic", s.member.Host, "err", err)
		return
	}
	var oldest *aci.Version // of the cluster, when it is not known which of its members this is
	for _, m := range rep.Objects {
		v, ok := aci.ParseVersion(m.Attrs["version"])
		if here := s.node != "" && m.DN.Within(s.node); ok && (here || oldest == nil || v.Compare(*oldest) < 0) {
			oldest, s.said.Version = &v, m.Attrs["version"]
			if here {
				return
			}
		}
	}
}

var errVersion = fmt.Errorf("no answer about the version within %v: %w", versionTimeout, context.DeadlineExceeded)

// refresh returns s with a new token. It has the signature of logIn, for replace.
//
// Source: apic-rest.md 1.2. The answer's class is aaaLogin; one client expects aaaRefresh.
func (c *Client) refresh(ctx context.Context, old *session) (*session, error) {
	if err := c.authRate.Wait(ctx); err != nil {
		return nil, fmt.Errorf("refresh: %w", cause(ctx, err))
	}
	s := *old
	if err := c.token(ctx, &s, old, request{op: "refresh", path: "/api/aaaRefresh.json"}); err != nil {
		return nil, err
	}
	return &s, nil
}

// token sends r and fills s from the answer. All of it is read; what a refresh leaves out
// stays.
func (c *Client) token(ctx context.Context, s, with *session, r request) error {
	sent := time.Now()
	var rep aci.Reply
	err := c.exchange(ctx, s.member, with, r, func(status int, body io.Reader) (err error) {
		rep, err = decode(r, status, body)
		return err
	})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rep.Objects, func(m aci.MO) bool {
		return m.Class == "aaaLogin" || m.Class == "aaaRefresh"
	})
	if i < 0 || rep.Objects[i].Attrs["token"] == "" {
		return fmt.Errorf("%s: the answer holds no token", r)
	}
	mo := rep.Objects[i]
	s.token, s.refreshed = aci.Secret(mo.Attrs["token"]), sent
	if d, ok := seconds(mo.Attrs["refreshTimeoutSeconds"]); ok && d > 0 {
		s.lifetime = d
	}
	if s.lifetime == 0 {
		return fmt.Errorf("%s: the answer holds no refreshTimeoutSeconds", r)
	}
	s.said = s.said.Update(aci.ParseLogin(mo))
	if with != nil {
		return nil
	}
	if d, ok := seconds(mo.Attrs["maximumLifetimeSeconds"]); ok && d > 0 {
		s.end = s.start.Add(d)
	}
	s.node = aci.DN(mo.Attrs["node"])
	return nil
}

func seconds(s string) (time.Duration, bool) {
	n, err := strconv.Atoi(s)
	return time.Duration(n) * time.Second, err == nil && n >= 0 && n < 1<<31
}

// add notes a failed login and returns err as callers get it.
func (b *loginBackoff) add(err error, password aci.Secret, members int) error {
	b.failures++
	e, ok := errors.AsType[*aci.Error](err)
	switch {
	case ok && e.Status >= 400 && e.Status != http.StatusNotFound && !e.Temporary(): // 404 is no APIC
		b.refused++
		b.password = password
		b.until = time.Now().Add(doubled(b.refused, minRefusedBackoff, maxRefusedBackoff))
		err = fmt.Errorf("%w: %w", aci.ErrSession, err)
	case b.failures >= members: // the others are asked at once
		b.until = time.Now().Add(doubled(b.failures-members+1, minBackoff, maxBackoff))
	}
	b.err = err
	return err
}

// renew answers the refusal of a request of s with a session other than s, or with the
// refusal itself if it is not about the session.
//
// The APIC says 403 to an expired token and, in words that are not known, to a user without
// the right. Only what speaks of a token is taken for the first at once; else a refresh
// tells: if it works, the session is well. That keeps a right that is missing from costing
// a login, and with it every subscription, at each call.
func (c *Client) renew(ctx context.Context, s *session, refused error) (*session, error) {
	c.mu.Lock()
	now := c.session
	c.mu.Unlock()
	if now != nil && now != s && !now.over(time.Now()) {
		return now, nil // somebody else was faster
	}
	if e, ok := errors.AsType[*aci.Error](refused); ok && strings.Contains(strings.ToLower(e.Text), "token") {
		return c.login(ctx, s)
	}
	if time.Since(s.refreshed) < s.lifetime/20 {
		return nil, refused
	}
	fresh, err := c.replace(ctx, s, func(ctx context.Context) (*session, error) { return c.refresh(ctx, s) })
	if sessionRefused(err) {
		return c.login(ctx, s)
	}
	return fresh, err
}

// uselessMemory is how long a login that did not help makes later ones rarer.
const uselessMemory = 10 * time.Minute

// useless tells of a request that was refused for its session although a new login was
// made for it: the next ones become rarer.
func (c *Client) useless(refused error) error {
	err := fmt.Errorf("%w: %w", aci.ErrSession, refused)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backoff.useless++
	c.backoff.until = time.Now().Add(doubled(c.backoff.useless, minBackoff, maxRefusedBackoff))
	c.backoff.err = err
	return err
}

// judgeSession takes note of how the APIC answered a request of s: status 0 is not at all. c.mu is held.
func (c *Client) judgeSession(s *session, status int) {
	if s == nil || s != c.session || status == 0 || status == http.StatusForbidden || c.backoff.useless == 0 {
		return
	}
	switch quiet := time.Since(c.backoff.until); {
	case quiet > uselessMemory:
		c.backoff = loginBackoff{}
	case quiet > 0:
		c.backoff.err = nil
	}
}

// keepSession logs in, refreshes the token in time and logs in anew before the session
// ends, until ctx ends. It logs what goes wrong, because nobody is there to return it to.
func (c *Client) keepSession(ctx context.Context) {
	var down bool // the last login failed
	for failures := 0; ctx.Err() == nil; {
		s, err := c.login(ctx, nil)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			down = true
			c.complain(err)
			c.awaitLogin(ctx)
			continue
		}
		if down {
			c.log.Info("apic session restored", "apic", s.member.Host)
		}
		down = false

		due := s.nextRefresh()
		if failures > 0 {
			due = time.Now().Add(min(doubled(failures, minBackoff, maxBackoff), s.lifetime/4))
		}
		if c.replaced(ctx, s, time.Until(due)) || ctx.Err() != nil {
			failures = 0
			continue
		}
		if failures, err = c.keep(ctx, s, failures); err != nil && ctx.Err() == nil {
			c.log.Warn("apic session not renewed", "apic", s.member.Host, "attempt", failures, "err", err)
		}
	}
}

// keep refreshes s or replaces it by a new login, and returns how often in a row it did not
// succeed. After the second time another member is tried.
func (c *Client) keep(ctx context.Context, s *session, failures int) (int, error) {
	var err error
	ending := !s.end.IsZero() && !time.Now().Before(s.renewal())
	if !ending {
		_, err = c.replace(ctx, s, func(ctx context.Context) (*session, error) { return c.refresh(ctx, s) })
	}
	e, answered := errors.AsType[*aci.Error](err)
	gone := answered && e.Status >= 400 && !e.Temporary()
	if ending || gone || (err != nil && failures > 0 && len(c.members) > 1) {
		_, err = c.login(ctx, s)
	}
	if err != nil {
		return failures + 1, err
	}
	return 0, nil
}

func (c *Client) complain(err error) {
	if errors.Is(err, aci.ErrSession) {
		c.log.Error("apic refuses the credentials", "err", err)
		return
	}
	c.log.Warn("apic login failed", "err", err)
}

// passwordPoll is how often the password file is looked at while its content is refused.
const passwordPoll = 10 * time.Second

// awaitLogin waits until the next login is allowed or made. A password file that no longer
// holds what was refused allows it at once.
func (c *Client) awaitLogin(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		left, refused, s := time.Until(c.backoff.until), c.backoff.password, c.session
		c.mu.Unlock()
		if left <= 0 {
			return
		}
		if refused != "" && c.opts.PasswordFile != "" {
			if p, err := c.opts.password(); err == nil && p != refused {
				c.mu.Lock()
				c.backoff = loginBackoff{}
				c.mu.Unlock()
				return
			}
		}
		if c.replaced(ctx, s, min(left, passwordPoll)) {
			return
		}
	}
}

// replaced waits for d; true as soon as the session is another one than s.
func (c *Client) replaced(ctx context.Context, s *session, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.session == s {
		if c.wait(ctx) != nil {
			return c.session != s
		}
	}
	return true
}

// logoutTimeout bounds the logout, which nothing depends on: sessions end by themselves.
const logoutTimeout = 2 * time.Second

// logout ends the client: no call succeeds from now on.
func (c *Client) logout(ctx context.Context) {
	c.mu.Lock()
	s := c.session
	c.session, c.closed = nil, true
	c.announce()
	c.mu.Unlock()
	if s == nil || s.over(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"aaaUser": map[string]any{
		"attributes": map[string]string{"name": c.username},
	}})
	if err == nil {
		_, err = c.send(ctx, s, request{op: "logout", path: logoutPath, body: body})
	}
	if err != nil {
		c.log.Debug("apic logout failed", "err", err)
	}
}
