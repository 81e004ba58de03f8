// Package vitals are the metrics of the process as a whole: what it is, whether it
// is ready and why not, its links to NATS, and its configuration's reloads.
package vitals

import (
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/part"
)

// otherPart is what a problem belongs to that names no part: a subject that NATS
// does not let subscribe.
const otherPart = "subscriptions"

// Sources are what the vitals are read from, each time they are collected.
type Sources struct {
	Version                        string
	Problems                       func() []string // a line each, beginning with the part
	Events, Requests, Transactions *nats.Conn
}

// Vitals is a Prometheus collector. It is safe for concurrent use.
type Vitals struct {
	sources Sources
	reloads *prometheus.CounterVec
	good    prometheus.Gauge
	when    prometheus.Gauge

	build, ready, problems, connected, reconnects *prometheus.Desc
}

// New returns the vitals of a process that has just read its configuration.
func New(sources Sources) *Vitals {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("pgbridge_"+name, help, labels, nil)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "pgbridge_" + name, Help: help})
	}
	v := &Vitals{
		sources: sources,
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pgbridge_config_reloads_total", Help: "Changes of the configuration file taken over, and refused.",
		}, []string{"outcome"}),
		good:       gauge("config_last_reload_successful", "1 if the file was good when it was last looked at, 0 if the configuration before it stays in use."),
		when:       gauge("config_last_reload_success_timestamp_seconds", "When a configuration was last taken over, the start included."),
		build:      desc("build_info", "1, with what the program was built from.", "version", "revision", "goversion"),
		ready:      desc("ready", "1 while /readyz answers 200."),
		problems:   desc("problems", "Lines of /readyz that say why the replica is not ready, by the part that they begin with.", "part"),
		connected:  desc("nats_connected", "1 while the connection to NATS is there.", "connection"),
		reconnects: desc("nats_reconnects_total", "How often the connection to NATS was made again.", "connection"),
	}
	for _, outcome := range []string{"good", "faulty"} {
		v.reloads.WithLabelValues(outcome)
	}
	v.good.Set(1)
	v.when.SetToCurrentTime()
	return v
}

// Reloaded counts a reload.
func (v *Vitals) Reloaded(good bool) {
	if !good {
		v.reloads.WithLabelValues("faulty").Inc()
		v.good.Set(0)
		return
	}
	v.reloads.WithLabelValues("good").Inc()
	v.good.Set(1)
	v.when.Set(float64(time.Now().UnixNano()) / 1e9)
}

func (v *Vitals) collectors() []prometheus.Collector {
	return []prometheus.Collector{v.reloads, v.good, v.when}
}

// Describe implements prometheus.Collector.
func (v *Vitals) Describe(descs chan<- *prometheus.Desc) {
	for _, c := range v.collectors() {
		c.Describe(descs)
	}
	for _, d := range []*prometheus.Desc{v.build, v.ready, v.problems, v.connected, v.reconnects} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (v *Vitals) Collect(values chan<- prometheus.Metric) {
	for _, c := range v.collectors() {
		c.Collect(values)
	}
	show := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		values <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	show(v.build, prometheus.GaugeValue, 1, v.sources.Version, revision(), runtime.Version())
	problems := v.sources.Problems()
	show(v.ready, prometheus.GaugeValue, one(len(problems) == 0))
	for of, n := range byPart(problems) {
		show(v.problems, prometheus.GaugeValue, float64(n), of)
	}
	for name, nc := range map[string]*nats.Conn{"events": v.sources.Events, "requests": v.sources.Requests, "transactions": v.sources.Transactions} {
		show(v.connected, prometheus.GaugeValue, one(nc.IsConnected()), name)
		show(v.reconnects, prometheus.CounterValue, float64(nc.Stats().Reconnects), name)
	}
}

// byPart counts problems; a part without any is there, too.
func byPart(problems []string) map[string]int {
	counts := map[string]int{otherPart: 0}
	for _, p := range part.All() {
		counts[p.String()] = 0
	}
	for _, problem := range problems {
		of, _, _ := strings.Cut(problem, ": ")
		if _, known := counts[of]; !known {
			of = otherPart
		}
		counts[of]++
	}
	return counts
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// revision is the commit that the go command has recorded, "unknown" if none.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
