package apic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
)

const (
	// requestTimeout bounds one request with its answer. The APIC itself gives up after
	// 90 s (restTimeoutSeconds).
	requestTimeout = 60 * time.Second

	// maxBodyBytes bounds an answer. 20,000 external subnets with their marks are 15 MiB.
	maxBodyBytes = 128 << 20

	// maxErrorBytes bounds what is read of an answer that is not a success.
	maxErrorBytes = 1 << 20

	maxErrorText = 300 // characters of an HTML answer that make it into an error
)

// errTimeout is the cause of a request that took too long.
var errTimeout = fmt.Errorf("no answer within %v: %w", requestTimeout, context.DeadlineExceeded)

// request is one call.
type request struct {
	op    string // of aci.Error and of metrics
	dn    aci.DN // of aci.Error
	path  string // "/api/…", encoded
	query string // encoded
	body  []byte // nil for a GET; never sent with one

	secret aci.Secret // in the body
}

func moPath(dn aci.DN) string { return "/api/mo/" + encode(string(dn)) + ".json" }

// encode percent-encodes what cannot stand in a request line, and ? and & which would mean
// something else there. All other characters stay bare, in particular , ( ) | = : / [ ]:
// encoded commas break clients that sign their requests, and a few servers.
//
// Source: apic-rest.md 2.4 (the APIC's own GUI sends %22 for quotes and leaves these bare).
func encode(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"+#%?&\^<>{}`+"`", c) >= 0 {
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// query joins "key=value" pairs and encodes the values.
func query(pairs ...string) string {
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		key, value, _ := strings.Cut(p, "=")
		b.WriteString(key + "=" + encode(value))
	}
	return b.String()
}

// call sends r within the session and decodes the answer. When the APIC refuses the
// session, it is renewed and r is repeated once.
//
// It returns an *aci.Error for every answer that is not a success, joined to aci.ErrSession
// when the session could not be renewed.
func (c *Client) call(ctx context.Context, r request) (aci.Reply, error) {
	s, err := c.login(ctx, nil)
	if err != nil {
		return aci.Reply{}, r.wrap(err)
	}
	rep, err := c.send(ctx, s, r)
	if !sessionRefused(err) {
		return rep, err
	}
	fresh, err := c.renew(ctx, s, err)
	if err != nil {
		return aci.Reply{}, r.wrap(err)
	}
	rep, err = c.send(ctx, fresh, r)
	if sessionRefused(err) && fresh.login != s.login {
		err = c.useless(err)
	}
	return rep, err
}

// String is the operation and its object, as errors begin.
func (r request) String() string {
	if r.dn == "" {
		return r.op
	}
	return r.op + " " + string(r.dn)
}

// wrap gives err the operation unless it is the APIC's answer to it.
func (r request) wrap(err error) error {
	if e, ok := err.(*aci.Error); ok && e.Op == r.op && e.DN == r.dn { //nolint:errorlint // the outermost only
		return err
	}
	return fmt.Errorf("%s: %w", r, err)
}

// sessionRefused reports an answer that a new login may change. 403 is also the answer to a
// user without the right; renew tells them apart.
func sessionRefused(err error) bool {
	e, ok := errors.AsType[*aci.Error](err)
	return ok && e.Status == http.StatusForbidden
}

// send is one request of the session s with a decoded answer. A member that is too old is not
// written to, whoever asks for it: it may have taken over a moment ago.
func (c *Client) send(ctx context.Context, s *session, r request) (rep aci.Reply, err error) {
	if r.op == "post" && aci.TooOld(s.said.Version) {
		return rep, fmt.Errorf("%s: the APIC is too old to be written to: release %s, and %s is needed",
			r, s.said.Version, aci.MinVersion)
	}
	err = c.exchange(ctx, s.member, s, r, func(status int, body io.Reader) error {
		rep, err = decode(r, status, body)
		return err
	})
	return rep, err
}

// decode reads a whole answer. Any error object in it is an error, whatever the status.
func decode(r request, status int, body io.Reader) (aci.Reply, error) {
	if status != http.StatusOK && status != http.StatusAccepted {
		text, err := io.ReadAll(io.LimitReader(body, maxErrorBytes))
		if err != nil {
			return aci.Reply{}, fmt.Errorf("%s: %w", r, err)
		}
		return aci.Reply{}, answerError(r, status, text)
	}
	var head bytes.Buffer
	limited := &io.LimitedReader{R: body, N: maxBodyBytes + 1}
	rep, err := aci.DecodeReply(io.TeeReader(limited, &capped{&head, 4 * maxErrorText}))
	switch {
	case err == nil && rep.Err != nil:
		rep.Err.Op, rep.Err.DN, rep.Err.Status = r.op, r.dn, status
		return aci.Reply{}, rep.Err
	case err == nil:
		return rep, nil
	case status == http.StatusAccepted && r.body != nil:
		return aci.Reply{TotalCount: -1}, nil // under way; what it says beside that is not known
	case limited.N <= 0:
		return aci.Reply{}, fmt.Errorf("%s: the answer exceeds %d bytes", r, int64(maxBodyBytes))
	case bytes.HasPrefix(bytes.TrimSpace(head.Bytes()), []byte("<")):
		return aci.Reply{}, answerError(r, status, head.Bytes())
	}
	return aci.Reply{}, fmt.Errorf("%s: %w", r, err)
}

// capped keeps the first n bytes that are written to it.
type capped struct {
	b *bytes.Buffer
	n int
}

func (w *capped) Write(p []byte) (int, error) {
	w.b.Write(p[:min(len(p), max(0, w.n-w.b.Len()))])
	return len(p), nil
}

// answerError turns the body of a failed request into an *aci.Error: an error object, or
// the words of an HTML page.
func answerError(r request, status int, body []byte) *aci.Error {
	e := &aci.Error{Op: r.op, DN: r.dn, Status: status}
	if rep, err := aci.DecodeReply(bytes.NewReader(body)); err == nil && rep.Err != nil {
		e.Code, e.Text = rep.Err.Code, rep.Err.Text
		return e
	}
	e.Text = plain(string(body))
	return e
}

var tag = regexp.MustCompile(`<[^>]*>?`)

// plain is the text of an HTML page, cut short.
func plain(s string) string {
	s = strings.Join(strings.Fields(tag.ReplaceAllString(s, " ")), " ")
	if len(s) > maxErrorText {
		s = strings.ToValidUTF8(s[:maxErrorText], "") + "…"
	}
	return s
}

// exchange sends one request to member and hands status and body of the answer to read,
// which need not read all of it. s is nil for a login with a password. Errors of the network carry the
// operation; nothing in them is secret.
func (c *Client) exchange(
	ctx context.Context, member *url.URL, s *session, r request, read func(status int, body io.Reader) error,
) error {
	if err := c.pace(ctx, c.requests); err != nil {
		return fmt.Errorf("%s: %w", r, cause(ctx, err))
	}
	if r.op == "post" {
		longer, end := outlive(ctx, finishTimeout)
		defer end()
		ctx = longer
	}
	ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errTimeout)
	defer cancel()
	ctx, give := context.WithCancelCause(ctx)
	defer c.watchHang(ctx, member, give)()
	var connected atomic.Bool
	ctx = connecting(ctx, &connected)

	method, body := http.MethodGet, io.Reader(http.NoBody)
	if r.body != nil {
		method, body = http.MethodPost, bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, member.String(), body)
	if err != nil {
		return fmt.Errorf("%s: %w", r, err)
	}
	// Opaque is what goes into the request line as it is: net/url would encode anew.
	req.URL = &url.URL{Scheme: member.Scheme, Host: member.Host, Opaque: r.path, RawQuery: r.query}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s != nil {
		// One header, set by hand: a second APIC-cookie detaches the subscriptions from the
		// WebSocket without a word. Source: apic-rest.md 6.1 (s:niwaki, live).
		cookie, err := s.cookie(method, r.path, r.query, r.body)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		req.Header.Set("Cookie", cookie)
	}

	start, status, sent := time.Now(), 0, true
	defer func() {
		if c.opts.OnRequest != nil && sent {
			c.opts.OnRequest(r.op, status, time.Since(start))
		}
	}()
	resp, err := c.http.Do(req)
	if err != nil {
		ours, held := errors.AsType[*withheld](err)
		sent = !held || ours.cut
		hung := errors.Is(context.Cause(ctx), errHangs)
		if why := context.Cause(ctx); !held && (why == nil || hung || errors.Is(why, errTimeout)) {
			c.judge(member, s, outcome{connected: connected.Load(), hung: hung, write: r.op == "post"})
		}
		return fmt.Errorf("%s: %w", r, cause(ctx, bare(err)))
	}
	defer resp.Body.Close()
	status = resp.StatusCode
	c.judge(member, s, outcome{status: status, connected: true, write: r.op == "post"})
	if err := read(status, resp.Body); err != nil {
		if errors.Is(context.Cause(ctx), errHangs) { // in the middle of the answer
			c.judge(member, s, outcome{connected: true, hung: true, write: r.op == "post"})
		}
		return cause(ctx, hideIn(err, append(cookieSecrets(req.Header.Get("Cookie")), string(r.secret))))
	}
	return nil
}

// cookieSecrets are what is secret in a header Cookie.
func cookieSecrets(header string) []string {
	var values []string
	for part := range strings.SplitSeq(header, "; ") {
		switch name, v, _ := strings.Cut(part, "="); name {
		case "APIC-cookie", "APIC-Request-Signature", "APIC-WebSocket-Session":
			values = append(values, v)
		}
	}
	return values
}

// minSecret is how long a secret must be to be looked for: anything may hold a shorter one.
const minSecret = 4

// hideIn takes secrets out of an error, which may quote what the APIC said, and the APIC what it was asked.
func hideIn(err error, secrets []string) error {
	hide := func(text string) string {
		for _, s := range secrets {
			if len(s) >= minSecret {
				text = strings.ReplaceAll(text, s, aci.Secret("").String())
			}
		}
		return text
	}
	if e, ok := errors.AsType[*aci.Error](err); ok {
		e.Text, e.Code = hide(e.Text), hide(e.Code)
	}
	if text := err.Error(); hide(text) != text {
		return errors.New(hide(text)) // what it wraps would tell
	}
	return err
}

// finishTimeout is how long a request may go on after its context ended.
const finishTimeout = 2 * time.Second

// outlive returns a context that ends d after ctx does: a write that has begun is finished,
// since what it did would not be known otherwise.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		t := time.AfterFunc(d, func() { cancel(context.Cause(ctx)) })
		context.AfterFunc(longer, func() { t.Stop() })
	})
	return longer, func() { stop(); cancel(nil) }
}

// bare is err without the URL that net/http puts before it.
func bare(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// cause adds to err why ctx ended, if it did.
func cause(ctx context.Context, err error) error {
	why := context.Cause(ctx)
	if why == nil || errors.Is(err, why) {
		return err
	}
	return fmt.Errorf("%w (%w)", err, why)
}

// Post sends mo to be merged below the object under. Success means that the APIC took the
// request; what it made of it is for events and reads to say. Nothing is assumed of a
// request whose answer was lost. An APIC older than aci.MinVersion is asked nothing; that is an
// error.
//
// It returns an *aci.Error for every refusal, and aci.ErrSession as well when no session
// could be had. The only repetition is that after a renewed session, for which the APIC
// did not look at the body. When ctx ends or Options.Gate closes, a request that was sent has 2 s
// to be answered, and none is begun.
//
// Source: apic-rest.md 3.1; 202 is a slow transaction that clients take for a success (3.3).
func (c *Client) Post(ctx context.Context, under aci.DN, mo aci.MO) error {
	body, err := mo.MarshalJSON()
	if err != nil {
		return fmt.Errorf("post %s: %w", under, err)
	}
	_, err = c.call(ctx, request{op: "post", dn: under, path: moPath(under), body: body})
	return err
}
