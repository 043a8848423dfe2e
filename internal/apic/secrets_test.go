package apic_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
)

// echo is a server that gives back all it was asked, in one form after the other, and hands out tokens
// now and then.
type echo struct {
	tokens string // what every token holds
	n      int
	seen   strings.Builder // all that was given back
}

func (e *echo) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	said := fmt.Sprintf("%s %s %v %s", r.Method, r.RequestURI, r.Header["Cookie"], body)
	quoted := strings.NewReplacer(`"`, "'", `\`, "/").Replace(said)
	e.n++
	class := map[bool]string{true: "aaaLogin", false: "webtokenSession"}[strings.HasPrefix(r.URL.Path, "/api/aaa")]
	if auth := class == "aaaLogin" || strings.Contains(r.URL.Path, class); auth && e.n%4 == 0 {
		fmt.Fprintf(rw, `{"totalCount":"1","imdata":[{%q:{"attributes":{"token":"%s%d","refreshTimeoutSeconds":"60","version":"6.0(9c)"}}}]}`,
			class, e.tokens, e.n)
		return
	}
	e.seen.WriteString(quoted + "\n")
	switch e.n % 7 {
	case 0:
		http.Error(rw, "<html><title>"+said+"</title></html>", http.StatusInternalServerError)
	case 1:
		rw.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(rw, `{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"120","text":"%s"}}}]}`, quoted)
	case 2:
		rw.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(rw, `{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"403","text":"%s"}}}]}`, quoted)
	case 3:
		fmt.Fprint(rw, said) // no JSON
	case 4:
		fmt.Fprintf(rw, `{"totalCount":"1","imdata":[{"%s":{"attributes":{"dn":"%s","x":%s}}}]}`, quoted, quoted, quoted)
	case 5:
		rw.Header().Set("Location", "http://elsewhere/?"+r.Header.Get("Cookie"))
		rw.WriteHeader(http.StatusFound)
		fmt.Fprint(rw, said)
	default:
		rw.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(rw, `{"totalCount":"1","imdata":[{"error":{"attributes":{"code":"%s","text":"%s"}}}]}`, quoted, quoted)
	}
}

// Whatever an answer gives back of a request, no log, error or status tells a password, a token, a signature or
// a key.
func TestSecrets_that_are_given_back_stay_secret(t *testing.T) {
	const password, token = "hunter2-password", "ToKeN-of-the-APIC"
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte(pkcs8(t, keys()[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]apic.Options{
		"password":    {Password: password},
		"certificate": {CertName: "robot", PrivateKeyFile: key},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				e := &echo{tokens: token}
				w.serve("apic1", e)
				c := w.connect(o, "apic1")
				w.run()
				var said strings.Builder
				for range 300 {
					_, err := c.Read(t.Context(), wan)
					fmt.Fprintf(&said, "%v\n%+v\n%#v\n", err, err, err)
					_, err = c.ReadEPG(t.Context(), web)
					fmt.Fprintf(&said, "%v\n%#v\n", err, err)
					err = c.Post(t.Context(), wan.DN(), aci.MO{Class: aci.ClassExtEPG, Attrs: map[string]string{"name": "web"}})
					fmt.Fprintf(&said, "%v\n%#v\n%+v\n", err, err, c.Status())
					time.Sleep(20 * time.Second)
				}
				all := said.String() + w.logged()
				given := e.seen.String()
				secrets := []string{password, token, "PRIVATE KEY"}
				for line := range strings.Lines(given) {
					for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune(" ;[]'", r) }) {
						if v, ok := strings.CutPrefix(part, "APIC-Request-Signature="); ok {
							secrets = append(secrets, v)
						}
					}
				}
				if !strings.Contains(given, token) || name == "password" && !strings.Contains(given, password) ||
					name == "certificate" && len(secrets) < 10 {
					t.Errorf("nothing secret was given back:\n%s", given[:min(len(given), 2000)])
				}
				for _, s := range secrets {
					if i := strings.Index(all, s); i >= 0 {
						t.Fatalf("told: %s", all[max(0, i-300):i+len(s)])
					}
				}
			})
		})
	}
}
