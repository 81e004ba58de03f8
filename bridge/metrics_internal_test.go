package bridge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/tally"
)

// collected is a collector of nothing but channels.
type collected struct{ *metrics }

func (c collected) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{receivedDesc, publishedDesc, droppedDesc, gapsDesc, rowsDesc, caughtUpDesc} {
		descs <- d
	}
}

func (c collected) Collect(values chan<- prometheus.Metric) {
	c.collect(func(d *prometheus.Desc, v float64, labels ...string) {
		values <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	})
}

// manyChannels are 10,000 with names as long as there may be, of which each has had
// a gap of every kind.
func manyChannels() *metrics {
	m := newMetrics()
	for i := range 10_000 {
		c := m.of(fmt.Sprintf("%05d%s", i, strings.Repeat("x", 58)))
		c.Received.Add(uint64(i))
		c.Published.Add(uint64(i))
		for _, r := range api.Reasons() {
			c.Gap(&api.Gap{Reason: r})
		}
	}
	return m
}

// scrape returns the page of a collector's metrics.
func scrape(t testing.TB, c prometheus.Collector) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return page.Body.String()
}

// TestMetricsOfManyChannels holds that the page stays small, that the busiest
// channels are on it, and that no event is missing in the sum.
func TestMetricsOfManyChannels(t *testing.T) {
	t.Parallel()
	page := scrape(t, collected{manyChannels()})
	if len(page) > 2<<20 { // of the 5 MB that the whole page may have
		t.Errorf("%d bytes, want 2 MiB at most", len(page))
	}
	if !strings.Contains(page, `pgbridge_events_received_total{channel="09999`) || strings.Contains(page, `channel="00000`) {
		t.Error("the busiest channel has no series, or the quietest one has")
	}
	sum, rest := 0.0, false
	for line := range strings.Lines(page) {
		var n float64
		if _, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(line, "pgbridge_events_received_total") {
			fmt.Sscan(value, &n)
			rest = rest || strings.Contains(line, tally.Rest)
		}
		sum += n
	}
	if sum != 9_999*10_000/2 || !rest {
		t.Errorf("the series add up to %.0f, want %d; a common one is there: %t", sum, 9_999*10_000/2, rest)
	}
}

func BenchmarkMetricsOfManyChannels(b *testing.B) {
	m := collected{manyChannels()}
	b.ReportAllocs()
	for b.Loop() {
		scrape(b, m)
	}
}
