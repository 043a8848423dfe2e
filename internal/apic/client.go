package apic

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

// Client is one user's session with an APIC cluster. Its methods are safe for concurrent
// use. Calls log in when they need to; Run keeps the session and the subscriptions alive
// and must run for Read to subscribe.
type Client struct {
	members  []*url.URL
	username string
	opts     Options
	log      *slog.Logger
	jitter   jitter
	gate     *gated
	http     *http.Client // by way of the gate
	prober   *http.Client // each request on a connection of its own; never writes

	requests *rate.Limiter // all requests
	authRate *rate.Limiter // what begins or prolongs a session: aaaLogin and aaaRefresh, which the APIC throttles on their own

	updates   chan aci.Update // closed by Run
	connected chan struct{}   // holds a token when a WebSocket has opened
	mail      mailbox         // what is on its way to updates

	ponged atomic.Bool // a WebSocket of this client has answered a ping

	mu sync.Mutex
	// mu guards the fields below.
	running  bool
	closed   bool          // Run has ended
	changed  chan struct{} // closed and replaced when session, login or socket change
	session  *session      // nil when there is none
	renewing bool          // somebody logs in or refreshes
	logins   uint64        // attempts so far
	backoff  loginBackoff
	member   int      // index of the member that is spoken to
	suspect  bool     // that member failed last
	at       *url.URL // the member of the last login that worked; nil before the first
	health   health
	probe    *probe // the newest question whether a member hangs
	socket   *socket
	sockErr  error                    // why there is no socket, once an attempt failed
	subs     map[aci.DN]*subscription // by the root of their updates
	lifetime lifetimeTrust
}

// New makes a client of the APIC cluster members, which are asked in this order, one at a
// time. It neither connects nor starts anything.
func New(members []*url.URL, username string, o Options) (*Client, error) {
	switch {
	case len(members) == 0:
		return nil, errors.New("no APIC is named")
	case username == "":
		return nil, errors.New("no user name for the APIC")
	case o.Rate < 0:
		return nil, errors.New("the APIC request rate is negative")
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Rate = cmp.Or(o.Rate, 20)
	if o.Gate == nil {
		o.Gate = open
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	gate := &gated{Transport: transport(o), gate: o.Gate}
	c := &Client{
		members:   slices.Clone(members),
		username:  username,
		opts:      o,
		log:       cmp.Or(o.Logger, slog.New(slog.DiscardHandler)),
		jitter:    o.Random,
		gate:      gate,
		http:      &http.Client{Transport: gate, CheckRedirect: noRedirect},
		prober:    &http.Client{Transport: transport(o), CheckRedirect: noRedirect},
		requests:  rate.NewLimiter(rate.Limit(o.Rate), max(1, int(2*o.Rate))),
		authRate:  rate.NewLimiter(1, 2),
		updates:   make(chan aci.Update),
		connected: make(chan struct{}, 1),
		changed:   make(chan struct{}),
		subs:      map[aci.DN]*subscription{},
	}
	c.mail.init()
	return c, nil
}

// transport is HTTP/1.1 only: a WebSocket needs it.
func transport(o Options) *http.Transport {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSClientConfig:     o.TLS.Clone(),
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
	}
	if o.DialContext != nil {
		t.DialContext, t.Proxy = o.DialContext, nil
	}
	return t
}

// dial opens a connection that, once it is closed, takes along what it has not delivered. Else
// the kernel would go on trying for minutes, and a write that was given up would arrive when the
// network is back.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext(ctx, network, addr)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // at worst it is as it would be without
	}
	return conn, err
}

// noRedirect keeps the cookie from going where an answer says.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Run keeps the session, the WebSocket and the subscriptions alive until ctx ends. Then it
// ends every goroutine it started, logs out within 2 s, closes Updates and returns nil.
// Afterwards every call fails. It returns an error at once when called a second time.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.running || c.closed
	c.running = true
	c.mu.Unlock()
	if again {
		return errors.New("the APIC client ran already")
	}
	defer close(c.updates)
	if unverified(c.opts.TLS) {
		c.log.Warn("apic certificate is not verified")
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.keepSession(ctx) })
	wg.Go(func() { c.mail.deliver(ctx, c.updates) })
	if !c.opts.ReadOnce {
		wg.Go(func() { c.keepSocket(ctx) })
		wg.Go(func() { c.keepSubscriptions(ctx) })
	}
	wg.Wait()
	c.logout(ctx)
	c.http.CloseIdleConnections()
	return nil
}

// Updates carries the events below the subscribed L3Outs and those of faults, and a Gap for each of
// these whose events may have been lost: until it is read again, what is known of it is not
// complete. A receiver that is slow loses events to a Gap, never silently. Run closes it.
func (c *Client) Updates() <-chan aci.Update { return c.updates }

// Connected gets a token when a WebSocket has opened, at the same member or at another one: what failed before
// may work now. One that nobody takes stands for all that follow.
func (c *Client) Connected() <-chan struct{} { return c.connected }

// Status is the health of a client at one moment.
type Status struct {
	Member        string    // host and port of the member that is spoken to
	LoggedIn      bool      // there is a session
	Since         time.Time // of the login; zero when there is none
	Version       string    // of the APIC, such as "5.2(1g)"; empty when it did not say
	Domains       []string  // security domains of the user, sorted; "all" is the whole fabric
	SocketUp      bool      // events can arrive
	Subscriptions int       // L3Outs that are subscribed to, and faults
	Err           string    // what went wrong last, without secrets; empty when all is well
	Refused       bool      // the APIC refuses the credentials, as far as was tried
	NextLogin     time.Time // before which there is no login, unless the credentials change; zero when all is well
}

// Status tells how the client is. It does not block.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Member: c.members[c.member].Host, SocketUp: c.socket != nil}
	if c.session != nil {
		s.LoggedIn, s.Since = true, c.session.start
		s.Version, s.Domains = c.session.said.Version, slices.Clone(c.session.said.Domains)
	}
	for _, sub := range c.subs {
		if sub.id != "" {
			s.Subscriptions++
		}
	}
	if err := cmp.Or(c.backoff.err, c.sockErr); err != nil {
		s.Err = err.Error()
	}
	if s.Refused = c.backoff.refused > 0; c.backoff.err != nil {
		s.NextLogin = c.backoff.until
	}
	return s
}

// Login returns what the APIC said at the present login, or the last one, and at its refreshes;
// false before the first. It does not log in and does not block.
func (c *Client) Login() (aci.Login, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == nil {
		return aci.Login{}, false
	}
	return c.session.said, true
}

// Healthy reports whether there is a session and, unless ReadOnce, a WebSocket.
func (c *Client) Healthy() bool {
	s := c.Status()
	return s.LoggedIn && (s.SocketUp || c.opts.ReadOnce)
}

// Settled reports whether it is known of every write what became of it, or so much time went by
// since it was given up that nothing becomes of it any more. Else the APIC may yet carry one out.
func (c *Client) Settled() bool { return c.gate.settled() }

// announce wakes those who wait for a change of session, login or socket. c.mu is held.
func (c *Client) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// pace waits until the limiter lets a request pass. Its errors are those of the limiter.
func (c *Client) pace(ctx context.Context, l *rate.Limiter) error {
	start := time.Now()
	err := l.Wait(ctx)
	if c.opts.OnWait != nil {
		c.opts.OnWait(time.Since(start))
	}
	return err
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
