package copier

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/service"
)

// metrics are the counts of copies.
type metrics struct {
	copies *prometheus.CounterVec
	rows   *prometheus.CounterVec
	bytes  *prometheus.CounterVec
	took   *prometheus.HistogramVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		copies: counter("pgbridge_copies_total", "Copies that have ended, by direction and error code; ok is no error.", "direction", "code"),
		rows:   counter("pgbridge_copy_rows_total", "Rows of copies that succeeded, by direction; of data for PostgreSQL, lines.", "direction"),
		bytes:  counter("pgbridge_copy_bytes_total", "Bytes of copies that succeeded, by direction.", "direction"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_copy_duration_seconds",
			Help:    "Time from receipt of a request for a copy to its end.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 10),
		}, []string{"direction"}),
	}
}

func (m *metrics) done(in bool, rows, bytes int64, took time.Duration, err error) {
	direction, code := "out", "ok"
	if in {
		direction = "in"
	}
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
	return []prometheus.Collector{m.copies, m.rows, m.bytes, m.took}
}

// Describe implements prometheus.Collector.
func (c *Copier) Describe(descs chan<- *prometheus.Desc) {
	for _, one := range c.metrics.all() {
		one.Describe(descs)
	}
}

// Collect implements prometheus.Collector.
func (c *Copier) Collect(values chan<- prometheus.Metric) {
	for _, one := range c.metrics.all() {
		one.Collect(values)
	}
}
