package txrunner

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
	"github.com/pgbridge/pgbridge/txrunner/internal/jobs"
)

// newJobs returns the configuration's jobs, nil without any.
func (r *Runner) newJobs() (*jobs.Jobs, error) {
	if r.config.Jobs == nil {
		return nil, nil
	}
	config := r.config.jobs()
	config.Run = r.job
	config.Pool = func() *session.Pool { return r.work }
	config.Ready = func() bool { return r.runs.Problem() == "" }
	config.Budget = r.memory
	config.Tracer = tracing.New(r.config.TracerProvider)
	return jobs.New(config)
}

// jobs is the configuration as package jobs wants it, without what it runs them
// with. Jobs must be set.
func (c Config) jobs() jobs.Config {
	var kinds []string
	for _, v := range c.verbs() {
		if v.job != nil {
			kinds = append(kinds, v.name)
		}
	}
	return jobs.Config{
		Prefix: c.Prefix, Kinds: kinds,
		Stream: c.Jobs.Stream.Name, CreateStream: c.Jobs.Stream.Create, StreamReplicas: c.Jobs.Stream.Replicas,
		Results: c.Jobs.Results.Name, CreateResults: c.Jobs.Results.Create, ResultsReplicas: c.Jobs.Results.Replicas,
		ResultsMaxAge: c.Jobs.Results.MaxAge,
		Concurrency:   c.Jobs.Concurrency, Attempts: c.Jobs.Attempts, StopGrace: c.StopGrace,
		Requests: c.Transactions, JetStream: c.JetStream, Logger: c.Logger,
	}
}

// job runs a job of a kind.
func (r *Runner) job(ctx context.Context, kind, script string, id *execution.MessageID, request *service.Request) ([]byte, error) {
	for _, v := range r.verbs {
		if v.name == kind && v.job != nil {
			return v.job(ctx, target{script: script}, id, request)
		}
	}
	return nil, service.Errorf(service.CodeInvalidRequest, "there are no jobs of the kind %q", kind)
}

// JobStreams returns the streams of the jobs and of their results, in this
// order, as Run creates them. Without Jobs there are none.
func (c Config) JobStreams() []jetstream.StreamConfig {
	if c = c.withDefaults(); c.Jobs == nil {
		return nil
	}
	return c.jobs().Streams()
}

// EnsureJobStreams creates the streams of the jobs and of their results and the
// consumer of the jobs, or adds the subjects that the streams lack, as Run
// does, through config.Transactions. Without config.Jobs it does nothing. It blocks
// until JetStream has answered, ctx ends or a few seconds have passed.
func EnsureJobStreams(ctx context.Context, config Config) error {
	if config = config.withDefaults(); config.Jobs == nil {
		return nil
	}
	j, err := jobs.New(config.jobs())
	if err != nil {
		return err
	}
	return j.Ensure(ctx)
}
