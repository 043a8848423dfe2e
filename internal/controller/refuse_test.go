package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const badIP = `"ip":"10.1.0.7/32","name"`

func TestARefusedAddressBacksOffAlone(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		posts int // of the first attempt
	}{
		"when the APIC names it":     {"unknown property value x, name scope, class l3extSubnet [(Dn0)] Dn0=" + dn("a/web/10.1.0.7") + ", ", 3},
		"when the APIC names none":   {"unknown property value x", 16},
		"when the APIC names an EPG": {"unknown property value x Dn0=" + dn("a/web"), 16},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("db", "a/db", "10.0.0.9")
				w.sleep(2 * time.Second)
				w.forget()
				w.refuse(badIP, c.text)
				ips := addrs(100)
				w.deploy("web", "a/web", ips...)
				w.sleep(3 * time.Second)
				if n := strings.Count(w.fabric(), "*"); n != 2+1+99 {
					t.Fatalf("%d objects of ours on the fabric", n)
				}
				if n := len(w.posts()); n > c.posts {
					t.Errorf("%d POSTs, want at most %d", n, c.posts)
				}

				// Others do not wait for it.
				w.forget()
				w.pods("web", "10.0.9.1")
				w.sleep(time.Second)
				w.wantPosts(1)
				if !strings.Contains(w.fabric(), " 10.0.9.1*") {
					t.Error("10.0.9.1 is not there")
				}

				// 5 s doubling to 10 min: 5, 15, 35, 75, 155, 315, 635, 1235, 1835, … s.
				w.forget()
				w.sleep(time.Hour)
				if n := len(w.posts()); n < 8 || n > 14 {
					t.Errorf("%d attempts in an hour", n)
				}
				if n := len(w.notes()); n != len(w.posts()) {
					t.Errorf("told %d times of %d attempts: %q", n, len(w.posts()), slices.Compact(w.notes()))
				}

				w.refuse(badIP, "")
				w.sleep(10*time.Minute + time.Second)
				if !strings.Contains(w.fabric(), " 10.1.0.7*") {
					t.Error("it is not in although the APIC relents")
				}
				w.forget()
				w.sleep(time.Hour)
				w.wantPosts(0)
			})
		})
	}
}

// messages are what is told of the addresses of an EPG that are refused.
func (w *world) messages(epg string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, q := range w.statuses[extEPG(epg)].Problems {
		b.WriteString(q.Reason + ": " + q.Message + "\n")
	}
	return b.String()
}

// Two addresses of one EPG, refused for reasons of their own at different times: each is told of in the APIC's words, and
// each is tried again in its own time.
func TestEachRefusedAddressHasItsOwnReasonAndItsOwnTime(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		tries := func(ip string) int {
			return len(slices.DeleteFunc(w.posts(), func(r apicsim.Request) bool { return !strings.Contains(string(r.Body), `"ip":"`+ip+`/32"`) }))
		}
		w.refuse(`"ip":"10.0.0.7/32"`, "Invalid one")
		w.refuse(`"ip":"10.0.0.8/32"`, "Invalid two")
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.7")
		w.sleep(10 * time.Minute) // the first one is tried every five minutes by now
		w.forget()
		w.pods("web", "10.0.0.8")
		w.sleep(time.Minute)
		if one, two := tries("10.0.0.7"), tries("10.0.0.8"); one > 1 || two < 4 {
			t.Errorf("within a minute the first was tried %d times, the second %d times", one, two)
		}
		want := "Refused: Deployment shop/web: the APIC refuses " + dn("a/web/10.0.0.7") + ": Invalid one; " +
			"Deployment shop/web: the APIC refuses " + dn("a/web/10.0.0.8") + ": Invalid two\n"
		if got := w.messages("a/web"); got != want {
			t.Errorf("told:\n%swant:\n%s", got, want)
		}
		w.want("a/web*: 10.0.0.1*")

		// One is let in, and is no longer told of; the other waits on.
		w.refuse(`"ip":"10.0.0.8/32"`, "")
		w.sleep(2 * time.Minute)
		w.want("a/web*: 10.0.0.1* 10.0.0.8*")
		if got := w.messages("a/web"); strings.Contains(got, "10.0.0.8") || !strings.Contains(got, "10.0.0.7") {
			t.Errorf("told: %s", got)
		}
	})
}

// What is not the fault of an object is no reason to look for one.
func TestABatchIsSplitOnlyBecauseOfAnObject(t *testing.T) {
	for name, f := range map[string]apicsim.Fault{
		"a server error":             {Status: 503},
		"an error of the APIC":       {Status: 500, Code: "1", Text: "something went wrong"},
		"a missing parent":           {Status: 400, Code: "102", Text: "configured object ((Dn0)) not found Dn0=" + dn("a/web") + ", "},
		"an object that is there":    {Status: 400, Code: "103", Text: "Cannot create L3extSubnet (l3extSubnet); object " + dn("a/web/10.1.0.7") + " already exists."},
		"a session that ended":       {Status: 403, Code: "403", Text: "Token was invalid (Error: Token timeout)"},
		"an answer that is lost":     {Hangup: true, After: true},
		"an answer that comes later": {Status: 202, After: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.deploy("web", "a/web")
				w.sleep(2 * time.Second)
				w.forget()
				w.postFault(1, f)
				w.pods("web", addrs(100)...)
				w.sleep(30 * time.Second)
				if n := strings.Count(w.fabric(), "*"); n != 1+100 {
					t.Errorf("%d objects of ours", n)
				}
				for i, r := range w.posts() {
					if n := strings.Count(string(r.Body), `"l3extSubnet"`); i > 1 || n < 99 { // 103 names one: it is there for all we know
						t.Errorf("POST %d has %d subnets, answered %d %s", i+1, n, r.Status, r.Code)
					}
				}
				if got := w.messages("a/web"); got != "" {
					t.Errorf("told: %s", got)
				}
			})
		})
	}
}

func TestARefusedAddressIsForgottenWhenItGoes(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.refuse(badIP, "no")
		w.deploy("web", "a/web", "10.1.0.7", "10.0.0.1")
		w.sleep(time.Second)
		w.unpod("10.1.0.7")
		w.sleep(time.Second)
		w.forget()
		w.sleep(time.Hour)
		w.wantPosts(0)
		w.pods("web", "10.1.0.7") // its backoff began anew
		w.sleep(20 * time.Second)
		if n := len(w.posts()); n != 3 {
			t.Errorf("%d attempts in 20 s", n)
		}
	})
}

func TestARefusedEPGHoldsUpNobodyElse(t *testing.T) {
	for name, text := range map[string]string{
		"named":     "unknown property value x Dn0=" + dn("a/web") + ", ",
		"not named": "unknown property value x",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, options{}, func(w *world) {
				w.refuse(`"name":"web","status":"created"`, text)
				w.deploy("web", "a/web", addrs(100)...)
				w.deploy("db", "a/db", "10.0.0.9")
				w.sleep(2 * time.Second)
				w.want("a/db*: 10.0.0.9*")
				w.sleep(time.Hour)
				if n := len(w.posts()); n > 60 {
					t.Errorf("%d POSTs in an hour:\n%s", n, bodies(w.posts()[:10]))
				}
				w.refuse(`"name":"web","status":"created"`, "")
				w.sleep(11 * time.Minute)
				if n := strings.Count(w.fabric(), "*"); n != 2+1+100 {
					t.Errorf("%d objects of ours", n)
				}
			})
		})
	}
}

func TestWhenEverythingIsRefusedThePostsAreBounded(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web")
		w.deploy("db", "a/db")
		w.sleep(2 * time.Second)
		w.forget()
		w.refuse("l3extSubnet", "no")
		w.pods("web", addrs(150)...)
		w.sleep(time.Hour)
		n := len(w.posts())
		t.Logf("%d POSTs in an hour", n)
		if n > 600 {
			t.Errorf("%d POSTs in an hour", n)
		}
		w.refuse("l3extSubnet", "")
		w.sleep(11 * time.Minute)
		if n := strings.Count(w.fabric(), "*"); n != 2+150 {
			t.Errorf("%d objects of ours", n)
		}
	})
}

func TestACreationThatIsToldToExistForeverIsNotAStorm(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Second)
		w.forget()
		w.postFault(-1, apicsimExists)
		w.pods("web", "10.0.0.2")
		w.sleep(time.Hour)
		if n := len(w.requests()); n > 500 {
			t.Errorf("%d requests in an hour", n)
		}
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
	})
}
