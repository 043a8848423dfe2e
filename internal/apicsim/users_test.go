package apicsim_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// login logs in and returns status and body.
func login(t *testing.T, s http.Handler, name, password string) (int, string) {
	t.Helper()
	body, _ := json.Marshal(map[string]any{"aaaUser": map[string]any{"attributes": map[string]string{"name": name, "pwd": password}}})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/aaaLogin.json", strings.NewReader(string(body))))
	return w.Code, w.Body.String()
}

func TestLogin_names_the_domain_of_its_user(t *testing.T) {
	t.Parallel()
	s := newSim(t, apicsim.Options{Users: []apicsim.User{
		{Name: "ops", Password: "p", LoginDomain: "LAB"}, {Name: "any", Password: "p"}, {Name: "cert"},
	}})
	for name, want := range map[string]int{
		`apic:LAB\ops`: 200, `apic#LAB\ops`: 200, `apic:OTHER\ops`: 401, `ops`: 401, `LAB\ops`: 401, `apic:LAB\\ops`: 401,
		`any`: 200, `apic:OTHER\any`: 200, `cert`: 401, `nobody`: 401,
	} {
		if got, body := login(t, s, name, "p"); got != want {
			t.Errorf("%s: %d %s", name, got, body)
		}
	}
	if got, _ := login(t, s, "cert", ""); got != 401 {
		t.Errorf("a user without a password logged in: %d", got)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/aaaListDomains.json", nil))
	if !strings.Contains(w.Body.String(), `"name":"LAB"`) {
		t.Error(w.Body)
	}
}

func TestUser_is_locked_after_refused_logins_at_any_member(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, apicsim.Options{LockAfter: 3})
		m := s.Member()
		defer m.Close()
		wrong := func(at http.Handler) {
			t.Helper()
			if got, body := login(t, at, "admin", "wrong"); got != 401 || !strings.Contains(body, "incorrect") {
				t.Errorf("%d %s", got, body)
			}
		}
		right := func(want int) {
			t.Helper()
			if got, body := login(t, s, "admin", "apic-sim"); got != want {
				t.Errorf("%d %s, want %d", got, body, want)
			}
		}
		wrong(s)
		wrong(m)
		right(200) // forgives
		wrong(s)
		wrong(m)
		time.Sleep(5 * time.Minute) // forgets
		wrong(s)
		wrong(s)
		if s.Locked("admin") {
			t.Error("locked too early")
		}
		wrong(m)
		if !m.Locked("admin") {
			t.Error("not locked")
		}
		right(401)
		time.Sleep(59 * time.Minute)
		right(401)
		time.Sleep(time.Minute)
		right(200)
		s.SetUser(apicsim.User{Name: "admin", Password: "apic-sim", Expired: true})
		right(401)
	})
}

func TestControl_changes_users(t *testing.T) {
	t.Parallel()
	s := newSim(t, apicsim.Options{})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	for body, want := range map[string]int{
		`{"name":"ops","password":"p","tenants":["common"],"readOnly":true,"certificates":{"ops.crt":` + string(cert) + `}}`: 204,
		`{"name":"ops","certificates":{"ops.crt":"none"}}`:                                                                   400,
		`{"name":"a/b"}`:              400,
		`{"name":"ops","admin":true}`: 400,
	} {
		w := httptest.NewRecorder()
		s.Control().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/users", strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	if got, body := login(t, s, "ops", "p"); got != 200 || !strings.Contains(body, `"name":"common"`) {
		t.Errorf("%d %s", got, body)
	}
	for dn, there := range map[string]bool{
		"": true, "/usercert-ops.crt": true, "/userdomain-common/role-read-all": true, "/userdomain-all": false,
	} {
		if _, got := s.Lookup("uni/userext/user-ops" + dn); got != there {
			t.Errorf("%s is there: %v", dn, got)
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/class/aaaUser.json", nil)
	cookie := sign(t, key, "uni/userext/user-ops/usercert-ops.crt", "GET/api/class/aaaUser.json")
	r.Header.Set("Cookie", cookie)
	s.ServeHTTP(w, r)
	if w.Code != 200 || !strings.Contains(w.Body.String(), fmt.Sprintf("%q", "uni/userext/user-ops")) || strings.Contains(w.Body.String(), "pwd") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
