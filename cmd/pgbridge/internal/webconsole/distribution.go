package webconsole

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pgbridge/pgbridge/txrunner"
)

// distribution is a histogram: counts[i] took at most bounds[i] seconds, all is how
// many there were.
type distribution struct {
	bounds []float64
	counts []uint64
	all    uint64
}

// buckets adds the histograms of a collector up; they have the same bounds.
func buckets(c prometheus.Collector) (sum distribution) {
	metrics := make(chan prometheus.Metric)
	go func() {
		defer close(metrics)
		c.Collect(metrics)
	}()
	for m := range metrics {
		var written dto.Metric
		if m.Write(&written) == nil && written.GetHistogram() != nil {
			sum.add(written.GetHistogram())
		}
	}
	return sum
}

func (d *distribution) add(h *dto.Histogram) {
	if d.bounds == nil {
		d.bounds, d.counts = make([]float64, len(h.GetBucket())), make([]uint64, len(h.GetBucket()))
	}
	for i, b := range h.GetBucket() {
		d.bounds[i] = b.GetUpperBound()
		d.counts[i] += b.GetCumulativeCount()
	}
	d.all += h.GetSampleCount()
}

// answered is how long requests took.
func answered(a txrunner.Answered) distribution {
	d := distribution{counts: a.Counts, all: a.Requests}
	for _, bound := range a.Bounds {
		d.bounds = append(d.bounds, bound.Seconds())
	}
	return d
}

// since is what came after an earlier state of the same.
func (d distribution) since(before distribution) distribution {
	if len(before.counts) != len(d.counts) || before.all > d.all {
		return d
	}
	after := distribution{bounds: d.bounds, counts: make([]uint64, len(d.counts)), all: d.all - before.all}
	for i := range d.counts {
		after.counts[i] = d.counts[i] - min(before.counts[i], d.counts[i])
	}
	return after
}

// quantile estimates how long a part of them took at most, as Prometheus does; -1
// means that there were none. What is over the last bound counts as that.
func (d distribution) quantile(part float64) float64 {
	if d.all == 0 || len(d.bounds) == 0 {
		return -1
	}
	rank := part * float64(d.all)
	below, from := 0.0, 0.0
	for i, n := range d.counts {
		if float64(n) >= rank && n > 0 {
			return from + (d.bounds[i]-from)*(rank-below)/(float64(n)-below)
		}
		below, from = float64(n), d.bounds[i]
	}
	return d.bounds[len(d.bounds)-1]
}
