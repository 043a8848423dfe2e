package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/aci"
	"github.com/haystacknetworks/aci-sync/internal/desired"
	"github.com/haystacknetworks/aci-sync/internal/plan"
)

// metrics are what Prometheus sees of what the loop did. How things stand is told by gauges.
type metrics struct {
	convergence prometheus.Histogram
	changes     *prometheus.CounterVec
	reverted    *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		convergence: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "acisync_convergence_seconds",
			Help:    "From the event that a batch of changes begins with, of Kubernetes or the APIC, to the APIC's word that all of it is done.",
			Buckets: []float64{.05, .075, .1, .15, .2, .3, .5, 1, 2, 5, 10, 30, 60},
		}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acisync_plan_changes_total", Help: "Objects written, by action: create, update, delete.",
		}, []string{"action"}),
		reverted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acisync_drift_reverted_total",
			Help: "What somebody changed or deleted on the APIC and was put back, by attribute: existence, mark, name, scope.",
		}, []string{"attribute"}),
	}
	for _, a := range []plan.Action{plan.Create, plan.Update, plan.Delete} {
		m.changes.WithLabelValues(actionLabel(a))
	}
	for _, a := range []string{"existence", "mark", "name", "scope"} {
		m.reverted.WithLabelValues(a)
	}
	if r != nil {
		r.MustRegister(m.convergence, m.changes, m.reverted)
	}
	return m
}

func actionLabel(a plan.Action) string {
	return map[plan.Action]string{plan.Create: "create", plan.Update: "update", plan.Delete: "delete"}[a]
}

func (m *metrics) converged(d time.Duration) { m.convergence.Observe(d.Seconds()) }

// change counts an object that was written.
func (m *metrics) change(ch plan.Change) {
	m.changes.WithLabelValues(actionLabel(ch.Action)).Inc()
	if !putBack(ch) {
		return
	}
	if ch.Action == plan.Create {
		m.reverted.WithLabelValues("existence").Inc()
		return
	}
	if ch.Mark {
		m.reverted.WithLabelValues("mark").Inc()
	}
	for _, a := range []string{"name", "scope"} {
		if _, ok := ch.Attrs[a]; ok {
			m.reverted.WithLabelValues(a).Inc()
		}
	}
}

// gauges tell how things stand, at the moment when they are asked. Only who leads knows: while the
// controller does not run there are none, so that no follower tells what was, or what it does not know.
type gauges struct {
	of *Controller

	problems, complete, lastRead, ownedSubnets, ownedEPGs, orphans, refused, pending, resync, used, limit *prometheus.Desc
}

func newGauges(c *Controller) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		of:       c,
		problems: desc("acisync_problems", "Workloads with a problem that a person must see to, by reason.", "reason"),
		complete: desc("acisync_observed_complete",
			"1 when the L3Out was read whole and no event was lost since. What the user may not read and no workload needs is left out.", "l3out"),
		lastRead:     desc("acisync_last_full_read_timestamp_seconds", "When the L3Out was last read whole; absent before, and while the user may not read it.", "l3out"),
		ownedSubnets: desc("acisync_owned_subnets", "Subnets that bear the mark of this cluster."),
		ownedEPGs:    desc("acisync_owned_epgs", "External EPGs that bear the mark of this cluster."),
		orphans:      desc("acisync_orphans_held", "Deletions that wait for a person, because nothing explains them and they are many."),
		refused: desc("acisync_writes_refused",
			"Objects that the APIC refuses to create, change or delete because of what is asked; each is tried again, ever more rarely."),
		resync: desc("acisync_resync_interval_seconds", "How often each L3Out is read again, as --resync-interval says."),
		pending: desc("acisync_oldest_pending_seconds",
			"How long the oldest change waits to be on the APIC; 0 when none does. What waits for a person is not counted: see acisync_problems."),
		used: desc("acisync_capacity_used",
			"How much there is of what is limited, whoever made it, as far as the user may read it; absent while that is not known.", "kind", "scope"),
		limit: desc("acisync_capacity_limit", "How much of it there may be, as --capacity says.", "kind", "scope"),
	}
}

// Describe sends what there can be.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		g.problems, g.complete, g.lastRead, g.ownedSubnets, g.ownedEPGs, g.orphans, g.refused, g.resync, g.pending, g.used, g.limit,
	} {
		ch <- d
	}
}

// Collect sends what there is.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for _, m := range g.read() { // first, for who takes them can be slow
		ch <- m
	}
}

func (g *gauges) read() []prometheus.Metric {
	c := g.of
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leadsSince.IsZero() {
		return nil
	}
	var out []prometheus.Metric
	tell := func(d *prometheus.Desc, v float64, labels ...string) {
		out = append(out, prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...))
	}
	for reason, n := range c.countProblems() {
		tell(g.problems, float64(n), reason)
	}
	for l, w := range c.watches {
		if !w.lastRead.IsZero() && !w.denied {
			tell(g.lastRead, float64(w.lastRead.Unix()), l.String())
		}
		if c.overlooked(l) {
			continue
		}
		v := 0.0
		if c.have.Complete(l) {
			v = 1
		}
		tell(g.complete, v, l.String())
	}
	subnets, epgs := c.have.Owned()
	tell(g.ownedSubnets, float64(subnets))
	tell(g.ownedEPGs, float64(epgs))
	held := 0
	for _, waiting := range c.held {
		held += len(waiting)
	}
	tell(g.orphans, float64(held))
	tell(g.refused, float64(len(c.refused)))
	tell(g.resync, c.opts.ResyncInterval.Seconds())
	tell(g.pending, c.oldestPending(time.Now()).Seconds())
	for r, n := range c.usage() {
		tell(g.used, float64(n), r.kind, r.scope)
		tell(g.limit, float64(*c.opts.Capacity.of(r.kind)), r.kind, r.scope)
	}
	return out
}

// countProblems counts workloads by what ails them, also what ails none.
func (c *Controller) countProblems() map[string]int {
	by := map[string]int{}
	for _, reason := range []string{
		desired.ReasonHostNetwork, desired.ReasonInvalidAnnotation, desired.ReasonNotExposed, desired.ReasonPaused,
		plan.ReasonAPICTooOld, plan.ReasonConflict, plan.ReasonEPGGone, plan.ReasonForeignOwner, plan.ReasonL3OutMissing,
		plan.ReasonMoveWaits, plan.ReasonNotAllowed, plan.ReasonNotClassify,
		ReasonDriftFight, ReasonFaultRaised, ReasonNotReadable, ReasonRefused,
	} {
		by[reason] = 0
	}
	for s := range c.shown {
		by[s.reason]++
	}
	return by
}

// oldestPending is the age of the oldest change that is not on the APIC yet, though nothing but the APIC and
// aci-sync stand in its way; before all was read that of the start.
func (c *Controller) oldestPending(now time.Time) time.Duration {
	if !c.running {
		return now.Sub(c.leadsSince)
	}
	var oldest time.Time
	for key, d := range c.domains {
		if !d.since.IsZero() && !c.deniedIn(key) {
			oldest = earlier(oldest, d.since)
		}
	}
	for b := range c.batches {
		oldest = earlier(oldest, b.since)
	}
	if oldest.IsZero() {
		return 0
	}
	return now.Sub(oldest)
}

// deniedIn reports whether a domain waits for the right to read an L3Out, which its workloads have as a problem.
func (c *Controller) deniedIn(key aci.DN) bool {
	for l, w := range c.watches {
		if w.denied && c.have.Domain(l) == key && c.shut(l) {
			return true
		}
	}
	return false
}
