package apicsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"time"
)

// Fault makes requests go wrong. Faults are counted, never random: the first fault whose
// Match fits and whose turns are not used up takes the request.
type Fault struct {
	Match string        `json:"match,omitempty"` // regular expression on "METHOD /path?query"; "" fits every request
	Skip  int           `json:"skip,omitempty"`  // let so many matching requests pass first
	Times int           `json:"times,omitempty"` // how many requests to take; 0 is one, negative is all
	Rate  int           `json:"rate,omitempty"`  // let so many matching requests pass in each second, and take the others; not with times
	Delay time.Duration `json:"-"`               // before the request is looked at; "delay" in JSON, as in "1.5s"
	Body  time.Duration `json:"-"`               // between the two halves of the body of the answer; "body" in JSON

	// Status answers with this HTTP status instead of doing what was asked; 0 does it. With
	// Code the answer is an error object with Code and Text, else a page of HTML as from
	// the web server in front of the APIC.
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"`
	Text   string `json:"text,omitempty"`

	// After carries the request out before it answers with Status, or cuts the connection
	// with Hangup: the client cannot know.
	After  bool `json:"after,omitempty"`
	Hangup bool `json:"hangup,omitempty"` // cut the connection without an answer
	Hang   bool `json:"hang,omitempty"`   // never answer; with After, having done it
	Empty  bool `json:"empty,omitempty"`  // a read answers with its totalCount and no objects

	// Before the request is looked at:
	CloseSockets        bool `json:"closeSockets,omitempty"`        // as Sim.CloseSockets
	MuteSockets         bool `json:"muteSockets,omitempty"`         // as Sim.MuteSockets
	ExpireSubscriptions bool `json:"expireSubscriptions,omitempty"` // as Sim.ExpireSubscriptions
	ExpireSessions      bool `json:"expireSessions,omitempty"`      // as Sim.ExpireSessions
}

// MarshalJSON writes Delay as a string such as "1.5s".
func (f Fault) MarshalJSON() ([]byte, error) {
	type plain Fault
	text := func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return json.Marshal(struct {
		plain
		Delay string `json:"delay,omitempty"`
		Body  string `json:"body,omitempty"`
	}{plain(f), text(f.Delay), text(f.Body)})
}

// UnmarshalJSON reads what MarshalJSON writes, and refuses what it does not know.
func (f *Fault) UnmarshalJSON(data []byte) error {
	type plain Fault
	in := struct {
		*plain
		Delay string `json:"delay"`
		Body  string `json:"body"`
	}{plain: (*plain)(f)}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return err
	}
	for _, field := range []struct {
		text string
		to   *time.Duration
	}{{in.Delay, &f.Delay}, {in.Body, &f.Body}} {
		if field.text == "" {
			continue
		}
		d, err := time.ParseDuration(field.text)
		if err != nil {
			return err
		}
		*field.to = d
	}
	return nil
}

// armed is a fault with what is left of it.
type armed struct {
	Fault
	match *regexp.Regexp
	skip  int
	left  int // negative: all

	second time.Time // that Rate is counted in
	passed int       // in it
}

// passes reports whether Rate lets one more request pass now.
func (a *armed) passes(now time.Time) bool {
	if a.Rate <= 0 {
		return false
	}
	if now.Sub(a.second) >= time.Second {
		a.second, a.passed = now, 0
	}
	a.passed++
	return a.passed <= a.Rate
}

// dropping loses events without a word.
type dropping struct {
	match *regexp.Regexp
	left  int
}

// AddFault arms a fault. It fails when Match is not a regular expression. A fault that says nothing of
// what becomes of a request but has a Rate answers 503, as the throttle of the web server does.
//
// Source: apic-rest.md 7.
func (s *Sim) AddFault(f Fault) error {
	re, err := regexp.Compile(f.Match)
	if err != nil {
		return err
	}
	a := &armed{Fault: f, match: re, skip: f.Skip, left: f.Times}
	if f.Rate > 0 {
		a.left = -1
		if f.Status == 0 && !f.Hangup && !f.Hang && !f.Empty && f.Delay == 0 && f.Body == 0 {
			a.Status = http.StatusServiceUnavailable
		}
	}
	if a.left == 0 {
		a.left = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, a)
	return nil
}

// ClearFaults disarms all faults, those of events too.
func (s *Sim) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults, s.drops = nil, nil
}

// DropEvents loses the next n events, of objects whose DN fits the regular expression
// match, before they reach any socket. Negative n loses all.
func (s *Sim) DropEvents(n int, match string) error {
	re, err := regexp.Compile(match)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drops = append(s.drops, &dropping{re, n})
	return nil
}

// CloseSockets cuts every WebSocket, and with it its subscriptions. Sessions stay.
func (s *Sim) CloseSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeSockets()
}

func (s *Sim) closeSockets() {
	for sess := range s.sessions {
		for _, k := range sess.sockets {
			k.close()
			s.cut++
			for _, sub := range sess.subs {
				s.unsubscribe(sub)
			}
		}
		sess.sockets = nil
	}
}

// MuteSockets leaves every WebSocket open and says nothing on it any more, no answer to a ping either: as
// a firewall that forgot the connection. Sessions and subscriptions stay, and events are lost.
func (s *Sim) MuteSockets() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muteSockets()
}

func (s *Sim) muteSockets() {
	for sess := range s.sessions {
		for _, k := range sess.sockets {
			k.muted.Store(true)
			s.cut++
		}
	}
}

// ExpireSubscriptions ends every subscription, as if it had not been refreshed in time. Sockets stay.
func (s *Sim) ExpireSubscriptions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireSubscriptions()
}

func (s *Sim) expireSubscriptions() {
	for sess := range s.sessions {
		for _, sub := range sess.subs {
			s.unsubscribe(sub)
			s.cut++
		}
	}
}

// ExpireSessions ends every session: their tokens time out, their sockets close.
func (s *Sim) ExpireSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireSessions()
}

func (s *Sim) expireSessions() {
	for sess := range s.sessions {
		s.endSession(sess)
		s.cut++
	}
}

// takeFault returns the fault that takes a request, or nil. The lock is held.
func (s *Sim) takeFault(request string) *armed {
	for _, a := range s.faults {
		if a.left == 0 || !a.match.MatchString(request) {
			continue
		}
		if a.skip > 0 {
			a.skip--
			continue
		}
		if a.passes(time.Now()) {
			continue
		}
		s.faulted++
		if a.left > 0 {
			a.left--
		}
		if a.CloseSockets {
			s.closeSockets()
		}
		if a.MuteSockets {
			s.muteSockets()
		}
		if a.ExpireSubscriptions {
			s.expireSubscriptions()
		}
		if a.ExpireSessions {
			s.expireSessions()
		}
		return a
	}
	return nil
}

// answer is what the fault says instead of the APIC.
func (f *Fault) answer() response {
	if f.Code != "" || f.Text != "" {
		code := f.Code
		if code == "" {
			code = "1"
		}
		return fail(&wireError{status: f.Status, code: code, text: f.Text})
	}
	if f.Status < http.StatusBadRequest { // such as 202
		r := ok(envelope(0, "", nil))
		r.status = f.Status
		return r
	}
	return fail(webServer(f.Status))
}

// dropEvent reports whether an event is to be lost. The lock is held.
func (s *Sim) dropEvent(dn string) bool {
	for _, d := range s.drops {
		if d.left != 0 && d.match.MatchString(dn) {
			if d.left > 0 {
				d.left--
			}
			s.lost++
			return true
		}
	}
	return false
}
