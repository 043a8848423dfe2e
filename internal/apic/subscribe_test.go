package apic_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const refreshCall = "GET /api/subscriptionRefresh.json?id=7205759834980"

func TestEvents_arrive_as_they_happen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		subnet(w, s, "10.0.0.1/32", "")
		subnet(w, s, "10.0.0.1/32", `,"descr":"changed"`)
		if err := s.Delete(string(web.DN())); err != nil {
			t.Fatal(err)
		}
		if err := s.Post("uni", `{"fvTenant":{"attributes":{"name":"other"},"children":[{"l3extOut":{"attributes":{"name":"o"}}}]}}`); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range w.drain(time.Second) {
			if m.Class == aci.ClassSubnet || m.Class == aci.ClassExtEPG {
				got = append(got, m.Attrs["status"]+" "+m.DN.RN())
			}
			if m.Attrs["status"] == "modified" && m.Class == aci.ClassSubnet && (m.Attrs["descr"] != "changed" || m.Attrs["scope"] != "") {
				t.Errorf("modified: %v", m.Attrs)
			}
		}
		all := strings.Join(got, "\n")
		for _, want := range []string{
			"created instP-web", "created extsubnet-[10.0.0.1/32]", "modified extsubnet-[10.0.0.1/32]",
			"deleted extsubnet-[10.0.0.1/32]", "deleted instP-web",
		} {
			if strings.Count(all, want) != 1 {
				t.Errorf("not once: %s in\n%s", want, all)
			}
		}
	})
}

func TestSubscription_lives_long_and_costs_little(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		outs := []aci.L3Out{wan}
		for i := range 20 {
			outs = append(outs, aci.L3Out{Tenant: "prod", Name: fmt.Sprint("o", i)})
		}
		for _, l := range outs {
			if _, err := w.client.Read(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		w.silence(10 * time.Minute)
		w.requests()
		w.silence(2 * time.Hour)
		got := w.requests()
		if n := count(got, refreshCall); n < 20*8 || n > 21*10 {
			t.Errorf("%d refreshes of 21 subscriptions in 2h", n)
		}
		if n := len(got); n > 6*120 {
			t.Errorf("%d requests in 2 idle hours", n)
		}
		if n := s.Stats().Subscriptions; n != 21 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

func TestSubscription_where_refresh_timeout_is_ignored(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{NoRefreshTimeout: true}, apic.Options{})
		w.read()
		start := time.Now()
		w.silence(80 * time.Second)
		w.wantGap()
		if d := time.Since(start); d > 105*time.Second {
			t.Errorf("found out after %v", d)
		}
		w.requests()
		w.read()
		if n := count(w.requests(), "GET /api/mo/uni/tn-prod/out-wan.json?query-target=subtree&target-subtree-class="+allClasses+"&subscription=yes"); n != 1 {
			t.Error("not subscribed again")
		}
		w.silence(20 * time.Hour)
		if got := w.requests(); len(got) > 20*60*2 {
			t.Errorf("%d requests in 20h", len(got))
		}
		subnet(w, s, "10.0.0.1/32", "")
		if len(w.drain(time.Second)) == 0 {
			t.Error("no event")
		}
	})
}

func TestSubscription_where_refresh_timeout_is_refused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		arm(t, s, apicsim.Fault{Match: "refresh-timeout", Times: -1, Status: 400, Code: "400", Text: "Invalid parameter"})
		w.read()
		w.silence(time.Hour)
		if n := count(w.requests(), refreshCall); n < 60 || n > 95 {
			t.Errorf("%d refreshes in an hour", n)
		}
		if n := s.Stats().Subscriptions; n != 1 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

func TestSubscription_refresh_that_fails(t *testing.T) {
	t.Run("for a while is repeated", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			s := w.start(apicsim.Options{}, apic.Options{})
			w.read()
			arm(t, s, apicsim.Fault{Match: "subscriptionRefresh", Times: 10, Status: 503})
			w.silence(time.Hour)
		})
	})
	t.Run("for its whole life is a gap", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			s := w.start(apicsim.Options{}, apic.Options{})
			w.read()
			w.silence(10 * time.Minute)
			arm(t, s, apicsim.Fault{Match: "subscriptionRefresh", Times: -1, Status: 503})
			w.silence(18 * time.Minute)
			time.Sleep(15 * time.Minute)
			w.wantGap()
			s.ClearFaults()
			w.read()
			w.silence(time.Hour)
		})
	})
	t.Run("for good is a gap of that L3Out only", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			s := w.start(apicsim.Options{}, apic.Options{})
			if _, err := w.client.Read(t.Context(), aci.L3Out{Tenant: "prod", Name: "lan"}); err != nil {
				t.Fatal(err)
			}
			w.read()
			w.silence(time.Hour)
			arm(t, s, apicsim.Fault{Match: "subscriptionRefresh.json.id=72057598349803002", Status: 400, Code: "400", Text: "Subscription refresh timeout"})
			time.Sleep(20 * time.Minute)
			w.wantGap()
			w.read()
			w.silence(time.Hour)
			if n := count(w.requests(), "GET /api/aaaLogin"); n != 0 {
				t.Error("logged in again")
			}
		})
	})
}

func TestSubscription_of_an_expired_session(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		s.ExpireSessions()
		w.wantGap()
		w.read()
		subnet(w, s, "10.0.0.1/32", "")
		if len(w.drain(time.Second)) == 0 {
			t.Error("no event")
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 2 {
			t.Errorf("%d logins", n)
		}
		if n := s.Stats(); n.Sockets != 1 || n.Sessions != 1 {
			t.Errorf("%+v", n)
		}
	})
}

func TestSocket_that_is_lost_is_a_gap_and_opened_again(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{OpaqueTokens: true}, apic.Options{})
		other := aci.L3Out{Tenant: "prod", Name: "never-read-again"}
		for _, l := range []aci.L3Out{wan, other} {
			if _, err := w.client.Read(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		for round := range 5 {
			s.CloseSockets()
			gaps := map[aci.DN]bool{w.update().Root: true}
			if round == 0 {
				gaps[w.update().Root] = true
				if !gaps[other.DN()] {
					t.Errorf("gaps of %v", gaps)
				}
			}
			if !gaps[wan.DN()] {
				t.Errorf("gaps of %v", gaps)
			}
			subnet(w, s, fmt.Sprintf("10.0.0.%d/32", round), "") // unseen
			u := w.read()
			if !strings.Contains(strings.Join(dns(u.Objects), " "), fmt.Sprintf("[10.0.0.%d/32]", round)) {
				t.Error("the read misses what happened in the gap")
			}
			subnet(w, s, fmt.Sprintf("10.0.1.%d/32", round), "")
			w.drain(time.Minute)
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 1 {
			t.Errorf("%d logins", n)
		}
	})
}

func TestSocket_that_is_refused_is_tried_ever_more_rarely(t *testing.T) {
	for _, fault := range []apicsim.Fault{
		{Match: "GET /socket", Times: -1, Status: 503},
		{Match: "GET /socket", Times: -1, Hangup: true},
		{Match: "GET /socket", Times: -1, Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"},
	} {
		bubbleSub(t, fmt.Sprint("status ", fault.Status), func(t *testing.T, w *world) {
			s := w.sim("apic1", apicsim.Options{})
			arm(t, s, fault)
			w.connect(apic.Options{}, "apic1")
			w.run()
			time.Sleep(3 * time.Second)
			if _, err := w.client.Read(t.Context(), wan); err == nil || !strings.Contains(err.Error(), "no WebSocket within 10s") {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Hour)
			got := w.requests()
			if n := count(got, "GET /socket"); n < 90 || n > 130 {
				t.Errorf("%d attempts in an hour", n)
			}
			if n := count(got, "POST /api/aaaLogin.json"); fault.Status != 403 && n != 1 || n > 130 {
				t.Errorf("%d logins in an hour", n)
			}
			s.ClearFaults()
			time.Sleep(time.Minute)
			w.read()
		})
	}
}

// An APIC that does not find the WebSocket of a session asks for a new login.
func TestSubscribe_that_finds_no_socket_logs_in_anew(t *testing.T) {
	const text = "Subscription request failed, unable to locate opened web socket. Please re-login to the application"
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		arm(t, s, apicsim.Fault{Match: "subscription=yes", Status: 405, Code: "405", Text: text})
		w.read()
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 2 {
			t.Errorf("%d logins", n)
		}
		arm(t, s, apicsim.Fault{Match: "subscription=yes", Times: -1, Status: 405, Code: "405", Text: text})
		s.CloseSockets()
		w.wantGap()
		w.requests()
		for range 60 {
			if _, err := w.client.Read(t.Context(), wan); !errors.Is(err, aci.ErrSession) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(5 * time.Second)
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n > 12 {
			t.Errorf("%d logins in 5m", n)
		}
	})
}

func TestSubscribe_that_is_refused(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		time.Sleep(time.Minute)
		arm(t, s, apicsim.Fault{Match: "subscription=yes", Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"})
		w.read() // with a new session
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 2 {
			t.Errorf("%d logins", n)
		}
		other := aci.L3Out{Tenant: "prod", Name: "lan"}
		for _, f := range []apicsim.Fault{
			{Match: "subscription=yes", Times: 2, Status: 403, Code: "403", Text: "Not authorized"},
			{Match: "subscription=yes", Times: 2, Status: 400, Code: "12", Text: "no such class"},
			{Match: "subscription=yes", Times: 1, Status: 503},
		} {
			s.ClearFaults()
			arm(t, s, f)
			_, err := w.client.Read(t.Context(), other)
			if e, ok := errors.AsType[*aci.Error](err); !ok || e.Status != f.Status || errors.Is(err, aci.ErrSession) {
				t.Errorf("got %v", err)
			}
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 0 {
			t.Errorf("%d logins for what is no matter of the session", n)
		}
		if n := w.client.Status().Subscriptions; n != 1 {
			t.Errorf("%d subscriptions", n)
		}
		w.silence(time.Hour)
	})
}

func TestRead_without_Run_says_that_there_are_no_events(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sim("apic1", apicsim.Options{})
		c := w.connect(apic.Options{}, "apic1")
		if _, err := c.Read(t.Context(), wan); err == nil || !strings.Contains(err.Error(), "no WebSocket") {
			t.Errorf("got %v", err)
		}
		w.run()
		w.read()
	})
}

func TestRead_fails_when_its_subscription_ends_meanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		arm(t, s, apicsim.Fault{Match: "page=0", CloseSockets: true, Delay: time.Second})
		if u, err := w.client.Read(t.Context(), wan); err == nil {
			t.Errorf("got %d objects", len(u.Objects))
		}
		w.wantGap()
		w.read()
	})
}

func TestForget_ends_refreshes_and_events(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		subnet(w, s, "10.0.0.1/32", "")
		synctest.Wait()
		w.client.Forget(wan.DN())
		w.client.Forget(wan.DN())
		w.update() // the one that was on its way
		subnet(w, s, "10.0.0.2/32", "")
		w.requests()
		w.silence(20 * time.Minute)
		if n := count(w.requests(), refreshCall); n != 0 {
			t.Errorf("%d refreshes", n)
		}
		if n := w.client.Status().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions", n)
		}
		w.read()
		subnet(w, s, "10.0.0.3/32", "")
		n := 0
		for _, m := range w.drain(time.Second) {
			if m.Class == aci.ClassSubnet {
				n++
			}
		}
		if n != 1 { // two subscriptions on the APIC, one event
			t.Errorf("told %d times", n)
		}
	})
}

func TestReads_of_one_L3Out_at_once_subscribe_once(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{Latency: time.Second}, apic.Options{})
		done := make(chan error)
		for range 10 {
			go func() {
				_, err := w.client.Read(t.Context(), wan)
				done <- err
			}()
		}
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if n := s.Stats().Subscriptions; n != 1 {
			t.Errorf("%d subscriptions", n)
		}
	})
}

// A receiver that does not look for an hour gets a gap, not the loss of an event.
func TestUpdates_of_a_slow_receiver_become_a_gap(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		var b strings.Builder
		for i := range 30_000 {
			fmt.Fprintf(&b, `,{"l3extSubnet":{"attributes":{"ip":"10.%d.%d.%d/32"}}}`, i>>16, i>>8&255, i&255)
		}
		if err := s.Post(string(wan.DN()), `{"l3extInstP":{"attributes":{"name":"web"},"children":[`+b.String()[1:]+`]}}`); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(string(web.DN())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if u := w.update(); u.Kind != aci.Event { // in hand already
			t.Errorf("got %v", u.Kind)
		}
		w.wantGap()
		w.silence(time.Second)
		w.read()
		subnet(w, s, "10.0.0.1/32", "")
		if len(w.drain(time.Second)) == 0 {
			t.Error("no event")
		}
		if n := s.Stats().Sockets; n != 1 {
			t.Errorf("%d sockets", n)
		}
	})
}

// pusher is an APIC that is all WebSocket: it sends what it is given.
type pusher struct {
	frames chan string
	deaf   chan struct{} // if any, nothing is read until it is closed, so that pings stay without answer
}

func (p *pusher) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/socket"):
		conn, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		ctx := r.Context()
		if p.deaf == nil {
			ctx = conn.CloseRead(ctx)
		}
		for {
			select {
			case f := <-p.frames:
				if conn.Write(ctx, websocket.MessageText, []byte(f)) != nil {
					return
				}
			case <-ctx.Done():
				return
			case <-p.deaf:
				return
			}
		}
	case r.URL.Query().Has("subscription"):
		_, _ = rw.Write([]byte(`{"totalCount":"0","subscriptionId":"1","imdata":[]}`))
	case r.URL.Path == "/api/aaaLogin.json" || r.URL.Path == "/api/aaaRefresh.json":
		class := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/api/"), ".json") // tolerated for a refresh too
		_, _ = rw.Write([]byte(`{"imdata":[{"` + class + `":{"attributes":{"token":"t","refreshTimeoutSeconds":"600","maximumLifetimeSeconds":"86400"}}}]}`))
	default:
		_, _ = rw.Write([]byte(`{"totalCount":"0","imdata":[]}`))
	}
}

func TestEvents_that_cannot_be_read_are_a_gap(t *testing.T) {
	const deleted = `{"l3extSubnet":{"attributes":{"dn":"uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.0/8]","status":"deleted"}}}`
	bubble(t, func(t *testing.T, w *world) {
		p := &pusher{frames: make(chan string)}
		w.serve("apic1", p)
		w.connect(apic.Options{}, "apic1")
		w.run()
		w.read()
		for _, f := range []string{"", "<html>", `{"imdata":[{"l3extSubnet":{"attributes":{"status":"deleted"}}}]}`, `{"imdata":[{"error":{"attributes":{}}}]}`} {
			p.frames <- f
			w.wantGap()
		}
		p.frames <- `{"subscriptionId":"1","imdata":[` + deleted + `,{"fvTenant":{"attributes":{"dn":"uni/tn-prod"}}},` + deleted + `]}`
		for range 2 {
			if u := w.update(); u.Kind != aci.Event || len(u.Objects) != 1 {
				t.Errorf("got %+v", u)
			}
		}
		p.frames <- `{"imdata":[` + deleted + `]}` + strings.Repeat(" ", 1<<20) // far more than the default limit of the library
		w.update()
		p.frames <- `{"imdata":[` + deleted + `]}` + strings.Repeat(" ", 16<<20)
		w.wantGap()
		time.Sleep(10 * time.Second)
		w.read()
		p.frames <- `{"imdata":[{"l3extInstP":{"attributes":{"dn":"uni/tn-prod/out-wan/instP-web"},"children":[{"l3extSubnet":{"attributes":{"rn":"extsubnet-[10.0.0.0/8]"}}}]}}]}`
		if u := w.update(); len(u.Objects) != 2 || u.Objects[1].DN != "uni/tn-prod/out-wan/instP-web/extsubnet-[10.0.0.0/8]" {
			t.Errorf("got %+v", u)
		}
		w.silence(time.Minute)
	})
}

// hole is a connection that can vanish without a word.
type hole struct {
	net.Conn
	gone *atomic.Bool
}

func (h hole) Read(p []byte) (int, error) {
	for {
		n, err := h.Conn.Read(p)
		if !h.gone.Load() || err != nil {
			return n, err
		}
	}
}

func (h hole) Write(p []byte) (int, error) {
	if h.gone.Load() {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func TestSocket_that_vanishes_without_a_word_is_a_gap(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sim("apic1", apicsim.Options{})
		gone := new(atomic.Bool)
		w.connect(apic.Options{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := w.net.DialContext(ctx, network, addr)
			return hole{c, gone}, err
		}}, "apic1")
		w.run()
		w.read()
		w.silence(time.Minute)
		start := time.Now()
		gone.Store(true)
		w.wantGap()
		if d := time.Since(start); d > 31*time.Second {
			t.Errorf("found out after %v", d)
		}
		gone.Store(false)
		time.Sleep(2 * time.Minute)
		w.read()
	})
}

func TestSocket_of_a_server_that_answers_no_pings_is_kept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := &pusher{deaf: make(chan struct{})}
		t.Cleanup(func() { close(p.deaf) })
		w.serve("apic1", p)
		w.connect(apic.Options{}, "apic1")
		w.run()
		w.read()
		w.silence(time.Hour)
		if n := count(w.requests(), "GET /socket"); n != 1 {
			t.Errorf("%d sockets", n)
		}
	})
}

// An event that is too big to be taken ends the WebSocket, and what it said is read.
func TestEvent_that_is_too_big_is_a_gap(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		subnet(w, s, "10.0.0.1/32", "")
		w.read()
		fault := `{"faultInst":{"attributes":{"dn":"` + string(web.DN()) + `/fault-F0467","code":"F0467","descr":"` + strings.Repeat("x", 17<<20) + `"}}}`
		if err := s.Seed([]byte(fault)); err != nil {
			t.Fatal(err)
		}
		w.wantGap()
	})
}
