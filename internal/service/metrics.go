package service

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"
)

// codeOK counts requests without an error; no client sees it.
const codeOK Code = "ok"

// Reasons why a request is not served at all.
const (
	dropReplySubject = "reply_subject" // the reply subject is not allowed
	dropSlowConsumer = "slow_consumer" // they came faster than they could be refused
)

// metrics are the counts of a service for Prometheus.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	dropped  *prometheus.CounterVec
	hostile  atomic.Int64 // dropped for their reply subject
}

func newMetrics() *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_requests_total",
			Help: "Requests answered, by endpoint and error code; ok is no error.",
		}, []string{"endpoint", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_request_duration_seconds",
			Help:    "Time from receipt of a request to its answer, waiting included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"endpoint"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_requests_dropped_total",
			Help: "Requests not served and not answered, by reason.",
		}, []string{"reason"}),
	}
}

func (m *metrics) served(endpoint string, code Code, took time.Duration) {
	m.requests.WithLabelValues(endpoint, string(code)).Inc()
	m.duration.WithLabelValues(endpoint).Observe(took.Seconds())
}

func (m *metrics) drop(reason string) {
	if reason == dropReplySubject {
		m.hostile.Add(1)
	}
	m.dropped.WithLabelValues(reason).Inc()
}

// lose counts messages that came too fast.
func (m *metrics) lose(n int) { m.dropped.WithLabelValues(dropSlowConsumer).Add(float64(n)) }

// Describe implements prometheus.Collector.
func (s *Service) Describe(descs chan<- *prometheus.Desc) {
	s.metrics.requests.Describe(descs)
	s.metrics.duration.Describe(descs)
	s.metrics.dropped.Describe(descs)
}

// Collect implements prometheus.Collector.
func (s *Service) Collect(values chan<- prometheus.Metric) {
	s.metrics.requests.Collect(values)
	s.metrics.duration.Collect(values)
	s.metrics.dropped.Collect(values)
}

// stats are one endpoint's counts for $SRV.STATS.
type stats struct {
	mu        sync.Mutex // guards all below
	requests  int
	errors    int
	lastError string
	time      time.Duration
}

func (s *stats) add(code Code, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.time += took
	if code != codeOK {
		s.errors++
		s.lastError = fmt.Sprintf("%d:%s", code.Number(), code) // no message: it may quote parameters
	}
}

func (s *stats) snapshot() *micro.EndpointStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &micro.EndpointStats{
		NumRequests:           s.requests,
		NumErrors:             s.errors,
		LastError:             s.lastError,
		ProcessingTime:        s.time,
		AverageProcessingTime: s.time / time.Duration(max(s.requests, 1)),
	}
}
