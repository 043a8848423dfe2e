package controller_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
)

func TestParseCapacity(t *testing.T) {
	t.Parallel()
	d := controller.Capacity{EPGsPerL3Out: 250, EPGsPerFabric: 600, SubnetsPerVRF: 20000}
	for text, want := range map[string]controller.Capacity{
		"":                                    d,
		"epgs-per-l3out=100":                  {EPGsPerL3Out: 100, EPGsPerFabric: 600, SubnetsPerVRF: 20000},
		"subnets-per-vrf=0":                   {EPGsPerL3Out: 250, EPGsPerFabric: 600},
		"epgs-per-fabric=1,epgs-per-fabric=2": {EPGsPerL3Out: 250, EPGsPerFabric: 2, SubnetsPerVRF: 20000},
		strings.Join(d.Strings(), ","):        d,
	} {
		got, err := controller.ParseCapacity(strings.FieldsFunc(text, func(r rune) bool { return r == ',' }))
		if err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "=", "epgs-per-l3out", "epgs-per-l3out=", "epgs-per-l3out=-1", "EPGs-per-l3out=1", "a=1", "epgs-per-l3out=1.5", "epgs-per-l3out=1=2"} {
		if got, err := controller.ParseCapacity([]string{text}); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// crowd is a world with limits, and what is looked at there.
type crowd struct {
	*world
	r *prometheus.Registry
}

func crowded(t *testing.T, limits controller.Capacity, f func(c crowd)) {
	t.Helper()
	r := prometheus.NewRegistry()
	bubble(t, options{metrics: r, capacity: limits, resync: 10 * time.Minute}, func(w *world) { f(crowd{w, r}) })
}

// foreign makes n external EPGs of others in an L3Out, of names that begin with name.
func (c crowd) foreign(l3out, name string, n int) {
	for i := range n {
		c.set(fmt.Sprintf("%s/%s%d", l3out, name, i), `"descr":"theirs"`)
	}
}

// used compares the metric of a room; -1 for none.
func (c crowd) used(kind, scope string, want float64) {
	c.t.Helper()
	got := -1.0
	families, err := c.r.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "acisync_capacity_used" && m.GetLabel()[0].GetValue() == kind && m.GetLabel()[1].GetValue() == scope {
				got = m.GetGauge().GetValue()
			}
		}
	}
	if got != want {
		c.t.Errorf("%s of %s are %v at %s, want %v", kind, scope, got, clock(), want)
	}
}

// near compares which of EPGs have the condition, and what was told since the last time.
func (c crowd) near(told int, epgs ...string) {
	c.t.Helper()
	var got []string
	for _, e := range []string{"a/web", "b/db", "c/app"} {
		rec := c.record(e)
		if strings.Contains(rec, controller.ReasonCapacityNear) {
			got = append(got, e)
		}
		if rec != "none" && !strings.Contains(rec, controller.ReasonInSync) {
			c.t.Errorf("%s is %s at %s", e, rec, clock())
		}
	}
	if d := cmp.Diff(epgs, got); d != "" {
		c.t.Errorf("near at %s (-want +got)\n%s", clock(), d)
	}
	if got := len(slices.DeleteFunc(c.notes(), func(s string) bool { return !strings.HasPrefix(s, controller.ReasonCapacityNear) })); got != told {
		c.t.Errorf("told %d times at %s, want %d", got, clock(), told)
	}
	c.forget()
}

func TestCapacity(t *testing.T) {
	for name, tt := range map[string]struct {
		limits controller.Capacity
		f      func(c crowd)
	}{
		"external EPGs of an L3Out": {controller.Capacity{EPGsPerL3Out: 20}, func(c crowd) {
			c.foreign("a", "x", 14)
			c.sleep(time.Minute)
			c.used("epgs-per-l3out", "T/a", 15)
			c.near(0)
			c.foreign("a", "y", 1) // the 16th of 20
			c.sleep(time.Minute)
			c.used("epgs-per-l3out", "T/a", 16)
			c.used("epgs-per-l3out", "T/b", 1)
			c.near(1, "a/web")
			c.foreign("a", "z", 20) // more than there may be
			c.sleep(time.Hour)
			c.near(0, "a/web")
		}},
		"it does not flap": {controller.Capacity{EPGsPerL3Out: 20}, func(c crowd) {
			c.foreign("a", "x", 15)
			c.sleep(time.Minute)
			c.near(1, "a/web")
			for range 5 {
				c.remove(dn("a/x14")) // 15 are three quarters
				c.sleep(time.Minute)
				c.near(0, "a/web")
				c.set("a/x14", `"descr":"theirs"`)
				c.sleep(time.Minute)
				c.near(0, "a/web")
			}
			c.remove(dn("a/x14"))
			c.remove(dn("a/x13"))
			c.sleep(time.Minute)
			c.near(0)
			c.set("a/x13", `"descr":"theirs"`) // that is not 80 % yet
			c.sleep(time.Minute)
			c.near(0)
			c.set("a/x14", `"descr":"theirs"`)
			c.sleep(time.Minute)
			c.near(1, "a/web")
		}},
		"what comes and goes at once is not told": {controller.Capacity{EPGsPerL3Out: 20}, func(c crowd) {
			c.foreign("a", "x", 18)
			c.sleep(5 * time.Second)
			for i := range 10 {
				c.remove(dn(fmt.Sprintf("a/x%d", i)))
			}
			c.sleep(time.Minute)
			c.near(0)
		}},
		"subnets of a VRF, in whatever L3Out they are": {controller.Capacity{SubnetsPerVRF: 10}, func(c crowd) {
			c.used("subnets-per-vrf", "T/v", 2)
			for i := range 6 {
				c.set(fmt.Sprintf("b/theirs/10.9.0.%d", i), `"scope":"import-security"`)
			}
			c.sleep(time.Minute)
			c.used("subnets-per-vrf", "T/v", 8)
			c.used("subnets-per-vrf", "T/w", 1)
			c.near(1, "a/web", "b/db")
			// It stops no write.
			c.pods("web", addrs(40)...)
			c.sleep(time.Minute)
			c.used("subnets-per-vrf", "T/v", 48)
			c.near(0, "a/web", "b/db")
		}},
		"external EPGs of the fabric, wherever they are": {controller.Capacity{EPGsPerFabric: 20}, func(c crowd) {
			c.used("epgs-per-fabric", "fabric", 3)
			c.hand("uni", `{"fvTenant":{"attributes":{"name":"U"},"children":[{"l3extOut":{"attributes":{"name":"o"}}}]}}`)
			for i := range 12 {
				c.hand("uni/tn-U/out-o", fmt.Sprintf(`{"l3extInstP":{"attributes":{"name":"x%d"}}}`, i))
			}
			c.foreign("a", "x", 1) // what is watched is known at once, too
			c.sleep(time.Minute)
			c.used("epgs-per-fabric", "fabric", 4)
			c.near(0)
			c.sleep(12 * time.Minute)
			c.used("epgs-per-fabric", "fabric", 16)
			c.near(1, "a/web", "b/db", "c/app")
			c.remove("uni/tn-U")
			c.sleep(12 * time.Minute)
			c.used("epgs-per-fabric", "fabric", 4)
			c.near(0)
		}},
		"how many there are is not known while it cannot be counted": {controller.Capacity{EPGsPerFabric: 20}, func(c crowd) {
			c.foreign("b", "x", 14)
			c.sleep(12 * time.Minute)
			c.used("epgs-per-fabric", "fabric", 17)
			c.near(1, "a/web", "b/db", "c/app")
			for _, f := range []apicsim.Fault{{Status: 503}, {Empty: true}, {Status: 400, Code: "1", Text: "no"}} {
				f.Match, f.Times = "GET .*/l3extInstP.json", -1
				c.fault(f)
				c.sleep(12 * time.Minute)
				c.used("epgs-per-fabric", "fabric", -1)
				c.near(0, "a/web", "b/db", "c/app")
				c.sim.ClearFaults()
				c.sleep(12 * time.Minute)
				c.used("epgs-per-fabric", "fabric", 17)
				c.near(0, "a/web", "b/db", "c/app")
			}
			if n := strings.Count(c.logged(), "cannot count"); n == 0 || n > 40 {
				c.t.Errorf("said %d times", n)
			}
		}},
		"a gap does not make it unknown": {controller.Capacity{EPGsPerL3Out: 5, SubnetsPerVRF: 100}, func(c crowd) {
			c.foreign("a", "x", 3)
			c.sleep(time.Minute)
			c.near(1, "a/web")
			c.fault(failing("out-a"))
			c.sim.CloseSockets()
			c.sleep(time.Minute)
			c.used("epgs-per-l3out", "T/a", 4)
			c.used("subnets-per-vrf", "T/v", 2)
			c.sim.ClearFaults()
			c.sleep(2 * time.Minute)
			c.near(0, "a/web")
		}},
		"nobody needs the L3Out any more": {controller.Capacity{EPGsPerL3Out: 5}, func(c crowd) {
			c.foreign("c", "x", 4)
			c.sleep(time.Minute)
			c.near(1, "c/app")
			c.undeploy("app", "10.0.0.3")
			c.sleep(time.Minute)
			c.used("epgs-per-l3out", "T/c", -1)
			c.near(0)
		}},
		"no limit": {controller.Capacity{}, func(c crowd) {
			c.foreign("a", "x", 600)
			c.sleep(time.Hour)
			c.used("epgs-per-l3out", "T/a", -1)
			c.used("epgs-per-fabric", "fabric", -1)
			c.used("subnets-per-vrf", "T/v", -1)
			if n := c.reads("l3extInstP.json"); n != 0 {
				c.t.Errorf("counted %d times", n)
			}
			c.near(0)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			crowded(t, tt.limits, func(c crowd) {
				c.deploy("web", "a/web", "10.0.0.1")
				c.deploy("db", "b/db", "10.0.0.2")
				c.deploy("app", "c/app", "10.0.0.3")
				c.sleep(time.Minute)
				tt.f(c)
			})
		})
	}
}

// What is counted costs one request for each resync, and its answer one object, however many there are.
func TestCountingTheFabricCostsOneRequest(t *testing.T) {
	crowded(t, controller.DefaultCapacity(), func(c crowd) {
		c.deploy("web", "a/web", "10.0.0.1")
		c.foreign("a", "x", 30)
		c.sleep(time.Minute)
		c.forget()
		c.sleep(55 * time.Minute)
		if n := c.reads("l3extInstP.json?rsp-subtree-include=count"); n < 4 || n > 6 {
			t.Errorf("counted %d times in 55 minutes", n)
		}
	})
}
