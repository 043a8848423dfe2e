package apic_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// ailing is a member of which one thing at a time does not work.
type ailing struct {
	*apicsim.Sim
	mode atomic.Value // "", "hangs", "503", "503 for writes"
}

func (a *ailing) set(mode string) { a.mode.Store(mode) }

func (a *ailing) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	writes := r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/api/mo/")
	switch mode, _ := a.mode.Load().(string); {
	case mode == "hangs":
		<-r.Context().Done()
	case mode == "hangs in bodies" && r.URL.Path == "/api/aaaListDomains.json":
		<-r.Context().Done()
	case mode == "hangs in bodies":
		rw.Header().Set("Content-Length", "1000")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	case mode == "503", mode == "503 for writes" && writes:
		http.Error(rw, "<html>Service Unavailable</html>", http.StatusServiceUnavailable)
	default:
		a.Sim.ServeHTTP(rw, r)
	}
}

// cluster is a client of members of one fabric: apic1, apic2 and so on.
func (w *world) cluster(n int) ([]*ailing, []*http.Server) {
	w.t.Helper()
	first := apicsim.New(apicsim.Options{})
	w.t.Cleanup(first.Close)
	if err := first.Post("uni", `{"fvTenant":{"attributes":{"name":"prod"},"children":[{"l3extOut":{"attributes":{"name":"wan"}}}]}}`); err != nil {
		w.t.Fatal(err)
	}
	var members []*ailing
	var servers []*http.Server
	var hosts []string
	for i := range n {
		m := &ailing{Sim: first}
		if i > 0 {
			m.Sim = first.Member()
			w.t.Cleanup(m.Sim.Close)
		}
		host := fmt.Sprintf("apic%d", i+1)
		members, servers, hosts = append(members, m), append(servers, w.serve(host, m)), append(hosts, host)
	}
	w.connect(apic.Options{OnFailover: func() { w.failovers.Add(1) }}, hosts...)
	w.run()
	w.read()
	return members, servers
}

// moved fails unless the client is well, at the member, within so long; it asks something now and then.
func (w *world) moved(member string, within time.Duration) {
	w.t.Helper()
	began := time.Now()
	for time.Since(began) < within {
		if s := w.client.Status(); s.Member == member && w.client.Healthy() {
			if _, err := w.client.Read(w.t.Context(), wan); err == nil {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Errorf("after %v: %+v\n%s", within, w.client.Status(), w.logged())
}

// ask makes requests of all kinds for so long.
func (w *world) ask(d time.Duration) {
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	for ctx.Err() == nil {
		_, _ = w.client.Read(ctx, wan)
		_ = w.client.Post(ctx, wan.DN(), aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}})
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// A member that refuses connections, but whose sockets live on, gives way to the next within 5 s; one that
// hangs within 30 s; one that answers 5xx, or does so to writes, when that lasts.
func TestMember_that_ails_gives_way_to_the_next(t *testing.T) {
	for name, c := range map[string]struct {
		ail    func(m *ailing, srv *http.Server)
		within time.Duration
	}{
		"it refuses connections":  {func(m *ailing, srv *http.Server) { _ = srv.Close() }, 5 * time.Second},
		"it hangs":                {func(m *ailing, _ *http.Server) { m.set("hangs") }, 30 * time.Second},
		"it hangs in its answers": {func(m *ailing, _ *http.Server) { m.set("hangs in bodies") }, 30 * time.Second},
		"it answers 503":          {func(m *ailing, _ *http.Server) { m.set("503") }, 30 * time.Second},
		"it refuses writes":       {func(m *ailing, _ *http.Server) { m.set("503 for writes") }, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				members, servers := w.cluster(3)
				c.ail(members[0], servers[0])
				go w.ask(2 * c.within)
				w.moved("apic2", c.within)
				w.ask(time.Hour)
				if n := strings.Count(w.logged(), "trying the next"); n != 1 || w.failovers.Load() != 1 {
					t.Errorf("left %d times, moved %d times", n, w.failovers.Load())
				}
				// It is well again, and nobody goes back for that.
				members[0].set("")
				w.ask(time.Hour)
				if s := w.client.Status(); s.Member != "apic2" || !w.client.Healthy() {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

// When nothing is asked, the WebSocket tells. All is silent then, as when the power fails.
func TestMember_that_hangs_is_missed_when_nothing_is_asked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		members, _ := w.cluster(2)
		w.ask(time.Minute)
		requests := len(w.requests())
		members[0].MuteSockets()
		members[0].set("hangs")
		time.Sleep(30 * time.Second)
		if s := w.client.Status(); s.Member != "apic2" || !w.client.Healthy() {
			t.Errorf("status %+v after %d requests\n%s", s, requests, w.logged())
		}
		w.read()
	})
}

// A member whose socket alone falls silent is kept.
func TestMember_whose_socket_is_mute_is_kept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		members, _ := w.cluster(2)
		w.ask(time.Minute)
		members[0].MuteSockets()
		w.ask(time.Minute)
		if s := w.client.Status(); s.Member != "apic1" || !w.client.Healthy() || w.failovers.Load() != 0 {
			t.Errorf("status %+v\n%s", s, w.logged())
		}
	})
}

// A throttle of the whole cluster makes nobody move while something gets through of each kind; and where nothing does,
// each stay is longer than the one before.
func TestMembers_that_are_all_throttled_are_not_gone_round(t *testing.T) {
	for name, c := range map[string]struct {
		fault apicsim.Fault
		moves int32 // in an hour
	}{
		"five requests a second pass": {apicsim.Fault{Rate: 5}, 0},
		"one login a second passes":   {apicsim.Fault{Match: "aaa(Login|Refresh)", Rate: 1}, 0},
		"no write passes":             {apicsim.Fault{Match: "^POST /api/mo", Times: -1, Status: 503}, 20},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				members, _ := w.cluster(3)
				for _, m := range members {
					arm(t, m.Sim, c.fault)
				}
				w.ask(time.Hour)
				if n := w.failovers.Load(); n > c.moves {
					t.Errorf("moved %d times in an hour", n)
				}
			})
		})
	}
}

// A write that the member that was left did not answer is not settled before it could not be carried out any more.
func TestMember_that_is_left_may_carry_out_a_write_yet(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		members, _ := w.cluster(2)
		members[0].set("hangs")
		err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}})
		if err == nil || !strings.Contains(err.Error(), "answers nothing any more") {
			t.Errorf("the write: %v", err)
		}
		given := time.Now()
		w.moved("apic2", 10*time.Second)
		if w.client.Settled() {
			t.Error("it is settled at once")
		}
		time.Sleep(time.Until(given.Add(90 * time.Second)))
		if !w.client.Settled() {
			t.Error("it is never settled")
		}
	})
}

// Whoever asks for something when a member was left is not sent away because the next one is down as well.
func TestMember_that_is_down_sends_on_who_logs_in(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		_, servers := w.cluster(3)
		_ = servers[1].Close()
		_ = servers[0].Close()
		epg := aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}}
		if err := w.client.Post(t.Context(), wan.DN(), epg); err == nil {
			t.Error("the member that is down took a write")
		}
		if err := w.client.Post(t.Context(), wan.DN(), epg); err != nil {
			t.Error(err)
		}
		if s := w.client.Status(); s.Member != "apic3" {
			t.Errorf("status %+v", s)
		}
	})
}

// With one member nobody probes, and what hangs ends by its timeout: after that of a login, 1 minute, comes one
// more backoff, at most 37.5 s.
func TestMember_that_is_the_only_one_is_kept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		members, _ := w.cluster(1)
		members[0].set("hangs")
		w.ask(10 * time.Minute)
		if n := count(w.requests(), "GET /api/aaaListDomains"); n != 0 {
			t.Errorf("%d probes", n)
		}
		for tries := 0; count(w.requests(), "POST /api/aaaLogin") == 0; tries++ { // the worst moment to come back is just after a login was sent
			if tries == 1200 {
				t.Fatal("no login in 2 minutes")
			}
			time.Sleep(100 * time.Millisecond)
		}
		members[0].set("")
		w.moved("apic1", time.Minute+38*time.Second)
	})
}

// secure makes h a member behind TLS. The function restarts it with another certificate.
func (w *world) secure(host string, h http.Handler, c tls.Certificate) func(tls.Certificate) {
	w.t.Helper()
	var srv *http.Server
	var wg sync.WaitGroup
	stop := func() {
		_ = srv.Close()
		wg.Wait()
	}
	start := func(c tls.Certificate) {
		l, err := w.net.Listen(host + ":443")
		if err != nil {
			w.t.Fatal(err)
		}
		srv = &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, Certificates: []tls.Certificate{c}}
		wg.Go(func() { _ = srv.Serve(tls.NewListener(l, config)) })
	}
	start(c)
	w.t.Cleanup(func() { stop() })
	return func(c tls.Certificate) {
		stop()
		start(c)
	}
}

// A member that restarts with a new certificate is a member like any other where the certificate is trusted, by
// its issuer or because its fingerprint was announced; else it is not spoken to, and the next one is.
func TestMember_that_restarts_with_a_new_certificate(t *testing.T) {
	t.Parallel()
	old, fresh := serverCertificate(t), serverCertificate(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, append(slices.Clone(old.PEM), fresh.PEM...), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		trust apic.TLS
		at    string
	}{
		"its CA is trusted":                  {apic.TLS{CAFile: file}, "apic1"},
		"its fingerprint is pinned, too":     {apic.TLS{Fingerprint: old.Fingerprint + ", " + fresh.Fingerprint}, "apic1"},
		"only its old fingerprint is pinned": {apic.TLS{Fingerprint: old.Fingerprint}, "apic2"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := apic.TLSConfig(c.trust)
			if err != nil {
				t.Fatal(err)
			}
			today := time.Now() // the clock of a bubble begins in 2000
			config.Time = func() time.Time { return today }
			bubble(t, func(t *testing.T, w *world) {
				first := apicsim.New(apicsim.Options{})
				second := first.Member()
				t.Cleanup(first.Close)
				t.Cleanup(second.Close)
				if err := first.Post("uni", `{"fvTenant":{"attributes":{"name":"prod"},"children":[{"l3extOut":{"attributes":{"name":"wan"}}}]}}`); err != nil {
					t.Fatal(err)
				}
				restart := w.secure("apic1", first, old.TLS)
				w.secure("apic2", second, old.TLS)
				members := []*url.URL{{Scheme: "https", Host: "apic1"}, {Scheme: "https", Host: "apic2"}}
				w.client, err = apic.New(members, user, apic.Options{
					Password: password, TLS: config, DialContext: w.net.DialContext, Logger: slog.New(slog.NewTextHandler(w, nil)),
				})
				if err != nil {
					t.Fatal(err)
				}
				w.run()
				w.read()

				restart(fresh.TLS)
				first.ExpireSessions()
				w.moved(c.at, 30*time.Second)
				w.ask(time.Hour)
				if s := w.client.Status(); s.Member != c.at || !w.client.Healthy() {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func serverCertificate(t *testing.T) apicsim.Certificate {
	t.Helper()
	c, err := apicsim.NewCertificate("apic1", "apic2")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// When no member answers well, they are asked in turn, ever more rarely; the first one that does is kept.
func TestMembers_that_all_ail_are_asked_ever_more_rarely(t *testing.T) {
	for _, mode := range []string{"hangs", "503", "503 for writes"} {
		t.Run(mode, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				members, _ := w.cluster(3)
				for _, m := range members {
					m.set(mode)
				}
				w.ask(10 * time.Minute)
				w.requests()
				w.ask(time.Hour)
				if n := count(w.requests(), "POST /api/aaaLogin.json"); n > 150 {
					t.Errorf("%d logins in an hour", n)
				}
				if n := strings.Count(w.logged(), "trying the next"); n > 60 {
					t.Errorf("moved %d times", n)
				}
				members[1].set("")
				go w.ask(10 * time.Minute)
				w.moved("apic2", 10*time.Minute)
			})
		})
	}
}

// A member that takes long is not one that hangs, as long as it answers something.
func TestMember_that_is_slow_is_kept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		members, _ := w.cluster(2)
		arm(t, members[0].Sim, apicsim.Fault{Match: "GET /api/mo", Times: 1, Delay: 50 * time.Second})
		began := time.Now()
		w.read()
		if took := time.Since(began); took < 50*time.Second {
			t.Errorf("answered within %v", took)
		}
		if s := w.client.Status(); s.Member != "apic1" {
			t.Errorf("status %+v\n%s", s, w.logged())
		}
	})
}

// A few failures are none of the member's.
func TestMember_that_fails_now_and_then_is_kept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		members, _ := w.cluster(2)
		for range 20 {
			arm(t, members[0].Sim, apicsim.Fault{Match: "mo/uni", Times: 2, Status: 503})
			arm(t, members[0].Sim, apicsim.Fault{Match: "POST /api/mo", Times: 1, Hangup: true})
			w.ask(30 * time.Second)
		}
		if s := w.client.Status(); s.Member != "apic1" || !w.client.Healthy() {
			t.Errorf("status %+v\n%s", s, w.logged())
		}
	})
}
