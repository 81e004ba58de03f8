package webconsole

import (
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/txrunner"
)

const (
	sampleEvery = 5 * time.Second
	// kept are the samples of a quarter of an hour.
	kept = int(15 * time.Minute / sampleEvery)
)

// measure is what counters say at a moment.
type measure struct {
	at        time.Time
	bridge    bridge.Snapshot
	published distribution
	runner    *txrunner.Snapshot // nil: there is none
}

// Sample is what happened between two moments. Rates are per second, times are in
// seconds, -1 where nothing was measured.
type Sample struct {
	At                                     int64 // ms since 1970
	Received, Published, Dropped, Requests float64
	Failed                                 float64
	Queue                                  int64   // bytes
	PublishP50, PublishP99                 float64 // receipt to NATS's word
	RequestP50, RequestP99                 float64
	Transactions                           int
	Lag                                    int64 // bytes of the write-ahead log
}

// history are the samples of the last quarter of an hour. It is safe for concurrent
// use.
type history struct {
	mu      sync.Mutex // guards what follows
	last    *measure
	samples []Sample
}

// add takes a measurement; the first one is only the beginning of a sample.
func (h *history) add(m measure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last != nil && m.at.After(h.last.at) {
		if len(h.samples) == kept {
			h.samples = append(h.samples[:0], h.samples[1:]...)
		}
		h.samples = append(h.samples, between(*h.last, m))
	}
	h.last = &m
}

// since returns the samples after a moment, in ms since 1970.
func (h *history) since(ms int64) []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	later := []Sample{}
	for _, s := range h.samples {
		if s.At > ms {
			later = append(later, s)
		}
	}
	return later
}

// latest returns the newest sample, if there is one.
func (h *history) latest() *Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) == 0 {
		return nil
	}
	s := h.samples[len(h.samples)-1]
	return &s
}

func between(a, b measure) Sample {
	seconds := b.at.Sub(a.at).Seconds()
	rate := func(from, to uint64) float64 { return max(0, float64(to)-float64(from)) / seconds }
	s := Sample{
		At:        b.at.UnixMilli(),
		Received:  rate(a.bridge.Total.Received, b.bridge.Total.Received),
		Published: rate(a.bridge.Total.Published, b.bridge.Total.Published),
		Dropped:   rate(a.bridge.Total.Dropped, b.bridge.Total.Dropped),
		Lag:       b.bridge.LagBytes, RequestP50: -1, RequestP99: -1,
	}
	for _, n := range b.bridge.QueueBytes {
		s.Queue += n
	}
	published := b.published.since(a.published)
	s.PublishP50, s.PublishP99 = published.quantile(0.5), published.quantile(0.99)
	if a.runner == nil || b.runner == nil {
		return s
	}
	s.Requests = rate(a.runner.Answered.Requests, b.runner.Answered.Requests)
	s.Failed = rate(a.runner.Answered.Failed, b.runner.Answered.Failed)
	s.Transactions = len(b.runner.Transactions)
	requests := answered(b.runner.Answered).since(answered(a.runner.Answered))
	s.RequestP50, s.RequestP99 = requests.quantile(0.5), requests.quantile(0.99)
	return s
}
