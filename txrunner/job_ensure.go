package txrunner

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// JobStreams returns the streams of the jobs and of their results, in this
// order, as Run creates them. Without Jobs there are none.
func (c Config) JobStreams() []jetstream.StreamConfig {
	c = c.withDefaults()
	if c.Jobs == nil {
		return nil
	}
	j := &jobs{runner: &Runner{config: c}, config: *c.Jobs}
	return []jetstream.StreamConfig{j.jobStream(), j.resultStream()}
}

// EnsureJobStreams creates the streams of the jobs and of their results and the
// consumer of the jobs, or adds the subjects that the streams lack, as Run
// does, through config.Requests. Without config.Jobs it does nothing. It blocks
// until JetStream has answered, ctx ends or a few seconds have passed.
func EnsureJobStreams(ctx context.Context, config Config) error {
	j, err := newJobs(&Runner{config: config.withDefaults()})
	if err != nil || j == nil {
		return err
	}
	_, err = j.open(ctx)
	return err
}
