package apicsim

import (
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
	Delay time.Duration `json:"-"`               // before the request is looked at; "delay" in JSON, as in "1.5s"

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
	Empty  bool `json:"empty,omitempty"`  // a read answers with its totalCount and no objects

	CloseSockets   bool `json:"closeSockets,omitempty"`   // close all sockets before the request is looked at
	ExpireSessions bool `json:"expireSessions,omitempty"` // end all sessions before the request is looked at
}

// MarshalJSON writes Delay as a string such as "1.5s".
func (f Fault) MarshalJSON() ([]byte, error) {
	type plain Fault
	var delay string
	if f.Delay != 0 {
		delay = f.Delay.String()
	}
	return json.Marshal(struct {
		plain
		Delay string `json:"delay,omitempty"`
	}{plain(f), delay})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *Fault) UnmarshalJSON(data []byte) error {
	type plain Fault
	in := struct {
		*plain
		Delay string `json:"delay"`
	}{plain: (*plain)(f)}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.Delay == "" {
		return nil
	}
	d, err := time.ParseDuration(in.Delay)
	f.Delay = d
	return err
}

// armed is a fault with what is left of it.
type armed struct {
	Fault
	match *regexp.Regexp
	skip  int
	left  int // negative: all
}

// dropping loses events without a word.
type dropping struct {
	match *regexp.Regexp
	left  int
}

// AddFault arms a fault. It fails when Match is not a regular expression.
func (s *Sim) AddFault(f Fault) error {
	re, err := regexp.Compile(f.Match)
	if err != nil {
		return err
	}
	a := &armed{Fault: f, match: re, skip: f.Skip, left: f.Times}
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
			for _, sub := range sess.subs {
				s.unsubscribe(sub)
			}
		}
		sess.sockets = nil
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
		if a.left > 0 {
			a.left--
		}
		if a.CloseSockets {
			s.closeSockets()
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
			return true
		}
	}
	return false
}
