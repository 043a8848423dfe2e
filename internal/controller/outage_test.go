package controller_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
)

func TestAnHourWithoutAPIC(t *testing.T) {
	for name, f := range map[string]apicsim.Fault{
		"connections break":         {Hangup: true},
		"the web server says 503":   {Status: 503},
		"it is slow and says 503":   {Status: 503, Delay: 20 * time.Second},
		"writes fail, reads do not": {Match: `^POST /api/mo`, Status: 503},
		"reads fail, writes do not": {Match: `^GET /api`, Status: 503},
		"every session is refused":  {Match: `/api/(mo|class)|subscription`, Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("web", "a/web", "10.0.0.1")
				w.deploy("api", "c/api", "10.0.0.2")
				w.sleep(time.Minute)
				w.forget()
				f.Times = -1
				w.fault(f)
				w.sim.CloseSockets()
				for i := range 720 { // a Pod comes and goes every five seconds
					ip := fmt.Sprintf("10.1.%d.%d", i/250, i%250)
					w.pods("web", ip)
					w.sleep(5 * time.Second)
					w.unpod(ip)
				}
				if n := w.loop.Remembered()["dirty"]; n > 20 {
					t.Errorf("%d places are dirty", n)
				}
				for i := range 700 {
					w.wantForgotten(fmt.Sprintf("a/web/10.1.%d.%d", i/250, i%250))
				}
				n, logged := len(w.requests()), strings.Count(w.logged(), "\n")
				t.Logf("%d requests, %d log lines", n, logged)
				if n > 1500 {
					t.Errorf("%d requests in an hour", n)
				}
				if logged > 1500 {
					t.Errorf("%d log lines in an hour", logged)
				}
				w.pods("web", "10.0.0.3")
				w.unpod("10.0.0.1")
				w.remove(dn("c/api/10.0.0.2"))
				w.sim.ClearFaults()
				recovery := time.Minute + 30*time.Second
				if strings.Contains(name, "session") {
					recovery = 35 * time.Minute // logins that do not help become rare, so that no account is locked
				}
				w.sleep(recovery)
				w.want("a/web*: 10.0.0.3*", "c/api*: 10.0.0.2*")
			})
		})
	}
}

// An APIC that accepts writes and does not do them is asked ever more rarely. Nobody undoes anything, so it is no
// fight, whose waits are longer, and of which people are told.
func TestWritesThatAreAcceptedAndNotDone(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Minute)
		w.forget()
		w.fault(apicsim.Fault{Match: `^POST /api/mo`, Status: http.StatusAccepted, Times: -1})
		w.remove(dn("a/web/10.0.0.1"))
		w.unpod("10.0.0.2")
		w.sleep(10 * time.Minute)
		if n := len(w.posts()); n < 15 || n > 30 {
			t.Errorf("%d POSTs in 10 minutes", n)
		}
		if n := len(w.requests()); n > 120 {
			t.Errorf("%d requests in 10 minutes", n)
		}
		if notes := fmt.Sprint(w.notes()); strings.Contains(notes, controller.ReasonDriftFight) {
			t.Errorf("told of a fight: %s", notes)
		}
		w.sim.ClearFaults()
		w.sleep(45 * time.Second)
		w.want("a/web*: 10.0.0.1*")
		// All is well, and the next failure is met as the first.
		w.forget()
		w.postFault(1, apicsim.Fault{Status: http.StatusAccepted})
		w.pods("web", "10.0.0.3")
		w.sleep(8 * time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.3*")
	})
}

func TestWrongCredentialsBackOffHard(t *testing.T) {
	bubble(t, options{password: "wrong", stopped: true}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.run()
		w.sleep(2 * time.Hour)
		logins := 0
		for _, r := range w.requests() {
			if r.Path == "/api/aaaLogin.json" {
				logins++
			}
		}
		if n := len(w.requests()); logins < 3 || logins > 12 || n > logins {
			t.Errorf("%d logins in two hours, %d requests", logins, n)
		}
		w.want()
	})
}

func TestALostSessionIsRenewed(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Minute)
		w.sim.ExpireSessions()
		w.remove(dn("a/web/10.0.0.2"))
		w.pods("web", "10.0.0.3")
		w.sleep(10 * time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2* 10.0.0.3*")
	})
}

func TestDriftDuringAGapIsRepaired(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("db", "b/db", "10.0.0.9")
		w.sleep(time.Minute)
		w.forget()
		w.sim.CloseSockets()
		w.remove(dn("a/web/10.0.0.2"))
		w.remove(dn("b/db"))
		w.sleep(5 * time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*", "b/db*: 10.0.0.9*")
		w.wantPosts(2)
	})
}

// What was changed by hand while no events came is put back by the first read after the reconnect, not by a later one.
func TestDriftInAGapIsRepairedByTheReadAfterIt(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Minute)
		w.forget()
		w.fault(apicsim.Fault{Match: "^GET /socket", Times: 8, Status: 503})
		w.sim.CloseSockets()
		w.remove(dn("a/web/10.0.0.2"))
		w.sleep(5 * time.Minute)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
		var open, post time.Time
		reads := 0 // of the L3Out, before the write
		for _, r := range w.requests() {
			switch {
			case r.Path == "/socket{token}" && r.Status == http.StatusSwitchingProtocols:
				open = r.Time
			case r.Method == http.MethodPost && post.IsZero():
				post = r.Time
			case post.IsZero() && !open.IsZero() && strings.HasSuffix(r.Path, "/out-a.json") && strings.Contains(r.Query, "page=0"):
				reads++
			}
		}
		if open.IsZero() || post.Before(open) || post.Sub(open) > time.Second || reads != 1 {
			t.Errorf("the socket is open at %v, the write comes at %v after %d reads", open, post, reads)
		}
	})
}

// What backed off from a member that ailed for long is done as soon as another one is well.
func TestAFailoverEndsTheBackoff(t *testing.T) {
	bubble(t, options{members: 2}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(time.Minute)
		w.forget()
		for _, m := range w.members {
			if err := m.AddFault(apicsim.Fault{Times: -1, Status: http.StatusServiceUnavailable}); err != nil {
				t.Fatal(err)
			}
		}
		w.pods("web", "10.0.0.2")
		for range 10 { // ten times, so that it is no luck
			w.sleep(5*time.Minute + 7*time.Second)
			healed := w.members[len(w.members)-1]
			healed.ClearFaults()
			began := time.Now()
			for !strings.Contains(w.fabric(), "10.0.0.2*") && time.Since(began) < 5*time.Minute {
				w.sleep(100 * time.Millisecond)
			}
			right := time.Now()
			var open time.Time
			for _, r := range healed.Requests(0) {
				if r.Path == "/socket{token}" && r.Status == http.StatusSwitchingProtocols {
					open = r.Time
				}
			}
			if took := right.Sub(open); took > 2*time.Second {
				t.Errorf("right %v after the socket to the other member was open", took)
			}
			w.unpod("10.0.0.2")
			w.sleep(time.Minute)
			w.forget()
			if err := healed.AddFault(apicsim.Fault{Times: -1, Status: http.StatusServiceUnavailable}); err != nil {
				t.Fatal(err)
			}
			w.pods("web", "10.0.0.2")
		}
	})
}

func TestADayOfChurnLeavesNothingBehind(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		for i := range 60 {
			name, epg := fmt.Sprintf("w%d", i), fmt.Sprintf("%s/e%d", []string{"a", "b", "c", "new"}[i%4], i)
			w.deploy(name, epg, "10.0.0.1", "10.0.0.2")
			w.sleep(time.Minute)
			w.undeploy(name, "10.0.0.1", "10.0.0.2")
			w.sleep(time.Minute)
		}
		w.want()
		w.forget()
		w.sleep(time.Hour)
		if n := w.reads("/api/mo/uni/tn-T"); n != 0 {
			t.Errorf("%d reads of L3Outs that nobody names", n)
		}
		for what, n := range w.loop.Remembered() {
			if n != 0 {
				t.Errorf("%d %s are kept in mind", n, what)
			}
		}
		for i := range 60 {
			for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
				w.wantForgotten(fmt.Sprintf("%s/e%d/%s", []string{"a", "b", "c", "new"}[i%4], i, ip))
			}
		}
	})
}
