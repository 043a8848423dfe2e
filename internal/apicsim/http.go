package apicsim

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limits of the web server in front of the APIC.
const (
	maxRequestLine = 8192     // with method and protocol. Source: apic-rest.md 2.4; a URL of 10,749 bytes failed
	maxBody        = 64 << 20 // unverified: no limit is documented
)

// Request is a line of the request log.
type Request struct {
	Node      int             `json:"node"` // the member of the cluster that answered, from 1
	Seq       int             `json:"seq"`  // of this member, from 1, in the order in which requests were carried out
	Time      time.Time       `json:"time"` // when it was answered
	Method    string          `json:"method"`
	Path      string          `json:"path"` // tokens are cut out
	Query     string          `json:"query,omitempty"`
	BodyBytes int             `json:"bodyBytes,omitempty"`
	User      string          `json:"user,omitempty"`
	Session   string          `json:"session,omitempty"` // "s1" is the first login
	Status    int             `json:"status"`            // 101 for a socket, 0 for a connection that a fault cut
	Code      string          `json:"code,omitempty"`    // of the error object
	Text      string          `json:"text,omitempty"`    // of the error object
	Objects   int             `json:"objects"`           // created, modified or deleted, what follows from it included
	Returned  int             `json:"returned,omitempty"`
	Fault     bool            `json:"fault,omitempty"` // a fault took it
	Body      json.RawMessage `json:"body,omitempty"`  // of writes to mo; a JSON string when it is not JSON
}

// call is a request on its way through the handlers.
type call struct {
	method     string
	params     map[string]string
	body       []byte
	session    *session
	twice      bool // the cookie stands twice
	objects    int
	subscribed string // id of a new subscription
	found      int
}

type response struct {
	status int
	body   []byte
	html   bool
	cookie string
	err    *wireError
}

func ok(body []byte) response { return response{status: http.StatusOK, body: body} }

func fail(err *wireError) response {
	return response{status: err.status, body: err.body(), html: err.html, err: err}
}

func writeResponse(w http.ResponseWriter, r response) {
	h := w.Header()
	h.Set("Server", "Cisco APIC")
	h.Set("Content-Type", "application/json")
	if r.html {
		h.Set("Content-Type", "text/html")
	} else {
		h.Set("Access-Control-Allow-Methods", "POST,GET,OPTIONS,DELETE")
		h.Set("Access-Control-Allow-Headers", "Origin, X-Requested-With, Content-Type, Accept, DevCookie, APIC-challenge, Request-Tag")
		h.Set("Cache-Control", "no-cache")
	}
	if r.cookie != "" {
		h.Set("Set-Cookie", r.cookie)
	}
	h.Set("Content-Length", strconv.Itoa(len(r.body)))
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // the client may be gone
}

// ServeHTTP answers as an APIC does. Safe for concurrent use.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !pause(r.Context(), s.opts.Latency) {
		return
	}
	if token, isSocket := strings.CutPrefix(r.URL.Path, "/socket"); isSocket && r.Method == http.MethodGet {
		s.socketRequest(w, r, token)
		return
	}
	body, tooLong, err := readBody(r)
	if err != nil {
		return // the client is gone
	}
	entry := Request{Method: r.Method, Path: r.URL.Path, Query: maskQuery(r.URL.RawQuery), BodyBytes: len(body)}

	s.mu.Lock()
	fault := s.takeFault(requestName(r))
	if fault != nil && fault.Delay > 0 {
		s.mu.Unlock()
		if !pause(r.Context(), fault.Delay) {
			return
		}
		s.mu.Lock()
	}
	c := &call{method: r.Method, body: body}
	hangup, hang := fault != nil && fault.Hangup, fault != nil && fault.Hang
	var resp response
	switch {
	case s.closed:
		resp = fail(webServer(http.StatusBadGateway))
	case fault != nil && !fault.After && (fault.Status != 0 || hangup || hang):
		resp = fault.answer()
	case tooLong:
		resp = fail(webServer(http.StatusRequestEntityTooLarge))
	case len(r.Method)+len(" ")+len(r.RequestURI)+len(" HTTP/1.1") > maxRequestLine:
		resp = fail(webServer(http.StatusRequestURITooLong))
	default:
		resp = s.route(r, c)
		if fault != nil && fault.Empty && r.Method == http.MethodGet && resp.err == nil {
			resp.body = envelope(c.found, c.subscribed, nil)
		}
		if fault != nil && fault.After && fault.Status != 0 {
			resp = fault.answer()
		}
	}
	entry.Fault = fault != nil
	entry.Status, entry.Objects, entry.Returned = resp.status, c.objects, c.found
	if resp.err != nil {
		entry.Code, entry.Text = resp.err.code, resp.err.text
	}
	if hangup || hang {
		entry.Status = 0
	}
	if c.session != nil {
		entry.User, entry.Session = c.session.userName, c.session.name
	}
	if isWrite(r) {
		entry.Body = rawBody(body)
	}
	s.log(entry)
	s.mu.Unlock()
	switch {
	case hang:
		<-r.Context().Done()
	case hangup:
		hangUp(w)
	case fault != nil && fault.Body > 0:
		writeSlowly(w, r, resp, fault.Body)
	default:
		writeResponse(w, resp)
	}
}

// writeSlowly pauses for d in the middle of the body.
func writeSlowly(w http.ResponseWriter, r *http.Request, resp response, d time.Duration) {
	half := &halves{ResponseWriter: w, pause: func() bool {
		_ = http.NewResponseController(w).Flush()
		return pause(r.Context(), d)
	}}
	writeResponse(half, resp)
}

// halves writes what it is given in two halves.
type halves struct {
	http.ResponseWriter
	pause func() bool
}

func (h *halves) Write(p []byte) (int, error) {
	n, err := h.ResponseWriter.Write(p[:len(p)/2])
	if err != nil || !h.pause() {
		return n, err
	}
	m, err := h.ResponseWriter.Write(p[len(p)/2:])
	return n + m, err
}

// socketRequest lets a fault take the opening of a socket too.
func (s *Sim) socketRequest(w http.ResponseWriter, r *http.Request, token string) {
	entry := Request{Method: r.Method, Path: "/socket{token}"}
	s.mu.Lock()
	fault := s.takeFault("GET /socket")
	s.mu.Unlock()
	if fault != nil && !pause(r.Context(), fault.Delay) {
		return
	}
	entry.Fault = fault != nil
	log := func(status int, sess *session) {
		s.mu.Lock()
		defer s.mu.Unlock()
		entry.Status = status
		if sess != nil {
			entry.User, entry.Session = sess.userName, sess.name
		}
		s.log(entry)
	}
	switch {
	case fault != nil && fault.Hang:
		log(0, nil)
		<-r.Context().Done()
	case fault != nil && fault.Hangup:
		log(0, nil)
		hangUp(w)
	case fault != nil && fault.Status != 0:
		log(fault.Status, nil)
		writeResponse(w, fault.answer())
	default:
		s.serveSocket(w, r, token, log)
	}
}

// pause waits d, or returns false when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusBadGateway) // a connection that cannot be taken over
		return
	}
	_ = conn.Close()
}

func readBody(r *http.Request) (body []byte, tooLong bool, err error) {
	if r.Body == nil {
		return nil, false, nil
	}
	body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if len(body) > maxBody {
		return nil, true, nil
	}
	return body, false, err
}

func requestName(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return r.Method + " " + r.URL.Path
	}
	return r.Method + " " + r.URL.Path + "?" + r.URL.RawQuery
}

func isWrite(r *http.Request) bool {
	return r.Method == http.MethodPost && !strings.HasPrefix(r.URL.Path, "/api/aaa")
}

// maskQuery takes the urlToken out of a query.
func maskQuery(raw string) string {
	parts := strings.Split(raw, "&")
	for i, p := range parts {
		if strings.HasPrefix(p, "challenge=") {
			parts[i] = "challenge=…"
		}
	}
	return strings.Join(parts, "&")
}

// rawBody is a body for the log, without passwords.
func rawBody(body []byte) json.RawMessage {
	if bytes.Contains(body, []byte("password")) {
		body = passwords.ReplaceAll(body, []byte(`$1"…"`))
	}
	if json.Valid(body) {
		return json.RawMessage(strings.Clone(string(body)))
	}
	return json.RawMessage(appendQuoted(nil, string(body)))
}

var passwords = regexp.MustCompile(`("password"\s*:\s*)"(?:[^"\\]|\\.)*"`)

// route finds the handler of a request. The lock is held.
//
// Source: apic-rest.md 1.1, 1.2, 2.1, 3.1, 6.3. unverified: the answers to methods that an
// APIC does not know; a method in lower case is what NGINX refuses as malformed.
func (s *Sim) route(r *http.Request, c *call) response {
	switch c.method {
	case http.MethodGet, http.MethodPost, http.MethodDelete:
	default:
		if c.method != strings.ToUpper(c.method) {
			return fail(webServer(http.StatusBadRequest))
		}
		return fail(webServer(http.StatusMethodNotAllowed))
	}
	rest, isAPI := strings.CutPrefix(r.URL.Path, "/api/")
	rest = strings.TrimPrefix(rest, "node/")
	name, isJSON := strings.CutSuffix(rest, ".json")
	if !isAPI {
		return fail(webServer(http.StatusNotFound))
	}
	if !isJSON {
		if strings.HasSuffix(rest, ".xml") {
			return fail(notModeled("XML"))
		}
		return fail(webServer(http.StatusNotFound))
	}
	params, err := parseParams(r.URL.RawQuery)
	if err != nil {
		return fail(err)
	}
	c.params = params
	switch name {
	case "aaaLogin":
		return s.login(c)
	case "aaaListDomains":
		return s.domains()
	}
	if err := s.authenticate(r, c); err != nil {
		return fail(err)
	}
	switch kind, dn, _ := strings.Cut(name, "/"); {
	case name == "requestAppToken":
		return fail(notModeled("app users"))
	case name == "webtokenSession" && c.method == http.MethodGet:
		return s.webToken(c)
	case c.session.signed && strings.HasPrefix(name, "aaa"):
		return fail(denied(http.StatusForbidden, textNoCookie)) // there is no login to refresh or to end
	case name == "aaaRefresh" && c.method != http.MethodDelete:
		return s.refresh(c)
	case name == "aaaLogout":
		return s.logout(c)
	case name == "subscriptionRefresh" && c.method == http.MethodGet:
		return s.refreshSubscription(c)
	case kind == "mo" && c.method == http.MethodPost:
		return s.post(c, dn)
	case kind == "mo" && c.method == http.MethodDelete:
		return s.drop(c, dn)
	case kind == "mo" && dn != "":
		return s.getMO(c, dn)
	case kind == "class" && c.method == http.MethodGet && dn != "":
		return s.getClass(c, dn)
	}
	return fail(webServer(http.StatusNotFound))
}

func (s *Sim) post(c *call, dn string) response {
	echo := c.params["rsp-subtree"]
	switch echo {
	case "", "no", "modified", "full":
	default:
		return fail(badParam("rsp-subtree", echo))
	}
	t, at, err := s.write(dn, c.body, writer{allow: c.session.user.mayWrite})
	if err != nil {
		return fail(err)
	}
	c.objects = len(t.changes)
	if echo == "modified" || echo == "full" {
		b, n := t.echo(at, echo == "full")
		return ok(envelope(n, "", b))
	}
	return ok(envelope(0, "", nil))
}

func (s *Sim) drop(c *call, dn string) response {
	if dn == "" {
		return fail(refuse(104, "Invalid DN "))
	}
	t, err := s.remove(dn, c.session.user.mayWrite)
	if err != nil {
		return fail(err)
	}
	c.objects = len(t.changes)
	return ok(envelope(0, "", nil))
}

func (s *Sim) getMO(c *call, dn string) response {
	at, err := parsePath(dn)
	if err != nil {
		return fail(err)
	}
	q, err := newQuery(nil, at, c.params)
	if err != nil {
		return fail(err)
	}
	return s.answer(c, q)
}

// getClass answers class/{class} and class/{dn}/{class}.
func (s *Sim) getClass(c *call, rest string) response {
	name, scope := rest, ""
	if i := strings.LastIndexByte(rest, '/'); i >= 0 {
		scope, name = rest[:i], rest[i+1:]
	}
	k := schema[name]
	if k == nil || k.phantom || name == root {
		return fail(refuse(400, "Request failed, unresolved class for %s", name))
	}
	at, err := parsePath(scope)
	if err != nil {
		return fail(err)
	}
	q, err := newQuery(k, at, c.params)
	if err != nil {
		return fail(err)
	}
	return s.answer(c, q)
}

// answer runs a query and, if asked to, subscribes to it in the same breath.
func (s *Sim) answer(c *call, q *query) response {
	q.mayRead = c.session.user.mayRead
	found := q.run(s.fabric)
	detached := q.subscribe && c.twice
	if detached {
		found = nil // Source: apic-rest.md 6.1, "a duplicated Cookie"
	}
	b, total, err := q.encode(s.fabric, found, s.opts.MaxResult)
	if err != nil {
		return fail(err)
	}
	id := ""
	if q.subscribe {
		if id, err = s.subscribe(c.session, q, detached); err != nil {
			return fail(err)
		}
	}
	c.found, c.subscribed = total, id
	return ok(envelope(total, id, b))
}
