package jobs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What one delivery of a job came to.
const (
	outcomeDone    = "done"    // it has its result
	outcomeFailed  = "failed"  // it has its error
	outcomeRetried = "retried" // an attempt failed, and there are more
	outcomeWaiting = "waiting" // it could not be tried, or its end not be told
)

type metrics struct {
	jobs    *prometheus.CounterVec
	running prometheus.Gauge
	tried   prometheus.Counter
	took    prometheus.Histogram
}

var (
	waitingDesc        = prometheus.NewDesc("pgbridge_jobs_waiting", "Jobs that no replica has taken yet, as of the last look, every 10 s; the same on all replicas.", nil, nil)
	unacknowledgedDesc = prometheus.NewDesc("pgbridge_jobs_unacknowledged", "Jobs under way or waiting for another attempt, as of the last look; the same on all replicas.", nil, nil)
	oldestDesc         = prometheus.NewDesc("pgbridge_jobs_oldest_seconds", "How long the oldest job of the stream has been in it, 0 when there is none.", nil, nil)
)

// backlog is what the last look at the stream found.
type backlog struct {
	waiting        uint64
	unacknowledged int
	oldest         time.Time // zero: there is no job
}

// age returns how old the oldest job is, by the clock of this machine.
func (b *backlog) age() time.Duration {
	if b.oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(b.oldest))
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.jobs, m.running, m.tried, m.took}
}

func newMetrics() *metrics {
	m := &metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_jobs_total", Help: "Deliveries of jobs by what they came to.",
		}, []string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pgbridge_jobs_running", Help: "Jobs under way in this process.",
		}),
		tried: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pgbridge_job_attempts_total", Help: "Attempts at jobs, the first ones included.",
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pgbridge_job_duration_seconds", Help: "Time that one attempt at a job took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 11), // 1 ms to 17 min
		}),
	}
	for _, outcome := range []string{outcomeDone, outcomeFailed, outcomeRetried, outcomeWaiting} {
		m.jobs.WithLabelValues(outcome)
	}
	return m
}
