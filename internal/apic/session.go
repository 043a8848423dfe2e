package apic

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

	// signedPath begins a session for who signs requests: it gives the token of the WebSocket.
	signedPath = "/api/webtokenSession.json"
)

// What is taken for the life of a session of a certificate, of which the APIC tells nothing that is
// known: it is looked at as often as a token is refreshed, and ends like one of a login.
//
// unverified: both. The client that is known to use webtokenSession keeps its token for as long as the
// WebSocket lives; a token that ended earlier is refused, which begins a new session.
const (
	signedLifetime = 600 * time.Second
	signedLife     = 24 * time.Hour
)

// session is what a login or a refresh gave. It is never changed: a refresh makes a new
// one with the same login number. Token, WebSocket and subscriptions belong to one member.
type session struct {
	login  uint64 // number of the login it descends from
	member *url.URL
	token  aci.Secret

	signer     *signer    // of its requests; nil for a session of a password, whose requests show the token
	credential aci.Secret // that it was made with
	told       bool       // the user was shown himself, so that a refusal to show him is one of the session

	start     time.Time     // of the login
	end       time.Time     // of its life, whatever is refreshed; zero when the APIC named none
	refreshed time.Time     // when the token was made
	lifetime  time.Duration // of the token

	said aci.Login
	node aci.DN // of the member, such as "topology/pod-1/node-1"; empty when it did not say
}

// cookie is what a request of s has in its header Cookie.
func (s *session) cookie(method, path, query string, body []byte) (string, error) {
	if s.signer != nil {
		return s.signer.cookie(method, path, query, body, s.token)
	}
	return "APIC-cookie=" + string(s.token), nil
}

// over reports whether the APIC is known to refuse s.
func (s *session) over(now time.Time) bool {
	return !now.Before(s.refreshed.Add(s.lifetime)) || s.ended(now)
}

// ended reports whether the life of s is at its end.
func (s *session) ended(now time.Time) bool { return !s.end.IsZero() && !now.Before(s.end) }

// nextRefresh is when to refresh s: after half to two thirds of the token's lifetime, or a
// little before the session ends.
func (s *session) nextRefresh(j jitter) time.Time {
	t := s.refreshed.Add(j.between(s.lifetime/2, s.lifetime*2/3))
	if !s.end.IsZero() && s.renewal().Before(t) {
		return s.renewal()
	}
	return t
}

// renewal is when to log in anew because the life of s ends.
func (s *session) renewal() time.Time {
	return s.end.Add(-min(time.Minute, s.end.Sub(s.start)/20))
}

// jitter is where random durations come from: numbers in [0, 1).
type jitter func() float64

// between is a random duration from lo up to hi.
func (j jitter) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(j()*float64(hi-lo))
}

// Backoff of logins and of the WebSocket: from 1 s, doubling, up to 30 s; of refused
// credentials from 2 min up to 30 min, and whatever changes meanwhile, no more than 3 in 5 min, at
// all members together. An APIC that locks accounts does so after 5 refused logins within 5 min.
//
// Source: defaults of aaaBlockLoginProfile as in public captures (maxFailedAttempts 5,
// maxFailedAttemptsWindow 5 minutes, blockDuration 60 minutes, enableLoginBlock disable).
const (
	minBackoff        = time.Second
	maxBackoff        = 30 * time.Second
	minRefusedBackoff = 2 * time.Minute
	maxRefusedBackoff = 30 * time.Minute
	maxRefusals       = 3
	refusalsWindow    = 5 * time.Minute
)

// doubled is lo after the first failure, twice that after the second, at most hi; with a
// quarter of jitter on top.
func (j jitter) doubled(failures int, lo, hi time.Duration) time.Duration {
	d := lo << min(max(failures-1, 0), 16)
	d = min(d, hi)
	return j.between(d, d+d/4)
}

// loginBackoff says until when nobody logs in.
type loginBackoff struct {
	until      time.Time
	err        error       // of the last login, for those who ask meanwhile; nil when all is well
	failures   int         // since the last login that worked
	refused    int         // those of them that were for the credentials
	credential aci.Secret  // that was refused
	refusals   []time.Time // when credentials were refused, the last maxRefusals of them, oldest first
	useless    int         // logins that worked while the session was refused nevertheless
}

var (
	errClosed = errors.New("the APIC client has ended")
	errWaits  = errors.New("no login yet: the session of an earlier one was refused at once")
)

// login returns a session other than stale, which may be nil: the present one, or that of
// a new login. At most one login or refresh is under way; the others wait for it and share
// what comes of it. A member that gives no session sends it on to the next, until all were asked.
// While logins back off it returns the last error at once.
//
// It returns an error with aci.ErrSession when the APIC refuses the credentials.
func (c *Client) login(ctx context.Context, stale *session) (*session, error) {
	for asked := 1; ; asked++ {
		s, err := c.replace(ctx, stale, true, c.logIn)
		if err == nil || asked >= len(c.members) || ctx.Err() != nil {
			return s, err
		}
	}
}

// replace returns the present session if it is usable and not stale; else the one that f
// makes, which runs in one goroutine at a time; not while logins back off, if it may ask for one.
func (c *Client) replace(
	ctx context.Context, stale *session, backsOff bool, f func(context.Context) (*session, error),
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
		case backsOff && now.Before(c.backoff.until):
			return nil, cmp.Or(c.backoff.err, errWaits)
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

	credential, err := c.opts.credential()
	var s *session
	if err == nil {
		s, err = c.authenticate(ctx, member, credential)
	}
	failed := err != nil && ctx.Err() == nil // else it says nothing about the APIC
	if failed && c.opts.OnLoginFailure != nil {
		c.opts.OnLoginFailure(credentialsRefused(err))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		s.login, c.lifetime = number, unproven
		c.backoff.worked()
		c.arrive(member)
		return s, nil
	case !failed:
		return nil, err
	}
	err = c.backoff.add(err, credential, len(c.members), c.jitter)
	if !time.Now().Before(c.backoff.until) {
		c.log.Warn("apic login failed, trying the next", "apic", member.Host, "err", err)
	}
	return nil, err
}

func (c *Client) authenticate(ctx context.Context, member *url.URL, credential aci.Secret) (*session, error) {
	s := &session{member: member, start: time.Now(), credential: credential}
	r := request{op: "login", path: loginPath, secret: credential}
	var with *session // whose cookies the login has
	if c.opts.CertName != "" {
		key, err := parseKey(credential)
		if err != nil {
			return nil, fmt.Errorf("private key file %s: %w", c.opts.PrivateKeyFile, err)
		}
		s.signer = &signer{dn: certificateDN(c.username, c.opts.CertName), key: key}
		s.lifetime, s.end = signedLifetime, s.start.Add(signedLife)
		r.path, with = signedPath, s
	} else {
		body, err := json.Marshal(map[string]any{"aaaUser": map[string]any{
			"attributes": map[string]string{"name": c.username, "pwd": string(credential)},
		}})
		if err != nil {
			return nil, fmt.Errorf("login: %w", err)
		}
		r.body = body
	}
	if err := c.pace(ctx, c.authRate); err != nil {
		return nil, fmt.Errorf("login: %w", cause(ctx, err))
	}
	if err := c.token(ctx, s, with, r); err != nil {
		return nil, err
	}
	if s.signer != nil && !s.said.TellsRights() {
		if err := c.askRights(ctx, s); err != nil {
			c.log.Debug("apic rights not told", "apic", s.member.Host, "err", err)
		}
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

// refresh returns s with a new token, or proves that requests signed within it are taken. It has
// the signature of logIn, for replace.
//
// Source: apic-rest.md 1.2. The answer's class is aaaLogin; one client expects aaaRefresh.
func (c *Client) refresh(ctx context.Context, old *session) (*session, error) {
	if err := c.pace(ctx, c.authRate); err != nil {
		return nil, fmt.Errorf("refresh: %w", cause(ctx, err))
	}
	s := *old
	if s.signer != nil {
		return c.refreshSigned(ctx, &s)
	}
	if err := c.token(ctx, &s, old, request{op: "refresh", path: "/api/aaaRefresh.json"}); err != nil {
		return nil, err
	}
	return &s, nil
}

// token sends r, with the cookies of the session with, and fills s from the answer. All of it is
// read; what a refresh leaves out stays.
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
		return m.Class == "aaaLogin" || m.Class == "aaaRefresh" || m.Class == "webtokenSession"
	})
	if i < 0 || rep.Objects[i].Attrs["token"] == "" {
		return fmt.Errorf("%s: the answer holds no token", r)
	}
	mo := rep.Objects[i]
	s.token, s.refreshed = aci.Secret(mo.Attrs["token"]), sent
	if d, ok := seconds(mo.Attrs["refreshTimeoutSeconds"]); ok && d > 0 && s.signer == nil {
		s.lifetime = d // a signature ends with nothing
	}
	if s.lifetime == 0 {
		return fmt.Errorf("%s: the answer holds no refreshTimeoutSeconds", r)
	}
	s.said = s.said.Update(aci.ParseLogin(mo))
	if with != nil && with != s {
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

// credentialsRefused reports whether a login failed for its credentials.
func credentialsRefused(err error) bool {
	e, ok := errors.AsType[*aci.Error](err)
	return ok && e.Status >= 400 && e.Status != http.StatusNotFound && !e.Temporary() // 404 is no APIC
}

// worked notes a login that worked. How long the next one waits is left: meanwhile a request may have been refused
// although a login was made for it.
func (b *loginBackoff) worked() { b.failures, b.refused, b.credential, b.err = 0, 0, "", nil }

// add notes a failed login and returns err as callers get it.
func (b *loginBackoff) add(err error, credential aci.Secret, members int, j jitter) error {
	b.failures++
	now := time.Now()
	switch {
	case credentialsRefused(err):
		b.refused++
		b.credential = credential
		b.refusals = append(b.refusals, now)
		b.refusals = b.refusals[max(0, len(b.refusals)-maxRefusals):]
		b.until = now.Add(j.doubled(b.refused, minRefusedBackoff, maxRefusedBackoff))
		if least := b.least(); b.until.Before(least) {
			b.until = least
		}
		err = fmt.Errorf("%w: %w", aci.ErrSession, err)
	case b.failures >= members: // the others are asked at once
		b.until = now.Add(j.doubled(b.failures-members+1, minBackoff, maxBackoff))
	}
	b.err = err
	return err
}

// least is before when there is no login, whatever the credentials are now.
func (b *loginBackoff) least() time.Time {
	if len(b.refusals) < maxRefusals {
		return time.Time{}
	}
	return b.refusals[0].Add(refusalsWindow)
}

// restart forgets what is about credentials that are others now.
func (b *loginBackoff) restart() {
	b.until = b.least()
	b.failures, b.refused, b.useless, b.credential = 0, 0, 0, ""
	if !time.Now().Before(b.until) {
		b.err = nil
	}
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
		return c.follow(ctx, s)
	}
	if s.signer != nil && refusesSignature(refused) && c.isOther(s.credential) {
		return c.follow(ctx, s) // the certificate was replaced, and the key with it
	}
	proven := s.lifetime / 20 // how long a refresh is proof
	if refusesSignature(refused) {
		proven = 2 * time.Second // it may be that one request, but hardly
	}
	if time.Since(s.refreshed) < proven {
		return nil, refused
	}
	fresh, err := c.replace(ctx, s, true, func(ctx context.Context) (*session, error) { return c.refresh(ctx, s) })
	if sessionRefused(err) {
		return c.follow(ctx, s)
	}
	return fresh, err
}

// follow returns the session that follows s, which the APIC refuses. If it refuses the credentials
// as well, s ends: its requests would be in vain.
func (c *Client) follow(ctx context.Context, s *session) (*session, error) {
	fresh, err := c.login(ctx, s)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.session == s && c.backoff.refused > 0 {
			c.session = nil
			c.announce()
		}
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
	c.backoff.until = time.Now().Add(c.jitter.doubled(c.backoff.useless, minBackoff, maxRefusedBackoff))
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
		c.backoff = loginBackoff{refusals: c.backoff.refusals}
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
			c.complain(err, time.Until(c.Status().NextLogin))
			c.awaitLogin(ctx)
			continue
		}
		if down {
			c.log.Info("apic session restored", "apic", s.member.Host)
		}
		down = false

		due := s.nextRefresh(c.jitter)
		if failures > 0 {
			due = time.Now().Add(min(c.jitter.doubled(failures, minBackoff, maxBackoff), s.lifetime/4))
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
		_, err = c.replace(ctx, s, false, func(ctx context.Context) (*session, error) { return c.refresh(ctx, s) })
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

// complain logs why there is no session, and in how long the next login is made.
func (c *Client) complain(err error, next time.Duration) {
	next = max(0, next).Round(time.Second)
	if errors.Is(err, aci.ErrSession) {
		c.log.Error("apic refuses the credentials", "dur", next, "err", err)
		return
	}
	c.log.Warn("apic login failed", "dur", next, "err", err)
}

// credentialPoll is how often a password or key file is looked at while its content is refused.
const credentialPoll = 2 * time.Second

// awaitLogin waits until the next login is allowed or made. A file that no longer holds what was
// refused allows it at once.
func (c *Client) awaitLogin(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		left, refused, s := time.Until(c.backoff.until), c.backoff.credential, c.session
		c.mu.Unlock()
		if left <= 0 {
			return
		}
		if refused != "" && c.isOther(refused) {
			c.mu.Lock()
			if c.backoff.credential == refused { // else somebody else was faster
				c.backoff.restart()
			}
			c.mu.Unlock()
			continue
		}
		if c.replaced(ctx, s, min(left, credentialPoll)) {
			return
		}
	}
}

// isOther reports whether the user proves himself by something else than credential now.
func (c *Client) isOther(credential aci.Secret) bool {
	if !c.opts.byFile() {
		return false
	}
	now, err := c.opts.credential()
	return err == nil && now != credential
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
	if s == nil || s.over(time.Now()) || s.signer != nil { // who did not log in does not log out
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
