package txrunner

import (
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/tally"
)

const (
	// shownScripts is how many scripts have series of their own.
	shownScripts = 100
	// ownSQLName stands for requests that bring their own SQL, and is no script's.
	ownSQLName = "(sql)"
	codeOK     = "ok"
)

// outcomes are the values of the label code: ok, and the codes of errors.
func outcomes() []string {
	all := []string{codeOK}
	for _, c := range api.Codes() {
		all = append(all, string(c))
	}
	return all
}

// runBuckets are the upper bounds of the histogram, in seconds: 1 ms to 65 s.
func runBuckets() []float64 { return prometheus.ExponentialBuckets(0.001, 4, 9) }

// scriptCounts count the runs of each script that there has been. They are safe for
// concurrent use.
type scriptCounts struct {
	outcomes []string
	buckets  []float64
	shown    *tally.Tally
	all      sync.Map // *runCounts by the script's name
}

// runCounts are those of one script.
type runCounts struct {
	outcomes []atomic.Uint64
	buckets  []atomic.Uint64 // the last one has what took longer
	nanos    atomic.Int64
}

func newScriptCounts() *scriptCounts {
	s := &scriptCounts{outcomes: outcomes(), buckets: runBuckets()}
	s.shown = tally.New(shownScripts, 1+len(s.outcomes)+len(s.buckets)+2)
	return s
}

// ran counts a run that has ended.
func (s *scriptCounts) ran(script string, took time.Duration, err error) {
	if script == "" {
		script = ownSQLName
	}
	c, known := s.all.Load(script)
	if !known {
		fresh := &runCounts{outcomes: make([]atomic.Uint64, len(s.outcomes)), buckets: make([]atomic.Uint64, len(s.buckets)+1)}
		c, _ = s.all.LoadOrStore(script, fresh)
	}
	counts := c.(*runCounts)
	code := 0
	if err != nil {
		code = max(0, slices.Index(s.outcomes, string(service.AsError(err).Code)))
	}
	counts.outcomes[code].Add(1)
	counts.buckets[sort.SearchFloat64s(s.buckets, took.Seconds())].Add(1)
	counts.nanos.Add(int64(max(took, 0)))
}

// values lists a script's counts: runs, outcomes, buckets, nanoseconds.
func (c *runCounts) values(name string) tally.Counts {
	values := make([]uint64, 1, 1+len(c.outcomes)+len(c.buckets)+1)
	for i := range c.outcomes {
		n := c.outcomes[i].Load()
		values[0] += n
		values = append(values, n)
	}
	for i := range c.buckets {
		values = append(values, c.buckets[i].Load())
	}
	return tally.Counts{Name: name, Values: append(values, uint64(c.nanos.Load()))}
}

// collect writes the series of the scripts.
func (s *scriptCounts) collect(values chan<- prometheus.Metric, runs, took *prometheus.Desc) {
	var all []tally.Counts
	for name, c := range s.all.Range {
		all = append(all, c.(*runCounts).values(name.(string)))
	}
	for _, c := range s.shown.Split(all, time.Now()) {
		buckets := c.Values[1+len(s.outcomes):]
		for i, code := range s.outcomes {
			if n := c.Values[1+i]; n > 0 {
				values <- prometheus.MustNewConstMetric(runs, prometheus.CounterValue, float64(n), c.Name, code)
			}
		}
		count, upTo := uint64(0), make(map[float64]uint64, len(s.buckets))
		for i, bound := range s.buckets {
			count += buckets[i]
			upTo[bound] = count
		}
		count += buckets[len(s.buckets)]
		seconds := time.Duration(buckets[len(s.buckets)+1]).Seconds()
		values <- prometheus.MustNewConstHistogram(took, count, seconds, upTo, c.Name)
	}
}
