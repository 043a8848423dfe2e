package apic

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ReadOnly is the Gate of a client that cannot write: whatever is called, its connections carry
// nothing but reads, login and logout.
func ReadOnly() (time.Time, error) { return time.Time{}, errReadOnly }

var errReadOnly = errors.New("this is a dry run: nothing is written to the APIC")

// open is the Gate of those who need none.
func open() (time.Time, error) { return time.Time{}, nil }

// settleTime is how long after it was sent the APIC may still carry out a write that it did not
// answer.
//
// Source: restTimeoutSeconds of the login's answer, apic-rest.md 1.1.
const settleTime = 90 * time.Second

// gated is a transport that asks its gate before it sends what writes.
type gated struct {
	*http.Transport
	gate func() (until time.Time, err error)

	mu       sync.Mutex // guards the fields below
	underWay int        // writes
	lost     time.Time  // when a write was last given up that may be carried out yet
}

// withheld is the error of a write that the gate does not let pass, or not any longer.
type withheld struct {
	why error // of the gate
	cut bool  // it was sent, and then given up
}

func (w *withheld) Error() string {
	if w.cut {
		return fmt.Sprintf("given up without an answer: %v", w.why)
	}
	return w.why.Error()
}

func (w *withheld) Unwrap() error { return w.why }

// writes reports whether r is anything but a read, a login or a logout.
func writes(r *http.Request) bool {
	path := cmp.Or(r.URL.Opaque, r.URL.Path)
	return r.Method != http.MethodGet &&
		(r.Method != http.MethodPost || path != loginPath && path != logoutPath)
}

// RoundTrip sends what does not write, and the rest as far as the gate lets it.
func (t *gated) RoundTrip(r *http.Request) (*http.Response, error) {
	if !writes(r) {
		return t.Transport.RoundTrip(r)
	}
	until, err := t.gate()
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, &withheld{why: err}
	}
	ctx, cancel := t.follow(r.Context(), until)
	var sent atomic.Bool
	t.begin()
	resp, err := t.Transport.RoundTrip(t.asking(r.WithContext(ctx), &sent))
	t.end(sent.Load() && (err != nil || pending(resp.StatusCode)))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &ending{resp.Body, cancel}
	return resp, nil
}

// pending reports an answer that leaves a write under way: accepted, or not answered to who sent
// this in the APIC's place.
//
// Source: apic-rest.md 3.3 (202) and 1.3 (502 and 504 are NGINX's own).
func pending(status int) bool {
	return status == http.StatusAccepted || status == http.StatusBadGateway || status == http.StatusGatewayTimeout
}

// follow returns a context that ends finishTimeout after the gate has closed. A write that takes
// long goes on for as long as the gate is open.
func (t *gated) follow(ctx context.Context, until time.Time) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if !until.IsZero() {
		go func() { // ends with the request
			for sleep(ctx, time.Until(until)+finishTimeout) {
				var err error
				if until, err = t.gate(); err != nil {
					cancel(&withheld{why: err, cut: true})
				}
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// asking makes the body of r ask the gate once more before it hands out bytes, and tell when all
// of them are out. Nobody acts on a request whose end is missing, so a write begins with its last
// byte. Much can happen until then: connecting takes its time, and a process can be halted anywhere.
func (t *gated) asking(r *http.Request, sent *atomic.Bool) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		sent.Store(true)
		return r
	}
	again := r.GetBody // a connection that turned out to be dead is replaced by another one
	r.Body = &asking{ReadCloser: r.Body, gate: t.gate, left: r.ContentLength, sent: sent}
	if again != nil {
		r.GetBody = func() (io.ReadCloser, error) {
			b, err := again()
			return &asking{ReadCloser: b, gate: t.gate, left: r.ContentLength, sent: sent}, err
		}
	}
	return r
}

type asking struct {
	io.ReadCloser
	gate func() (time.Time, error)
	left int64 // bytes
	sent *atomic.Bool
}

// Read hands out bytes while the gate is open.
func (b *asking) Read(p []byte) (int, error) {
	if b.left > 0 {
		if _, err := b.gate(); err != nil {
			return 0, &withheld{why: err}
		}
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left <= 0 {
		b.sent.Store(true)
	}
	return n, err
}

// ending is the body of an answer; its end is that of the request.
type ending struct {
	io.ReadCloser
	end func()
}

// Close ends the request.
func (b *ending) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

func (t *gated) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay++
}

// end notes the end of a write, and whether it may be carried out yet.
func (t *gated) end(open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.underWay--; open {
		t.lost = time.Now()
	}
}

func (t *gated) settled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.underWay == 0 && (t.lost.IsZero() || time.Since(t.lost) >= settleTime)
}
