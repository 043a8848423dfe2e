package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// metrics are what Prometheus sees of the loop.
type metrics struct {
	convergence prometheus.Histogram
	changes     *prometheus.CounterVec
	problems    *prometheus.GaugeVec
	completes   *prometheus.GaugeVec
	orphans     prometheus.Gauge
	lastReads   *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		convergence: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "acisync_convergence_seconds", Help: "From the first change of a batch to the APIC's word that it is done.",
			Buckets: []float64{.05, .075, .1, .15, .2, .3, .5, 1, 2, 5, 10, 30, 60},
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acisync_plan_changes_total", Help: "Objects written, by action.",
		}, []string{"action"}),
		problems: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "acisync_problems", Help: "Workloads with a problem that a person must see to, by reason.",
		}, []string{"reason"}),
		orphans: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "acisync_orphans_held", Help: "Deletions that wait for a person, because nothing explains them and they are many.",
		}),
		completes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "acisync_observed_complete", Help: "1 when the L3Out was read whole and no event was lost since.",
		}, []string{"l3out"}),
		lastReads: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "acisync_last_full_read_timestamp_seconds", Help: "When the L3Out was last read whole.",
		}, []string{"l3out"}),
	}
	if r != nil {
		r.MustRegister(m.orphans, m.convergence, m.changes, m.problems, m.completes, m.lastReads)
	}
	return m
}

func (m *metrics) converged(d time.Duration) { m.convergence.Observe(d.Seconds()) }

func (m *metrics) change(a plan.Action) {
	name := map[plan.Action]string{plan.Create: "create", plan.Update: "update", plan.Delete: "delete"}[a]
	m.changes.WithLabelValues(name).Inc()
}

func (m *metrics) problem(reason string, n float64) { m.problems.WithLabelValues(reason).Add(n) }

func (m *metrics) hold(n int) { m.orphans.Set(float64(n)) }

func (m *metrics) complete(l aci.L3Out, yes bool) {
	v := 0.0
	if yes {
		v = 1
	}
	m.completes.WithLabelValues(l.String()).Set(v)
}

func (m *metrics) lastRead(l aci.L3Out, at time.Time) {
	m.lastReads.WithLabelValues(l.String()).Set(float64(at.Unix()))
}

func (m *metrics) forget(l aci.L3Out) {
	m.completes.DeleteLabelValues(l.String())
	m.lastReads.DeleteLabelValues(l.String())
}
