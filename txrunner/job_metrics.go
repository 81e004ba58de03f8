package txrunner

import "github.com/prometheus/client_golang/prometheus"

// What one delivery of a job came to.
const (
	jobDone    = "done"    // it has its result
	jobFailed  = "failed"  // it has its error
	jobRetried = "retried" // an attempt failed, and there are more
	jobWaiting = "waiting" // it could not be tried, or its end not be told
)

type jobMetrics struct {
	jobs    *prometheus.CounterVec
	running prometheus.Gauge
}

func newJobMetrics() *jobMetrics {
	return &jobMetrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_jobs_total", Help: "Deliveries of jobs by what they came to.",
		}, []string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pgbridge_jobs_running", Help: "Jobs under way in this process.",
		}),
	}
}

// describe and collect do what the interface prometheus.Collector wants.
func (j *jobs) describe(descs chan<- *prometheus.Desc) {
	if j != nil {
		j.metrics.jobs.Describe(descs)
		j.metrics.running.Describe(descs)
	}
}

func (j *jobs) collect(values chan<- prometheus.Metric) {
	if j != nil {
		j.metrics.jobs.Collect(values)
		j.metrics.running.Collect(values)
	}
}
