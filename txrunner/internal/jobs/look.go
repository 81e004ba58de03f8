package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/service"
)

func (j *Jobs) begins(one *job) {
	j.seen.begins(one, Running{one.verb, one.script, time.Now(), one.meta.NumDelivered})
}

func (j *Jobs) ends(one *job, v verdict) {
	e := Ended{Kind: one.verb, Script: one.script, Outcome: v.outcome, Attempt: one.failed + 1}
	var failure *service.Error
	if errors.As(v.err, &failure) {
		e.Code = string(failure.Code)
	}
	j.seen.ends(one, e)
}

// View returns what this process does with jobs now, and did. It asks nobody.
func (j *Jobs) View() View { return j.seen.view() }

// Backlog is what the stream of the jobs holds, of all replicas.
type Backlog struct {
	Waiting  uint64    // that no replica has
	UnderWay int       // that one has, or that wait for another attempt
	Again    int       // of these, that were delivered before
	Oldest   time.Time // when the oldest was published; zero: there is none
}

// Backlog asks JetStream. It blocks until that has answered, ctx ends or a few
// seconds have passed.
func (j *Jobs) Backlog(ctx context.Context) (Backlog, error) {
	s := j.sources.Load()
	if s == nil {
		return Backlog{}, fmt.Errorf("stream %s: it was not there yet", j.config.Stream)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	consumer, err := s.consumer.Info(ctx)
	if err != nil {
		return Backlog{}, fmt.Errorf("stream %s: look at the consumer: %w", j.config.Stream, err)
	}
	b := Backlog{Waiting: consumer.NumPending, UnderWay: consumer.NumAckPending, Again: consumer.NumRedelivered}
	info, err := j.streamInfo(ctx)
	if err != nil {
		return Backlog{}, fmt.Errorf("stream %s: look at it: %w", j.config.Stream, err)
	}
	if info.State.Msgs > 0 {
		b.Oldest = info.State.FirstTime.UTC()
	}
	return b, nil
}
