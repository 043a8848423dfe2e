package apicsim

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// subscription is a query whose later changes are sent over a socket.
type subscription struct {
	id      string
	query   *query
	sess    *session
	socket  *socket // nil when it was cut off by a cookie that stood twice
	life    time.Duration
	expires time.Time
}

// firstSubscription is above 2^56, as captured ids are, so that who reads ids as floating
// point notices. Source: apic-rest.md 6.1.
const firstSubscription = 72057598349803001

// subscribe keeps q for the session. Source: apic-rest.md 6.1 and 6.3.
//
// unverified: which of several sockets of a session gets the events; here the newest.
func (s *Sim) subscribe(sess *session, q *query, detached bool) (string, *wireError) {
	if len(sess.sockets) == 0 {
		return "", denied(http.StatusMethodNotAllowed, textNoSocket)
	}
	sub := &subscription{
		id:    strconv.Itoa(firstSubscription + s.subscribed),
		query: q, sess: sess, life: s.opts.SubscriptionLife,
	}
	s.subscribed++
	if !detached {
		sub.socket = sess.sockets[len(sess.sockets)-1]
	}
	if q.refresh > 0 && !s.opts.NoRefreshTimeout {
		sub.life = q.refresh
	}
	sub.prolong(time.Now())
	s.subs[sub.id] = sub
	sess.subs[sub.id] = sub
	return sub.id, nil
}

func (k *subscription) prolong(now time.Time) {
	k.expires = now.Add(k.life)
	if k.expires.After(k.sess.end) {
		k.expires = k.sess.end
	}
}

func (s *Sim) unsubscribe(sub *subscription) {
	delete(s.subs, sub.id)
	delete(sub.sess.subs, sub.id)
}

// refreshSubscription answers subscriptionRefresh.
//
// Source: apic-rest.md 6.3; the id is read as a leading number. unverified: the success
// body of current releases, and that a lifetime asked for once holds for later refreshes.
func (s *Sim) refreshSubscription(c *call) response {
	id := c.params["id"]
	if i := strings.IndexFunc(id, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		id = id[:i]
	}
	var life time.Duration
	if v, given := c.params["refresh-timeout"]; given {
		d, err := parseRefresh(v)
		if err != nil {
			return fail(err)
		}
		life = d
	}
	now := time.Now()
	sub := c.session.subs[id]
	if sub != nil && !now.Before(sub.expires) {
		s.unsubscribe(sub)
		sub = nil
	}
	if sub == nil {
		return fail(refuse(400, textSubTimeout))
	}
	if life > 0 && !s.opts.NoRefreshTimeout {
		sub.life = life
	}
	sub.prolong(now)
	return ok(envelope(0, "", nil))
}

// announce sends the events of a transaction: one frame per object and socket, with all
// the subscriptions that it matches. It never waits for a socket.
//
// Source: apic-rest.md 6.2. unverified: that a filter is asked about the object as it is
// after the change, and that rsp-subtree has no influence on events.
func (s *Sim) announce(t *tx) {
	if len(s.subs) == 0 {
		return
	}
	now := time.Now()
	subs := make([]*subscription, 0, len(s.subs))
	for _, sub := range s.subs {
		if !now.Before(sub.expires) {
			s.unsubscribe(sub)
			continue
		}
		subs = append(subs, sub)
	}
	slices.SortFunc(subs, func(a, b *subscription) int { return strings.Compare(a.id, b.id) })
	for _, c := range t.changes {
		if c.n.class.phantom || (c.n.class.hidden && !s.opts.ObserveTags) {
			continue
		}
		ids := map[*socket][]string{}
		var order []*socket
		for _, sub := range subs {
			if sub.socket == nil || !sub.query.matches(c.n) {
				continue
			}
			if ids[sub.socket] == nil {
				order = append(order, sub.socket)
			}
			ids[sub.socket] = append(ids[sub.socket], sub.id)
		}
		if len(order) == 0 {
			continue
		}
		if s.dropEvent(c.n.dn) {
			continue
		}
		what := encodeEvent(c)
		for _, k := range order {
			k.send(event{frame(ids[k], what), now.Add(s.opts.EventDelay)})
		}
	}
}

func frame(ids []string, what []byte) []byte {
	b := append([]byte(`{"subscriptionId":["`), strings.Join(ids, `","`)...)
	b = append(b, `"],"imdata":[`...)
	b = append(b, what...)
	return append(b, `]}`...)
}

func encodeEvent(c *change) []byte {
	as := map[op]form{created: formCreated, modified: formModified, deleted: formDeleted}[c.op]
	b := []byte(`{"` + c.n.class.name + `":{"attributes":`)
	b = appendAttributes(b, c.n, as, includeAll, c.op.String(), c.old)
	return append(b, `}}`...)
}

// event is a frame on its way.
type event struct {
	frame []byte
	due   time.Time
}

// socket is an open WebSocket. The lock of its Sim guards queue.
type socket struct {
	sim   *Sim
	sess  *session
	queue []event
	wake  chan struct{} // holds one token while queue has news
	stop  context.CancelFunc
	muted atomic.Bool
}

// send queues a frame. A reader that lets the queue run full loses its socket.
func (k *socket) send(e event) {
	if len(k.queue) >= k.sim.opts.SocketQueue {
		k.close()
		return
	}
	k.queue = append(k.queue, e)
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// close lets the socket end without a closing handshake.
func (k *socket) close() { k.stop() }

// serveSocket answers GET /socket{token} and stays until the socket is closed.
//
// Source: apic-rest.md 6.1 and 6.4: the token is checked when the socket opens, and may
// hold slashes. unverified: the answer to a bad token.
func (s *Sim) serveSocket(w http.ResponseWriter, r *http.Request, token string, log func(status int, sess *session)) {
	// Sockets must be known before the client learns of its upgrade, or a quick subscribe
	// would be told that there is none.
	s.mu.Lock()
	sess := s.bearer(token)
	var refused *wireError
	switch {
	case sess == nil || s.closed:
		refused = denied(http.StatusForbidden, textTokenTimeout)
	case sess.signed:
		have, _ := cookies(r)
		_, refused = s.verify(r, have, nil)
	}
	if refused != nil {
		s.mu.Unlock()
		log(refused.status, nil)
		writeResponse(w, fail(refused))
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	k := &socket{sim: s, sess: sess, wake: make(chan struct{}, 1), stop: cancel}
	sess.sockets = append(sess.sockets, k)
	s.running.Add(1)
	defer s.running.Done()
	s.mu.Unlock()
	defer s.forget(k)

	log(http.StatusSwitchingProtocols, sess)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // no check of Origin: clients are programs
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { return !k.muted.Load() },
	})
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	done := make(chan struct{})
	go func() { // reading is what answers pings and notices the end
		defer close(done)
		defer cancel()
		for {
			_, rd, err := conn.Reader(ctx)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, rd); err != nil {
				return
			}
		}
	}()
	k.deliver(ctx, conn)
	cancel()
	conn.CloseNow()
	<-done
}

// deliver writes queued frames until ctx ends or the connection breaks.
func (k *socket) deliver(ctx context.Context, conn *websocket.Conn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		}
		k.sim.mu.Lock()
		events := k.queue
		k.queue = nil
		if k.muted.Load() {
			k.sim.lost += len(events)
			events = nil
		}
		k.sim.mu.Unlock()
		for _, e := range events {
			if !pause(ctx, time.Until(e.due)) || conn.Write(ctx, websocket.MessageText, e.frame) != nil {
				return
			}
		}
	}
}

// forget drops a socket and its subscriptions.
func (s *Sim) forget(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.sess.sockets = slices.DeleteFunc(k.sess.sockets, func(o *socket) bool { return o == k })
	for _, sub := range k.sess.subs {
		if sub.socket == k {
			s.unsubscribe(sub)
		}
	}
}
