package apicsim_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// batch is a POST of size subnets, each with an owner mark.
func batch(epg string, from, size int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"l3extInstP":{"attributes":{"name":%q},"children":[`, epg)
	for i := from; i < from+size; i++ {
		if i > from {
			b.WriteByte(',')
		}
		ip := fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255)
		fmt.Fprintf(&b, `{"l3extSubnet":{"attributes":{"ip":%q,"name":"shop::web","status":"created"},"children":[{"tagAnnotation":{"attributes":{"key":"aci-sync","value":"cluster uni/tn-T/out-O/instP-E/extsubnet-[%s]"}}}]}}`, ip, ip)
	}
	b.WriteString(`]}}`)
	return b.String()
}

func fill(tb testing.TB, c *apicsim.Sim, subnets int) {
	tb.Helper()
	if err := c.Post("uni", fabricT); err != nil {
		tb.Fatal(err)
	}
	for from := 0; from < subnets; from += 500 {
		if err := c.Post("uni/tn-T/out-O", batch(fmt.Sprintf("E%d", from/5000), from, 500)); err != nil {
			tb.Fatal(err)
		}
	}
}

func BenchmarkPostOf500SubnetsWithTags(b *testing.B) {
	s := apicsim.New(apicsim.Options{})
	defer s.Close()
	fill(b, s, 50_000)
	body := batch("F", 100_000, 500)
	for b.Loop() {
		if err := s.Post("uni/tn-T/out-O", body); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Delete("uni/tn-T/out-O/instP-F"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkReadsAmongFiftyThousandSubnets(b *testing.B) {
	s := apicsim.New(apicsim.Options{})
	defer s.Close()
	fill(b, s, 50_000)
	ask := func(method, path, body, cookie string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(b.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Cookie", cookie)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	cookie := ask(http.MethodPost, "/api/aaaLogin.json", `{"aaaUser":{"attributes":{"name":"admin","pwd":"apic-sim"}}}`, "").Header().Get("Set-Cookie")
	for name, path := range map[string]string{
		"page_of_a_class":   "/api/class/l3extSubnet.json?order-by=l3extSubnet.dn&page=3&page-size=5000",
		"count_of_an_L3Out": "/api/mo/uni/tn-T/out-O.json?query-target=subtree&target-subtree-class=l3extSubnet,l3extInstP,tagAnnotation&page=0&page-size=1",
		"one_EPG":           "/api/mo/uni/tn-T/out-O/instP-E3.json?query-target=subtree",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if w := ask(http.MethodGet, path, "", cookie); w.Code != http.StatusOK {
					b.Fatal(w.Body.String())
				}
			}
		})
	}
}
