package apic_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/memnet"
)

var (
	wan = aci.L3Out{Tenant: "prod", Name: "wan"}
	web = aci.ExtEPG{L3Out: wan, Name: "web"}
)

const (
	user     = "admin"
	password = "apic-sim"
)

// world is a network with APICs, a client and what the client wrote and asked. It lives in
// a bubble.
type world struct {
	t      *testing.T
	net    memnet.Network
	client *apic.Client

	failovers atomic.Int32

	mu   sync.Mutex
	log  bytes.Buffer
	wire []string // "METHOD request-line-target body"
	sent http.Header
}

// bubble runs f with a fake clock.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, &world{t: t}) })
}

// Write takes the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// logged is the log so far.
func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// requests are the requests since the last call, tokens cut out.
func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.wire
	w.wire = nil
	return out
}

// serve makes h a member of the cluster at host.
func (w *world) serve(host string, h http.Handler) *http.Server {
	w.t.Helper()
	l, err := w.net.Listen(host + ":80")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		target := r.RequestURI
		if strings.HasPrefix(target, "/socket") {
			target = "/socket<token>"
		}
		w.mu.Lock()
		w.wire = append(w.wire, strings.TrimSpace(r.Method+" "+target+" "+string(body)))
		w.sent = r.Header.Clone()
		w.mu.Unlock()
		h.ServeHTTP(rw, r)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	w.t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
	})
	return srv
}

// sim makes a simulated APIC with the L3Out prod/wan at host.
func (w *world) sim(host string, o apicsim.Options) *apicsim.Sim {
	w.t.Helper()
	s := apicsim.New(o)
	w.t.Cleanup(s.Close) // after the servers
	seed := `[{"fvTenant":{"attributes":{"name":"prod"},"children":[{"fvCtx":{"attributes":{"name":"v"}}},` +
		`{"l3extOut":{"attributes":{"name":"wan"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"v"}}}]}}]}}]`
	if err := s.Seed([]byte(seed)); err != nil {
		w.t.Fatal(err)
	}
	w.serve(host, s)
	return s
}

// connect makes the client.
func (w *world) connect(o apic.Options, hosts ...string) *apic.Client {
	w.t.Helper()
	var members []*url.URL
	for _, h := range hosts {
		members = append(members, &url.URL{Scheme: "http", Host: h})
	}
	if o.Password == "" && o.CertName == "" {
		o.Password = password
	}
	if o.DialContext == nil {
		o.DialContext = w.net.DialContext
	}
	o.Logger = slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c, err := apic.New(members, user, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.client = c
	return c
}

// run runs the client until the end of the test.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- w.client.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
		for range w.client.Updates() {
			w.t.Error("an update after the end")
		}
	})
}

// start is one simulated APIC with a running client.
func (w *world) start(so apicsim.Options, co apic.Options) *apicsim.Sim {
	w.t.Helper()
	s := w.sim("apic1", so)
	w.connect(co, "apic1")
	w.run()
	return s
}

// read reads prod/wan, which must work.
func (w *world) read() aci.Update {
	w.t.Helper()
	u, err := w.client.Read(w.t.Context(), wan)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// update is the next update, which must come within a minute.
func (w *world) update() aci.Update {
	w.t.Helper()
	select {
	case u := <-w.client.Updates():
		return u
	case <-time.After(time.Minute):
		w.t.Fatal("no update within a minute\n" + w.logged())
		return aci.Update{}
	}
}

// silence fails if an update comes within d.
func (w *world) silence(d time.Duration) {
	w.t.Helper()
	select {
	case u := <-w.client.Updates():
		w.t.Fatalf("unexpected update after %v: %+v\n%s", d, u, w.logged())
	case <-time.After(d):
	}
}

// drain returns the objects of the events that come until there was none for d.
func (w *world) drain(d time.Duration) []aci.MO {
	w.t.Helper()
	var out []aci.MO
	for {
		select {
		case u := <-w.client.Updates():
			if u.Kind != aci.Event || u.Root != wan.DN() {
				w.t.Fatalf("got %+v, want an event", u)
			}
			out = append(out, u.Objects...)
		case <-time.After(d):
			return out
		}
	}
}

func (w *world) wantGap() {
	w.t.Helper()
	if u := w.update(); u.Kind != aci.Gap || u.Root != wan.DN() {
		w.t.Fatalf("got %+v, want a gap", u)
	}
}

// subnet makes or changes a subnet of prod/wan/web without the client.
func subnet(w *world, s *apicsim.Sim, ip, attrs string) {
	w.t.Helper()
	body := fmt.Sprintf(`{"l3extInstP":{"attributes":{"name":"web"},"children":[{"l3extSubnet":{"attributes":{"ip":%q%s}}}]}}`, ip, attrs)
	if err := s.Post(string(wan.DN()), body); err != nil {
		w.t.Fatal(err)
	}
}

// count counts the requests whose line begins with prefix.
func count(lines []string, prefix string) int {
	n := 0
	for _, l := range lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}
