package apic_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

var anEPG = aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}}

func TestPost_asks_nothing_of_an_APIC_that_is_too_old(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{Version: "4.2(7v)"}, apic.Options{})
		if l, known := w.client.Login(); known {
			t.Errorf("before the login it is %+v", l)
		}
		if u := w.read(); len(u.Objects) != 2 {
			t.Errorf("read %+v", u)
		}
		if l, known := w.client.Login(); !known || l.Version != "4.2(7v)" || !l.ReadsAll() {
			t.Errorf("login %+v, %v", l, known)
		}
		post := func() error { return w.client.Post(t.Context(), wan.DN(), anEPG) }
		if err := post(); err == nil || !strings.Contains(err.Error(), "4.2(7v)") || !strings.Contains(err.Error(), aci.MinVersion) {
			t.Errorf("got %v", err)
		}

		// Upgraded, and the session lives on: the next refresh tells.
		s.SetVersion("5.0(1k)")
		w.silence(10 * time.Minute)
		if err := post(); err != nil {
			t.Error(err)
		}
		w.drain(time.Second)
		if n := count(w.requests(), "POST /api/mo/"); n != 1 {
			t.Errorf("%d posts, want the one after the upgrade", n)
		}
		// Downgraded, with the session that a downgrade ends: the login for the very write tells.
		s.SetVersion("4.2(7v)")
		s.ExpireSessions()
		if err := post(); err == nil {
			t.Error("it was written to although it is too old again")
		}
		w.wantGap()
	})
}

func TestPost_asks_nothing_of_a_member_that_is_too_old(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		one := w.sim("apic1", apicsim.Options{})
		two := one.Member()
		t.Cleanup(two.Close)
		two.SetVersion("4.2(7v)")
		w.serve("apic2", two)
		w.connect(apic.Options{ReadOnce: true}, "apic1", "apic2")
		if err := w.client.Post(t.Context(), wan.DN(), anEPG); err != nil {
			t.Fatal(err)
		}
		one.ExpireSessions()
		arm(t, one, apicsim.Fault{Match: ".", Times: -1, Status: 503})
		time.Sleep(11 * time.Minute) // nobody refreshes
		for range 3 {
			if err := w.client.Post(t.Context(), wan.DN(), anEPG); err == nil {
				t.Error("posted")
			}
			time.Sleep(time.Minute)
		}
		if l, _ := w.client.Login(); l.Version != "4.2(7v)" {
			t.Errorf("login %+v", l)
		}
		for _, r := range two.Requests(0) {
			if strings.HasPrefix(r.Path, "/api/mo/") {
				t.Errorf("the old member was asked %s %s", r.Method, r.Path)
			}
		}
	})
}

// without is a handler whose logins tell no version.
func without(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/aaaLogin.json" {
			h.ServeHTTP(rw, r)
			return
		}
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		rw.Header().Set("Set-Cookie", answer.Header().Get("Set-Cookie"))
		_, _ = rw.Write([]byte(strings.Replace(answer.Body.String(), `"version":`, `"buildVersion":`, 1)))
	})
}

func TestLogin_that_tells_no_version_is_followed_by_a_question(t *testing.T) {
	for name, tt := range map[string]struct {
		version string
		second  string // of another member of the cluster
		fault   *apicsim.Fault
		want    string
		old     bool
	}{
		"that is answered":               {version: "5.2(1g)", want: "5.2(1g)"},
		"that is answered by an old one": {version: "4.2(7v)", want: "4.2(7v)", old: true},
		"about the member that is asked": {version: "5.2(1g)", second: "4.2(7v)", want: "5.2(1g)"},
		"that is not understood":         {version: "dev", want: ""},
		"that is refused":                {version: "4.2(7v)", fault: &apicsim.Fault{Status: 400, Code: "400", Text: "unresolved class"}},
		"that may not be asked":          {version: "4.2(7v)", fault: &apicsim.Fault{Status: 403, Code: "403", Text: "no rights"}},
		"that fails":                     {version: "4.2(7v)", fault: &apicsim.Fault{Status: 503}},
		"that is answered by nothing":    {version: "4.2(7v)", fault: &apicsim.Fault{Empty: true}},
		"that nobody answers":            {version: "4.2(7v)", fault: &apicsim.Fault{Delay: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				s := w.sim("apic1", apicsim.Options{Version: tt.version})
				if tt.second != "" {
					two := s.Member()
					t.Cleanup(two.Close)
					two.SetVersion(tt.second)
				}
				if tt.fault != nil {
					tt.fault.Match, tt.fault.Times = "firmwareCtrlrRunning", -1
					arm(t, s, *tt.fault)
				}
				w.serve("apic0", without(s))
				w.connect(apic.Options{ReadOnce: true}, "apic0")
				began := time.Now()
				err := w.client.Post(t.Context(), wan.DN(), anEPG)
				if (err != nil) != tt.old {
					t.Errorf("posted: %v", err)
				}
				if errors.Is(err, aci.ErrSession) {
					t.Errorf("a session was lost: %v", err)
				}
				if d := time.Since(began); d > 11*time.Second {
					t.Errorf("it took %v", d)
				}
				if l, _ := w.client.Login(); l.Version != tt.want {
					t.Errorf("version %q, want %q", l.Version, tt.want)
				}
				if n := count(w.requests(), "GET /api/class/firmwareCtrlrRunning.json"); n != 1 {
					t.Errorf("asked %d times", n)
				}
			})
		})
	}
}

func TestLogin_tells_what_a_user_may_read(t *testing.T) {
	for name, tt := range map[string]struct {
		user apicsim.User
		want aci.Login
	}{
		"everything": {apicsim.User{}, aci.Login{Domains: []string{"all"}, Shown: []aci.DN{"uni/tn-common", "uni/tn-infra", "uni/tn-mgmt", "uni/tn-prod"}}},
		"one tenant": {apicsim.User{Tenants: []string{"prod"}}, aci.Login{Domains: []string{"prod"}, Shown: []aci.DN{"uni/tn-common", "uni/tn-prod"}}},
		"none":       {apicsim.User{Tenants: []string{}}, aci.Login{Shown: []aci.DN{"uni/tn-common"}}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				tt.user.Name, tt.user.Password, tt.want.Version = user, password, "6.0(9c)"
				w.start(apicsim.Options{Users: []apicsim.User{tt.user}}, apic.Options{})
				w.read()
				l, _ := w.client.Login()
				if diff := cmp.Diff(tt.want, l); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			})
		})
	}
}
