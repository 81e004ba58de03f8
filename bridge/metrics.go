package bridge

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/tally"
)

// metrics keeps what outlives a change of channels.
type metrics struct {
	latency *prometheus.HistogramVec

	shown *tally.Tally // channels that have a series

	mu       sync.Mutex // guards channels
	channels map[string]*event.Counters
}

func newMetrics() *metrics {
	return &metrics{
		channels: map[string]*event.Counters{},
		shown:    tally.New(shownChannels, len(countedOf(event.NewCounters(""), api.Reasons()).Values)),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "pgbridge_publish_latency_seconds",
			Help:    "Time from the receipt of an event to the server's word that it was published.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16), // 100 µs to 3.3 s
		}, []string{"delivery"}),
	}
}

func (m *metrics) observer(d Delivery) prometheus.Observer {
	return m.latency.WithLabelValues(string(d))
}

// of returns the channel's counters, which go on where they were after the
// channel was removed and added again.
func (m *metrics) of(channel string) *event.Counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.channels[channel]
	if s == nil {
		s = event.NewCounters(channel)
		m.channels[channel] = s
	}
	return s
}

// total adds up what happened on all channels there ever were.
func (m *metrics) total() (n Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.channels {
		n.add(s)
	}
	return n
}

// shownChannels is how many channels have series of their own.
const shownChannels = 500

// counted returns what has been counted of each channel.
func (m *metrics) counted() []tally.Counts {
	reasons := api.Reasons()
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]tally.Counts, 0, len(m.channels))
	for _, s := range m.channels {
		all = append(all, countedOf(s, reasons))
	}
	return all
}

// countedOf returns a channel's counts: received, published, dropped, rows of its
// catch-up script, gaps that it caught up with and that it did not, and the gaps of each
// reason.
func countedOf(s *event.Counters, reasons []api.Reason) tally.Counts {
	values := make([]uint64, 0, 6+len(reasons))
	values = append(values, s.Received.Load(), s.Published.Load(), uint64(max(0, s.Dropped.Load())),
		s.Rows.Load(), s.CaughtUp.Load(), s.NotCaught.Load())
	return tally.Counts{Name: s.Channel, Values: s.AppendGaps(values, reasons)}
}

// collect writes the series of the channels.
func (m *metrics) collect(counter func(d *prometheus.Desc, v float64, labels ...string)) {
	for _, c := range m.shown.Split(m.counted(), time.Now()) {
		counter(receivedDesc, float64(c.Values[0]), c.Name)
		counter(publishedDesc, float64(c.Values[1]), c.Name)
		counter(droppedDesc, float64(c.Values[2]), c.Name)
		counter(rowsDesc, float64(c.Values[3]), c.Name)
		counter(caughtUpDesc, float64(c.Values[4]), c.Name, "complete")
		counter(caughtUpDesc, float64(c.Values[5]), c.Name, "failed")
		for i, r := range api.Reasons() {
			counter(gapsDesc, float64(c.Values[6+i]), c.Name, string(r)) // 0 too, or an alert would miss the first
		}
	}
}

var (
	receivedDesc   = desc("events_received_total", "Notifications received from PostgreSQL.", "channel")
	publishedDesc  = desc("events_published_total", "Events that NATS has, by its own word.", "channel")
	droppedDesc    = desc("events_dropped_total", "Notifications received but not published; each is covered by a gap.", "channel")
	gapsDesc       = desc("gaps_total", "Gaps announced.", "channel", "reason")
	rowsDesc       = desc("catch_up_rows_total", "Events of them that are rows of the channel's catch-up script.", "channel")
	caughtUpDesc   = desc("catch_ups_total", "Gaps for which the channel's catch-up script returned all its rows, or failed.", "channel", "outcome")
	connectsDesc   = desc("listener_connects_total", "Connections the listener has made to PostgreSQL; the first is the start.")
	channelsDesc   = desc("channels", "Channels that are configured, durable ones included.")
	limitDesc      = desc("queue_limit_bytes", "Bytes that may wait for NATS; a full queue ends in gaps.", "delivery")
	queueDesc      = desc("queue_bytes", "Bytes waiting for NATS.", "delivery")
	usageDesc      = desc("notification_queue_usage", "PostgreSQL's pg_notification_queue_usage(), 0 to 1; at 1 every NOTIFY fails.")
	canaryDesc     = desc("canary_lag_seconds", "How long the oldest marker that has not come back is away; 0 when all are back.")
	lagDesc        = desc("durable_lag_bytes", "Bytes of the write-ahead log that durable channels still keep, while this replica reads them.")
	lagTimeDesc    = desc("durable_lag_seconds", "How long the oldest of those bytes have been there, as far as this replica has seen.")
	publishingDesc = desc("publishing", "1 while this replica publishes, 0 while another does or nobody can.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("pgbridge_"+name, help, labels, nil)
}
