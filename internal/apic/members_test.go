package apic_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
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
	w.connect(apic.Options{}, hosts...)
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
		"it refuses connections": {func(m *ailing, srv *http.Server) { _ = srv.Close() }, 5 * time.Second},
		"it hangs":               {func(m *ailing, _ *http.Server) { m.set("hangs") }, 30 * time.Second},
		"it answers 503":         {func(m *ailing, _ *http.Server) { m.set("503") }, 30 * time.Second},
		"it refuses writes":      {func(m *ailing, _ *http.Server) { m.set("503 for writes") }, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				members, servers := w.cluster(3)
				c.ail(members[0], servers[0])
				go w.ask(2 * c.within)
				w.moved("apic2", c.within)
				w.ask(time.Hour)
				if n := strings.Count(w.logged(), "trying the next"); n != 1 {
					t.Errorf("moved %d times", n)
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
