package controller_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/apicsim"
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
