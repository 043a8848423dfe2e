package apic

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

const (
	// askedLifetime of a subscription costs an idle L3Out one refresh in a quarter of an
	// hour. 900 s and up to 36,000 s are used in practice.
	askedLifetime = 30 * time.Minute

	// defaultLifetime of a subscription that asks for nothing.
	defaultLifetime = 60 * time.Second

	// socketPatience is how long Read waits for the WebSocket to open.
	socketPatience = 10 * time.Second

	// refreshPatience is when to repeat a refresh that got no proper answer.
	refreshPatience = 5 * time.Second
)

// lifetimeTrust is what is known of refresh-timeout at this login. An APIC does not say
// whether it honors it; a subscription that lives beyond the default lifetime does.
//
// Source: apic-rest.md 6.3: from APIC 4.0 on all nodes.
type lifetimeTrust int

const (
	unproven lifetimeTrust = iota
	honored
	ignored
)

// topic is what can be subscribed to.
type topic struct {
	root   aci.DN // of the updates about it
	path   string
	params []string // of the query
}

// ofL3Out is all of l that aci-sync knows.
func ofL3Out(l aci.L3Out) topic {
	return topic{l.DN(), moPath(l.DN()), []string{"query-target=subtree", "target-subtree-class=" + strings.Join(classes, ",")}}
}

// subscription is the wish for the events of a topic. It stands in Client.subs until it is
// forgotten, whether the APIC has it or not.
type subscription struct {
	topic
	turn chan struct{} // holds a token while somebody subscribes

	// Client.mu guards the fields below.
	id         string // empty when the APIC has no subscription
	start      time.Time
	lifetime   time.Duration
	asked      bool      // for lifetime; else it is the default
	expires    time.Time // unless refreshed
	due        time.Time // of the next refresh
	refreshing bool
}

// Read reads everything of l that aci-sync knows: l3extOut, l3extRsEctx, l3extInstP,
// l3extSubnet, fvRsProv, fvRsCons, l3extRsNodeL3OutAtt, tagAnnotation, faultInst and
// faultDelegate. Unless there is one, it makes a subscription first, so that what changes
// while it reads arrives on Updates. No objects mean that l does not exist; its creation is
// announced all the same.
//
// A subscription that is lost while Read is under way is an error, and a Gap. An answer
// that contradicts itself is an error. It needs Run unless Options.ReadOnce, and waits up
// to 10 s for the WebSocket to open.
//
// Source: apic-rest.md 6.1, 6.4.
func (c *Client) Read(ctx context.Context, l aci.L3Out) (aci.Update, error) {
	return c.readSubscribed(ctx, ofL3Out(l), func() ([]aci.MO, error) { return c.readL3Out(ctx, l) })
}

// ReadFaults reads the faults by which leafs say that they have not programmed what they were
// told: F0467 of external EPGs, which may or may not be delegated to what Read reads, and F3544
// and F3545 of a leaf as a whole, which are not. It subscribes to them as
// Read does to an L3Out; the Root of what comes of it is aci.Topology. Of what the user may not
// read the APIC says nothing, or refuses it with 403.
//
// The filter asks only for what never changes of a fault, so that news of its end passes it. After a
// leaf has rebooted its events may not come any more; reading now and then is the remedy.
//
// Source: apic-rest.md 4.3 and 6.4; docs/docs/validations.md of s:preup, "HW Programming Failure",
// for F3544 and F3545, which exist from APIC 4.1 on.
func (c *Client) ReadFaults(ctx context.Context) (aci.Update, error) {
	t := faults()
	return c.readSubscribed(ctx, t, func() ([]aci.MO, error) {
		r := request{op: "read", dn: t.root, path: t.path}
		objects, err := c.readPages(ctx, r, aci.ClassFaultInst, t.params...)
		if err != nil {
			return nil, err
		}
		return flat(r, objects)
	})
}

// faults is the topic of ReadFaults.
func faults() topic {
	return topic{aci.Topology, "/api/class/" + aci.ClassFaultInst + ".json", []string{
		`query-target-filter=or(and(eq(faultInst.code,"F0467"),wcard(faultInst.dn,"uni/epp/rtd")),` +
			`eq(faultInst.code,"F3544"),eq(faultInst.code,"F3545"))`,
	}}
}

// ReadRelations reads the relations of all L3Outs that the user sees to their VRFs (l3extRsEctx). It
// subscribes to them as Read does to an L3Out; the Root of what comes of it is aci.Universe.
//
// Source: apic-rest.md 4.3 and 4.5.
func (c *Client) ReadRelations(ctx context.Context) (aci.Update, error) {
	t := relations()
	return c.readSubscribed(ctx, t, func() ([]aci.MO, error) {
		r := request{op: "read", dn: t.root, path: t.path}
		objects, err := c.readPages(ctx, r, aci.ClassRsEctx)
		if err != nil {
			return nil, err
		}
		return flat(r, objects)
	})
}

// relations is the topic of ReadRelations.
func relations() topic {
	return topic{root: aci.Universe, path: "/api/class/" + aci.ClassRsEctx + ".json"}
}

// readSubscribed reads a topic after subscribing to it, unless ReadOnce.
func (c *Client) readSubscribed(ctx context.Context, t topic, read func() ([]aci.MO, error)) (aci.Update, error) {
	var sub *subscription
	var id string
	if !c.opts.ReadOnce {
		var err error
		if sub, id, err = c.subscribed(ctx, t); err != nil {
			return aci.Update{}, err
		}
	}
	objects, err := read()
	if err != nil {
		return aci.Update{}, err
	}
	if sub != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.subs[t.root] != sub || sub.id != id {
			return aci.Update{}, fmt.Errorf("read %s: the subscription ended meanwhile", t.root)
		}
	}
	return aci.Update{Kind: aci.FullRead, Root: t.root, Objects: objects}, nil
}

// Forget drops the subscription of what is read at root, the DN of an L3Out, aci.Topology or
// aci.Universe: its events are no longer told and it is no longer refreshed. The APIC has no call to
// end it; it expires there.
func (c *Client) Forget(root aci.DN) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sub := c.subs[root]; sub != nil {
		sub.id = ""
		delete(c.subs, root)
	}
	c.mail.forget(root)
	c.announce()
}

// subscribed returns the subscription to t with its present id, after making one if there
// is none.
func (c *Client) subscribed(ctx context.Context, t topic) (*subscription, string, error) {
	c.mu.Lock()
	sub := c.subs[t.root]
	if sub == nil {
		sub = &subscription{topic: t, turn: make(chan struct{}, 1)}
		c.subs[t.root] = sub // from here on events are told, also those that come before the answer
	}
	c.mu.Unlock()

	select {
	case sub.turn <- struct{}{}:
		defer func() { <-sub.turn }()
	case <-ctx.Done():
		return nil, "", fmt.Errorf("subscribe %s: %w", t.root, context.Cause(ctx))
	}
	for tried := uint64(0); ; {
		c.mu.Lock()
		id := sub.id
		c.mu.Unlock()
		if id != "" {
			return sub, id, nil
		}
		login, err := c.subscribe(ctx, sub, tried)
		if err != nil && (tried != 0 || !errors.Is(err, errReplaced)) {
			return nil, "", err
		}
		tried = login
	}
}

// subscribe makes the subscription of sub on the open WebSocket. errReplaced means that the
// session was renewed or the WebSocket lost, and that it is worth another attempt. tried is the
// login of the attempt before, 0 for none; the one of this attempt is returned.
func (c *Client) subscribe(ctx context.Context, sub *subscription, tried uint64) (login uint64, err error) {
	r := request{op: "subscribe", dn: sub.root, path: sub.path}
	s, own, err := c.openSocket(ctx)
	if err != nil {
		return 0, r.wrap(err)
	}
	start := time.Now()
	wanted := c.wantedLifetime(s)
	id, granted, err := c.subscribeFor(ctx, s, r, sub.params, wanted)
	e, answered := errors.AsType[*aci.Error](err)
	noSocket := answered && e.Code == "405"
	switch {
	case err == nil:
	case tried != 0 && s.login == tried && sessionRefused(err):
		return s.login, err // the session is good: the user may not read this
	case tried != 0 && (sessionRefused(err) || noSocket):
		return s.login, c.useless(err)
	case sessionRefused(err):
		if _, err := c.renew(ctx, s, err); err != nil {
			return s.login, r.wrap(err)
		}
		return s.login, errReplaced
	case noSocket:
		// Source: apic-rest.md 1.3: "unable to locate opened web socket. Please re-login to
		// the application".
		if _, err := c.login(ctx, s); err != nil {
			return s.login, r.wrap(err)
		}
		return s.login, errReplaced
	default:
		return s.login, err
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket != own {
		return s.login, r.wrap(errReplaced)
	}
	if granted < wanted {
		c.lifetime = ignored
	}
	sub.id, sub.start, sub.asked, sub.lifetime = id, start, granted > 0, cmp.Or(granted, defaultLifetime)
	c.schedule(sub, start)
	c.announce()
	return s.login, nil
}

// openSocket waits for the WebSocket of the present session.
func (c *Client) openSocket(ctx context.Context) (*session, *socket, error) {
	if _, err := c.login(ctx, nil); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, socketPatience, errNoSocket)
	defer cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return nil, nil, errClosed
		case c.socket != nil && c.session != nil && c.session.login == c.socket.login:
			return c.session, c.socket, nil
		}
		if err := c.wait(ctx); err != nil {
			if c.sockErr != nil {
				err = fmt.Errorf("%w: %w", err, c.sockErr)
			}
			return nil, nil, err
		}
	}
}

var errNoSocket = fmt.Errorf("no WebSocket within %v: %w", socketPatience, context.DeadlineExceeded)

// wantedLifetime is what to ask for with s, 0 for nothing: no longer than s lives.
func (c *Client) wantedLifetime(s *session) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := askedLifetime
	if !s.end.IsZero() {
		d = min(d, time.Until(s.end).Truncate(time.Second))
	}
	if c.lifetime == ignored || d <= defaultLifetime {
		return 0
	}
	return d
}

// subscribeFor subscribes for lifetime, 0 for the default, and returns what was granted. An
// APIC that refuses the parameter is asked without it.
//
// The query has no pages: whether they would limit the events too is unverified. Only when
// the answer would be too large is the first object asked for.
//
// Source: apic-rest.md 2.6 for the limit of an answer, 6.1 for pages in the subscriptions
// of the APIC's GUI.
func (c *Client) subscribeFor(
	ctx context.Context, s *session, r request, wanted []string, lifetime time.Duration,
) (id string, granted time.Duration, err error) {
	for paged := false; ; {
		params := append(slices.Clip(wanted), "subscription=yes")
		if lifetime > 0 {
			params = append(params, refreshTimeout(lifetime))
		}
		if paged {
			params = append(params, "page=0", "page-size=1")
		}
		r.query = query(params...)
		err := c.exchange(ctx, s.member, s, r, func(status int, body io.Reader) (err error) {
			id, err = subscriptionID(r, status, body)
			return err
		})
		e, answered := errors.AsType[*aci.Error](err)
		switch {
		case !answered || e.Status != http.StatusBadRequest:
			return id, lifetime, err
		case strings.Contains(e.Text, "too big") && !paged:
			paged = true
		case lifetime > 0:
			lifetime = 0
		default:
			return "", 0, err
		}
	}
}

func refreshTimeout(d time.Duration) string {
	return "refresh-timeout=" + strconv.Itoa(int(d/time.Second))
}

// subscriptionID reads the id from the answer to a subscription. The objects, which may be
// tens of thousands, are dropped undecoded: Read reads them in pages afterwards, so that
// nothing can fall between the state of this answer and the first event. The rest of the
// answer is read so that the connection can be used again.
//
// Source: apic-rest.md 2.1: subscriptionId stands before imdata.
func subscriptionID(r request, status int, body io.Reader) (string, error) {
	if status != http.StatusOK {
		_, err := decode(r, status, body)
		if err == nil {
			err = &aci.Error{Op: r.op, DN: r.dn, Status: status, Text: "no subscription"}
		}
		return "", err
	}
	limited := io.LimitReader(body, maxBodyBytes)
	head := make([]byte, 512)
	n, err := io.ReadFull(limited, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("%s: %w", r, err)
	}
	head = head[:n]
	if id := idBefore(head); id != "" {
		if _, err := io.Copy(io.Discard, limited); err != nil {
			return "", fmt.Errorf("%s: %w", r, err)
		}
		return id, nil
	}
	// An error object, HTML, or an order of members that was never seen.
	rep, err := decode(r, status, io.MultiReader(bytes.NewReader(head), limited))
	if err != nil {
		return "", err
	}
	if len(rep.SubscriptionIDs) == 0 || rep.SubscriptionIDs[0] == "" {
		return "", incomplete(r, "no subscriptionId")
	}
	return rep.SubscriptionIDs[0], nil
}

// idBefore finds the subscriptionId that stands before imdata in head; "" when there is none.
func idBefore(head []byte) string {
	dec := json.NewDecoder(bytes.NewReader(head))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for {
		key, err := dec.Token()
		if err != nil || key == "imdata" {
			return ""
		}
		value, err := dec.Token()
		if err != nil {
			return ""
		}
		if id, ok := value.(string); ok && key == "subscriptionId" {
			return id
		}
	}
}

// Until refresh-timeout is known to be honored, the first refresh comes when a subscription
// with the default lifetime would be gone for certain: its answer tells.
const (
	minProof = defaultLifetime + 30*time.Second
	maxProof = minProof + 10*time.Second
)

// schedule sets when sub, subscribed or refreshed at now, expires and is refreshed. c.mu
// is held.
func (c *Client) schedule(sub *subscription, now time.Time) {
	sub.expires = now.Add(sub.lifetime)
	switch {
	case !sub.asked:
		sub.due = now.Add(c.jitter.between(sub.lifetime*2/3, sub.lifetime*4/5))
	case c.lifetime == unproven && sub.lifetime > 2*maxProof:
		sub.due = now.Add(c.jitter.between(minProof, maxProof))
	default:
		sub.due = now.Add(c.jitter.between(sub.lifetime*2/5, sub.lifetime/2))
	}
}

// topics are all subscriptions, in the order of their roots. c.mu is held.
func (c *Client) topics() []*subscription {
	return slices.SortedFunc(maps.Values(c.subs), func(a, b *subscription) int { return cmp.Compare(a.root, b.root) })
}

// lose takes note that the APIC no longer has sub. c.mu is held.
func (c *Client) lose(sub *subscription) {
	if sub.id == "" {
		return
	}
	sub.id = ""
	c.mail.put(aci.Update{Kind: aci.Gap, Root: sub.root})
}

// keepSubscriptions refreshes each subscription when it is due, until ctx ends.
func (c *Client) keepSubscriptions(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		now := time.Now()
		next := now.Add(time.Hour)
		c.mu.Lock()
		changed := c.changed
		for _, sub := range c.topics() {
			switch {
			case sub.id == "" || sub.refreshing:
			case now.Before(sub.due):
				if sub.due.Before(next) {
					next = sub.due
				}
			default:
				sub.refreshing = true
				id, lifetime := sub.id, time.Duration(0)
				if sub.asked {
					lifetime = sub.lifetime
				}
				wg.Go(func() { c.keepSubscription(ctx, sub, id, lifetime) })
			}
		}
		c.mu.Unlock()
		timer := time.NewTimer(time.Until(next))
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// keepSubscription refreshes the subscription id of sub. A refusal means that the APIC no
// longer has it.
//
// Source: apic-rest.md 6.3: one id for each call; 400 "Subscription refresh timeout".
func (c *Client) keepSubscription(ctx context.Context, sub *subscription, id string, lifetime time.Duration) {
	params := []string{"id=" + id}
	if lifetime > 0 {
		params = append(params, refreshTimeout(lifetime))
	}
	r := request{op: "keep", dn: sub.root, path: "/api/subscriptionRefresh.json", query: query(params...)}
	sent := time.Now()
	s, err := c.login(ctx, nil)
	if err == nil {
		_, err = c.send(ctx, s, r)
		if sessionRefused(err) {
			// After a new login the subscription is gone with its WebSocket; after a mere
			// refresh of the token the next attempt finds it.
			if _, renewErr := c.renew(ctx, s, err); renewErr != nil {
				err = renewErr
			}
		}
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	sub.refreshing = false
	defer c.announce()
	e, answered := errors.AsType[*aci.Error](err)
	now := time.Now()
	switch {
	case sub.id != id: // lost meanwhile
	case err == nil:
		if lifetime > 0 && c.lifetime == unproven && sent.Sub(sub.start) >= minProof {
			c.lifetime = honored
			for _, other := range c.topics() {
				if other.id != "" && other.asked {
					c.schedule(other, other.expires.Add(-other.lifetime))
				}
			}
		}
		c.schedule(sub, sent)
	case answered && e.Status == http.StatusBadRequest:
		if lifetime > 0 && c.lifetime == unproven {
			c.lifetime = ignored
		}
		c.log.Warn("apic subscription ended", "dn", sub.root, "err", err)
		c.lose(sub)
	case !now.Before(sub.expires) && ctx.Err() == nil:
		c.log.Warn("apic subscription expired", "dn", sub.root, "err", err)
		c.lose(sub)
	default:
		sub.due = now.Add(c.jitter.between(refreshPatience, 2*refreshPatience))
	}
}
