package apic_test

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestParseMembers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"apic1":                                {"https://apic1"},
		" apic1:8443 , APIC2.example. ,":       {"https://apic1:8443", "https://apic2.example."},
		"https://10.0.0.1/,https://[fe80::1]":  {"https://10.0.0.1", "https://[fe80::1]"},
		"2001:db8::1,[2001:db8::2]:444":        {"https://[2001:db8::1]", "https://[2001:db8::2]:444"},
		"https://apic1:443,https://apic1:4443": {"https://apic1:443", "https://apic1:4443"},
	} {
		members, err := apic.ParseMembers(in)
		var got []string
		for _, u := range members {
			got = append(got, u.String())
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got)\n%s", in, err, diff)
		}
	}
	for _, in := range []string{
		"", " , ", "http://apic1", "ftp://apic1", "https://", "https://u:secret@apic1", "u:secret@apic1", "apic1/api", "https://apic1?x=1",
		"apic1:https:1", "apic1:99999", "apic1,apic1", "apic 1", "https://u:secret@apic1:port",
	} {
		members, err := apic.ParseMembers(in)
		if err == nil {
			t.Errorf("%q was taken: %v", in, members)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	member := []*url.URL{{Scheme: "https", Host: "apic1"}}
	for name, f := range map[string]func() (*apic.Client, error){
		"no member":     func() (*apic.Client, error) { return apic.New(nil, "u", apic.Options{Password: "p"}) },
		"no user":       func() (*apic.Client, error) { return apic.New(member, "", apic.Options{Password: "p"}) },
		"no password":   func() (*apic.Client, error) { return apic.New(member, "u", apic.Options{}) },
		"negative rate": func() (*apic.Client, error) { return apic.New(member, "u", apic.Options{Password: "p", Rate: -1}) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	sim := apicsim.New(apicsim.Options{})
	t.Cleanup(sim.Close)
	srv := httptest.NewUnstartedServer(sim)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	sum := sha256.Sum256(srv.Certificate().Raw)
	var colons []string
	for _, b := range sum {
		colons = append(colons, fmt.Sprintf("%02X", b))
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		tls  apic.TLS
		want string // in the error; none if empty
	}{
		"system roots":      {apic.TLS{}, "certificate signed by unknown authority"},
		"CA file":           {apic.TLS{CAFile: ca}, ""},
		"pin":               {apic.TLS{Fingerprint: fmt.Sprintf("%x", sum)}, ""},
		"pin with colons":   {apic.TLS{Fingerprint: strings.Join(colons, ":")}, ""},
		"pin of another":    {apic.TLS{Fingerprint: strings.Repeat("00", 32)}, fmt.Sprintf("has the SHA-256 fingerprint %x", sum)},
		"skip verification": {apic.TLS{InsecureSkipVerify: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf, err := apic.TLSConfig(tt.tls)
			if err != nil {
				t.Fatal(err)
			}
			members, err := apic.ParseMembers(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			w := &world{t: t}
			c, err := apic.New(members, user, apic.Options{Password: password, TLS: conf, Logger: slog.New(slog.NewTextHandler(w, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- c.Run(ctx) }()
			reading, stop := context.WithTimeout(ctx, 20*time.Second)
			defer stop()
			_, err = c.Read(reading, wan) // over HTTPS and over a WebSocket of the same configuration
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			switch {
			case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v", err)
			}
			if warned := strings.Contains(w.logged(), "apic certificate is not verified"); warned != tt.tls.InsecureSkipVerify {
				t.Errorf("warned: %v", warned)
			}
		})
	}
}

func TestTLSConfig_refuses(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]apic.TLS{
		"no such file":     {CAFile: filepath.Join(t.TempDir(), "none")},
		"no PEM":           {CAFile: empty},
		"no SHA-256":       {Fingerprint: strings.Repeat("00", 20)},
		"no hex":           {Fingerprint: strings.Repeat("zz", 32)},
		"two of a kind":    {Fingerprint: strings.Repeat("00", 32), CAFile: empty},
		"pin and skipping": {Fingerprint: strings.Repeat("00", 32), InsecureSkipVerify: true},
	} {
		if _, err := apic.TLSConfig(in); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Neither logs nor errors nor the status tell the password or a token, whatever goes wrong.
func TestSecrets_stay_secret(t *testing.T) {
	const secret, token = "hunter2-password", "ToKeN+/secret=="
	bubble(t, func(t *testing.T, w *world) {
		bad := 0
		w.serve("apic1", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/api/aaaLogin.json" || r.URL.Path == "/api/aaaRefresh.json":
				_, _ = rw.Write([]byte(`{"imdata":[{"aaaLogin":{"attributes":{"token":"` + token + `","refreshTimeoutSeconds":"60","version":"6.0(9c)"}}}]}`))
			case strings.HasPrefix(r.URL.Path, "/socket"):
				switch bad++; bad % 3 {
				case 0:
					rw.WriteHeader(404) // a page that quotes what was asked for
					_, _ = rw.Write([]byte("<html>" + r.RequestURI + " was not found, nor " + r.URL.Path))
				case 1:
					http.Redirect(rw, r, "http://elsewhere"+r.URL.Path, http.StatusFound)
				default:
					panic(http.ErrAbortHandler)
				}
			default:
				rw.WriteHeader(500)
			}
		}))
		c := w.connect(apic.Options{Password: secret}, "apic1", "down")
		w.run()
		var said strings.Builder
		for range 100 {
			_, err := c.Read(t.Context(), wan)
			fmt.Fprintln(&said, err)
			err = c.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG})
			fmt.Fprintln(&said, err)
			fmt.Fprintf(&said, "%+v\n", c.Status())
			time.Sleep(10 * time.Second)
		}
		all := said.String() + w.logged()
		for _, s := range []string{secret, token, "ToKeN"} {
			if i := strings.Index(all, s); i >= 0 {
				t.Errorf("told: %s", all[max(0, i-200):i+len(s)])
			}
		}
		if !strings.Contains(all, "was not found") || bad < 10 {
			t.Errorf("nothing went wrong:\n%s", all)
		}
	})
}
