package controller_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestASingleChangeIsWrittenAfterFiftyMilliseconds(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Second)
		for i := range 10 { // one after the other, not only the first
			w.forget()
			began := time.Now()
			w.pods("web", fmt.Sprintf("10.0.1.%d", i))
			w.sleep(600 * time.Millisecond)
			w.wantPosts(1)
			if took := w.posts()[0].Time.Sub(began); took != 50*time.Millisecond {
				t.Errorf("change %d was written after %v", i, took)
			}
		}
	})
}

func TestTheFirstWorkloadOfAnL3OutIsOneWrite(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Second)
		w.want("a/web*: 10.0.0.1* 10.0.0.2*")
		w.wantPosts(1)
	})
}

func TestASustainedStreamIsWrittenTwiceASecond(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Second)
		w.forget()
		began := time.Now()
		for _, ip := range addrs(1000) { // in ten seconds
			w.pods("web", ip)
			w.sleep(10 * time.Millisecond)
		}
		w.sleep(time.Second)
		perSecond := map[int]int{}
		for _, p := range w.posts() {
			perSecond[int(p.Time.Sub(began)/time.Second)]++
		}
		for second, n := range perSecond {
			if most := map[bool]int{true: 4, false: 2}[second == 0]; n > most {
				t.Errorf("%d POSTs in second %d, want at most %d", n, second, most)
			}
		}
		t.Logf("POSTs by second: %v", perSecond)
		if n := strings.Count(w.fabric(), "*"); n != 1+1+1000 {
			t.Errorf("%d objects of ours", n)
		}
	})
}

func TestChangesDuringAWriteFormTheNextBatch(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", "10.0.0.1")
		w.sleep(2 * time.Second)
		w.forget()
		w.postFault(1, apicsim.Fault{Delay: time.Second})
		w.pods("web", "10.0.0.2")
		for i := range 100 {
			w.sleep(10 * time.Millisecond)
			w.pods("web", fmt.Sprintf("10.0.1.%d", i))
		}
		w.sleep(time.Second)
		w.wantPosts(2)
	})
}

func TestAThousandAddressesAtOnceAreTwoWrites(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", addrs(1000)...)
		w.sleep(3 * time.Second)
		w.wantPosts(2)
		for _, p := range w.posts() {
			if n := strings.Count(string(p.Body), `"l3extSubnet"`); n > 500 {
				t.Errorf("%d subnets in a POST", n)
			}
		}
		w.forget()
		w.unpod(addrs(1000)...)
		w.sleep(3 * time.Second)
		w.want("a/web*:")
		w.wantPosts(2)
	})
}

func TestAHundredSubnetsDeletedByHandAreFewWrites(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		w.deploy("web", "a/web", addrs(1000)...)
		w.sleep(3 * time.Second)
		w.forget()
		before := w.fabric()
		for i, ip := range addrs(100) {
			w.remove(dn("a/web/" + ip))
			if i%10 == 0 {
				w.sleep(20 * time.Millisecond)
			}
		}
		w.sleep(5 * time.Second)
		w.want(strings.TrimSuffix(before, "\n"))
		if n := len(w.posts()); n > 4 {
			t.Errorf("%d POSTs", n)
		}
	})
}

func TestOneWriterPerVRF(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		for i, epg := range []string{"a/x", "b/x", "c/x", "a/y"} {
			w.deploy(strings.ReplaceAll(epg, "/", ""), epg, fmt.Sprintf("10.0.0.%d", i))
		}
		w.sleep(3 * time.Second)
		w.forget()
		w.postFault(-1, apicsim.Fault{Delay: 3 * time.Second})
		for i, epg := range []string{"ax", "bx", "cx", "ay"} {
			w.pods(epg, fmt.Sprintf("10.0.1.%d", i))
		}
		w.sleep(4 * time.Second)
		w.wantPosts(2) // one of each VRF
		w.sleep(10 * time.Second)
		w.want("a/x*: 10.0.0.0* 10.0.1.0*", "a/y*: 10.0.0.3* 10.0.1.3*", "b/x*: 10.0.0.1* 10.0.1.1*", "c/x*: 10.0.0.2* 10.0.1.2*")
		if w.most != 2 { // the laws of serve find two in one VRF
			t.Errorf("at most %d POSTs at a time, want one of each VRF", w.most)
		}
	})
}

func TestAnIdleControllerIsQuiet(t *testing.T) {
	five := map[string]string{"a": "v", "b": "v", "c": "w", "d": "w", "e": "x"}
	bubble(t, options{vrfs: five}, func(w *world) {
		ips := addrs(1000)
		for i, l := range []string{"a", "b", "c", "d", "e"} {
			w.deploy("web-"+l, l+"/web", ips[200*i:200*i+200]...)
		}
		w.sleep(5 * time.Minute)
		w.forget()
		w.sleep(time.Hour)
		w.wantPosts(0)
		n := len(w.requests())
		t.Logf("%d requests in an hour", n)
		if n > 6*60 {
			t.Errorf("%d requests in an hour, want at most 6 a minute", n)
		}
	})
}

// Three L3Outs of two VRFs, and the faults of the fabric.
func TestAStartCostsFewRequests(t *testing.T) {
	bubble(t, options{}, func(w *world) {
		for i, epg := range []string{"a/x", "b/x", "c/x"} {
			w.deploy(strings.ReplaceAll(epg, "/", ""), epg, fmt.Sprintf("10.0.0.%d", i))
		}
		w.sleep(time.Minute)
		w.forget()
		w.restart()
		w.sleep(time.Minute)
		w.wantPosts(0)
		// Login and logout, socket, marks; of each L3Out a subscription and a read; the same of the relations
		// to VRFs, and of faults.
		if n := len(w.requests()); n > 4+2*3+2*2 {
			t.Errorf("%d requests:\n%s", n, bodies(w.requests()))
		}
	})
}
