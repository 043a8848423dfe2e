package apicsim

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options set up a fabric. The zero value is a fresh one with user admin, password
// "apic-sim", the lifetimes of a real APIC and no throttling.
type Options struct {
	Users   []User // nil is {admin, apic-sim}
	Version string // in logins and on nodes; "" is 6.0(9c), the release whose class metadata the simulator follows

	TokenLife        time.Duration // of a token that is not refreshed; 0 is 600 s
	SessionLife      time.Duration // from login, whatever is refreshed; 0 is 24 h
	SubscriptionLife time.Duration // without refresh-timeout; 0 is 60 s
	LockAfter        int           // refused logins of a user within 5 minutes that lock him for an hour; 0 never does
	LoginRate        int           // logins and refreshes per second before 503; 0 is no limit (a real APIC: 2)
	Latency          time.Duration // added to every request
	EventDelay       time.Duration // between a write and its events
	DeployDelay      time.Duration // until a new external EPG is configSt=applied; 0 is 200 ms, negative is never

	OpaqueTokens     bool  // tokens of APIC 4 and older: base64 with + / =
	RefreshRevokes   bool  // a refresh ends the tokens before it; else they live on to their own expiry
	NoRefreshTimeout bool  // ignore refresh-timeout, as before APIC 4.0
	ModifyCreates    bool  // status=modified on an absent object creates it; else 102. Not known of a real APIC
	Leafs            []int // ids of leafs in pod 1, where L3Outs without node profiles are deployed, and F0467 is raised
	ObserveTags      bool  // push changes of tagAnnotation and tagTag; metadata says isObservable=false

	MaxResult   int       // objects in an answer before "dataset is too big"; 0 is 100,000
	SocketQueue int       // events that may wait for a slow reader before its socket is closed; 0 is 200,000
	RequestLog  io.Writer // one JSON object per request and line; nil is none
}

// Sim is a simulated APIC: an http.Handler. Safe for concurrent use. Close it.
type Sim struct {
	opts        Options
	fingerprint string
	id          int            // of the controller, from 1
	running     sync.WaitGroup // open sockets

	mu         *sync.Mutex      // guards the fields below, and is that of all members
	members    *[]*Sim          // all that share the fabric, in the order of their ids
	fabric     *fabric          // shared
	conflicts  *conflicts       // shared
	locks      map[string]*lock // shared: user name -> refused logins
	closed     bool
	sessions   map[*session]bool
	tokens     map[string]*session
	subs       map[string]*subscription // id -> subscription, of all sessions
	timers     map[*time.Timer]bool
	faults     []*armed
	faulted    int // requests that a fault took
	lost       int // events
	cut        int // sockets, subscriptions and sessions
	drops      []*dropping
	logins     int
	loginTimes []time.Time
	subscribed int
	requests   []Request
	seq        int
}

// keptRequests bounds what Requests remembers.
const keptRequests = 100_000

// New makes a fabric as it is after set-up: tenants common, infra and mgmt, the default
// VRF in common, one controller.
func New(o Options) *Sim {
	if o.Users == nil {
		o.Users = []User{{Name: "admin", Password: "apic-sim"}}
	}
	o.Version = cmp.Or(o.Version, "6.0(9c)")
	o.TokenLife = cmp.Or(o.TokenLife, 600*time.Second)
	o.SessionLife = cmp.Or(o.SessionLife, 24*time.Hour)
	o.SubscriptionLife = cmp.Or(o.SubscriptionLife, 60*time.Second)
	o.DeployDelay = cmp.Or(o.DeployDelay, 200*time.Millisecond)
	o.MaxResult = cmp.Or(o.MaxResult, 100_000)
	o.SocketQueue = cmp.Or(o.SocketQueue, 200_000)
	s := newMember(o)
	s.id, s.mu, s.members = 1, &sync.Mutex{}, &[]*Sim{s}
	s.fabric, s.conflicts, s.locks = newFabric(), newConflicts(), map[string]*lock{}
	s.furnish()
	return s
}

func newMember(o Options) *Sim {
	return &Sim{
		opts:        o,
		fingerprint: base64.RawURLEncoding.EncodeToString(random(24)),
		sessions:    map[*session]bool{},
		tokens:      map[string]*session{},
		subs:        map[string]*subscription{},
		timers:      map[*time.Timer]bool{},
	}
}

// Member returns one more APIC of the same cluster: it has the same fabric and Options,
// and its own sessions, sockets, subscriptions, faults and request log in memory. What is
// written through one is announced to the sockets of all. Close each; the first one last,
// since what the fabric does by itself (Options.DeployDelay) ends with it.
//
// Source: apic-rest.md 6.4 and 7. unverified: that a token is worth nothing to other members.
func (s *Sim) Member() *Sim {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := newMember(s.opts)
	m.mu, m.members, m.fabric, m.conflicts, m.locks = s.mu, s.members, s.fabric, s.conflicts, s.locks
	*s.members = append(*s.members, m)
	m.id = len(*s.members)
	t := m.begin()
	t.controller(m.id, s.opts.Version)
	t.commit()
	return m
}

// Close ends sessions, sockets and timers, and waits for the sockets to be gone. Requests
// after it are answered 502.
func (s *Sim) Close() {
	s.mu.Lock()
	s.closed = true
	s.expireSessions()
	for t := range s.timers {
		t.Stop()
	}
	clear(s.timers)
	s.mu.Unlock()
	s.running.Wait()
}

// Post writes a body as POST /api/mo/{dn}.json does, without a session. It is announced
// like any other write, and does not appear among Requests. dn "" takes the place from the
// body. The error tells HTTP status, code and text.
func (s *Sim) Post(dn, body string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, _, err := s.write(dn, []byte(body), writer{}); err != nil {
		return fmt.Errorf("post %s: %w", dn, err)
	}
	return nil
}

// Delete removes an object and all below it as DELETE does, without a session.
func (s *Sim) Delete(dn string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.remove(dn, nil); err != nil {
		return fmt.Errorf("delete %s: %w", dn, err)
	}
	return nil
}

// Seed writes a JSON array of bodies, or a single one, each to where its dn says or below
// uni. The first that is refused stops it; those before it stay.
//
// It writes as the fabric itself does, beyond what Post may: objects that only the APIC
// makes, such as the bgpPeerEntry of a leaf (the leaf comes with it if need be), and
// read-only properties. What the APIC derives from other objects is derived anew by later
// writes. With status deleted it takes such objects away.
func (s *Sim) Seed(data []byte) error {
	var bodies []json.RawMessage
	if err := json.Unmarshal(data, &bodies); err != nil {
		bodies = []json.RawMessage{data}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range bodies {
		target := "uni"
		if o, err := parseBody(b); err == nil {
			if _, placed := o.attr("dn"); placed {
				target = ""
			}
		}
		if _, _, err := s.write(target, b, writer{fabric: true}); err != nil {
			return fmt.Errorf("seed body %d: %w", i+1, err)
		}
	}
	return nil
}

// Lookup returns the attributes of an object, dn and rn included, and what is not shown
// on the wire.
func (s *Sim) Lookup(dn string) (map[string]string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := parsePath(dn)
	if err != nil {
		return nil, false
	}
	n := s.fabric.find(p)
	if n == nil || n == s.fabric.top {
		return nil, false
	}
	attrs := map[string]string{"dn": n.dn, "rn": n.rn}
	for i, p := range n.class.props {
		attrs[p.name] = n.attrs[i]
	}
	return attrs, true
}

// Dump lists the objects at and below dn ("uni" for all policy), sorted by DN, one a line:
// DN, class, and of its properties those that somebody set to something else than the
// default, with tDn and state of relations, and extMngdBy. It holds nothing that differs between runs, and
// so no faults; and nothing about users.
func (s *Sim) Dump(dn string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := parsePath(dn)
	if err != nil {
		return ""
	}
	n := s.fabric.find(p)
	if n == nil || n == s.fabric.top {
		return ""
	}
	var all []*node
	n.walk(func(k *node) {
		if !k.class.phantom && !k.class.fault && !k.class.account {
			all = append(all, k)
		}
	})
	slices.SortFunc(all, func(a, b *node) int { return strings.Compare(a.dn, b.dn) })
	var b strings.Builder
	for _, k := range all {
		b.WriteString(k.dn + " " + k.class.name)
		for i, p := range k.class.props {
			v := k.attrs[i]
			shown := p.access == config || p.access == readOnly && (p.name == "tDn" || p.name == "state" || p.name == "extMngdBy")
			if shown && v != p.def {
				b.WriteString(" " + p.name + "=" + strconv.Quote(v))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Stats counts what is there now.
type Stats struct {
	Sessions, Sockets, Subscriptions, Objects int
	Classes                                   map[string]int // objects by class
	Conflicts                                 int            // prefixes with import-security that several EPGs of a VRF hold
	ConflictsSeen                             int            // how often a prefix came to be one of those
	Faults                                    int            // requests that a fault took
	Lost                                      int            // events that DropEvents lost, or that went to a mute socket
	Cut                                       int            // sockets, subscriptions and sessions that were ended or silenced by a fault
}

// Stats returns counts of sessions, open sockets, live subscriptions, objects and conflicts.
func (s *Sim) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Sessions: len(s.sessions), Classes: map[string]int{},
		Conflicts: len(s.conflicts.lost), ConflictsSeen: s.conflicts.seen,
		Faults: s.faulted, Lost: s.lost, Cut: s.cut,
	}
	for sess := range s.sessions {
		st.Sockets += len(sess.sockets)
	}
	now := time.Now()
	for _, sub := range s.subs {
		if now.Before(sub.expires) {
			st.Subscriptions++
		}
	}
	for c, list := range s.fabric.byClass {
		if len(list) > 0 && !c.phantom {
			st.Classes[c.name] = len(list)
			st.Objects += len(list)
		}
	}
	return st
}

// Requests returns the requests since New or since sequence number after, in order: the
// last 100,000 of them.
func (s *Sim) Requests(after int) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, _ := slices.BinarySearchFunc(s.requests, after+1, func(r Request, seq int) int { return cmp.Compare(r.Seq, seq) })
	return slices.Clone(s.requests[i:])
}

// log keeps a request. The lock is held, so the log is in the order of the work.
func (s *Sim) log(r Request) {
	s.seq++
	r.Node, r.Seq, r.Time = s.id, s.seq, time.Now()
	if len(s.requests) >= 2*keptRequests {
		s.requests = slices.Clone(s.requests[keptRequests:])
	}
	s.requests = append(s.requests, r)
	if s.opts.RequestLog == nil {
		return
	}
	enc := json.NewEncoder(s.opts.RequestLog)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(r) // a full disk must not change what the APIC does
}
