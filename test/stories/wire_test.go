package stories_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// wire is the network in front of a simulator: it can go down, and it can hold requests back.
type wire struct {
	listener net.Listener // of TCP
	server   *http.Server
	sim      *apicsim.Sim
	served   sync.WaitGroup
	cert     atomic.Pointer[tls.Certificate] // that connections see

	mu       sync.Mutex // guards the fields below
	mode     string     // "up", "refuse" or "hang"
	attempts int        // connections since the mode was set
	conns    map[net.Conn]struct{}
	hold     *regexp.Regexp // requests to be held back, as "METHOD /path"
	held     int
	culprit  []byte        // what names it is refused; nil for nothing
	released chan struct{} // closed by release
}

func serve(ctx context.Context, sim *apicsim.Sim, cert tls.Certificate) (*wire, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, sim: sim, mode: "up", conns: map[net.Conn]struct{}{}, released: make(chan struct{})}
	w.show(cert)
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: 30 * time.Second}
	secure := tls.NewListener(w, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.cert.Load(), nil },
	})
	w.served.Go(func() { _ = w.server.Serve(secure) })
	return w, nil
}

func (w *wire) url() string { return "https://" + w.listener.Addr().String() }

// close ends everything; requests that are held back go first.
func (w *wire) close() {
	w.release()
	w.set("refuse")
	_ = w.server.Close()
	w.served.Wait()
}

// set makes the APIC reachable, or cuts all connections and then refuses new ones or leaves them
// without an answer.
func (w *wire) set(mode string) {
	w.mu.Lock()
	w.mode, w.attempts = mode, 0
	cut := w.conns
	w.conns = map[net.Conn]struct{}{}
	w.mu.Unlock()
	for c := range cut {
		_ = c.Close()
	}
}

// Accept takes connections as the mode says. What hangs is never read, as in a network that drops
// packets.
func (w *wire) Accept() (net.Conn, error) {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return nil, err
		}
		w.mu.Lock()
		mode := w.mode
		w.attempts++
		if mode != "refuse" {
			w.conns[c] = struct{}{}
		}
		w.mu.Unlock()
		switch mode {
		case "up":
			return c, nil
		case "refuse":
			_ = c.Close()
		}
	}
}

// Close closes the listener.
func (w *wire) Close() error { return w.listener.Close() }

// Addr is where the APIC is.
func (w *wire) Addr() net.Addr { return w.listener.Addr() }

// ServeHTTP hands requests on to the simulator, the story's own at once.
func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	wait := w.hold != nil && r.UserAgent() != otherUser && w.hold.MatchString(r.Method+" "+r.URL.Path)
	if wait {
		w.held++
	}
	released, culprit := w.released, w.culprit
	w.mu.Unlock()
	if wait {
		<-released
	}
	if culprit != nil && r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, culprit) {
			r.URL.RawQuery += refused // a fault waits for it
		}
	}
	w.sim.ServeHTTP(rw, r)
}

// refused is what the simulator finds in the query of a request that it is to refuse.
const refused = "refused=by-the-story"

// refuse marks what writes the subnet of an address from now on; "" ends that.
func (w *wire) refuse(ip string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.culprit = nil; ip != "" {
		w.culprit = []byte(`"` + ip + `/`)
	}
}

// holdBack holds requests back from now on.
func (w *wire) holdBack(match *regexp.Regexp) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold, w.held = match, 0
}

func (w *wire) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold, w.held = nil, 0
	close(w.released)
	w.released = make(chan struct{})
}

func (w *wire) counts() (held, attempts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held, w.attempts
}
