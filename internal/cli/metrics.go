package cli

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/haystacknetworks/aci-sync/internal/apic"
)

// metrics are what Prometheus sees of the process, and of its way to the APIC.
type metrics struct {
	requests  *prometheus.CounterVec
	took      *prometheus.HistogramVec
	throttled prometheus.Counter
	waited    prometheus.Counter
	logins    *prometheus.CounterVec
	failovers prometheus.Counter
}

// newMetrics makes what every replica tells.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acisync_apic_requests_total", Help: "Requests to the APIC, by operation and HTTP status; 0 is no answer.",
		}, []string{"op", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "acisync_apic_request_duration_seconds", Help: "How long the APIC took to answer, by operation.",
		}, []string{"op"}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acisync_apic_throttled_total", Help: "Requests that the APIC had no time for: HTTP status 429 or 503.",
		}),
		waited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acisync_apic_wait_seconds_total", Help: "How long requests waited in aci-sync, so that they are no more than --apic-rate.",
		}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "acisync_apic_login_failures_total",
			Help: "Logins at the APIC, or sessions of a user certificate, that failed: the credentials were refused, or no usable answer came.",
		}, []string{"reason"}),
		failovers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "acisync_apic_failovers_total", Help: "Sessions that began at another member of the APIC cluster than the one before.",
		}),
	}
	m.login(true, 0)
	m.login(false, 0)
	version, commit := build()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "acisync_build_info", Help: "1, with what this aci-sync was built from as labels.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "goversion": runtime.Version()},
	})
	info.Set(1)
	r.MustRegister(m.requests, m.took, m.throttled, m.waited, m.logins, m.failovers, info)
	return m
}

// count makes a client tell what it does.
func (m *metrics) count(o *apic.Options) {
	o.OnRequest = m.request
	o.OnWait = func(dur time.Duration) { m.waited.Add(dur.Seconds()) }
	o.OnLoginFailure = func(refused bool) { m.login(refused, 1) }
	o.OnFailover = m.failovers.Inc
}

func (m *metrics) request(op string, code int, dur time.Duration) {
	m.requests.WithLabelValues(op, strconv.Itoa(code)).Inc()
	m.took.WithLabelValues(op).Observe(dur.Seconds())
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		m.throttled.Inc()
	}
}

func (m *metrics) login(refused bool, n float64) {
	reason := "unavailable"
	if refused {
		reason = "refused"
	}
	m.logins.WithLabelValues(reason).Add(n)
}

// tell adds whether this replica leads, and what only the one that does can tell.
func (m *metrics) tell(r prometheus.Registerer, status func() apic.Status, leads func() bool) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "acisync_leader", Help: "1 on the replica that works: it holds the lease, or needs none.",
		}, func() float64 { return one(leads()) }),
		// An alert needs it beside the counter, because refused logins are rare by design.
		&leading{leads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "acisync_apic_credentials_refused",
			Help: "1 while the APIC refuses the password or certificate, as far as was tried. Told by the leader only.",
		}, func() float64 { return one(status().Refused) })},
		&leading{leads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "acisync_subscription_up",
			Help: "1 while the APIC's events can arrive: there is a session with a WebSocket. Told by the leader only.",
		}, func() float64 { s := status(); return one(s.LoggedIn && s.SocketUp) })},
	)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// leading is a gauge that is there only while this replica leads.
type leading struct {
	leads func() bool
	prometheus.GaugeFunc
}

// Collect sends the gauge, or nothing.
func (l *leading) Collect(ch chan<- prometheus.Metric) {
	if l.leads() {
		l.GaugeFunc.Collect(ch)
	}
}
