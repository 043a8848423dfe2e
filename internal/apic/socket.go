package apic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

const (
	socketPath = "/socket" // and the token, without a slash

	// maxFrameBytes bounds one event. Events are single objects of a few KiB; a transaction
	// of thousands may come as one.
	maxFrameBytes = 16 << 20

	// A member that hangs is known by these and two probes, 25 s, when nothing else is asked of it.
	pingInterval = 10 * time.Second
	pongTimeout  = 5 * time.Second

	// steady is how long a WebSocket must live for its loss to be taken for the first.
	steady = 30 * time.Second
)

// socket is the open WebSocket of a login. It is compared by identity.
type socket struct {
	login uint64
}

// errPong is the end of a WebSocket whose other end is gone without a word.
var errPong = errors.New("the APIC answers no pings")

// keepSocket keeps the WebSocket of the present login open until ctx ends. Each loss is a
// gap for all subscriptions, because the APIC drops them and replays nothing.
//
// Source: apic-rest.md 6.4.
func (c *Client) keepSocket(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		s, err := c.login(ctx, nil)
		if err != nil {
			c.awaitLogin(ctx) // keepSession says why
			continue
		}
		start := time.Now()
		conn, err := c.dialSocket(ctx, s)
		if err == nil {
			if failures > 0 {
				c.log.Info("apic events restored", "apic", s.member.Host)
			}
			err = c.serveSocket(ctx, conn, s)
		} else {
			c.noSocket(nil, err)
			c.afterDial(ctx, s, err, failures)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil { // the session was replaced
			failures = 0
			continue
		}
		if time.Since(start) > steady {
			failures = 0
		}
		failures++
		c.log.Warn("apic events lost", "apic", s.member.Host, "attempt", failures, "err", err)
		switch wait := c.jitter.doubled(failures, minBackoff, maxBackoff); {
		case c.leftSince(start): // which is not often
		case failures == 1:
			c.replaced(ctx, s, wait) // a new session is worth an attempt at once, but not again and again
		default:
			sleep(ctx, wait)
		}
	}
}

// afterDial does what the refusal err of a WebSocket calls for: a new session if s is no
// longer one, another member if this one does not answer twice in a row.
func (c *Client) afterDial(ctx context.Context, s *session, err error, failures int) {
	e, answered := errors.AsType[*aci.Error](err)
	switch {
	case sessionRefused(err):
		_, _ = c.renew(ctx, s, err)
	case len(c.members) > 1 && failures > 0 && (!answered || e.Temporary()):
		_, _ = c.login(ctx, s)
	}
}

// dialSocket opens the WebSocket of s, at the member that made its token.
//
// Source: apic-rest.md 6.1: wss://member/socket<token>, the token raw in the path; 1.4: signed like
// any other request when the session is one of a certificate.
func (c *Client) dialSocket(ctx context.Context, s *session) (*websocket.Conn, error) {
	const op = "socket"
	if err := c.pace(ctx, c.requests); err != nil {
		return nil, fmt.Errorf("%s: %w", op, cause(ctx, err))
	}
	header := http.Header{}
	if s.signer != nil {
		cookie, err := s.cookie(http.MethodGet, socketPath+string(s.token), "", nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		header.Set("Cookie", cookie)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errTimeout)
	defer cancel()
	ctx, give := context.WithCancelCause(ctx)
	defer c.watchHang(ctx, s.member, give)()
	var connected atomic.Bool
	start := time.Now()
	//nolint:bodyclose // Dial: "You never need to close resp.Body yourself."
	conn, resp, err := websocket.Dial(connecting(ctx, &connected), s.member.JoinPath(socketPath).String(), &websocket.DialOptions{
		HTTPHeader: header,
		HTTPClient: &http.Client{
			Transport:     &tokenInPath{base: c.http.Transport, token: s.token},
			CheckRedirect: noRedirect,
		},
		OnPongReceived: func(context.Context, []byte) { c.ponged.Store(true) },
	})
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	if c.opts.OnRequest != nil {
		c.opts.OnRequest(op, status, time.Since(start))
	}
	hung := errors.Is(context.Cause(ctx), errHangs)
	if ctx.Err() == nil || status != 0 || hung || errors.Is(context.Cause(ctx), errTimeout) {
		c.judge(s.member, nil, outcome{status: status, connected: connected.Load(), hung: hung})
	}
	switch {
	case err == nil:
		conn.SetReadLimit(maxFrameBytes)
		return conn, nil
	case resp != nil && resp.Body != nil && status != http.StatusSwitchingProtocols:
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
		e := answerError(request{op: op}, status, text)
		return nil, hideIn(e, append(cookieSecrets(header.Get("Cookie")), string(s.token))) // it may quote the path, too
	}
	return nil, fmt.Errorf("%s: %w", op, cause(ctx, bare(err)))
}

// tokenInPath appends the token to the path of each request on its way out. The dialer
// never sees it, so that no error can tell it.
type tokenInPath struct {
	base  http.RoundTripper
	token aci.Secret
}

func (t *tokenInPath) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL = &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Opaque: req.URL.Path + string(t.token)}
	return t.base.RoundTrip(req)
}

// serveSocket reads events until the connection is lost, which is an error, or the session
// s gives way to a new login or ctx ends, which is none.
func (c *Client) serveSocket(ctx context.Context, conn *websocket.Conn, s *session) error {
	own := &socket{login: s.login}
	c.mu.Lock()
	c.socket, c.sockErr = own, nil
	select {
	case c.connected <- struct{}{}:
	default:
	}
	c.announce()
	c.mu.Unlock()

	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.ping(ctx, cancel, conn, s) })
	wg.Go(func() { c.outlive(ctx, cancel, s) })
	var err error
	for err == nil {
		var data []byte
		if _, data, err = conn.Read(ctx); err == nil {
			c.dispatch(data)
		}
	}
	if why := context.Cause(ctx); errors.Is(why, errPong) {
		err = why
	} else if why != nil {
		err = nil
	}
	cancel(nil)
	_ = conn.CloseNow()
	wg.Wait()
	c.noSocket(own, err)
	return err
}

// noSocket takes note of the end of the socket own, or of a failed attempt when it is nil,
// and makes a gap of all subscriptions.
func (c *Client) noSocket(own *socket, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == own {
		c.socket = nil
	}
	c.sockErr = err
	for _, sub := range c.topics() {
		c.lose(sub)
	}
	c.announce()
}

// outlive cancels ctx when a login other than that of s makes a new session.
func (c *Client) outlive(ctx context.Context, cancel context.CancelCauseFunc, s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.session != nil && c.session.login == s.login {
		if c.wait(ctx) != nil {
			return
		}
	}
	cancel(errReplaced)
}

var errReplaced = errors.New("the session was replaced")

// ping cancels ctx when the other end is gone without a word, as after a failover of a
// firewall. Whether an APIC answers pings is unverified, so that their lack means something
// only once an answer was seen; the keep-alive of TCP finds the rest. It may also be that the
// member hangs, which needs no answered ping to be found out.
func (c *Client) ping(ctx context.Context, cancel context.CancelCauseFunc, conn *websocket.Conn, s *session) {
	for sleep(ctx, pingInterval) {
		answer, done := context.WithTimeout(ctx, pongTimeout)
		err := conn.Ping(answer)
		done()
		if err == nil {
			continue
		}
		if len(c.members) > 1 && c.hangs(ctx, s.member) {
			c.judge(s.member, nil, outcome{connected: true, hung: true})
		}
		if c.ponged.Load() {
			cancel(errPong)
			return
		}
	}
}

// dispatch turns one event into updates. One that cannot be read may have been about
// anything.
//
// Source: apic-rest.md 6.2: one event lists every subscription that it matches, so that it
// is told once whatever their number; class and DN say what it is about.
func (c *Client) dispatch(data []byte) {
	rep, err := aci.DecodeReply(bytes.NewReader(data))
	if err == nil && rep.Err != nil {
		err = rep.Err
	}
	var objects []aci.MO
	if err == nil {
		objects, err = events(rep.Objects)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.log.Warn("apic event not understood", "err", err)
		for _, sub := range c.topics() {
			c.mail.put(aci.Update{Kind: aci.Gap, Root: sub.root})
		}
		return
	}
	if c.subs[aci.Universe] != nil {
		isOther := func(m aci.MO) bool { return m.Class != aci.ClassRsEctx }
		if related := slices.DeleteFunc(slices.Clone(objects), isOther); len(related) > 0 {
			c.mail.put(aci.Update{Kind: aci.Event, Root: aci.Universe, Objects: related})
		}
	}
	for len(objects) > 0 {
		root := about(objects[0])
		n := 1
		for n < len(objects) && about(objects[n]) == root {
			n++
		}
		if c.subs[root] != nil {
			c.mail.put(aci.Update{Kind: aci.Event, Root: root, Objects: objects[:n:n]})
		}
		objects = objects[n:]
	}
}

// about is the root of the update that tells of m; "" when nothing that can be subscribed to does.
func about(m aci.MO) aci.DN {
	if l, ok := aci.L3OutOf(m.DN); ok {
		return l.DN()
	}
	if m.Class == aci.ClassFaultInst {
		return aci.Topology
	}
	return ""
}

// events is the flat list of the objects of an event and their children, in order.
func events(objects []aci.MO) ([]aci.MO, error) {
	var out []aci.MO
	for _, m := range objects {
		children := m.Children
		m.Children = nil
		if m.DN == "" {
			return nil, fmt.Errorf("an event about a %s without DN", m.Class)
		}
		out = append(out, m)
		below, err := events(children)
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}
