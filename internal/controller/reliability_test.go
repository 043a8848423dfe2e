package controller_test

import (
	"cmp"
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

var update = flag.Bool("update", false, "rewrite the table of docs/reliability.md")

// trouble is what an APIC does, and what becomes of it.
type trouble struct {
	fault string // for the page
	does  string // aci-sync, for the page

	begin func(w *world)
	end   func(w *world) // nil: it is over at once

	// failover is of what another member is the remedy for: it is not over before all is right.
	failover bool
	resync   time.Duration // 0 is the default, ten minutes

	within   time.Duration // all is right again: after its end, or, of a failover, after its beginning
	requests int           // at most, in the five minutes of it and until all is right again
}

const (
	lasting = 5 * time.Minute // of a trouble that lasts
	storm   = 120             // requests in a minute are one
)

// troubles are the table of docs/reliability.md.
var troubles = []trouble{
	{
		fault: "one member refuses connections", does: "logs in to the next",
		begin: func(w *world) { w.shut(0) }, failover: true, within: 5 * time.Second, requests: 80,
	},
	{
		fault: "one member hangs: it takes connections and answers nothing", does: "asks whether it answers at all, twice; logs in to the next",
		begin: first(apicsim.Fault{Times: -1, Hang: true}), failover: true, within: 30 * time.Second, requests: 80,
	},
	{
		fault: "one member hangs, and the sockets with it", does: "misses the answer to a ping, asks whether it answers; logs in to the next",
		begin: func(w *world) {
			first(apicsim.Fault{Times: -1, Hang: true})(w)
			w.sim.MuteSockets()
		},
		failover: true, within: 30 * time.Second, requests: 80,
	},
	{
		fault: "one member answers 503 to everything", does: "backs off; after 5 s of failures logs in to the next",
		begin: first(apicsim.Fault{Times: -1, Status: 503}), failover: true, within: 30 * time.Second, requests: 100,
	},
	{
		fault: "one member answers reads and refuses writes", does: "backs off; after 5 s of failures logs in to the next",
		begin: first(apicsim.Fault{
			Match: "^POST /api/mo", Times: -1, Status: 503, Code: "503", Text: "Unable to deliver the message, destination is not available",
		}),
		failover: true, within: 15 * time.Second, requests: 120,
	},
	{
		fault: "all members cut every connection", does: "asks them in turn, ever more rarely, up to 30 s apart",
		begin: all(apicsim.Fault{Times: -1, Hangup: true}), end: heal, within: 60 * time.Second, requests: 80,
	},
	{
		fault: "all members answer 503 with a page of HTML", does: "backs off, and goes to the next member ever more rarely",
		begin: all(apicsim.Fault{Times: -1, Status: 503}), end: heal, within: 60 * time.Second, requests: 80,
	},
	{
		fault: "all members refuse writes", does: "backs off, and goes to the next member ever more rarely",
		begin: all(apicsim.Fault{Match: "^POST /api/mo", Times: -1, Status: 503}), end: heal, within: 60 * time.Second, requests: 300,
	},
	{
		fault: "all members refuse reads", does: "reads ever more rarely; deletes nothing on what it does not know",
		begin: all(apicsim.Fault{Match: "^GET /api/(mo|class)", Times: -1, Status: 503}), end: heal, within: 60 * time.Second, requests: 120,
	},
	{
		fault: "a throttle lets 2 requests a second pass", does: "tries again what was refused, after a while",
		begin: all(apicsim.Fault{Rate: 2}), end: heal, within: 10 * time.Second, requests: 80,
	},
	{
		fault: "all sessions end, and a throttle lets one login a second pass", does: "logs in anew, and reads again",
		begin: func(w *world) {
			all(apicsim.Fault{Match: "aaaLogin", Rate: 1})(w)
			w.sim.ExpireSessions()
		},
		end: heal, within: 5 * time.Second, requests: 80,
	},
	{
		fault: "the token is refused (403, token timeout)", does: "logs in anew, and reads again",
		begin: func(w *world) { w.sim.ExpireSessions() }, within: 5 * time.Second, requests: 30,
	},
	{
		fault: "every token is refused, whatever is done", does: "logs in ever more rarely, up to 30 minutes apart, so that no account is locked",
		begin: all(apicsim.Fault{
			Match: "/api/(mo|class)|subscription", Times: -1, Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)",
		}),
		end: heal, within: 2 * time.Minute, requests: 120,
	},
	{
		fault: "subscriptions end before their time (400 when they are refreshed)", does: "subscribes anew, and reads again",
		begin: func(w *world) { w.sim.ExpireSubscriptions() }, within: 10 * time.Minute, requests: 30,
	},
	{
		fault: "subscribing is refused for want of a WebSocket (405)", does: "opens a WebSocket, subscribes anew, and reads again",
		begin: func(w *world) {
			first(apicsim.Fault{Match: "subscription=yes", Times: 3, CloseSockets: true})(w)
			w.sim.CloseSockets()
		},
		within: 15 * time.Second, requests: 30,
	},
	{
		fault: "the WebSocket is closed", does: "opens another, subscribes anew, and reads again",
		begin: func(w *world) { w.sim.CloseSockets() }, within: 5 * time.Second, requests: 25,
	},
	{
		fault: "the WebSocket is half open: nothing comes any more", does: "misses the answer to a ping, opens another WebSocket, and reads again",
		begin: func(w *world) { w.sim.MuteSockets() }, within: 30 * time.Second, requests: 30,
	},
	{
		fault: "events are lost without a word", does: "misses those of its own writes and reads; others are found by the periodic read",
		begin: func(w *world) {
			for _, m := range w.members {
				if err := m.DropEvents(-1, ""); err != nil {
					w.t.Fatal(err)
				}
			}
		},
		end: heal, within: 11 * time.Minute, requests: 100,
	},
	{
		fault: "the sockets close, and what is read has a total and no objects", does: "takes it for an error, not for an empty list; reads ever more rarely",
		begin: func(w *world) {
			all(apicsim.Fault{Match: "^GET /api/(mo|class)", Times: -1, Empty: true})(w)
			w.sim.CloseSockets()
		},
		end: heal, within: 60 * time.Second, requests: 100,
	},
	{
		fault: "the sockets close, and what is read is too big (400)", does: "reads ever more rarely",
		begin: func(w *world) {
			all(apicsim.Fault{
				Match: "^GET /api/(mo|class)", Times: -1, Status: 400, Code: "1",
				Text: "Unable to process the query, result dataset is too big",
			})(w)
			w.sim.CloseSockets()
		},
		end: heal, within: 60 * time.Second, requests: 180,
	},
	{
		fault: "every answer takes 20 s", does: "waits; the member answers, so it is kept",
		begin: all(apicsim.Fault{Times: -1, Delay: 20 * time.Second}), end: heal, within: 60 * time.Second, requests: 100,
	},
	{
		fault: "every answer stops for 20 s in its middle", does: "waits; the member answers, so it is kept",
		begin: all(apicsim.Fault{Times: -1, Body: 20 * time.Second}), end: heal, within: 30 * time.Second, requests: 100,
	},
	{
		fault: "writes are done, and their answers lost", does: "takes nothing for granted: events or a read tell",
		begin: all(apicsim.Fault{Match: "^POST /api/mo", Times: -1, After: true, Hangup: true}), end: heal, within: 15 * time.Second, requests: 150,
	},
	{
		fault: "writes are done, and the web server says 504", does: "takes nothing for granted: events or a read tell",
		begin: all(apicsim.Fault{Match: "^POST /api/mo", Times: -1, After: true, Status: 504}), end: heal, within: 15 * time.Second, requests: 150,
	},
	{
		fault: "writes are done, and never answered", does: "gives up after 60 s; events or a read tell",
		begin: all(apicsim.Fault{Match: "^POST /api/mo", Times: -1, After: true, Hang: true}), end: heal, within: 45 * time.Second, requests: 120,
	},
	{
		fault: "writes are accepted (202) and not done", does: "misses their events after 5 s, reads, and writes again, ever more rarely",
		begin: all(apicsim.Fault{Match: "^POST /api/mo", Times: -1, Status: 202}), end: heal, within: 60 * time.Second, requests: 150,
	},
	{
		fault: "writes are accepted (202) and done", does: "events tell",
		begin: all(apicsim.Fault{Match: "^POST /api/mo", Times: -1, Status: 202, After: true}), end: heal, within: 5 * time.Second, requests: 80,
	},
}

// first is a fault of the first member, which is the one that is spoken to.
func first(f apicsim.Fault) func(w *world) { return func(w *world) { w.fault(f) } }

// all is a fault of all members.
func all(f apicsim.Fault) func(w *world) {
	return func(w *world) {
		for _, m := range w.members {
			if err := m.AddFault(f); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// heal ends all faults.
func heal(w *world) {
	for _, m := range w.members {
		m.ClearFaults()
	}
}

// shut makes a member refuse connections.
func (w *world) shut(i int) { _ = w.servers[i].Close() }

// TestTroubles: whatever an APIC does, in the middle of what goes on in a cluster and by hand: nothing of others is
// changed, nothing that is claimed is deleted, and all is right again in time, without a storm of requests.
func TestTroubles(t *testing.T) {
	for _, c := range troubles {
		t.Run(c.fault, func(t *testing.T) {
			bubble(t, options{members: 3, resync: cmp.Or(c.resync, 10*time.Minute)}, func(w *world) { c.play(w) })
		})
	}
}

// play lets the trouble happen.
func (c trouble) play(w *world) {
	w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
	w.deploy("api", "c/api", "10.0.1.1", "10.0.1.2")
	w.sleep(time.Second)
	w.set("a/web/10.8.8.8", `"name":"theirs","scope":"import-security"`)
	w.set("b/theirs/10.9.9.9", `"name":"theirs","scope":"import-security"`)
	w.sleep(2 * time.Minute)
	w.want("a/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3* 10.8.8.8", "b/theirs: 10.9.9.9", "c/api*: 10.0.1.1* 10.0.1.2*")

	w.mu.Lock()
	w.asked = nil
	w.mu.Unlock()
	began := time.Now()
	c.begin(w)
	w.set("b/theirs/10.9.9.9", `"descr":"edited"`)
	theirs := w.ofOthers()
	w.remove(dn("a/web/10.0.0.1"))
	w.remove(dn("c/api/10.0.1.2"))
	w.pods("web", "10.0.0.4")
	w.unpod("10.0.0.3")
	last := "10.0.0.4"
	right := func() string {
		return strings.Join([]string{
			"a/web*: 10.0.0.1* 10.0.0.2* " + last + "* 10.8.8.8", "b/theirs: 10.9.9.9", "c/api*: 10.0.1.1* 10.0.1.2*", "",
		}, "\n")
	}
	// lawful looks at what must hold all the time.
	lawful := func() {
		if diff := gocmp.Diff(theirs, w.ofOthers()); diff != "" {
			w.t.Fatalf("what is not ours was changed (-want +got):\n%s", diff)
		}
		have := w.fabric()
		for _, ip := range []string{"10.0.0.2*", "10.0.1.1*"} {
			if !strings.Contains(have, ip) {
				w.t.Fatalf("%s is gone after %v:\n%s", ip, time.Since(began), have)
			}
		}
	}
	// await waits until all is right, which must be in time.
	await := func(since time.Time) time.Duration {
		for w.fabric() != right() {
			if lawful(); time.Since(since) > c.within {
				w.t.Fatalf("not right after %v (-want +got):\n%s", time.Since(since), gocmp.Diff(right(), w.fabric()))
			}
			w.sleep(100 * time.Millisecond)
		}
		return time.Since(since)
	}
	// churn lets Pods come and go for so long.
	churn := func(d time.Duration) {
		for i := 0; time.Since(began) < d; i++ {
			if i%20 == 0 {
				w.unpod(last)
				last = fmt.Sprintf("10.0.0.%d", 4+(i/20+1)%5)
				w.pods("web", last)
			}
			w.sleep(time.Second)
			lawful()
		}
	}
	var took time.Duration
	if c.failover {
		took = await(began)
		churn(lasting)
		await(time.Now().Add(-c.within + 10*time.Second)) // all is as ever at the other member
	} else {
		ended := began
		if c.end != nil {
			churn(lasting)
			c.end(w)
			ended = time.Now()
		}
		took = await(ended)
	}
	n, most := w.pace()
	w.t.Logf("%s: right after %v, %d requests, %d in a minute", c.fault, took.Round(100*time.Millisecond), n, most)
	if n > c.requests || most > storm {
		w.t.Errorf("%d requests, %d in a minute; at most %d and %d", n, most, c.requests, storm)
	}
	w.sleep(15 * time.Minute) // with a periodic read
	lawful()
	await(time.Now().Add(-c.within))
	for _, m := range w.members {
		for _, r := range m.Requests(0) {
			if r.Method == http.MethodDelete || claimed.Match(r.Body) {
				w.t.Errorf("a write at %v: %s %s", r.Time.Sub(began), r.Path, r.Body)
			}
		}
	}
}

// claimed is in the body of a write that deletes what is claimed all the time, or names what is not ours.
var claimed = regexp.MustCompile(`"ip":"10\.0\.(0\.[12]|1\.[12])/32"[^{}]*"status":"deleted"|10\.[89]\.|theirs`)

// ofOthers is what the fabric holds that is not ours.
func (w *world) ofOthers() string {
	var b strings.Builder
	for line := range strings.Lines(w.sim.Dump("uni/tn-T")) {
		if strings.Contains(line, "instP-theirs") || strings.Contains(line, "10.8.8.8") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// pace is how many requests were made, and how many at most in a minute.
func (w *world) pace() (n, most int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, at := range w.asked {
		j, _ := slices.BinarySearchFunc(w.asked, at.Add(-time.Minute), time.Time.Compare)
		most = max(most, i-j+1)
	}
	return len(w.asked), most
}

const reliabilityPage = "../../docs/reliability.md"

// TestReliabilityPage: the table of the page is that of the test above; go test -run ReliabilityPage -update writes it.
func TestReliabilityPage(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- the table of TestTroubles -->\n", "<!-- end -->\n"
	page, err := os.ReadFile(reliabilityPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatal("the page has no place for the table")
	}
	want := head + begin + table() + end + tail
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatalf("the page is not current; go test ./internal/controller -run ReliabilityPage -update writes it (-want +got):\n%s",
			gocmp.Diff(want, string(page)))
	}
	if err := os.WriteFile(reliabilityPage, []byte(want), 0o644); err != nil { //nolint:gosec // a page for everybody
		t.Fatal(err)
	}
}

// table is the table of the page.
func table() string {
	var b strings.Builder
	b.WriteString("| fault | what aci-sync does | lost | right again within | requests at most |\n| --- | --- | --- | --- | --- |\n")
	for _, c := range troubles {
		since := " of its end"
		if c.failover || c.end == nil {
			since = " of its beginning"
		}
		within := fmt.Sprintf("%.0f s", c.within.Seconds())
		if c.within > 2*time.Minute {
			within = fmt.Sprintf("%.0f min", c.within.Minutes())
		}
		fmt.Fprintf(&b, "| %s | %s | nothing | %s%s | %d |\n", c.fault, c.does, within, since, c.requests)
	}
	return b.String()
}
