package txrunner

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/tally"
)

// ofScripts collects nothing but scripts.
type ofScripts struct {
	*scriptCounts
	gauges
}

func (s ofScripts) Describe(descs chan<- *prometheus.Desc) {
	descs <- s.runs
	descs <- s.took
}

func (s ofScripts) Collect(values chan<- prometheus.Metric) { s.collect(values, s.runs, s.took) }

func (s ofScripts) page(t testing.TB) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s)
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return page.Body.String()
}

// manyScripts are 10,000 with long names and every outcome there is.
func manyScripts() ofScripts {
	s := newScriptCounts()
	for i := range 10_000 {
		name := fmt.Sprintf("%05d%s", i, strings.Repeat("x", 100))
		for _, code := range api.Codes() {
			s.ran(name, time.Second, service.Errorf(code, "no"))
		}
		for range i % 7 {
			s.ran(name, time.Millisecond, nil)
		}
	}
	return ofScripts{s, newGauges()}
}

// TestMetricsOfManyScripts holds that the page stays small and counts every run.
func TestMetricsOfManyScripts(t *testing.T) {
	t.Parallel()
	page := manyScripts().page(t)
	if len(page) > 2<<20 { // of the 5 MB that the whole page may have
		t.Errorf("%d bytes, want 2 MiB at most", len(page))
	}
	sum, rest := 0.0, false
	for line := range strings.Lines(page) {
		var n float64
		if _, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(line, "pgbridge_run_duration_seconds_count") {
			fmt.Sscan(value, &n)
			rest = rest || strings.Contains(line, tally.Rest)
		}
		sum += n
	}
	want := 0.0
	for i := range 10_000 {
		want += float64(len(api.Codes()) + i%7)
	}
	if sum != want || !rest {
		t.Errorf("the series add up to %.0f runs, want %.0f; a common one is there: %t", sum, want, rest)
	}
}

func TestRunsAreCounted(t *testing.T) {
	t.Parallel()
	s := ofScripts{newScriptCounts(), newGauges()}
	s.ran("move", 500*time.Microsecond, nil)
	s.ran("move", 2*time.Millisecond, service.Errorf(service.CodeConflict, "deadlock"))
	s.ran("", time.Hour, errors.New("a defect"))
	page := s.page(t)
	for _, line := range []string{
		`pgbridge_runs_total{code="ok",script="move"} 1`,
		`pgbridge_runs_total{code="conflict",script="move"} 1`,
		`pgbridge_runs_total{code="internal",script="(sql)"} 1`,
		`pgbridge_run_duration_seconds_bucket{script="move",le="0.001"} 1`,
		`pgbridge_run_duration_seconds_bucket{script="move",le="0.004"} 2`,
		`pgbridge_run_duration_seconds_bucket{script="(sql)",le="65.536"} 0`,
		`pgbridge_run_duration_seconds_count{script="(sql)"} 1`,
		`pgbridge_run_duration_seconds_sum{script="move"} 0.0025`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no %s in\n%s", line, page)
		}
	}
}

func BenchmarkMetricsOfManyScripts(b *testing.B) {
	s := manyScripts()
	b.ReportAllocs()
	for b.Loop() {
		s.page(b)
	}
}

func BenchmarkCountARun(b *testing.B) {
	s := newScriptCounts()
	b.ReportAllocs()
	for b.Loop() {
		s.ran("move", 2*time.Millisecond, nil)
	}
}
