package apic_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// keys are two private keys, made once: that takes long.
var keys = sync.OnceValue(func() (out [2]*rsa.PrivateKey) {
	for i := range out {
		var err error
		if out[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return out
})

const certName = "ops.crt"

// certified is the user with the certificate of key i, and without a password.
func certified(i int) apicsim.User {
	return apicsim.User{Name: user, Certificates: map[string]*rsa.PublicKey{certName: &keys()[i].PublicKey}}
}

func encodePEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs1(i int) string {
	return encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(keys()[i]))
}

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encodePEM("PRIVATE KEY", der)
}

func certificate(t *testing.T, i int) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, keys()[i].Public(), keys()[i])
	if err != nil {
		t.Fatal(err)
	}
	return encodePEM("CERTIFICATE", der)
}

// keyFile makes a file and a function that replaces it at once, as a mounted Secret is.
func keyFile(t *testing.T, content string) (file string, write func(string)) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key.pem")
	write = func(s string) {
		if err := os.WriteFile(file+".new", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(content)
	return file, write
}

func signing(file string) apic.Options {
	return apic.Options{CertName: certName, PrivateKeyFile: file}
}

func TestCertificate_does_all_that_a_login_does(t *testing.T) {
	for name, opaque := range map[string]bool{"with a JWT": false, "with a token of APIC 4": true} {
		t.Run(name, func(t *testing.T) {
			keys()
			bubble(t, func(t *testing.T, w *world) {
				file, _ := keyFile(t, pkcs1(0))
				s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}, OpaqueTokens: opaque}, signing(file))
				w.read()
				if err := w.client.Post(t.Context(), wan.DN(), anEPG); err != nil {
					t.Fatal(err)
				}
				if got := w.drain(time.Second); len(got) == 0 {
					t.Error("no event of the post")
				}
				if _, err := w.client.ReadEPG(t.Context(), web); err != nil {
					t.Error(err)
				}
				if _, err := w.client.Marks(t.Context(), "blue"); err != nil {
					t.Error(err)
				}
				subnet(w, s, "10.0.0.1/32", "")
				if got := w.drain(time.Second); len(got) == 0 {
					t.Error("no event of somebody else's post")
				}
				w.silence(6 * time.Hour) // subscriptions are refreshed within the session
				subnet(w, s, "10.0.0.2/32", "")
				if got := w.drain(time.Second); len(got) == 0 {
					t.Error("no event after six hours")
				}
				for _, r := range s.Requests(0) {
					if r.Status != 200 && r.Status != 101 || r.User != user {
						t.Errorf("%d of %s: %s %s %s: %s", r.Status, r.User, r.Method, r.Path, r.Query, r.Text)
					}
					if strings.HasPrefix(r.Path, "/api/aaa") {
						t.Errorf("%s %s: there is no login", r.Method, r.Path)
					}
				}
				if st := w.client.Status(); !w.client.Healthy() || st.Refused || !st.NextLogin.IsZero() || st.Version != "6.0(9c)" {
					t.Errorf("status %+v", st)
				}
				want := aci.Login{Version: "6.0(9c)", Domains: []string{"all"}, Shown: []aci.DN{}}
				if l, _ := w.client.Login(); !cmp.Equal(want, l) {
					t.Error(cmp.Diff(want, l))
				}
			})
		})
	}
}

func TestCertificate_signs_what_is_asked_with_quotes(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs8(t, keys()[0]))
		s := w.sim("apic1", apicsim.Options{Users: []apicsim.User{certified(0)}})
		o := signing(file)
		o.ReadOnce = true
		w.connect(o, "apic1")
		if _, err := w.client.Marks(t.Context(), "blue"); err != nil {
			t.Fatal(err)
		}
		quoted := false
		for _, r := range s.Requests(0) {
			quoted = quoted || strings.Contains(r.Query, "%22")
		}
		if !quoted {
			t.Error("nothing encoded was asked")
		}
		if got := w.sent["Cookie"]; len(got) != 1 || strings.Count(got[0], "APIC-Certificate-DN=uni/userext/user-admin/usercert-ops.crt") != 1 ||
			!strings.Contains(got[0], "APIC-Certificate-Fingerprint=fingerprint") || !strings.Contains(got[0], "APIC-Certificate-Algorithm=v1.0") ||
			strings.Contains(got[0], "APIC-cookie") {
			t.Errorf("cookies %q", got)
		}
	})
}

func TestCertificate_rights_are_read_and_never_guessed(t *testing.T) {
	limited := certified(0)
	limited.Tenants = []string{"prod"}
	none := certified(0)
	none.Tenants = []string{}
	refs := `[{"aaaDomainRef":{"attributes":{"dn":"uni/tn-prod/domain-prod"}}},{"aaaDomainRef":{"attributes":{"dn":"uni/tn-common/domain-common"}}}]`
	for name, tt := range map[string]struct {
		user   apicsim.User
		refuse string // what is not shown
		want   aci.Login
		tells  bool
	}{
		"everything":     {certified(0), "", aci.Login{Domains: []string{"all"}, Shown: []aci.DN{}}, true},
		"one tenant":     {limited, "", aci.Login{Domains: []string{"prod"}, Shown: []aci.DN{"uni/tn-prod"}}, true},
		"none":           {none, "", aci.Login{Domains: []string{}, Shown: []aci.DN{}}, true},
		"not himself":    {limited, "userext", aci.Login{}, false},
		"not the domain": {limited, "aaaDomainRef", aci.Login{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				file, _ := keyFile(t, pkcs1(0))
				s := w.sim("apic1", apicsim.Options{Users: []apicsim.User{tt.user}})
				if err := s.Seed([]byte(refs)); err != nil {
					t.Fatal(err)
				}
				if tt.refuse != "" {
					arm(t, s, apicsim.Fault{Match: tt.refuse, Times: -1, Status: 403, Code: "403", Text: "no rights"})
				}
				w.connect(signing(file), "apic1")
				w.run()
				w.read()
				w.silence(time.Hour) // whoever may not read himself does not lose his session for it
				tt.want.Version = "6.0(9c)"
				l, _ := w.client.Login()
				if diff := cmp.Diff(tt.want, l); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
				if l.TellsRights() != tt.tells {
					t.Errorf("tells the rights: %v", l.TellsRights())
				}
				if n := count(w.requests(), "GET /api/webtokenSession.json"); n != 1 {
					t.Errorf("%d sessions in an hour", n)
				}
			})
		})
	}
}

func TestCertificate_rights_and_version_that_change_are_noticed(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs1(0))
		s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}}, signing(file))
		w.read()
		limited := certified(0)
		limited.Tenants = []string{"prod"}
		s.SetUser(limited)
		s.SetVersion("6.1(1f)")
		w.silence(10 * time.Minute)
		want := aci.Login{Version: "6.1(1f)", Domains: []string{"prod"}, Shown: []aci.DN{}}
		if l, _ := w.client.Login(); !cmp.Equal(want, l) {
			t.Error(cmp.Diff(want, l))
		}
	})
}

func TestKey_file_is_read_again_when_the_certificate_is_replaced(t *testing.T) {
	for name, tt := range map[string]struct {
		fileFirst bool
		between   time.Duration
	}{
		"the file first":       {true, 3 * time.Hour},
		"the file a bit later": {false, time.Second},
		"the file much later":  {false, 3 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				file, write := keyFile(t, pkcs1(0))
				s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}, LockAfter: 5}, signing(file))
				w.read()
				steps := []func(){func() { write(pkcs8(t, keys()[1])) }, func() { s.SetUser(certified(1)) }}
				if !tt.fileFirst {
					steps[0], steps[1] = steps[1], steps[0]
				}
				steps[0]()
				time.Sleep(tt.between)
				steps[1]()
				time.Sleep(5 * time.Second)
				if err := w.client.Post(t.Context(), wan.DN(), anEPG); err != nil {
					t.Errorf("post: %v", err)
				}
				for w.client.Status(); !w.client.Healthy(); time.Sleep(time.Second) {
				}
				for w.update().Kind != aci.Gap { // the old socket may bring the event of the post yet
				}
				w.read()
				w.drain(time.Second)
				subnet(w, s, "10.0.0.1/32", "")
				if got := w.drain(time.Second); len(got) == 0 {
					t.Error("no event")
				}
			})
		})
	}
}

func TestCertificate_that_is_withdrawn_backs_off(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs1(0))
		s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}}, signing(file))
		w.read()
		s.SetUser(apicsim.User{Name: user})
		w.requests()
		for range 60 * 60 {
			time.Sleep(time.Second)
			_, _ = w.client.ReadEPG(t.Context(), web)
		}
		got := w.requests()
		if n := count(got, "GET /api/webtokenSession.json"); n < 3 || n > 6 {
			t.Errorf("%d sessions were asked for in an hour:\n%s", n, strings.Join(got, "\n"))
		}
		if len(got) > 60 {
			t.Errorf("%d requests", len(got))
		}
		if st := w.client.Status(); !st.Refused || st.NextLogin.Before(time.Now()) || !strings.Contains(st.Err, "bad signature") {
			t.Errorf("status %+v", st)
		}
		if log := w.logged(); strings.Contains(log, "PRIVATE") || !strings.Contains(log, "apic refuses the credentials") {
			t.Error(log)
		}
	})
}

func TestCertificate_token_that_ends_begins_a_new_session(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs1(0))
		s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}}, signing(file))
		w.read()
		s.ExpireSessions()
		if err := w.client.Post(t.Context(), wan.DN(), anEPG); err != nil {
			t.Error(err)
		}
		w.wantGap()
		w.read()
		if n := count(w.requests(), "GET /api/webtokenSession.json"); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestCertificate_session_that_ends_in_unknown_words_is_noticed(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs1(0))
		s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}}, signing(file))
		w.read()
		arm(t, s, apicsim.Fault{Match: "userext", Times: 1, Status: 403, Code: "403", Text: "go away"})
		time.Sleep(8 * time.Minute) // it is looked at after half to two thirds of ten
		w.wantGap()
		w.read()
		if n := count(w.requests(), "GET /api/webtokenSession.json"); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestCertificate_session_is_made_anew_after_a_day(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs1(0))
		w.start(apicsim.Options{Users: []apicsim.User{certified(0)}}, signing(file))
		w.read()
		w.silence(23*time.Hour + 58*time.Minute + 30*time.Second)
		w.wantGap()
		w.read()
		if n := count(w.requests(), "GET /api/webtokenSession.json"); n != 2 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestCertificate_refusal_of_one_request_costs_no_session(t *testing.T) {
	keys()
	bubble(t, func(t *testing.T, w *world) {
		file, _ := keyFile(t, pkcs1(0))
		s := w.start(apicsim.Options{Users: []apicsim.User{certified(0)}}, signing(file))
		w.read()
		arm(t, s, apicsim.Fault{Match: "^POST /api/mo/", Times: -1, Status: 403, Code: "403", Text: "bad signature"})
		for range 30 {
			err := w.client.Post(t.Context(), wan.DN(), anEPG)
			if e, ok := errors.AsType[*aci.Error](err); !ok || e.Status != 403 || errors.Is(err, aci.ErrSession) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
		}
		if n := count(w.requests(), "GET /api/webtokenSession.json"); n != 1 {
			t.Errorf("%d sessions", n)
		}
		w.silence(time.Minute)
	})
}

// An account that locks after five refused logins within five minutes is never locked, whatever
// somebody does to the password file, however many members there are and however many ask.
func TestWrong_passwords_lock_no_account(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		file, write := keyFile(t, "wrong")
		s := w.sim("apic1", apicsim.Options{LockAfter: 5})
		for _, host := range []string{"apic2", "apic3"} {
			m := s.Member()
			t.Cleanup(m.Close)
			w.serve(host, m)
		}
		var refused atomic.Int32
		w.connect(apic.Options{PasswordFile: file, OnLoginFailure: func(bool) { refused.Add(1) }}, "apic1", "apic2", "apic3")
		w.run()
		for i := range 2 * 60 * 60 {
			if i%7 == 0 {
				write(strings.Repeat("x", 1+i%50))
			}
			if _, err := w.client.Read(t.Context(), wan); !errors.Is(err, aci.ErrSession) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Second)
			if s.Locked(user) {
				t.Fatalf("locked after %ds\n%s", i, strings.Join(w.requests(), "\n"))
			}
		}
		if n := count(w.requests(), "POST /api/aaaLogin.json"); n != int(refused.Load()) || n < 20 {
			t.Errorf("%d logins, %d were told to be refused", n, refused.Load())
		}
		write(password)
		time.Sleep(5*time.Minute + 5*time.Second)
		if !w.client.Healthy() {
			t.Errorf("status %+v", w.client.Status())
		}
	})
}

func TestLogin_domain_goes_with_the_user(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.sim("apic1", apicsim.Options{Users: []apicsim.User{{Name: user, Password: password, LoginDomain: "LAB"}}})
		c, err := apic.New([]*url.URL{{Scheme: "http", Host: "apic1"}}, `apic:LAB\`+user, apic.Options{
			Password: password, DialContext: w.net.DialContext, ReadOnce: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.client = c
		t.Cleanup(func() {
			if r := s.Requests(0); r[len(r)-1].Path != "/api/aaaLogout.json" || r[len(r)-1].Status != 200 {
				t.Errorf("not logged out: %+v", r[len(r)-1])
			}
		})
		w.run()
		w.read()
		if st := s.Stats(); st.Sessions != 1 {
			t.Errorf("%d sessions", st.Sessions)
		}
	})
}

func TestCredentials_that_make_no_sense_are_refused_before_anything_starts(t *testing.T) {
	t.Parallel()
	members := []*url.URL{{Scheme: "https", Host: "apic1"}}
	for name, o := range map[string]apic.Options{
		"none":              {},
		"both":              {Password: "p", CertName: "c", PrivateKeyFile: "k"},
		"a name without":    {CertName: "c"},
		"a key without one": {PrivateKeyFile: "k"},
	} {
		if _, err := apic.New(members, user, o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestCheckPrivateKey_says_what_is_wrong(t *testing.T) {
	t.Parallel()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs1(0)
	legacy := strings.Replace(good, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)
	for name, tt := range map[string]struct{ content, want string }{
		"PKCS 1":                      {good, ""},
		"PKCS 8":                      {pkcs8(t, keys()[0]), ""},
		"with words around it":        {"subject=ops\n" + good + "\n", ""},
		"with its certificate":        {certificate(t, 0) + good, ""},
		"with another certificate":    {good + certificate(t, 1), "another key"},
		"a certificate alone":         {certificate(t, 0), "no private key"},
		"two keys":                    {good + pkcs1(1), "several keys"},
		"nothing":                     {" \n", "is empty"},
		"no PEM":                      {"t0p-s3cret", "no private key in PEM form"},
		"encrypted, as PKCS 8":        {encodePEM("ENCRYPTED PRIVATE KEY", []byte("t0p-s3cret")), "encrypted"},
		"encrypted, as of old":        {legacy, "encrypted"},
		"an elliptic curve":           {pkcs8(t, ec), "not RSA"},
		"an elliptic curve as of old": {encodePEM("EC PRIVATE KEY", []byte("t0p-s3cret")), `"EC PRIVATE KEY"`},
		"garbage in PKCS 1":           {encodePEM("RSA PRIVATE KEY", []byte("t0p-s3cret")), "cannot be read"},
		"garbage in PKCS 8":           {encodePEM("PRIVATE KEY", []byte("t0p-s3cret")), "cannot be read"},
		"too big":                     {strings.Repeat("t0p-s3cret", 200_000), "exceeds"},
	} {
		file, _ := keyFile(t, tt.content)
		err := apic.CheckPrivateKey(file)
		switch {
		case (err == nil) != (tt.want == ""), err != nil && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		case err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %q", name, err)
		}
	}
	if err := apic.CheckPrivateKey(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was taken")
	}
}
