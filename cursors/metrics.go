package cursors

import "github.com/prometheus/client_golang/prometheus"

// metrics count the cursors of all transactions.
type metrics struct {
	open   prometheus.Gauge
	opened prometheus.Counter
	rows   prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pgbridge_" + name, Help: help})
	}
	return &metrics{
		open:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgbridge_cursors", Help: "Cursors that are open."}),
		opened: counter("cursors_opened_total", "Cursors opened."),
		rows:   counter("cursor_rows_total", "Rows of cursors put into pages and streams."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.open, m.opened, m.rows}
}

// paged counts the rows of a page, or of a stream's chunk.
func (m *metrics) paged(rows int) { m.rows.Add(float64(rows)) }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, one := range m.all() {
		one.Describe(descs)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(values chan<- prometheus.Metric) {
	for _, one := range m.all() {
		one.Collect(values)
	}
}
