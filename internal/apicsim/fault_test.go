package apicsim_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const domains = "/api/aaaListDomains.json"

// A throttle lets so many requests pass each second, and refuses the others as the web server does.
func TestFaultsThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, apicsim.Options{})
		if err := s.AddFault(apicsim.Fault{Rate: 3}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			var got []int
			for range 5 {
				w := httptest.NewRecorder()
				s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", domains, nil))
				got = append(got, w.Code)
			}
			for i, code := range got {
				if refused := i >= 3; refused != (code == http.StatusServiceUnavailable) {
					t.Errorf("request %d of a second: %d", i+1, code)
				}
			}
			time.Sleep(time.Second)
		}
		if n := s.Stats().Faults; n != 6 {
			t.Errorf("%d requests were taken", n)
		}
	})
}

// A request that hangs is carried out or not, and never answered.
func TestFaultsHang(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before it is looked at": false, "when it was carried out": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, apicsim.Options{})
				c.login("admin", "apic-sim")
				c.arm(apicsim.Fault{Match: "^POST /api/mo", Hang: true, After: after})
				c.http.Timeout = time.Hour
				began := time.Now()
				if status, _ := c.do("POST", "/api/mo/uni.json", `{"fvTenant":{"attributes":{"name":"T"}}}`); status != 0 {
					t.Errorf("it was answered: %d", status)
				}
				if took := time.Since(began); took != time.Hour {
					t.Errorf("it took %v", took)
				}
				if _, there := c.sim.Lookup("uni/tn-T"); there != after {
					t.Errorf("it was carried out: %v", there)
				}
			})
		})
	}
}

// The body of an answer may come in two halves.
func TestFaultsDelayBodies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{})
		_, whole := c.do("GET", domains, "")
		c.arm(apicsim.Fault{Body: time.Minute})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://apic"+domains, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		resp, err := c.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		head := time.Since(began)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != whole {
			t.Errorf("got %q, %v", body, err)
		}
		if took := time.Since(began); head != 0 || took != time.Minute {
			t.Errorf("the head came after %v, the rest after %v", head, took)
		}
	})
}

// arm arms a fault.
func (c *conn) arm(f apicsim.Fault) {
	c.t.Helper()
	if err := c.sim.AddFault(f); err != nil {
		c.t.Fatal(err)
	}
}

// subscribe logs in, opens a socket and subscribes to all tenants; it returns the id.
func (c *conn) subscribe() string {
	c.t.Helper()
	c.login("admin", "apic-sim")
	c.open("")
	_, answer := c.do("GET", "/api/class/fvTenant.json?subscription=yes", "")
	m := regexp.MustCompile(`"subscriptionId":"(\d+)"`).FindStringSubmatch(answer)
	if m == nil {
		c.t.Fatalf("no subscription: %s", answer)
	}
	return m[1]
}

// tenant makes one, which is an event.
func (c *conn) tenant(name string) {
	c.t.Helper()
	if err := c.sim.Post("uni", `{"fvTenant":{"attributes":{"name":"`+name+`"}}}`); err != nil {
		c.t.Fatal(err)
	}
	synctest.Wait()
}

// A mute socket stays open and says nothing, not even to a ping; a new one is as any other.
func TestSocketsThatAreMute(t *testing.T) {
	t.Parallel()
	for name, mute := range map[string]func(c *conn){
		"by a call":  func(c *conn) { c.sim.MuteSockets() },
		"by a fault": func(c *conn) { c.arm(apicsim.Fault{MuteSockets: true}); c.do("GET", domains, "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, apicsim.Options{})
				id := c.subscribe()
				c.tenant("A")
				if got := c.news(); !strings.Contains(got, "tn-A") {
					t.Errorf("an event before: %q", got)
				}
				ws, _, err := websocket.Dial(t.Context(), "ws://apic/socket"+c.tokens[0], &websocket.DialOptions{HTTPClient: c.http})
				if err != nil {
					t.Fatal(err)
				}
				defer ws.CloseNow()
				ctx := ws.CloseRead(t.Context())

				mute(c)
				c.tenant("B")
				if got := c.news(); got != "" {
					t.Errorf("the mute socket says %q", got)
				}
				brief, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				if err := ws.Ping(brief); err == nil {
					t.Error("a ping is answered")
				}
				if status, answer := c.do("GET", "/api/subscriptionRefresh.json?id="+id, ""); status != http.StatusOK {
					t.Errorf("the subscription is over: %d %s", status, answer)
				}
				if st := c.sim.Stats(); st.Lost != 1 || st.Cut != 2 || st.Sockets != 1+1 {
					t.Errorf("stats: %+v", st)
				}

				c.subscribe()
				c.tenant("C")
				if got := c.news(); !strings.Contains(got, "tn-C") {
					t.Errorf("the new socket says %q", got)
				}
			})
		})
	}
}

// A subscription that ended is refused when it is refreshed, and its socket stays open.
func TestSubscriptionsThatExpire(t *testing.T) {
	t.Parallel()
	for name, expire := range map[string]func(c *conn){
		"by a call":  func(c *conn) { c.sim.ExpireSubscriptions() },
		"by a fault": func(c *conn) { c.arm(apicsim.Fault{Match: "Refresh", ExpireSubscriptions: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, apicsim.Options{})
				id := c.subscribe()
				expire(c)
				status, answer := c.do("GET", "/api/subscriptionRefresh.json?id="+id, "")
				if status != http.StatusBadRequest || !strings.Contains(answer, "Subscription refresh timeout") {
					t.Errorf("the refresh: %d %s", status, answer)
				}
				c.tenant("A")
				if got := c.news(); got != "" {
					t.Errorf("the socket says %q", got)
				}
				if st := c.sim.Stats(); st.Cut != 1 || st.Sockets != 1 || st.Subscriptions != 0 {
					t.Errorf("stats: %+v", st)
				}
			})
		})
	}
}

// Every fault that an APIC is known for can be asked for in JSON, as the control port and --fault take it, and is counted.
func TestFaultsOfAPICs(t *testing.T) {
	t.Parallel()
	const (
		write   = "POST /api/mo/uni.json"
		tenant  = "uni/tn-T"
		refresh = "GET /api/subscriptionRefresh.json?id="
	)
	for name, tc := range map[string]struct {
		fault   string
		request string
		status  int
		says    string
		done    bool // the write was
	}{
		"503 with HTML":                     {`{"status":503}`, write, 503, "<center>Cisco APIC</center>", false},
		"login throttle":                    {`{"match":"aaaLogin","status":503}`, "POST /api/aaaLogin.json", 503, "<html>", false},
		"token timeout":                     {`{"expireSessions":true}`, write, 403, "Token was invalid (Error: Token timeout)", false},
		"expired subscription":              {`{"match":"Refresh","expireSubscriptions":true}`, refresh, 400, "Subscription refresh timeout", false},
		"405 without socket":                {`{"closeSockets":true}`, "GET /api/class/fvCtx.json?subscription=yes", 405, "unable to locate opened web socket", false},
		"totalCount with empty content":     {`{"empty":true}`, "GET /api/class/fvTenant.json", 200, `{"totalCount":"3","imdata":[]}`, false},
		"slow reply":                        {`{"delay":"30s"}`, write, 200, `{"totalCount":"0","imdata":[]}`, true},
		"slow body":                         {`{"body":"30s"}`, write, 200, `{"totalCount":"0","imdata":[]}`, true},
		"done, and the answer is lost":      {`{"hangup":true,"after":true}`, write, 0, "no answer", true},
		"done, and never answered":          {`{"hang":true,"after":true}`, write, 0, "no answer", true},
		"done, and the web server says 504": {`{"status":504,"after":true}`, write, 504, "<html>", true},
		"result too big":                    {`{"status":400,"code":"1","text":"Unable to process the query, result dataset is too big"}`, "GET /api/class/fvTenant.json", 400, "too big", false},
		"202":                               {`{"status":202}`, write, 202, `{"totalCount":"0","imdata":[]}`, false},
		"202, and done":                     {`{"status":202,"after":true}`, write, 202, `{"totalCount":"0","imdata":[]}`, true},
		"a member that is down":             {`{"times":-1,"hangup":true}`, write, 0, "no answer", false},
		"a member that hangs":               {`{"times":-1,"hang":true}`, write, 0, "no answer", false},
		"a member that takes reads only":    {`{"match":"^POST /api/mo","times":-1,"status":503}`, write, 503, "<html>", false},
		"a shard that cannot be written to": {`{"match":"^POST","status":503,"code":"503","text":"Unable to deliver the message, destination is not available"}`, write, 503, "destination is not available", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := connect(t, apicsim.Options{})
				c.http.Timeout = time.Hour
				id := c.subscribe()
				rec := httptest.NewRecorder()
				arm := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/faults", strings.NewReader(tc.fault))
				if c.sim.Control().ServeHTTP(rec, arm); rec.Code != http.StatusNoContent {
					t.Fatalf("armed: %d %s", rec.Code, rec.Body)
				}
				method, path, _ := strings.Cut(tc.request, " ")
				if strings.HasSuffix(path, "id=") {
					path += id
				}
				body := ""
				if method == http.MethodPost {
					body = `{"fvTenant":{"attributes":{"name":"T"}}}`
				}
				status, says := c.do(method, path, body)
				if status != tc.status || !strings.Contains(says, tc.says) {
					t.Errorf("%d %s, want %d %s", status, says, tc.status, tc.says)
				}
				if _, done := c.sim.Lookup(tenant); done != tc.done {
					t.Errorf("done: %v", done)
				}
				if st := c.sim.Stats(); st.Faults == 0 {
					t.Errorf("it is not counted: %+v", st)
				}
			})
		})
	}
}

// The two routes of the control port that need a socket to show anything.
func TestControlPortMutesAndExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, apicsim.Options{})
		c.subscribe()
		for _, path := range []string{"/events/drop?n=1", "/sockets/mute", "/subscriptions/expire"} {
			c.tenant("A" + strconv.Itoa(len(path)))
			rec := httptest.NewRecorder()
			c.sim.Control().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, http.NoBody))
			if rec.Code != http.StatusNoContent {
				t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
			}
		}
		if st := c.sim.Stats(); st.Cut != 2 || st.Lost != 2 {
			t.Errorf("stats: %+v", st)
		}
	})
}
