package apicsim

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func BenchmarkPageOf5000AmongFiftyThousand(b *testing.B) {
	s := New(Options{})
	defer s.Close()
	if err := s.Post("uni", `{"fvTenant":{"attributes":{"name":"T"},"children":[{"l3extOut":{"attributes":{"name":"O"}}}]}}`); err != nil {
		b.Fatal(err)
	}
	for from := range 10 {
		var body strings.Builder
		fmt.Fprintf(&body, `{"l3extInstP":{"attributes":{"name":"E%d"},"children":[`, from)
		for i := range 5000 {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"l3extSubnet":{"attributes":{"ip":"10.%d.%d.%d/32"},"children":[{"tagAnnotation":{"attributes":{"key":"k","value":"v"}}}]}}`, from, i>>8, i&255)
		}
		body.WriteString(`]}}`)
		if err := s.Post("uni/tn-T/out-O", body.String()); err != nil {
			b.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/api/aaaLogin.json", strings.NewReader(`{"aaaUser":{"attributes":{"name":"admin","pwd":"apic-sim"}}}`)))
	cookie := w.Header().Get("Set-Cookie")
	for _, path := range []string{
		"/api/class/l3extSubnet.json?order-by=l3extSubnet.dn&page=3&page-size=5000",
		"/api/mo/uni/tn-T/out-O.json?query-target=subtree&target-subtree-class=l3extSubnet,l3extInstP,tagAnnotation&page=0&page-size=1",
	} {
		b.Run(path[:10], func(b *testing.B) {
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, nil)
				r.Header.Set("Cookie", cookie)
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}
