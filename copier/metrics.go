package copier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
)

// metrics are the counts of copies.
type metrics struct {
	copies *prometheus.CounterVec
	rows   *prometheus.CounterVec
	bytes  *prometheus.CounterVec
	took   *prometheus.HistogramVec
	active *prometheus.GaugeVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		copies: counter("pgbridge_copies_total", "Copies that have ended, by direction and error code; ok is no error.", "direction", "code"),
		rows:   counter("pgbridge_copy_rows_total", "Rows of copies that succeeded, by direction; of data for PostgreSQL, lines.", "direction"),
		bytes:  counter("pgbridge_copy_bytes_total", "Bytes of copies that succeeded, by direction.", "direction"),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pgbridge_copies_running", Help: "Copies whose COPY is being executed, by direction.",
		}, []string{"direction"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_copy_duration_seconds",
			Help:    "Time from receipt of a request for a copy to its end.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 10),
		}, []string{"direction"}),
	}
	for _, direction := range []string{directionOf(true), directionOf(false)} {
		m.copies.WithLabelValues(direction, "ok") // from the start, or an alert would miss the first
		for _, code := range api.Codes() {
			m.copies.WithLabelValues(direction, string(code))
		}
	}
	return m
}

func directionOf(in bool) string {
	if in {
		return "in"
	}
	return "out"
}

// runs counts a copy that is being executed, until the function that it returns is
// called.
func (m *metrics) runs(in bool) (ended func()) {
	g := m.active.WithLabelValues(directionOf(in))
	g.Inc()
	return g.Dec
}

func (m *metrics) done(in bool, rows, bytes int64, took time.Duration, err error) {
	direction, code := directionOf(in), "ok"
	if err != nil {
		code = string(service.AsError(err).Code)
	} else {
		m.rows.WithLabelValues(direction).Add(float64(rows))
		m.bytes.WithLabelValues(direction).Add(float64(bytes))
	}
	m.copies.WithLabelValues(direction, code).Inc()
	m.took.WithLabelValues(direction).Observe(took.Seconds())
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.copies, m.rows, m.bytes, m.took, m.active}
}
