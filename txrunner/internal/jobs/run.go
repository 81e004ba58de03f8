package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/pull"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// New returns what takes jobs when Run is called. It asks nothing yet.
func New(config Config) (*Jobs, error) {
	js := config.JetStream
	if js == nil {
		var err error
		if js, err = jetstream.New(config.Requests); err != nil {
			return nil, fmt.Errorf("use JetStream for jobs: %w", err)
		}
	}
	j := &Jobs{config: config, js: js, log: config.Logger, metrics: newMetrics(), faulty: wait.NewSignal()}
	unknown := fmt.Sprintf("stream %s: not looked at yet", config.Stream)
	j.problem.Store(&unknown)
	return j, nil
}

// Streams returns the streams of the jobs and of their results, in this order, as
// they are created.
func (c Config) Streams() []jetstream.StreamConfig {
	j := &Jobs{config: c}
	return []jetstream.StreamConfig{j.jobStream(), j.resultStream()}
}

// Ensure creates the streams and the consumer, or adds the subjects that the
// streams lack, as far as the configuration lets it.
func (j *Jobs) Ensure(ctx context.Context) error {
	if _, err := j.open(ctx); err != nil {
		return err
	}
	j.ensureFailed(ctx)
	return nil
}

// Problems says why no jobs are taken.
func (j *Jobs) Problems() []string {
	if j == nil {
		return nil
	}
	if p := j.problem.Load(); p != nil {
		return []string{part.Jobs.Problem(*p)}
	}
	return nil
}

// Run takes jobs until ctx ends. Those under way may go on for the grace; those
// that were not begun go back to the stream at once.
func (j *Jobs) Run(ctx context.Context) error {
	if j == nil {
		return nil
	}
	work, cancel := wait.Grace(ctx, j.config.StopGrace)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error { return j.watch(ctx) })
	for range j.config.Concurrency {
		group.Go(func() error { return j.work(ctx, work) })
	}
	_ = group.Wait() // they have no errors
	j.flush(ctx)
	return nil
}

// flush sends the last acknowledgements on their way. One that is lost costs
// another delivery, which finds the result.
func (j *Jobs) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := j.config.Requests.FlushWithContext(ctx); err != nil {
		j.log.Warn("the last acknowledgements of jobs may be lost", zap.Error(err))
	}
}

// watch looks at the streams and the table again and again until ctx ends.
func (j *Jobs) watch(ctx context.Context) error {
	for {
		err := j.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		j.report(err)
		pause := lookPause
		if err != nil {
			pause = lookAgainPause
		}
		if !j.rest(ctx, pause) {
			return nil
		}
	}
}

// rest waits until it is time to look again.
func (j *Jobs) rest(ctx context.Context, pause time.Duration) bool {
	if wait.ForOr(ctx, pause, j.faulty) {
		wait.For(ctx, lookAgainPause) // what was found may pass
	}
	return ctx.Err() == nil
}

func (j *Jobs) look(ctx context.Context) error {
	s, err := j.open(ctx)
	if err != nil {
		return err
	}
	j.ensureFailed(ctx)
	j.sources.Store(s)
	if f := j.forbidden.Load(); f != nil && f.reconnects == j.config.Requests.Stats().Reconnects && time.Now().Before(f.until) {
		return f.err
	}
	return j.usable(ctx)
}

// awaitUsable waits until jobs can be taken, and reports whether they can: not when
// ctx has ended.
func (j *Jobs) awaitUsable(ctx context.Context) bool {
	for ctx.Err() == nil {
		if j.problem.Load() == nil && j.config.Ready() {
			return true
		}
		wait.For(ctx, gatePause)
	}
	return false
}

// work takes one job after the other until ctx ends; work is the jobs' context.
func (j *Jobs) work(ctx, work context.Context) error {
	for j.awaitUsable(ctx) {
		reconnects := j.config.Requests.Stats().Reconnects
		if err := j.take(ctx, work); err != nil {
			err = fmt.Errorf("stream %s: take jobs: %w", j.config.Stream, err)
			if errors.Is(err, pull.ErrForbidden) {
				j.forbidden.Store(&forbidden{err, reconnects, time.Now().Add(forbiddenFor)})
			}
			j.fault(err)
		}
	}
	return nil
}

// take takes jobs until ctx ends or there is an error.
func (j *Jobs) take(ctx, work context.Context) error {
	jobs, err := pull.Open(pull.Options{JetStream: j.js, Stream: j.config.Stream, Consumer: j.consumerName(), Batch: 1})
	if err != nil {
		return err
	}
	defer jobs.Close(giveBack)
	for j.awaitUsable(ctx) {
		msg, err := jobs.Next(ctx)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				giveBack(msg)
			}
			return nil
		case err != nil:
			return err
		}
		j.serve(work, msg)
	}
	return nil
}

func giveBack(m *nats.Msg) { _ = m.Nak() } // lost, it is delivered again a little later

// Describe implements prometheus.Collector.
func (j *Jobs) Describe(descs chan<- *prometheus.Desc) {
	if j != nil {
		for _, c := range j.metrics.all() {
			c.Describe(descs)
		}
		descs <- waitingDesc
		descs <- unacknowledgedDesc
		descs <- oldestDesc
	}
}

// Collect implements prometheus.Collector.
func (j *Jobs) Collect(values chan<- prometheus.Metric) {
	if j != nil {
		for _, c := range j.metrics.all() {
			c.Collect(values)
		}
		if b := j.backlog.Load(); b != nil {
			values <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(b.waiting))
			values <- prometheus.MustNewConstMetric(unacknowledgedDesc, prometheus.GaugeValue, float64(b.unacknowledged))
			values <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, b.age().Seconds())
		}
	}
}
