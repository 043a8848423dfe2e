package controller_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/apicsim"
	"github.com/haystacknetworks/aci-sync/internal/controller"
)

// measured is the value of a metric whose labels hold value, or the count of a histogram; -1 when
// there is none.
func measured(t *testing.T, r prometheus.Gatherer, name, value string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || !strings.Contains(m.String(), value) {
				continue
			}
			switch {
			case m.GetHistogram() != nil:
				return float64(m.GetHistogram().GetSampleCount())
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			default:
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{metrics: r}, func(w *world) {
		want := func(name, value string, want float64) {
			t.Helper()
			if got := measured(t, r, name, value); got != want {
				t.Errorf("%s %s is %v at %s, want %v", name, value, got, clock(), want)
			}
		}
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2")
		w.deploy("late", "new/web")
		w.sleep(time.Second)
		want("acisync_convergence_seconds", "", 1)
		want("acisync_plan_changes_total", "create", 3)
		want("acisync_problems", "L3OutMissing", 1)
		want("acisync_observed_complete", "T/a", 1)
		want("acisync_last_full_read_timestamp_seconds", "T/a", float64(time.Now().Unix()-1))

		w.fault(apicsim.Fault{Match: "GET /socket", Times: -1, Status: 503})
		w.sim.CloseSockets()
		w.sleep(time.Second)
		want("acisync_observed_complete", "T/a", 0)
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		want("acisync_observed_complete", "T/a", 1)

		w.undeploy("late")
		w.undeploy("web", "10.0.0.1", "10.0.0.2")
		w.sleep(time.Minute)
		want("acisync_plan_changes_total", "delete", 1)
		want("acisync_problems", "L3OutMissing", 0)
		want("acisync_observed_complete", "T/a", -1)
		want("acisync_observed_complete", "T/new", -1)
	})
}

// told are the names of all metrics that have a value.
func told(t *testing.T, r prometheus.Gatherer) []string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
}

// A gauge is true or absent: before a controller runs, and after it ended, nothing is known of the fabric.
func TestGaugesAreToldByWhoeverLeads(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{metrics: r, stopped: true}, func(w *world) {
		want := func(name, value string, want float64) {
			t.Helper()
			if got := measured(t, r, name, value); got != want {
				t.Errorf("%s %s is %v at %s, want %v", name, value, got, clock(), want)
			}
		}
		w.fault(failing("out-a"))
		w.ours("a/old", "10.0.9.9")
		w.deploy("web", "a/web", "10.0.0.1")
		w.run()
		w.sleep(20 * time.Second)
		want("acisync_observed_complete", "T/a", 0)
		want("acisync_last_full_read_timestamp_seconds", "T/a", -1)
		want("acisync_oldest_pending_seconds", "", 20)
		want("acisync_problems", "", 0)
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		want("acisync_observed_complete", "T/a", 1)
		want("acisync_oldest_pending_seconds", "", 0)
		want("acisync_owned_subnets", "", 1)
		want("acisync_owned_epgs", "", 1)
		want("acisync_orphans_held", "", 0)

		// An address whose write the APIC does not confirm is pending; one that waits for a person is not.
		w.postFault(-1, apicsim.Fault{Status: 503})
		w.pods("web", "10.0.0.2")
		w.sleep(30 * time.Second)
		want("acisync_oldest_pending_seconds", "", 30)
		w.sim.ClearFaults()
		w.sleep(time.Minute)
		want("acisync_owned_subnets", "", 2)
		w.deploy("late", "new/web", "10.0.0.3")
		w.sleep(time.Minute)
		want("acisync_problems", "L3OutMissing", 1)
		want("acisync_oldest_pending_seconds", "", 0)

		// What the APIC refuses for what it says counts until it takes it.
		w.postFault(-1, apicsim.Fault{Status: 400, Code: "120", Text: "no"})
		w.pods("web", "10.0.0.4")
		w.sleep(time.Minute)
		want("acisync_writes_refused", "", 1)
		want("acisync_oldest_pending_seconds", "", 0)
		w.sim.ClearFaults()
		w.sleep(10 * time.Minute)
		want("acisync_writes_refused", "", 0)
		want("acisync_resync_interval_seconds", "", 600)

		everything := []string{
			"acisync_convergence_seconds", "acisync_drift_reverted_total", "acisync_last_full_read_timestamp_seconds",
			"acisync_observed_complete", "acisync_oldest_pending_seconds", "acisync_orphans_held", "acisync_owned_epgs",
			"acisync_owned_subnets", "acisync_plan_changes_total", "acisync_problems", "acisync_resync_interval_seconds",
			"acisync_writes_refused",
		}
		if d := gocmp.Diff(everything, told(t, r)); d != "" {
			t.Errorf("while it leads (-want +got)\n%s", d)
		}
		w.end()
		counted := []string{"acisync_convergence_seconds", "acisync_drift_reverted_total", "acisync_plan_changes_total"}
		if d := gocmp.Diff(counted, told(t, r)); d != "" {
			t.Errorf("after it led (-want +got)\n%s", d)
		}
	})
	// One that follows knows of the cluster, and nothing of the fabric.
	r = prometheus.NewRegistry()
	loop := controller.New(nil, nil, nil, controller.Options{Metrics: r, Logger: slog.New(slog.DiscardHandler)})
	loop.Synced()
	if got := told(t, r); len(got) != 3 {
		t.Errorf("a follower tells %q", got)
	}
}

// What people change on the APIC and what is put back, by what it was.
func TestMetricsOfDrift(t *testing.T) {
	r := prometheus.NewRegistry()
	bubble(t, options{metrics: r}, func(w *world) {
		reverted := func() string {
			var out []string
			for _, a := range []string{"existence", "mark", "name", "scope"} {
				out = append(out, fmt.Sprintf("%s:%v", a, measured(t, r, "acisync_drift_reverted_total", `"`+a+`"`)))
			}
			return strings.Join(out, " ")
		}
		check := func(want string) {
			t.Helper()
			w.sleep(time.Minute)
			if got := reverted(); got != want {
				t.Errorf("%s at %s, want %s", got, clock(), want)
			}
		}
		w.deploy("web", "a/web", "10.0.0.1", "10.0.0.2", "10.0.0.3")
		check("existence:0 mark:0 name:0 scope:0")
		w.remove(dn("a/web/10.0.0.1"))
		check("existence:1 mark:0 name:0 scope:0")
		w.set("a/web/10.0.0.2", `"name":"mine"`)
		check("existence:1 mark:0 name:1 scope:0")
		w.set("a/web/10.0.0.3", `"scope":"export-rtctrl","name":"mine"`)
		check("existence:1 mark:0 name:2 scope:1")
		w.untag("a/web/10.0.0.2", aci.OwnerKey)
		w.sleep(15 * time.Minute) // tags are not announced
		check("existence:1 mark:1 name:2 scope:1")
		w.remove(dn("a/web"))
		check("existence:5 mark:1 name:2 scope:1")
		w.unpod("10.0.0.3") // no drift
		w.set("a/web/10.0.0.1", `"descr":"mine"`)
		check("existence:5 mark:1 name:2 scope:1")
	})
}
