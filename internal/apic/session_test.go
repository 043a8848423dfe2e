package apic_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestRun_logs_in_opens_the_socket_and_logs_out(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sim("apic1", apicsim.Options{})
		c := w.connect(apic.Options{}, "apic1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(time.Second)
		if s := c.Status(); !c.Healthy() || !s.LoggedIn || !s.SocketUp || s.Version != "6.0(9c)" ||
			s.Member != "apic1" || s.Err != "" || s.Since.IsZero() || cmp.Diff([]string{"all"}, s.Domains) != "" {
			t.Errorf("status %+v", s)
		}
		if err := c.Run(ctx); err == nil {
			t.Error("a second Run was not refused")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := []string{
			`POST /api/aaaLogin.json {"aaaUser":{"attributes":{"name":"admin","pwd":"apic-sim"}}}`,
			`GET /socket<token>`,
			`POST /api/aaaLogout.json {"aaaUser":{"attributes":{"name":"admin"}}}`,
		}
		if diff := cmp.Diff(want, w.requests()); diff != "" {
			t.Errorf("wire (-want +got)\n%s", diff)
		}
		if _, open := <-c.Updates(); open {
			t.Error("Updates is not closed")
		}
		if _, err := c.Marks(t.Context(), "c1"); err == nil || c.Healthy() {
			t.Errorf("a call after the end: %v", err)
		}
		if len(w.requests()) != 0 {
			t.Error("a request after the end")
		}
	})
}

func TestSession_is_refreshed_in_time(t *testing.T) {
	for _, revokes := range []bool{false, true} {
		t.Run(fmt.Sprintf("old tokens end at once %v", revokes), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.start(apicsim.Options{RefreshRevokes: revokes, OpaqueTokens: revokes}, apic.Options{})
				w.read()
				time.Sleep(time.Second)
				w.requests()
				w.silence(time.Hour)
				got := w.requests()
				if n := count(got, "GET /api/aaaRefresh.json"); n < 9 || n > 12 {
					t.Errorf("%d refreshes of a token that lives 10m in an hour", n)
				}
				if n := count(got, "POST /api/aaaLogin.json") + count(got, "GET /socket"); n != 0 {
					t.Errorf("%d logins and sockets", n)
				}
				if n := len(got); n > 20 {
					t.Errorf("%d requests in an idle hour:\n%s", n, strings.Join(got, "\n"))
				}
				w.read()
			})
		})
	}
}

func TestSession_short_lifetimes_are_kept_as_the_APIC_says(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{TokenLife: 90 * time.Second, SessionLife: 30 * time.Minute}, apic.Options{})
		for range 100 {
			time.Sleep(time.Minute)
			if _, err := w.client.ReadEPG(t.Context(), web); err != nil {
				t.Fatal(err)
			}
		}
		logins, refused := 0, 0
		for _, r := range s.Requests(0) {
			if r.Path == "/api/aaaLogin.json" {
				logins++
			}
			if r.Status == http.StatusForbidden {
				refused++
			}
		}
		if logins != 4 || refused != 0 {
			t.Errorf("%d logins, want 4; %d refusals", logins, refused)
		}
	})
}

// Logins that do not help become rare. The session that there is stays good for whatever works.
func TestSession_is_refreshed_while_logins_wait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		err := s.AddFault(apicsim.Fault{Match: "subscription=yes", Times: -1, Status: http.StatusMethodNotAllowed, Code: "405", Text: "unable to locate opened web socket"})
		if err != nil {
			t.Fatal(err)
		}
		for range 120 {
			if _, err := w.client.Read(t.Context(), wan); err == nil {
				t.Fatal("subscribed")
			}
			if _, err := w.client.ReadEPG(t.Context(), web); err != nil {
				t.Fatalf("at %v: %v", time.Now(), err)
			}
			time.Sleep(30 * time.Second)
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n > 15 {
			t.Errorf("%d logins in an hour", n)
		}
	})
}

func TestSession_is_made_anew_after_a_day(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		w.silence(23*time.Hour + 50*time.Minute)
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 1 {
			t.Fatalf("%d logins before the end", n)
		}
		time.Sleep(10 * time.Minute)
		w.wantGap()
		w.read()
		subnet(w, s, "10.0.0.1/32", "")
		if u := w.update(); u.Kind != aci.Event {
			t.Errorf("got %+v", u)
		}
		got := w.requests()
		if count(got, "POST /api/aaaLogin.json") != 1 || count(got, "GET /socket") != 1 {
			t.Errorf("requests:\n%s", strings.Join(got, "\n"))
		}
		for _, r := range s.Requests(0) {
			if r.Status == http.StatusForbidden {
				t.Errorf("refused: %+v", r)
			}
		}
	})
}

func TestCall_renews_the_session_once_for_all_who_wait(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.sim("apic1", apicsim.Options{Latency: 100 * time.Millisecond})
		w.connect(apic.Options{ReadOnce: true}, "apic1")
		w.run()
		w.read()
		s.ExpireSessions()
		w.requests()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				mo := aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": fmt.Sprint("e", i)}}
				if err := w.client.Post(t.Context(), wan.DN(), mo); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got := w.requests()
		if n := count(got, "POST /api/aaaLogin.json"); n != 1 {
			t.Errorf("%d logins", n)
		}
		if n := count(got, "POST /api/mo/"); n != 40 {
			t.Errorf("%d posts, want each twice", n)
		}
	})
}

func TestCall_that_a_new_login_does_not_help_is_ErrSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{ReadOnce: true})
		time.Sleep(time.Second)
		w.requests()
		arm(t, s, apicsim.Fault{Match: "^POST /api/mo", Times: -1, Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"})
		for range 50 {
			err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG})
			if !errors.Is(err, aci.ErrSession) {
				t.Fatalf("got %v", err)
			}
			if e, ok := errors.AsType[*aci.Error](err); !ok || e.Status != 403 {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n > 7 {
			t.Errorf("%d logins in 50s that did not help", n)
		}
		s.ClearFaults()
		time.Sleep(time.Hour)
		if err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "e"}}); err != nil {
			t.Error(err)
		}
	})
}

func TestCall_without_the_right_costs_no_login(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		time.Sleep(time.Minute)
		w.requests()
		arm(t, s, apicsim.Fault{Match: "^POST /api/mo", Times: -1, Status: 403, Code: "403", Text: "Not authorized"})
		for range 30 {
			err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG})
			if e, ok := errors.AsType[*aci.Error](err); !ok || e.Status != 403 || errors.Is(err, aci.ErrSession) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		got := w.requests()
		if count(got, "POST /api/aaaLogin.json") != 0 || count(got, "GET /api/aaaRefresh.json") > 3 {
			t.Errorf("requests:\n%s", strings.Join(got, "\n"))
		}
		w.silence(time.Minute)
	})
}

func TestLogin_with_wrong_credentials_is_rare(t *testing.T) {
	for _, fault := range []apicsim.Fault{
		{},
		{Match: "aaaLogin", Times: -1, Status: 403, Code: "403", Text: "bad signature"},
	} {
		t.Run(fmt.Sprint("status ", fault.Status), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := w.sim("apic1", apicsim.Options{})
				w.sim("apic2", apicsim.Options{})
				if fault.Status != 0 {
					arm(t, s, fault)
				}
				w.connect(apic.Options{Password: "wrong"}, "apic1", "apic2")
				w.run()
				for range 60 * 60 {
					time.Sleep(time.Second)
					if _, err := w.client.Read(t.Context(), wan); !errors.Is(err, aci.ErrSession) {
						t.Fatalf("got %v", err)
					}
				}
				got := w.requests()
				if n := count(got, "POST /api/aaaLogin.json"); n < 3 || n > 6 || n != len(got) {
					t.Errorf("%d logins of %d requests in an hour", n, len(got))
				}
				if st := w.client.Status(); st.LoggedIn || st.Err == "" || w.client.Healthy() {
					t.Errorf("status %+v", st)
				}
				if !strings.Contains(w.logged(), "level=ERROR msg=\"apic refuses the credentials\"") {
					t.Error(w.logged())
				}
			})
		})
	}
}

func TestPassword_file_is_read_again_when_it_changes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		file := filepath.Join(t.TempDir(), "password")
		write := func(s string) {
			if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("old\n")
		w.start(apicsim.Options{}, apic.Options{PasswordFile: file})
		time.Sleep(31 * time.Minute) // deep in the backoff
		if w.client.Healthy() {
			t.Fatal("logged in with the wrong password")
		}
		w.requests()
		write(password + "\r\n")
		time.Sleep(15 * time.Second)
		if !w.client.Healthy() {
			t.Errorf("not logged in: %+v", w.client.Status())
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 1 {
			t.Errorf("%d logins", n)
		}
	})
}

func TestLogin_that_is_throttled_or_down_is_tried_again(t *testing.T) {
	for name, fault := range map[string]apicsim.Fault{
		"HTML 503": {Match: "aaaLogin", Times: 5, Status: 503},
		"hang up":  {Match: "aaaLogin", Times: 5, Hangup: true},
		"HTML 405": {Match: "aaaLogin", Times: 5, Status: 405},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				arm(t, w.sim("apic1", apicsim.Options{}), fault)
				w.connect(apic.Options{}, "apic1")
				w.run()
				time.Sleep(2 * time.Second)
				if _, err := w.client.ReadEPG(t.Context(), web); err == nil || errors.Is(err, aci.ErrSession) {
					t.Errorf("got %v", err)
				}
				time.Sleep(time.Minute)
				if !w.client.Healthy() {
					t.Errorf("status %+v", w.client.Status())
				}
				if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 6 {
					t.Errorf("%d logins", n)
				}
			})
		})
	}
}

func TestRefresh_that_fails_is_repeated_before_the_token_ends(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		arm(t, s, apicsim.Fault{Match: "aaaRefresh", Times: 3, Status: 503})
		w.silence(time.Hour)
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 1 {
			t.Errorf("%d logins", n)
		}
		arm(t, s, apicsim.Fault{Match: "aaaRefresh", Times: 1, Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"})
		time.Sleep(10 * time.Minute)
		w.wantGap()
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 1 {
			t.Errorf("%d logins after the refusal", n)
		}
		w.read()
	})
}

func TestMember_that_is_down_gives_way_to_the_next(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		one := apicsim.New(apicsim.Options{})
		t.Cleanup(one.Close)
		srv := w.serve("apic1", one)
		two := w.sim("apic2", apicsim.Options{})
		w.connect(apic.Options{}, "apic1", "apic2")
		w.run()
		w.read()
		_ = srv.Close()
		one.CloseSockets()
		w.wantGap()
		time.Sleep(10 * time.Second)
		if s := w.client.Status(); s.Member != "apic2" || !w.client.Healthy() {
			t.Fatalf("status %+v\n%s", s, w.logged())
		}
		w.read()
		subnet(w, two, "10.0.0.1/32", "")
		if u := w.update(); u.Kind != aci.Event {
			t.Errorf("got %+v", u)
		}
		w.drain(time.Second)
		w.silence(time.Hour)
	})
}

func TestMember_that_is_down_at_the_start_is_passed_over_at_once(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sim("apic3", apicsim.Options{})
		w.connect(apic.Options{}, "apic1", "apic2", "apic3")
		w.run()
		time.Sleep(3 * time.Second)
		if s := w.client.Status(); s.Member != "apic3" || !w.client.Healthy() {
			t.Errorf("status %+v\n%s", s, w.logged())
		}
	})
}

func TestCalls_need_no_Run(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sim("apic1", apicsim.Options{})
		c := w.connect(apic.Options{ReadOnce: true}, "apic1")
		if u := w.read(); len(u.Objects) != 2 {
			t.Errorf("got %+v", u)
		}
		time.Sleep(11 * time.Minute) // nobody refreshes
		w.read()
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != 2 {
			t.Errorf("%d logins", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		if n := count(w.requests(), "POST /api/aaaLogout.json"); n != 1 {
			t.Errorf("%d logouts", n)
		}
	})
}

func TestLogout_is_bounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		arm(t, w.sim("apic1", apicsim.Options{}), apicsim.Fault{Match: "aaaLogout", Delay: time.Minute})
		c := w.connect(apic.Options{}, "apic1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("the end took %v", d)
		}
	})
}

// arm adds a fault.
func arm(t *testing.T, s *apicsim.Sim, f apicsim.Fault) {
	t.Helper()
	if err := s.AddFault(f); err != nil {
		t.Fatal(err)
	}
}

// A client for dry runs cannot write, whatever is called.
func TestReadOnly_reads_and_logs_in_and_out_and_nothing_else(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		t.Cleanup(func() { // when it has ended
			requests := w.requests()
			if count(requests, "POST /api/aaaLogout.json ") != 1 {
				t.Error("it did not log out")
			}
			for _, r := range requests {
				if !strings.HasPrefix(r, "GET ") && !strings.HasPrefix(r, "POST /api/aaaLogin.json ") &&
					!strings.HasPrefix(r, "POST /api/aaaLogout.json ") {
					t.Errorf("request %s", r)
				}
			}
		})
		s := w.start(apicsim.Options{}, apic.Options{Gate: apic.ReadOnly})
		w.read()
		before := s.Dump("uni")
		err := w.client.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}})
		if err == nil || !strings.Contains(err.Error(), "dry run") {
			t.Errorf("Post returned %v", err)
		}
		if s.Dump("uni") != before {
			t.Error("something was written")
		}
		w.read() // the session is as good as before
	})
}
