package service

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/api"
)

// codeOK counts requests without an error; no client sees it.
const codeOK Code = "ok"

// Reasons why a request is not served at all.
const (
	dropNATS         = "nats"          // NATS has made it, on whosever behalf
	dropNoReply      = "no_reply"      // nobody waits for the answer
	dropReplySubject = "reply_subject" // the reply subject is not allowed
	dropFlood        = "flood"         // refused, but faster than refusals can be sent
	dropSlowConsumer = "slow_consumer" // they came faster than they could be looked at
)

// metrics are the counts of a service for Prometheus.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	dropped  *prometheus.CounterVec
	drops    map[string]prometheus.Counter // the same by reason, for floods
	waited   *prometheus.HistogramVec
}

var (
	waitingDesc = prometheus.NewDesc("pgbridge_requests_waiting", "Requests that wait to be served.", []string{"endpoint"}, nil)
	servingDesc = prometheus.NewDesc("pgbridge_requests_serving", "Requests being served.", []string{"endpoint"}, nil)
)

func newMetrics() *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_requests_total",
			Help: "Requests answered, by endpoint and error code; ok is no error.",
		}, []string{"endpoint", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_request_duration_seconds",
			Help:    "Time from receipt of a request to its answer, waiting included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"endpoint"}),
		waited: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_request_wait_seconds",
			Help:    "Time from receipt of a request until it is served.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10), // 100 µs to 26 s
		}, []string{"endpoint"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_requests_dropped_total",
			Help: "Requests not served and not answered, by reason.",
		}, []string{"reason"}),
		drops: make(map[string]prometheus.Counter),
	}
	for _, reason := range []string{dropNATS, dropNoReply, dropReplySubject, dropFlood, dropSlowConsumer} {
		m.drops[reason] = m.dropped.WithLabelValues(reason)
	}
	return m
}

// announce shows an endpoint's counters before they count: the first failure would
// go unnoticed by a query for an increase.
func (m *metrics) announce(endpoint string) {
	m.requests.WithLabelValues(endpoint, string(codeOK))
	for _, code := range api.Codes() {
		m.requests.WithLabelValues(endpoint, string(code))
	}
}

func (m *metrics) served(endpoint string, code Code, took time.Duration) {
	m.requests.WithLabelValues(endpoint, string(code)).Inc()
	m.duration.WithLabelValues(endpoint).Observe(took.Seconds())
}

func (m *metrics) drop(reason string) { m.drops[reason].Inc() }

// lose counts messages that came too fast.
func (m *metrics) lose(n int) { m.drops[dropSlowConsumer].Add(float64(n)) }

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
