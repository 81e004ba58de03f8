package txrunner

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	lookPause      = 10 * time.Second // between two looks at the streams
	lookAgainPause = time.Second      // when something was wrong with them
	gatePause      = 100 * time.Millisecond

	pullExpiry    = 30 * time.Second
	pullHeartbeat = 5 * time.Second
	drainTimeout  = 2 * time.Second
)

// jobs takes jobs from a stream, runs each as a script and publishes its result:
//
//	                 another error, or the last attempt
//	       ┌───────────────────────────────────────────────┐
//	stream ─► run ─► committed ─► result acknowledged ─► job acknowledged
//	  ▲        │                      │ it was not
//	  │        │ unavailable, busy,   │
//	  │        │ unknown, or one of   ▼
//	  └────────┴─ several attempts ──┴── given back with a delay
//
// It promises one commit for each job id, whatever is delivered again and
// wherever a process dies: the id is stored by the run's own transaction, with
// its reply, and what is delivered again gets that reply. It forgets an id only
// when nothing of that age is left in the stream.
//
// There are Concurrency workers, and each asks for one job when it can start
// one. While the streams, the table of ids or PostgreSQL is away none does.
// A nil *jobs takes none at all.
type jobs struct {
	runner  *Runner
	config  Jobs
	js      jetstream.JetStream
	log     *zap.Logger
	metrics *jobMetrics

	sources atomic.Pointer[sources] // what the last look found; nil: never good yet
	problem atomic.Pointer[string]  // why no jobs are taken; nil: they are
	faulty  chan struct{}           // a worker has found a problem
}

func newJobs(r *Runner) (*jobs, error) {
	if r.config.Jobs == nil {
		return nil, nil
	}
	js, err := jetstream.New(r.config.Requests)
	if err != nil {
		return nil, fmt.Errorf("use JetStream for jobs: %w", err)
	}
	j := &jobs{
		runner: r, config: *r.config.Jobs, js: js, log: r.config.Logger,
		metrics: newJobMetrics(), faulty: make(chan struct{}, 1),
	}
	unknown := fmt.Sprintf("stream %s: not looked at yet", j.config.Stream.Name)
	j.problem.Store(&unknown)
	return j, nil
}

// problems says why no jobs are taken.
func (j *jobs) problems() []string {
	if j == nil {
		return nil
	}
	if p := j.problem.Load(); p != nil {
		return []string{"jobs: " + *p}
	}
	return nil
}

// run takes jobs until ctx ends. Those under way may go on for the grace; those
// that were not begun go back to the stream at once.
func (j *jobs) run(ctx context.Context) error {
	if j == nil {
		return nil
	}
	work, cancel := j.graceful(ctx)
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

// graceful returns a context that ends some time after ctx.
func (j *jobs) graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(work, j.runner.config.StopGrace)
		cancel()
	})
	return work, func() { stop(); cancel() }
}

// flush sends the last acknowledgements on their way. One that is lost costs
// another delivery, which finds the result.
func (j *jobs) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := j.runner.config.Requests.FlushWithContext(ctx); err != nil {
		j.log.Warn("the last acknowledgements of jobs may be lost", zap.Error(err))
	}
}

// watch looks at the streams and the table again and again until ctx ends.
func (j *jobs) watch(ctx context.Context) error {
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
func (j *jobs) rest(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-j.faulty:
		return sleep(ctx, lookAgainPause) // what was found may pass
	case <-ctx.Done():
		return false
	}
}

func (j *jobs) look(ctx context.Context) error {
	s, err := j.open(ctx)
	if err != nil {
		return err
	}
	j.sources.Store(s)
	return j.usable(ctx)
}

// report makes an error the problem, and nil none.
func (j *jobs) report(err error) {
	if err == nil {
		if j.problem.Swap(nil) != nil {
			j.log.Info("jobs are taken", zap.String("stream", j.config.Stream.Name), zap.String("subject", j.subject()+".>"))
		}
		return
	}
	text := err.Error()
	if old := j.problem.Swap(&text); old == nil || *old != text {
		j.log.Warn("no jobs are taken", zap.String("stream", j.config.Stream.Name), zap.Error(err), zap.Duration("backoff", lookAgainPause))
	}
}

// fault reports what a worker has found, and has it looked at.
func (j *jobs) fault(err error) {
	j.report(err)
	select {
	case j.faulty <- struct{}{}:
	default:
	}
}

// wait waits until jobs can be taken, and reports whether they can: not when
// ctx has ended.
func (j *jobs) wait(ctx context.Context) bool {
	for ctx.Err() == nil {
		if j.problem.Load() == nil && j.runner.runs.problem.Load() == nil {
			return true
		}
		sleep(ctx, gatePause)
	}
	return false
}

// work takes one job after the other until ctx ends; work is the jobs' context.
func (j *jobs) work(ctx, work context.Context) error {
	for j.wait(ctx) {
		if err := j.take(ctx, work); err != nil {
			j.fault(fmt.Errorf("stream %s: take jobs: %w", j.config.Stream.Name, err))
		}
	}
	return nil
}

// take takes jobs until ctx ends or there is an error.
func (j *jobs) take(ctx, work context.Context) error {
	messages, err := j.sources.Load().consumer.Messages(jetstream.PullMaxMessages(1),
		jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	defer giveBackMessages(messages)
	for j.wait(ctx) {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = msg.Nak() // lost, it is delivered again a little later
			}
			return nil
		case err != nil:
			return err
		}
		j.serve(work, msg)
	}
	return nil
}

// giveBackMessages ends a subscription, and hands back what it has received.
func giveBackMessages(messages jetstream.MessagesContext) {
	messages.Drain()
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextMaxWait(drainTimeout))
		if err != nil {
			return
		}
		_ = msg.Nak() // lost, it is delivered again a little later
	}
}
