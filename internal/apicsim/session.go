package apicsim

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// session is one login. Tokens come and go with refreshes; the session ends at the end of
// its life, with a logout, or when its last token expires.
type session struct {
	name      string // "s1", for the request log
	user      *User
	userName  string
	id        string // sessionId of the login reply
	challenge string // urlToken, "" unless asked for
	signed    bool   // made with a certificate, not with a login
	start     time.Time
	end       time.Time
	tokens    map[string]time.Time // token -> when it expires
	sockets   []*socket            // open, oldest first
	subs      map[string]*subscription
	timer     *time.Timer
}

// login answers aaaLogin. Source: apic-rest.md 1.1.
func (s *Sim) login(c *call) response {
	if c.method != http.MethodPost {
		return fail(denied(http.StatusBadRequest, "aaaLogin takes a POST")) // unverified
	}
	if s.throttled() {
		return fail(webServer(http.StatusServiceUnavailable))
	}
	o, err := parseBody(c.body)
	if err != nil {
		return fail(err)
	}
	if o.class != "aaaUser" {
		return fail(refuse(400, "Invalid request. Can not contain child '%s' under parent 'aaaLogin'", o.class))
	}
	name, _ := o.attr("name")
	pwd, _ := o.attr("pwd")
	now := time.Now()
	user, err := s.admit(name, pwd, now)
	if err != nil {
		return fail(err)
	}
	sess := s.newSession(user, now)
	if c.params["gui-token-request"] == "yes" {
		sess.challenge = base64.RawURLEncoding.EncodeToString(random(24))
	}
	c.session = sess
	return s.grant(sess, now)
}

func (s *Sim) newSession(u *User, now time.Time) *session {
	s.logins++
	return &session{
		name: "s" + strconv.Itoa(s.logins), user: u, userName: u.Name,
		id:    base64.StdEncoding.EncodeToString(random(16)),
		start: now, end: now.Add(s.opts.SessionLife),
		tokens: map[string]time.Time{}, subs: map[string]*subscription{},
	}
}

// refresh answers aaaRefresh: an aaaLogin object with a new token. The token before it
// stays valid until its own expiry unless Options.RefreshRevokes is set.
//
// Source: apic-rest.md 1.2. unverified: what becomes of the old token.
func (s *Sim) refresh(c *call) response {
	if s.throttled() {
		return fail(webServer(http.StatusServiceUnavailable))
	}
	if s.opts.RefreshRevokes {
		clear(c.session.tokens)
	}
	return s.grant(c.session, time.Now())
}

// issue gives a session a token that is valid until exp, and lets the session end with it
// unless a later one follows.
func (s *Sim) issue(sess *session, now, exp time.Time) string {
	token := s.newToken(sess, now, exp)
	sess.tokens[token] = exp
	s.tokens[token] = sess
	if sess.timer != nil {
		sess.timer.Stop()
		delete(s.timers, sess.timer)
	}
	sess.timer = s.after(exp.Sub(now), func() { s.endSession(sess) })
	s.sessions[sess] = true
	return token
}

// grant gives a session a token and answers with it.
func (s *Sim) grant(sess *session, now time.Time) response {
	exp := now.Add(s.opts.TokenLife)
	if exp.After(sess.end) {
		exp = sess.end
	}
	token := s.issue(sess, now, exp)
	attrs := []attribute{{"token", token}, {"siteFingerprint", s.fingerprint}}
	if sess.challenge != "" {
		attrs = append(attrs, attribute{"urlToken", sess.challenge})
	}
	attrs = append(attrs, []attribute{
		{"refreshTimeoutSeconds", seconds(s.opts.TokenLife)},
		{"maximumLifetimeSeconds", seconds(s.opts.SessionLife)},
		{"guiIdleTimeoutSeconds", "1200"},
		{"restTimeoutSeconds", "90"},
		{"creationTime", strconv.FormatInt(now.Unix(), 10)},
		{"firstLoginTime", strconv.FormatInt(sess.start.Unix(), 10)},
		{"userName", sess.userName},
		{"remoteUser", "false"},
		{"unixUserId", "15374"},
		{"sessionId", sess.id},
		{"lastName", ""},
		{"firstName", ""},
		{"changePassword", "no"},
		{"version", s.opts.Version},
		{"buildTime", "Thu Jan 01 00:00:00 UTC 1970"},
		{"node", "topology/pod-1/node-" + strconv.Itoa(s.id)},
	}...)
	b := []byte(`{"aaaLogin":{"attributes":`)
	b = appendPairs(b, attrs)
	b = s.appendDomains(append(b, `,"children":[`...), sess.user)
	b = append(b, `]}}`...)
	r := ok(envelope(1, "", b))
	r.cookie = "APIC-cookie=" + token + "; path=/; HttpOnly; Secure"
	return r
}

// SetVersion changes the version of this member, as an upgrade does: logins, refreshes and its objects
// show it from now on. Sessions live on: see ExpireSessions.
func (s *Sim) SetVersion(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Version = v
	t := s.begin()
	s.fabric.lookup("topology", "pod-1", "node-"+strconv.Itoa(s.id)).walk(func(n *node) {
		if i := n.class.find("version"); i >= 0 {
			t.set(n, i, v)
		}
	})
	t.commit()
}

// appendDomains writes what the user may read and write, as in login_2.0_full.json.
//
// unverified: the names of domains and roles of a user who is restricted to tenants; that his
// entries are the tenants that he may read and that exist, common among them.
func (s *Sim) appendDomains(b []byte, u *User) []byte {
	var tenants []string // DNs
	for _, n := range s.fabric.lookup("uni").sorted() {
		if n.class.name == "fvTenant" && u.mayRead(n.dn) {
			tenants = append(tenants, n.dn)
		}
	}
	role := "admin"
	if u.ReadOnly {
		role = "read-all"
	}
	write := role
	if u.ReadOnly {
		write = ""
	}
	for _, d := range u.domains() {
		b = append(b, `{"aaaUserDomain":{"attributes":`...)
		b = appendPairs(b, []attribute{{"name", d}, {"rolesR", role}, {"rolesW", write}})
		b = append(b, `,"children":[{"aaaReadRoles":{"attributes":{}}},{"aaaWriteRoles":{"attributes":{}`...)
		if write != "" {
			b = append(b, `,"children":[{"role":{"attributes":`...)
			b = append(appendPairs(b, []attribute{{"name", write}}), `}}]`...)
		}
		b = append(b, `}}]}},`...)
	}
	for i, dn := range tenants {
		if i > 0 {
			b = append(b, ',')
		}
		write := write
		if !u.mayWrite(dn) {
			write = ""
		}
		b = append(b, `{"DnDomainMapEntry":{"attributes":`...)
		b = appendPairs(b, []attribute{{"dn", dn}, {"readPrivileges", role}, {"writePrivileges", write}})
		b = append(b, `}}`...)
	}
	return b
}

func appendPairs(b []byte, attrs []attribute) []byte {
	b = append(b, '{')
	for i, a := range attrs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, a.name), ':')
		b = appendString(b, a.value)
	}
	return append(b, '}')
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// logout ends the session at once. Source: apic-rest.md 1.2; old documents say that it
// does not. unverified: that a name other than the session's is refused.
func (s *Sim) logout(c *call) response {
	if c.method != http.MethodPost {
		return fail(denied(http.StatusBadRequest, "aaaLogout takes a POST"))
	}
	o, err := parseBody(c.body)
	if err != nil {
		return fail(err)
	}
	if name, _ := o.attr("name"); o.class != "aaaUser" || !c.session.user.named(name) {
		return fail(refuse(400, "Invalid request. Not the user of this session"))
	}
	s.endSession(c.session)
	return ok(envelope(0, "", nil))
}

// domains answers aaaListDomains, the one call that needs no login.
// Source: apic-rest.md 1.1. unverified: the shape.
func (s *Sim) domains() response {
	names := []string{"DefaultAuth"}
	for _, u := range s.opts.Users {
		if u.LoginDomain != "" && !slices.Contains(names, u.LoginDomain) {
			names = append(names, u.LoginDomain)
		}
	}
	var b []byte
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendPairs(b, []attribute{{"name", n}, {"type", "DefaultAuth"}})
	}
	return ok(envelope(len(names), "", b))
}

func (s *Sim) endSession(sess *session) {
	if sess.timer != nil {
		sess.timer.Stop()
		delete(s.timers, sess.timer)
	}
	for t := range sess.tokens {
		delete(s.tokens, t)
	}
	delete(s.sessions, sess)
	for id := range sess.subs {
		delete(s.subs, id)
	}
	clear(sess.subs)
	for _, k := range sess.sockets {
		k.close()
	}
}

// authenticate finds the session of a request from its cookies, or the answer that refuses
// it. Source: apic-rest.md 1.1 and 1.3.
func (s *Sim) authenticate(r *http.Request, c *call) *wireError {
	have, tokens := cookies(r)
	if have[cookieSignature] != "" {
		sess, err := s.signedSession(r, have, c.body)
		c.session = sess
		return err
	}
	if have[cookieToken] == "" {
		return denied(http.StatusForbidden, textNoCookie)
	}
	sess := s.bearer(have[cookieToken])
	// unverified: the text for a missing challenge.
	if sess == nil || sess.signed ||
		(sess.challenge != "" && r.Header.Get("APIC-Challenge") != sess.challenge && c.params["challenge"] != sess.challenge) {
		return denied(http.StatusForbidden, textTokenTimeout)
	}
	c.session, c.twice = sess, tokens > 1
	return nil
}

// bearer returns the session of a token that is valid now, or nil.
func (s *Sim) bearer(token string) *session {
	sess := s.tokens[token]
	if sess == nil {
		return nil
	}
	if exp, ok := sess.tokens[token]; !ok || !time.Now().Before(exp) {
		delete(sess.tokens, token)
		delete(s.tokens, token)
		return nil
	}
	return sess
}

// newToken makes a JWT as APIC 5 does, or with Options.OpaqueTokens one of older releases,
// which holds + / and =. Source: apic-rest.md 1.1; payload login_5.2_jwt_decoded.json.
func (s *Sim) newToken(sess *session, now, exp time.Time) string {
	if s.opts.OpaqueTokens {
		return "+/" + base64.StdEncoding.EncodeToString(random(127)) // 127 bytes end in "="
	}
	type claim struct {
		Domain string `json:"domain"`
		RolesR int    `json:"rolesR"`
		RolesW int    `json:"rolesW"`
	}
	enc := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	header := enc(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{"RS256", s.fingerprint, "jwt"})
	claims := enc(struct {
		RBAC      []claim `json:"rbac"`
		Iss       string  `json:"iss"`
		User      string  `json:"username"`
		UserID    int     `json:"userid"`
		UserFlags int     `json:"userflags"`
		Iat       int64   `json:"iat"`
		Exp       int64   `json:"exp"`
		Session   string  `json:"sessionid"`
	}{[]claim{{"all", 0, 1}}, "ACI APIC", sess.userName, 15374, 0, now.Unix(), exp.Unix(), sess.id})
	return header + "." + claims + "." + base64.RawURLEncoding.EncodeToString(random(64))
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: the runtime ends the program instead
	return b
}

// throttled counts logins and refreshes against Options.LoginRate.
// Source: apic-rest.md 7, commHttps.throttleRate. unverified: that there is no burst.
func (s *Sim) throttled() bool {
	if s.opts.LoginRate <= 0 {
		return false
	}
	now := time.Now()
	recent := s.loginTimes[:0]
	for _, t := range s.loginTimes {
		if now.Sub(t) < time.Second {
			recent = append(recent, t)
		}
	}
	s.loginTimes = recent
	if len(recent) >= s.opts.LoginRate {
		return true
	}
	s.loginTimes = append(s.loginTimes, now)
	return false
}
