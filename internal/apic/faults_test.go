package apic_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

const (
	ofLeaf = "topology/pod-1/node-101/sys/actrl/dbgStatsReport/fault-F3544"
	ofWeb  = "topology/pod-1/node-101/local/svc-policyelem-id-0/uni/epp/rtd-[uni/tn-prod/out-wan/instP-web]/nwissues/fault-F0467"
)

// seed lets the fabric itself set attributes, written as `"k":"v"`, of the fault dn.
func seed(t *testing.T, s *apicsim.Sim, dn, attrs string) {
	t.Helper()
	if err := s.Seed(fmt.Appendf(nil, `{"faultInst":{"attributes":{"dn":%q,%s}}}`, dn, attrs)); err != nil {
		t.Fatal(err)
	}
}

// raise raises the faults at dns.
func raise(t *testing.T, s *apicsim.Sim, dns ...string) {
	t.Helper()
	for _, dn := range dns {
		seed(t, s, dn, `"lc":"raised","severity":"minor"`)
	}
}

func TestReadFaults_on_the_wire(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{Leafs: []int{101}}, apic.Options{})
		subnet(w, s, "10.0.0.1/32", "")
		raise(t, s, ofLeaf, ofWeb, string(web.DN())+"/fault-F3941") // the last is not asked for
		time.Sleep(time.Second)
		w.requests()
		for range 2 { // the second time it is subscribed to already
			u, err := w.client.ReadFaults(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{ofWeb, ofLeaf}, dns(u.Objects)); diff != "" || u.Kind != aci.FullRead || u.Root != aci.Topology {
				t.Errorf("%v of %s (-want +got)\n%s", u.Kind, u.Root, diff)
			}
		}
		const what = "GET /api/class/faultInst.json?query-target-filter=or(and(eq(faultInst.code,%22F0467%22)," +
			"wcard(faultInst.dn,%22uni/epp/rtd%22)),eq(faultInst.code,%22F3544%22),eq(faultInst.code,%22F3545%22))"
		const read = what + "&order-by=faultInst.dn|asc&page=0&page-size=5000"
		if diff := cmp.Diff([]string{what + "&subscription=yes&refresh-timeout=1800", read, read}, w.requests()); diff != "" {
			t.Errorf("wire (-want +got)\n%s", diff)
		}
	})
}

// Events of faults and of L3Outs do not mix, and a gap is told of both.
func TestFaults_arrive_as_they_happen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{Leafs: []int{101}}, apic.Options{})
		w.read()
		if _, err := w.client.ReadFaults(t.Context()); err != nil {
			t.Fatal(err)
		}
		subnet(w, s, "10.0.0.1/32", "")
		raise(t, s, ofLeaf)
		seed(t, s, ofLeaf, `"lc":"retaining","severity":"cleared"`)
		seed(t, s, ofLeaf, `"status":"deleted"`)
		var got []string
		for len(got) < 3 {
			u := w.update()
			if u.Root == wan.DN() {
				continue
			}
			m := u.Objects[0]
			if u.Kind != aci.Event || u.Root != aci.Topology || len(u.Objects) != 1 || m.DN != ofLeaf {
				t.Fatalf("got %+v", u)
			}
			got = append(got, m.Attrs["status"]+" "+m.Attrs["lc"]+" "+m.Attrs["severity"])
		}
		if diff := cmp.Diff([]string{"created raised minor", "modified retaining cleared", "deleted  "}, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		s.CloseSockets()
		roots := map[aci.DN]bool{}
		for range 2 {
			if u := w.update(); u.Kind == aci.Gap {
				roots[u.Root] = true
			}
		}
		if !roots[aci.Topology] || !roots[wan.DN()] {
			t.Errorf("gaps of %v", roots)
		}
	})
}

func TestFaults_that_are_forgotten_or_may_not_be_read(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{Leafs: []int{101}}, apic.Options{})
		arm(t, s, apicsim.Fault{Match: "faultInst", Times: -1, Status: 403, Code: "403", Text: "Not authorized"})
		_, err := w.client.ReadFaults(t.Context())
		if e, ok := errors.AsType[*aci.Error](err); !ok || e.Status != 403 || errors.Is(err, aci.ErrSession) {
			t.Errorf("got %v", err)
		}
		s.ClearFaults()
		if _, err := w.client.ReadFaults(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.client.Forget(aci.Topology)
		raise(t, s, ofLeaf)
		w.requests()
		w.silence(time.Hour)
		if n := count(w.requests(), refreshCall); n != 0 {
			t.Errorf("%d refreshes of a subscription that nobody wants", n)
		}
	})
}

func TestReadFaults_once(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{Leafs: []int{101}}, apic.Options{ReadOnce: true})
		raise(t, s, ofLeaf)
		u, err := w.client.ReadFaults(t.Context())
		if err != nil || len(u.Objects) != 1 {
			t.Errorf("%v, %v", u.Objects, err)
		}
		if n := s.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions", n)
		}
	})
}
