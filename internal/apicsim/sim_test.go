package apicsim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const fabricT = `{"fvTenant":{"attributes":{"name":"T"},"children":[
	{"fvCtx":{"attributes":{"name":"V"}}},
	{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"V"}}}]}}]}}`

func newSim(t *testing.T, o apicsim.Options) *apicsim.Sim {
	t.Helper()
	s := apicsim.New(o)
	t.Cleanup(s.Close)
	return s
}

func TestDumpHoldsWhatSomebodySet(t *testing.T) {
	t.Parallel()
	s := newSim(t, apicsim.Options{})
	if err := s.Seed([]byte("[" + fabricT + `,{"l3extInstP":{"attributes":{"dn":"uni/tn-T/out-O/instP-E","prio":"level1"}}}]`)); err != nil {
		t.Fatal(err)
	}
	want := `uni/tn-T/out-O l3extOut
uni/tn-T/out-O/instP-E l3extInstP prio="level1"
uni/tn-T/out-O/instP-E/rscustQosPol fvRsCustQosPol
uni/tn-T/out-O/rsectx l3extRsEctx state="formed" tDn="uni/tn-T/ctx-V" tnFvCtxName="V"
`
	if diff := cmp.Diff(want, s.Dump("uni/tn-T/out-O")); diff != "" {
		t.Errorf("dump (-want +got):\n%s", diff)
	}
	epg, found := s.Lookup("uni/tn-T/out-O/instP-E")
	vrf, _ := s.Lookup("uni/tn-T/ctx-V")
	if !found || epg["scope"] == "" || epg["scope"] != vrf["seg"] || epg["rn"] != "instP-E" {
		t.Errorf("external EPG is %v, its VRF %v", epg, vrf)
	}
}

func TestRefusedWritesLeaveNoTrace(t *testing.T) {
	t.Parallel()
	s := newSim(t, apicsim.Options{})
	if err := s.Post("uni", fabricT); err != nil {
		t.Fatal(err)
	}
	before, stats := s.Dump("uni"), s.Stats()
	for _, body := range []string{
		`{"fvTenant":{"attributes":{"name":"T","descr":"x"},"children":[{"fvCtx":{"attributes":{"name":"V","status":"deleted"}}},{"fvCtx":{"attributes":{"name":"V2","status":"created"}}},{"l3extOut":{"attributes":{"name":"O","status":"created"}}}]}}`,
		`{"polUni":{"attributes":{},"children":[{"fvTenant":{"attributes":{"name":"T","status":"deleted"}}},{"fvTenant":{"attributes":{"name":"T"}}},{"fvTenant":{"attributes":{"name":"common","status":"deleted"}}}]}}`,
	} {
		err := s.Post("uni", body)
		if err == nil {
			t.Fatalf("%s was accepted", body)
		}
		if diff := cmp.Diff(before, s.Dump("uni")); diff != "" {
			t.Errorf("after %v (-before +after):\n%s", err, diff)
		}
	}
	if diff := cmp.Diff(stats, s.Stats()); diff != "" {
		t.Errorf("counts (-before +after):\n%s", diff)
	}
}

func TestReplacingATenantInOneTransactionRelinksItsRelations(t *testing.T) {
	t.Parallel()
	s := newSim(t, apicsim.Options{})
	if err := s.Post("uni", fabricT); err != nil {
		t.Fatal(err)
	}
	old, _ := s.Lookup("uni/tn-T/ctx-V")
	body := `{"fvTenant":{"attributes":{"name":"T"},"children":[
		{"fvCtx":{"attributes":{"name":"V","status":"deleted"}}},{"fvCtx":{"attributes":{"name":"V"}}},
		{"l3extOut":{"attributes":{"name":"O"},"children":[{"l3extInstP":{"attributes":{"name":"E"}}}]}}]}}`
	if err := s.Post("uni", body); err != nil {
		t.Fatal(err)
	}
	vrf, _ := s.Lookup("uni/tn-T/ctx-V")
	epg, _ := s.Lookup("uni/tn-T/out-O/instP-E")
	if vrf["scope"] == old["scope"] || epg["scope"] != vrf["scope"] {
		t.Errorf("VRF went from %s to %s, the EPG's is %s", old["scope"], vrf["scope"], epg["scope"])
	}
	if _, found := s.Lookup("uni/tn-T/ctx-V/rtl3extEctx-[uni/tn-T/out-O]"); !found {
		t.Error("the new VRF lacks its reverse relation")
	}
}

func TestStatsTellPrefixesInTwoEPGsOfAVRF(t *testing.T) {
	t.Parallel()
	s := newSim(t, apicsim.Options{})
	check := func(what string, now, seen int) {
		t.Helper()
		if st := s.Stats(); st.Conflicts != now || st.ConflictsSeen != seen {
			t.Errorf("%s: %d conflicts, %d seen; want %d and %d", what, st.Conflicts, st.ConflictsSeen, now, seen)
		}
	}
	post := func(dn, body string) {
		t.Helper()
		if err := s.Post(dn, body); err != nil {
			t.Fatal(err)
		}
	}
	post("uni", fabricT)
	subnet := func(epg, status string) string {
		return `{"l3extInstP":{"attributes":{"name":"` + epg + `"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.1/32","status":"` + status + `"}}}]}}`
	}
	post("uni/tn-T/out-O", subnet("A", ""))
	check("one EPG", 0, 0)
	post("uni/tn-T/out-O", subnet("B", ""))
	check("two EPGs", 1, 1)
	post("uni/tn-T/out-O", subnet("A", "deleted"))
	check("the first let go", 0, 1)
	post("uni", `{"fvTenant":{"attributes":{"name":"T"},"children":[{"l3extOut":{"attributes":{"name":"P"},"children":[`+subnet("C", "")+`]}}]}}`)
	check("another VRF", 0, 1)
	post("uni/tn-T/out-P", `{"l3extRsEctx":{"attributes":{"tnFvCtxName":"V"}}}`)
	check("its L3Out joins the VRF", 1, 2)
	post("uni/tn-T", `{"fvCtx":{"attributes":{"name":"V","status":"deleted"}}}`)
	check("the VRF is gone", 0, 2)
}

func TestResultsWithoutOrderChangeWithEveryWrite(t *testing.T) {
	t.Parallel()
	c := connect(t, apicsim.Options{})
	c.login("admin", "apic-sim")
	for i := range 20 {
		if err := c.sim.Post("uni", fmt.Sprintf(`{"fvTenant":{"attributes":{"name":"T%d"}}}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	const path = "/api/class/fvTenant.json?rsp-prop-include=naming-only"
	_, first := c.do("GET", path, "")
	if _, again := c.do("GET", path, ""); again != first {
		t.Error("the order changed without a write")
	}
	if err := c.sim.Post("uni", `{"fvTenant":{"attributes":{"name":"T0","descr":"x"}}}`); err != nil {
		t.Fatal(err)
	}
	if _, later := c.do("GET", path, ""); later == first {
		t.Error("the order survived a write")
	}
}

func TestRequestLogTellsWritesInOrderAndNoSecrets(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	c := connect(t, apicsim.Options{RequestLog: &file})
	c.login("admin", "apic-sim")
	c.open("")
	c.do("POST", "/api/mo/uni.json", fabricT)
	c.do("POST", "/api/mo/uni.json", `{"fvTenant":{"attributes":{"name":"T","status":"created"}}}`)
	c.do("POST", "/api/mo/uni.json", `not JSON`)
	c.do("POST", "/api/mo/uni/tn-T/out-O/lnodep-N.json", `{"bgpPeerP":{"attributes":{"addr":"10.0.0.1","password" : "s3\"cret"}}}`)
	c.do("GET", "/api/class/fvCtx.json", "")
	c.do("DELETE", "/api/mo/uni/tn-T/out-O.json", "")
	type line struct {
		Method, Path, Session string
		Status                int
		Code                  string
		Objects, Returned     int
		HasBody               bool
	}
	want := []line{
		{"POST", "/api/aaaLogin.json", "s1", 200, "", 0, 0, false},
		{"GET", "/socket{token}", "s1", 101, "", 0, 0, false},
		{"POST", "/api/mo/uni.json", "s1", 200, "", 9, 0, true},
		{"POST", "/api/mo/uni.json", "s1", 400, "103", 0, 0, true},
		{"POST", "/api/mo/uni.json", "s1", 400, "400", 0, 0, true},
		{"POST", "/api/mo/uni/tn-T/out-O/lnodep-N.json", "s1", 400, "102", 0, 0, true},
		{"GET", "/api/class/fvCtx.json", "s1", 200, "", 0, 5, false},
		{"DELETE", "/api/mo/uni/tn-T/out-O.json", "s1", 200, "", 3, 0, false},
	}
	var got []line
	for i, r := range c.sim.Requests(0) {
		if r.Seq != i+1 || r.Time.IsZero() {
			t.Errorf("request %d has number %d and time %v", i+1, r.Seq, r.Time)
		}
		got = append(got, line{r.Method, r.Path, r.Session, r.Status, r.Code, r.Objects, r.Returned, r.Body != nil})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if n := len(c.sim.Requests(6)); n != 2 {
		t.Errorf("%d requests after the sixth, want 2", n)
	}
	text := file.String()
	if strings.Contains(text, c.tokens[0]) || strings.Contains(text, `"pwd"`) || strings.Contains(text, "cret") || !strings.Contains(text, `"password":"…"`) {
		t.Error("the log holds a secret")
	}
	for l := range strings.Lines(text) {
		var r apicsim.Request
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Errorf("line %q: %v", l, err)
		}
	}
}

func TestLoginSetsTheCookieAsAnAPICDoes(t *testing.T) {
	t.Parallel()
	for _, opaque := range []bool{false, true} {
		s := newSim(t, apicsim.Options{OpaqueTokens: opaque})
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/api/aaaLogin.json", strings.NewReader(`{"aaaUser":{"attributes":{"name":"admin","pwd":"apic-sim"}}}`)))
		cookie, attributes, _ := strings.Cut(w.Header().Get("Set-Cookie"), "; ")
		token, isCookie := strings.CutPrefix(cookie, "APIC-cookie=")
		if !isCookie || attributes != "path=/; HttpOnly; Secure" || !strings.Contains(w.Body.String(), `"token":"`+token+`"`) {
			t.Errorf("Set-Cookie is %q", w.Header().Get("Set-Cookie"))
		}
		if opaque != strings.ContainsAny(token, "+") || opaque == (strings.Count(token, ".") == 2) {
			t.Errorf("opaque=%v makes token %q", opaque, token)
		}
		if got := w.Header().Get("Server"); got != "Cisco APIC" {
			t.Errorf("Server is %q", got)
		}
	}
}

func TestRequestLinesOverEightKilobytesFail(t *testing.T) {
	t.Parallel()
	c := connect(t, apicsim.Options{})
	c.login("admin", "apic-sim")
	const most = 8192 - len("GET ") - len(" HTTP/1.1")
	for length, want := range map[int]int{most: http.StatusOK, most + 1: http.StatusRequestURITooLong} {
		path := "/api/class/fvTenant.json?x="
		status, body := c.do("GET", path+strings.Repeat("y", length-len(path)), "")
		if status != want || strings.Contains(body, "<html>") != (want != http.StatusOK) {
			t.Errorf("a URL of %d bytes: got %d %s, want %d", length, status, body, want)
		}
	}
}

func TestResultsOfMoreThan100000ObjectsAreRefused(t *testing.T) {
	t.Parallel()
	c := connect(t, apicsim.Options{})
	c.login("admin", "apic-sim")
	fill(t, c.sim, 50_000) // with a tag each
	const all = "/api/mo/uni/tn-T/out-O.json?query-target=subtree&rsp-prop-include=naming-only&target-subtree-class="
	if status, body := c.do("GET", all+"l3extSubnet,tagAnnotation", ""); status != http.StatusOK || !strings.HasPrefix(body, `{"totalCount":"100000"`) {
		t.Errorf("100,000 objects: %d %.80s", status, body)
	}
	if status, body := c.do("GET", all+"l3extSubnet,tagAnnotation,l3extOut", ""); status != http.StatusBadRequest || !strings.Contains(body, "result dataset is too big") {
		t.Errorf("100,001 objects: %d %.200s", status, body)
	}
	if status, body := c.do("GET", all+"l3extSubnet,tagAnnotation,l3extOut&page=10&page-size=10000&order-by=tagAnnotation.dn,l3extSubnet.dn,l3extOut.dn", ""); status != http.StatusOK || !strings.HasPrefix(body, `{"totalCount":"100001","imdata":[{"l3extOut"`) {
		t.Errorf("the last page of it: %d %.200s", status, body)
	}
}

func TestSlowReadersLoseTheirSocket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{SocketQueue: 3})
		c.login("admin", "apic-sim")
		c.open("")
		synctest.Wait()
		c.do("GET", "/api/class/fvTenant.json?subscription=yes", "")
		var many strings.Builder
		for i := range 5 {
			fmt.Fprintf(&many, `,{"fvTenant":{"attributes":{"name":"T%d"}}}`, i)
		}
		body := `{"polUni":{"attributes":{},"children":[` + many.String()[1:] + `]}}`
		if status, answer := c.do("POST", "/api/mo/uni.json", body); status != http.StatusOK {
			t.Fatalf("post: %d %s", status, answer)
		}
		synctest.Wait()
		if news := c.news(); !strings.Contains(news, "! socket closed") {
			t.Errorf("the socket said %q", news)
		}
		if st := c.sim.Stats(); st.Sockets != 0 || st.Subscriptions != 0 || st.Classes["fvTenant"] != 8 {
			t.Errorf("left over: %+v", st)
		}
	})
}

func TestSocketsAnswerPings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{})
		c.login("admin", "apic-sim")
		ws, _, err := websocket.Dial(t.Context(), "ws://apic/socket"+c.tokens[0], &websocket.DialOptions{HTTPClient: c.http})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		ctx := ws.CloseRead(t.Context())
		if err := ws.Ping(ctx); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
}

func TestLatencyIsAddedToEveryRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{Latency: time.Second})
		start := time.Now()
		c.login("admin", "apic-sim")
		c.do("GET", "/api/class/fvTenant.json", "")
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("two requests took %v", took)
		}
	})
}

func TestEventsComeAfterTheirDelay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{EventDelay: time.Second})
		c.login("admin", "apic-sim")
		c.open("")
		c.do("GET", "/api/class/fvTenant.json?subscription=yes", "")
		for _, name := range []string{"A", "B"} {
			c.do("POST", "/api/mo/uni.json", `{"fvTenant":{"attributes":{"name":"`+name+`"}}}`)
		}
		time.Sleep(time.Second - time.Nanosecond)
		synctest.Wait()
		if news := c.news(); news != "" {
			t.Errorf("too early: %s", news)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if news := c.news(); strings.Count(news, "\n") != 2 || strings.Index(news, "tn-A") > strings.Index(news, "tn-B") {
			t.Errorf("after the delay: %s", news)
		}
	})
}

func TestMembersShareTheFabricAndNothingElse(t *testing.T) {
	t.Parallel()
	first := newSim(t, apicsim.Options{DeployDelay: time.Hour})
	second := first.Member()
	defer second.Close()
	server := httptest.NewServer(second)
	defer server.Close()
	ask := func(to *apicsim.Sim, method, path, body, cookie string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Cookie", cookie)
		to.ServeHTTP(w, r)
		return w
	}
	login := ask(second, "POST", "/api/aaaLogin.json", `{"aaaUser":{"attributes":{"name":"admin","pwd":"apic-sim"}}}`, "")
	if !strings.Contains(login.Body.String(), `"node":"topology/pod-1/node-2"`) {
		t.Errorf("login: %s", login.Body)
	}
	cookie, _, _ := strings.Cut(login.Header().Get("Set-Cookie"), ";")
	if w := ask(first, "GET", "/api/class/fvTenant.json", "", cookie); w.Code != http.StatusForbidden {
		t.Errorf("the first took a token of the second: %d", w.Code)
	}
	ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(server.URL, "http")+"/socket"+strings.TrimPrefix(cookie, "APIC-cookie="), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ask(second, "GET", "/api/class/fvTenant.json?subscription=yes", "", cookie)
	if err := first.Post("uni", fabricT); err != nil {
		t.Fatal(err)
	}
	if _, frame, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(frame), "uni/tn-T") {
		t.Errorf("event %s (%v)", frame, err)
	}
	w := ask(second, "GET", `/api/class/fabricNode.json?query-target-filter=eq(fabricNode.role,"controller")&rsp-prop-include=naming-only&order-by=fabricNode.id`, "", cookie)
	if !strings.Contains(w.Body.String(), `"totalCount":"2"`) {
		t.Errorf("controllers: %s", w.Body)
	}
	if first.Dump("uni") != second.Dump("uni") || len(first.Requests(0)) == len(second.Requests(0)) {
		t.Error("members have different trees or the same log")
	}
}

// TestManyClientsAtOnce is for the race detector.
func TestManyClientsAtOnce(t *testing.T) {
	t.Parallel()
	c := connect(t, apicsim.Options{DeployDelay: time.Millisecond})
	if err := c.sim.Post("uni", fabricT); err != nil {
		t.Fatal(err)
	}
	c.login("admin", "apic-sim")
	c.open("")
	c.do("GET", "/api/mo/uni/tn-T.json?query-target=subtree&subscription=yes", "")
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 25 {
				name := fmt.Sprintf("E%d-%d", w, i)
				c.do("POST", "/api/mo/uni/tn-T/out-O.json", `{"l3extInstP":{"attributes":{"name":"`+name+`"},"children":[{"l3extSubnet":{"attributes":{"ip":"10.0.0.0/8"}}}]}}`)
				c.do("GET", "/api/mo/uni/tn-T/out-O.json?rsp-subtree=full", "")
				c.sim.Dump("uni")
				if i%2 == 0 {
					c.do("DELETE", "/api/mo/uni/tn-T/out-O/instP-"+name+".json", "")
				}
			}
		})
	}
	all.Wait()
	if got := c.sim.Stats().Classes["l3extInstP"]; got != 4*12 {
		t.Errorf("%d external EPGs are left, want 48", got)
	}
}

func TestControlPort(t *testing.T) {
	t.Parallel()
	c := connect(t, apicsim.Options{})
	c.login("admin", "apic-sim")
	control := c.sim.Control()
	ask := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		control.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/mo/uni", fabricT, 204, ""},
		{"GET", "/dump/uni/tn-T/out-O/rsectx", "", 200, "uni/tn-T/out-O/rsectx l3extRsEctx state=\"formed\" tDn=\"uni/tn-T/ctx-V\" tnFvCtxName=\"V\"\n"},
		{"DELETE", "/mo/uni/tn-T/out-O", "", 204, ""},
		{"GET", "/dump/uni/tn-T/out-O", "", 200, ""},
		{"POST", "/mo/uni", "{}", 400, "post uni: HTTP 400, code 400: JSON parsing failed - object without a class at line: 1\n"},
		{"POST", "/faults", `{"match":"("}`, 400, "error parsing regexp: missing closing ): `(`\n"},
		{"POST", "/faults", `{"match":"fvTenant","times":-1,"status":503,"delay":"1ms"}`, 204, ""},
		{"POST", "/events/drop?n=x", "", 400, "strconv.Atoi: parsing \"x\": invalid syntax\n"},
		{"POST", "/events/drop?n=2&match=tn-T", "", 204, ""},
		{"POST", "/leafs/reload", "", 204, ""},
		{"POST", "/sockets/close", "", 204, ""},
		{"POST", "/seed", `{"bgpPeerEntry":{"attributes":{"dn":"topology/pod-1/node-7/sys/bgp/inst/dom-T:V/peer-[10.0.0.1]/ent-[10.0.0.1]"}}}`, 204, ""},
		{"POST", "/seed", `{"bgpPeerEntry":{"attributes":{"dn":"uni"}}}`, 400, "seed body 1: HTTP 400, code 120: unknown property value uni, name dn, class bgpPeerEntry [(Dn0)] Dn0=, \n"},
		{"POST", "/mo/", `{"bgpPeerEntry":{"attributes":{"dn":"topology/pod-1/node-7/sys/bgp/inst/dom-T:V/peer-[10.0.0.1]/ent-[10.0.0.2]"}}}`, 400, "post : HTTP 400, code 120: class bgpPeerEntry is not configurable, Dn0=topology/pod-1/node-7/sys/bgp/inst/dom-T:V/peer-[10.0.0.1]/ent-[10.0.0.2], \n"},
	} {
		if status, got := ask(tc.method, tc.path, tc.body); status != tc.status || got != tc.want {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.path, status, got, tc.status, tc.want)
		}
	}
	for range 2 {
		if status, _ := c.do("GET", "/api/class/fvTenant.json", ""); status != 503 {
			t.Errorf("with a fault armed: %d", status)
		}
	}
	ask("DELETE", "/faults", "")
	if status, _ := c.do("GET", "/api/class/fvTenant.json", ""); status != 200 {
		t.Errorf("with faults cleared: %d", status)
	}
	ask("POST", "/sessions/expire", "")
	if status, _ := c.do("GET", "/api/class/fvTenant.json", ""); status != 403 {
		t.Errorf("with sessions expired: %d", status)
	}
	if _, got := ask("GET", "/requests?after=3", ""); strings.Count(got, "\n") != 2 {
		t.Errorf("requests after the third: %s", got)
	}
	if _, got := ask("GET", "/stats", ""); !strings.Contains(got, `"Sessions":0`) {
		t.Errorf("stats: %s", got)
	}
}

func TestControlPortOfAClusterReachesEachMember(t *testing.T) {
	t.Parallel()
	first := newSim(t, apicsim.Options{})
	second := first.Member()
	defer second.Close()
	ask := func(h http.Handler, method, path, body string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
		return w.Code
	}
	const domains = "/api/aaaListDomains.json"
	if got := ask(first.Control(), "POST", "/node/2/faults", `{"match":"aaaListDomains","times":-1,"status":502}`); got != http.StatusNoContent {
		t.Fatalf("arming a fault: %d", got)
	}
	if a, b := ask(first, "GET", domains, ""), ask(second, "GET", domains, ""); a != http.StatusOK || b != http.StatusBadGateway {
		t.Errorf("the members answer %d and %d", a, b)
	}
	if got := ask(first.Control(), "GET", "/node/3/stats", ""); got != http.StatusNotFound {
		t.Errorf("a third member: %d", got)
	}
	if a, b := len(first.Requests(0)), len(second.Requests(0)); a != 1 || b != 1 {
		t.Errorf("%d and %d requests", a, b)
	}
}

func TestFaultsReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	want := apicsim.Fault{Match: "x", Skip: 1, Times: -1, Delay: 1500 * time.Millisecond, Status: 503, Hangup: true}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got apicsim.Fault
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", b, diff)
	}
}

func TestClosedFabricsAnswerNothing(t *testing.T) {
	t.Parallel()
	s := apicsim.New(apicsim.Options{})
	s.Close()
	s.Close()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(context.WithoutCancel(t.Context()), "GET", "/api/class/fvTenant.json", nil))
	if w.Code != http.StatusBadGateway {
		t.Errorf("status is %d", w.Code)
	}
}
