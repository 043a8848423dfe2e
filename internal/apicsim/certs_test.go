package apicsim_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

// sign makes the cookies of a signed request, as clients do. Source: apic-rest.md 1.4.
func sign(t *testing.T, key *rsa.PrivateKey, dn, message string) string {
	t.Helper()
	sum := sha256.Sum256([]byte(message))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return "APIC-Request-Signature=" + base64.StdEncoding.EncodeToString(sig) +
		"; APIC-Certificate-Algorithm=v1.0; APIC-Certificate-Fingerprint=fingerprint; APIC-Certificate-DN=" + dn
}

func TestSignedRequests(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const dn = "uni/userext/user-ops/usercert-ops.crt"
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{OpaqueTokens: true, Users: []apicsim.User{
			{Name: "ops", Certificates: map[string]*rsa.PublicKey{"ops.crt": &key.PublicKey}},
		}})
		const body = `{"fvTenant":{"attributes":{"name":"T"}}}`
		for _, tc := range []struct {
			name, cookie, method, path, body string
			status                           int
			want                             string
		}{
			{"write", sign(t, key, dn, "POST/api/mo/uni.json"+body), "POST", "/api/mo/uni.json", body, 200, `"totalCount":"0"`},
			{"signed_without_the_body", sign(t, key, dn, "POST/api/mo/uni.json"), "POST", "/api/mo/uni.json", body, 403, "bad signature"},
			{"query_is_verified_decoded", sign(t, key, dn, `GET/api/class/fvTenant.json?query-target-filter=eq(fvTenant.name,"T")`), "GET", "/api/class/fvTenant.json?query-target-filter=eq(fvTenant.name%2C%22T%22)", "", 200, `"totalCount":"1"`},
			{"query_signed_as_sent", sign(t, key, dn, "GET/api/class/fvTenant.json?query-target-filter=eq(fvTenant.name%2C%22T%22)"), "GET", "/api/class/fvTenant.json?query-target-filter=eq(fvTenant.name%2C%22T%22)", "", 403, "bad signature"},
			{"slash_missing", sign(t, key, dn, "GETapi/class/fvTenant.json"), "GET", "/api/class/fvTenant.json", "", 403, "bad signature"},
			{"unknown_certificate", sign(t, key, dn+"x", "GET/api/class/fvTenant.json"), "GET", "/api/class/fvTenant.json", "", 403, "bad signature"},
			{"not_base64", "APIC-Request-Signature=%%%", "GET", "/api/class/fvTenant.json", "", 403, "invalid padding"},
			{"another_algorithm", strings.Replace(sign(t, key, dn, "GET/api/class/fvTenant.json"), "v1.0", "v2.0", 1), "GET", "/api/class/fvTenant.json", "", 403, "bad signature"},
			{"no_fingerprint", strings.Replace(sign(t, key, dn, "GET/api/class/fvTenant.json"), "=fingerprint", "=", 1), "GET", "/api/class/fvTenant.json", "", 403, "bad signature"},
			{"no_login_to_refresh", sign(t, key, dn, "GET/api/aaaRefresh.json"), "GET", "/api/aaaRefresh.json", "", 403, "webtoken"},
			{"no_socket", sign(t, key, dn, "GET/api/class/fvTenant.json?subscription=yes"), "GET", "/api/class/fvTenant.json?subscription=yes", "", 405, "web socket"},
		} {
			c.cookie = tc.cookie
			if status, got := c.do(tc.method, tc.path, tc.body); status != tc.status || !strings.Contains(got, tc.want) {
				t.Errorf("%s: %d %s", tc.name, status, got)
			}
		}

		c.cookie = sign(t, key, dn, "GET/api/webtokenSession.json")
		c.ask("GET", "/api/webtokenSession.json", "")
		if len(c.tokens) != 1 {
			t.Fatal("no token")
		}
		token := c.tokens[0]
		if got := c.open(""); got != "! refused with 403\n" {
			t.Errorf("unsigned socket: %s", got)
		}
		ws, _, err := websocket.Dial(t.Context(), "ws://apic/socket"+token, &websocket.DialOptions{
			HTTPClient: c.http, HTTPHeader: http.Header{"Cookie": {sign(t, key, dn, "GET/socket"+token)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		c.cookie = sign(t, key, dn, "GET/api/class/fvTenant.json?subscription=yes") + "; APIC-WebSocket-Session=" + token
		if status, got := c.do("GET", "/api/class/fvTenant.json?subscription=yes", ""); status != 200 || !strings.Contains(got, `"subscriptionId":"7`) {
			t.Errorf("subscribe: %d %s", status, got)
		}
		if err := c.sim.Delete("uni/tn-T"); err != nil {
			t.Fatal(err)
		}
		if _, frame, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(frame), `"status":"deleted"`) {
			t.Errorf("event %s (%v)", frame, err)
		}
		c.cookie = "APIC-cookie=" + token
		if status, _ := c.do("GET", "/api/class/fvTenant.json", ""); status != 403 {
			t.Errorf("the token of a socket served as a login: %d", status)
		}
	})
}
