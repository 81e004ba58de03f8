package txrunner

import "github.com/prometheus/client_golang/prometheus"

// metrics are the counts that nothing else keeps.
type metrics struct {
	retries prometheus.Counter
	replays prometheus.Counter
	expired prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pgbridge_" + name, Help: help})
	}
	return &metrics{
		retries: counter("run_retries_total", "Runs repeated after a serialization failure or a deadlock."),
		replays: counter("run_replays_total", "Requests answered with the stored reply of an earlier one."),
		expired: counter("transactions_expired_total", "Pinned transactions rolled back because their lease was over."),
	}
}

func (m *metrics) counters() []prometheus.Counter {
	return []prometheus.Counter{m.retries, m.replays, m.expired}
}

// gauges are read when they are collected.
type gauges struct {
	transactions, scripts, scriptFaults, connections *prometheus.Desc
}

func newGauges() gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pgbridge_"+name, help, labels, nil)
	}
	return gauges{
		transactions: desc("transactions", "Pinned transactions that are open."),
		scripts:      desc("scripts", "Scripts that can be requested."),
		scriptFaults: desc("script_faults", "Faults that the last look at the scripts folder found."),
		connections:  desc("connections", "PostgreSQL connections by purpose and whether they are in use.", "purpose", "state"),
	}
}

// requests tells the service's metrics from those of another service in the
// same process.
func (r *Runner) requests() prometheus.Collector {
	return prometheus.WrapCollectorWith(prometheus.Labels{"part": "txrunner"}, r.service)
}

// Describe implements prometheus.Collector.
func (r *Runner) Describe(descs chan<- *prometheus.Desc) {
	r.requests().Describe(descs)
	r.jobs.describe(descs)
	for _, c := range r.metrics.counters() {
		c.Describe(descs)
	}
	for _, d := range []*prometheus.Desc{r.gauges.transactions, r.gauges.scripts, r.gauges.scriptFaults, r.gauges.connections} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (r *Runner) Collect(values chan<- prometheus.Metric) {
	r.requests().Collect(values)
	r.jobs.collect(values)
	for _, c := range r.metrics.counters() {
		c.Collect(values)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		values <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	gauge(r.gauges.transactions, r.pins.count())
	gauge(r.gauges.scripts, len(r.scripts.names()))
	gauge(r.gauges.scriptFaults, len(r.scripts.known()))
	for _, c := range r.pools() {
		stat := c.pool.Stat()
		gauge(r.gauges.connections, int(stat.AcquiredConns()), c.name, "used")
		gauge(r.gauges.connections, int(stat.IdleConns()), c.name, "idle")
	}
}
