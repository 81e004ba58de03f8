package bridge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// channelStats counts what happened on one channel since the process started.
type channelStats struct {
	channel   string
	received  atomic.Uint64
	published atomic.Uint64
	dropped   atomic.Int64

	mu   sync.Mutex // guards gaps
	gaps map[Reason]uint64
}

func (s *channelStats) gap(r Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gaps[r]++
}

// observer takes the time from an event's receipt to its publication.
type observer struct{ prometheus.Observer }

func (o observer) observe(d time.Duration) { o.Observe(d.Seconds()) }

// metrics keeps what outlives a change of channels.
type metrics struct {
	latency *prometheus.HistogramVec

	mu       sync.Mutex // guards channels
	channels map[string]*channelStats
}

func newMetrics() *metrics {
	return &metrics{
		channels: map[string]*channelStats{},
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_publish_latency_seconds",
			Help:    "Time from the receipt of a notification to the server's word that it was published.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 100 µs to 3.3 s
		}, []string{"delivery"}),
	}
}

func (m *metrics) observer(d Delivery) observer {
	return observer{m.latency.WithLabelValues(string(d))}
}

// of returns the channel's counters, which go on where they were after the
// channel was removed and added again.
func (m *metrics) of(channel string) *channelStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.channels[channel]
	if s == nil {
		s = &channelStats{channel: channel, gaps: map[Reason]uint64{}}
		m.channels[channel] = s
	}
	return s
}

func (m *metrics) all() []*channelStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*channelStats, 0, len(m.channels))
	for _, s := range m.channels {
		all = append(all, s)
	}
	return all
}

var (
	receivedDesc   = desc("events_received_total", "Notifications received from PostgreSQL.", "channel")
	publishedDesc  = desc("events_published_total", "Events that NATS has, by its own word.", "channel")
	droppedDesc    = desc("events_dropped_total", "Notifications received but not published; each is covered by a gap.", "channel")
	gapsDesc       = desc("gaps_total", "Gaps announced.", "channel", "reason")
	connectsDesc   = desc("listener_connects_total", "Connections the listener has made to PostgreSQL; the first is the start.")
	queueDesc      = desc("queue_bytes", "Bytes waiting for NATS.", "delivery")
	usageDesc      = desc("notification_queue_usage", "PostgreSQL's pg_notification_queue_usage(), 0 to 1; at 1 every NOTIFY fails.")
	canaryDesc     = desc("canary_lag_seconds", "How long the oldest marker that has not come back is away; 0 when all are back.")
	publishingDesc = desc("publishing", "1 while this replica publishes, 0 while another does or nobody can.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pgbridge_"+name, help, labels, nil)
}

// requests tells the service's metrics from those of another service in the
// same process.
func (b *Bridge) requests() prometheus.Collector {
	return prometheus.WrapCollectorWith(prometheus.Labels{"part": "bridge"}, b.service)
}

// Describe implements prometheus.Collector.
func (b *Bridge) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{receivedDesc, publishedDesc, droppedDesc, gapsDesc, connectsDesc, queueDesc, usageDesc, canaryDesc, publishingDesc} {
		ch <- d
	}
	b.metrics.latency.Describe(ch)
	b.requests().Describe(ch)
}

// Collect implements prometheus.Collector.
func (b *Bridge) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range b.metrics.all() {
		counter(receivedDesc, float64(s.received.Load()), s.channel)
		counter(publishedDesc, float64(s.published.Load()), s.channel)
		counter(droppedDesc, float64(s.dropped.Load()), s.channel)
		s.mu.Lock()
		for r, n := range s.gaps {
			counter(gapsDesc, float64(n), s.channel, string(r))
		}
		s.mu.Unlock()
	}
	counter(connectsDesc, float64(b.listener.connects.Load()))
	gauge(queueDesc, float64(b.seq.core.bytes.Load()), string(DeliveryCore))
	gauge(queueDesc, float64(b.seq.stream.bytes.Load()), string(DeliveryJetStream))
	if usage, known := b.control.queueUsage(); known {
		gauge(usageDesc, usage)
	}
	gauge(canaryDesc, b.seq.outstanding().Seconds())
	publishing := 0.0
	if b.lease.valid() {
		publishing = 1
	}
	gauge(publishingDesc, publishing)
	b.metrics.latency.Collect(ch)
	b.requests().Collect(ch)
}
