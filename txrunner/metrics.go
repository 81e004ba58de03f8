package txrunner

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/session"
)

// metrics are the counts that nothing else keeps.
type metrics struct {
	retries prometheus.Counter
	replays prometheus.Counter
	expired prometheus.Counter
	begun   prometheus.Counter
	waits   *prometheus.HistogramVec // for a connection
	loads   *prometheus.CounterVec   // of the scripts
	scripts *scriptCounts
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "pgbridge_" + name, Help: help})
	}
	return &metrics{
		scripts: newScriptCounts(),
		begun:   counter("transactions_begun_total", "Pinned transactions begun, those of cursors and copies included."),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pgbridge_connection_wait_seconds", Help: "Time that work waited for a PostgreSQL connection, whether it got one or not.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 100 µs to 6.6 s
		}, []string{"purpose"}),
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_script_loads_total", Help: "Changes of the scripts folder taken over, by whether all its files were good.",
		}, []string{"outcome"}),
		retries: counter("run_retries_total", "Runs repeated after a serialization failure or a deadlock."),
		replays: counter("run_replays_total", "Requests answered with the stored reply of an earlier one."),
		expired: counter("transactions_expired_total", "Pinned transactions rolled back because their lease was over."),
	}
}

// collectors are those that know themselves what they collect.
func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.retries, m.replays, m.expired, m.begun, m.waits, m.loads}
}

// observe has a pool tell how long was waited for its connections.
func (m *metrics) observe(p *session.Pool) { p.Waits = m.waits.WithLabelValues(p.Name()) }

// loaded counts a change of the scripts.
func (m *metrics) loaded(faults int) {
	outcome := "good"
	if faults > 0 {
		outcome = "faulty"
	}
	m.loads.WithLabelValues(outcome).Inc()
}

// gauges are read when they are collected.
type gauges struct {
	transactions, oldest, scripts, scriptFaults, connections, most, waiting, memory, memoryLimit, runs, took *prometheus.Desc
}

func (g gauges) all() []*prometheus.Desc {
	return []*prometheus.Desc{g.transactions, g.oldest, g.scripts, g.scriptFaults, g.connections, g.most, g.waiting, g.memory, g.memoryLimit, g.runs, g.took}
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
		oldest:       desc("transaction_oldest_seconds", "Age of the oldest pinned transaction that is open; 0 when there is none."),
		most:         desc("connections_limit", "PostgreSQL connections that there may be, by purpose.", "purpose"),
		waiting:      desc("connections_waiting", "Requests and jobs that wait for a PostgreSQL connection, by purpose.", "purpose"),
		memory:       desc("request_memory_bytes", "Memory that requests, jobs and their answers hold."),
		memoryLimit:  desc("request_memory_limit_bytes", "Memory that they may hold; beyond it they are answered busy."),
		runs:         desc("runs_total", "Runs of scripts by outcome: ok or an error code. Jobs and runs in pinned transactions included.", "script", "code"),
		took:         desc("run_duration_seconds", "Time from receipt of a request to the end of its run, waiting included.", "script"),
	}
}
