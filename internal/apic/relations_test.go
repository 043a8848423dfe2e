package apic_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apic"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
)

func TestReadRelations_tells_the_VRFs_of_all_L3Outs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		const other = `{"fvTenant":{"attributes":{"name":"other"},"children":[{"fvCtx":{"attributes":{"name":"v"}}},
			{"l3extOut":{"attributes":{"name":"o"},"children":[{"l3extRsEctx":{"attributes":{"tnFvCtxName":"v"}}}]}}]}}`
		if err := s.Post("uni", other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.requests()
		for range 2 { // the second time it is subscribed to already
			u, err := w.client.ReadRelations(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if u.Kind != aci.FullRead || u.Root != aci.Universe {
				t.Errorf("%v of %s", u.Kind, u.Root)
			}
			found := map[aci.DN]string{}
			for _, m := range u.Objects {
				found[m.DN] = m.Attrs["tDn"] + " " + m.Attrs["state"]
			}
			if got := found["uni/tn-other/out-o/rsectx"]; got != "uni/tn-other/ctx-v formed" || found[wan.DN().Child("rsectx")] == "" {
				t.Errorf("read %v", found)
			}
		}
		const read = "GET /api/class/l3extRsEctx.json?order-by=l3extRsEctx.dn|asc&page=0&page-size=5000"
		want := []string{"GET /api/class/l3extRsEctx.json?subscription=yes&refresh-timeout=1800", read, read}
		if diff := cmp.Diff(want, w.requests()); diff != "" {
			t.Errorf("wire (-want +got)\n%s", diff)
		}
	})
}

// Of an L3Out that is read, the event is told twice: of it, and of the relations. Of others once.
func TestRelations_arrive_as_they_change(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.start(apicsim.Options{}, apic.Options{})
		w.read()
		if _, err := w.client.ReadRelations(t.Context()); err != nil {
			t.Fatal(err)
		}
		const point = `{"l3extRsEctx":{"attributes":{"tnFvCtxName":"elsewhere"}}}`
		if err := s.Post(string(wan.DN()), point); err != nil {
			t.Fatal(err)
		}
		roots := map[aci.DN]int{}
		for range 2 {
			u := w.update()
			if roots[u.Root]++; u.Kind != aci.Event || len(u.Objects) != 1 || u.Objects[0].DN != wan.DN().Child("rsectx") {
				t.Errorf("got %+v", u)
			}
		}
		if diff := cmp.Diff(map[aci.DN]int{wan.DN(): 1, aci.Universe: 1}, roots); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if err := s.Post("uni", `{"fvTenant":{"attributes":{"name":"other"},"children":[{"l3extOut":{"attributes":{"name":"o"}}}]}}`); err != nil {
			t.Fatal(err)
		}
		if u := w.update(); u.Root != aci.Universe || len(u.Objects) != 1 || u.Objects[0].Attrs["status"] != aci.StatusCreated {
			t.Errorf("got %+v", u)
		}
	})
}
