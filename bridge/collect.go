package bridge

import "github.com/prometheus/client_golang/prometheus"

// requests tells the service's metrics from those of another service in the
// same process.
func (b *Bridge) requests() prometheus.Collector {
	return prometheus.WrapCollectorWith(prometheus.Labels{"part": "bridge"}, b.service)
}

// Describe implements prometheus.Collector.
func (b *Bridge) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{receivedDesc, publishedDesc, droppedDesc, gapsDesc, rowsDesc, caughtUpDesc, connectsDesc, channelsDesc, limitDesc, queueDesc, usageDesc, canaryDesc, lagDesc, lagTimeDesc, publishingDesc} {
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
	b.metrics.collect(counter)
	counter(connectsDesc, float64(b.listener.Connects()))
	gauge(channelsDesc, float64(b.channels.Load()))
	for _, d := range []Delivery{DeliveryCore, DeliveryJetStream} {
		gauge(limitDesc, float64(b.config.QueueBytes), string(d))
	}
	gauge(queueDesc, float64(b.seq.Core.Bytes()), string(DeliveryCore))
	gauge(queueDesc, float64(b.seq.Stream.Bytes()), string(DeliveryJetStream))
	if usage, known := b.control.QueueUsage(); known {
		gauge(usageDesc, usage)
	}
	gauge(canaryDesc, b.seq.Outstanding().Seconds())
	lag, behind := b.feed.Lag()
	gauge(lagDesc, float64(lag))
	gauge(lagTimeDesc, behind.Seconds())
	publishing := 0.0
	if b.lease.Valid() {
		publishing = 1
	}
	gauge(publishingDesc, publishing)
	b.metrics.latency.Collect(ch)
	b.requests().Collect(ch)
}
