package txrunner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/subject"
)

const (
	// ackWait is how long JetStream waits for a sign of life of a job before
	// it hands it to another replica.
	ackWait = 30 * time.Second
	// maxUnacknowledged bounds the jobs that are under way or wait to be tried
	// again, of all replicas together. Beyond it jobs stay in the stream.
	maxUnacknowledged = 4096

	duplicateWindow = 2 * time.Minute
	// clockMargin is how far the clocks of NATS and PostgreSQL may be apart.
	clockMargin = time.Hour
)

// sources are what jobs come from and where their results go.
type sources struct {
	consumer jetstream.Consumer
	results  jetstream.Stream
	ackWait  time.Duration
}

// open finds the streams and the consumer, and creates what may be created.
func (j *jobs) open(ctx context.Context) (s *sources, err error) {
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	s = &sources{}
	stream, err := j.openStream(ctx, j.jobStream(), j.config.Stream.Create)
	if err != nil {
		return nil, err
	}
	if retention := stream.CachedInfo().Config.Retention; retention != jetstream.WorkQueuePolicy {
		return nil, fmt.Errorf("stream %s: its retention is %s, jobs need a work queue", j.config.Stream.Name, strings.ToLower(retention.String()))
	}
	if s.results, err = j.openStream(ctx, j.resultStream(), j.config.Results.Create); err != nil {
		return nil, err
	}
	if s.consumer, err = j.openConsumer(ctx, stream); err != nil {
		return nil, fmt.Errorf("stream %s: consumer %s: %w", j.config.Stream.Name, j.consumerName(), err)
	}
	s.ackWait = s.consumer.CachedInfo().Config.AckWait
	return s, nil
}

// jobStream is the stream as it is created. Other subjects than those somebody
// takes jobs from are left out, so that their senders hear of it.
func (j *jobs) jobStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        j.config.Stream.Name,
		Description: "Jobs for pgbridge.",
		Subjects:    j.subjects(),
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		Duplicates:  duplicateWindow,
		Replicas:    j.config.Stream.Replicas,
	}
}

// resultStream is the stream as it is created. It keeps one result for each
// subject: the last word, also where a job was answered twice.
func (j *jobs) resultStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              j.config.Results.Name,
		Description:       "Results of the jobs that pgbridge has run.",
		Subjects:          []string{j.prefix() + ".result.>"},
		MaxMsgsPerSubject: 1,
		MaxAge:            j.config.Results.MaxAge,
		Storage:           jetstream.FileStorage,
		Duplicates:        min(duplicateWindow, j.config.Results.MaxAge),
		Replicas:          j.config.Results.Replicas,
		AllowDirect:       true,
	}
}

func (j *jobs) prefix() string  { return j.runner.config.Prefix }
func (j *jobs) subject() string { return j.prefix() + ".job" }

// subjects are those of all jobs there are.
func (j *jobs) subjects() []string {
	all := []string{j.subject() + "." + kindRun + ".>"}
	for _, e := range j.runner.config.Extensions {
		if e.Job != nil {
			all = append(all, j.subject()+"."+e.Verb+".>")
		}
	}
	slices.Sort(all)
	return all
}

// consumerName is shared by the replicas of one prefix.
func (j *jobs) consumerName() string { return strings.ReplaceAll(j.prefix(), ".", "_") + "_jobs" }

// openStream returns a stream that covers the subjects wanted.
func (j *jobs) openStream(ctx context.Context, want jetstream.StreamConfig, create bool) (jetstream.Stream, error) {
	stream, err := j.js.Stream(ctx, want.Name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && create:
		stream, err = j.js.CreateStream(ctx, want)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = fmt.Errorf("does not exist: create it with the subjects %s, or set create", strings.Join(want.Subjects, ", "))
	case errors.Is(err, nats.ErrNoResponders):
		err = fmt.Errorf("JetStream is not there: %w", err)
	case err == nil:
		stream, err = j.extendStream(ctx, stream, want, create)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return stream, nil
}

func (j *jobs) extendStream(ctx context.Context, stream jetstream.Stream, want jetstream.StreamConfig, create bool) (jetstream.Stream, error) {
	config := stream.CachedInfo().Config
	missing := slices.DeleteFunc(want.Subjects, func(needed string) bool {
		return slices.ContainsFunc(config.Subjects, func(pattern string) bool { return subject.Covers(pattern, needed) })
	})
	if len(missing) == 0 {
		return stream, nil
	}
	if !create {
		return nil, fmt.Errorf("does not cover %s: add the subjects, or set create", strings.Join(missing, ", "))
	}
	config.Subjects = append(config.Subjects, missing...)
	return j.js.UpdateStream(ctx, config)
}

// openConsumer returns the consumer that all replicas share. One that somebody
// else has made is used if it keeps our promises.
func (j *jobs) openConsumer(ctx context.Context, stream jetstream.Stream) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{
		Durable:        j.consumerName(),
		Description:    "Shared by the replicas of pgbridge.",
		FilterSubjects: j.subjects(),
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     -1,
		MaxAckPending:  maxUnacknowledged,
	}
	consumer, err := stream.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return stream.CreateConsumer(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	have := consumer.CachedInfo().Config
	if !slices.Equal(filters(have), want.FilterSubjects) || have.AckPolicy != want.AckPolicy || have.MaxDeliver != want.MaxDeliver || len(have.BackOff) > 0 {
		return nil, fmt.Errorf("it must have the filters %s, explicit acknowledgements, unlimited deliveries and no backoff: delete it", strings.Join(want.FilterSubjects, ", "))
	}
	return consumer, nil
}

// filters returns what a consumer is for, however it was asked for.
func filters(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return slices.Sorted(slices.Values(c.FilterSubjects))
}

// purgeable returns the time up to which the ids of committed jobs may be
// forgotten, as PostgreSQL reads it: one whose job is still in the stream may
// be needed yet, however old it is. It is empty when nothing may be.
func (j *jobs) purgeable(ctx context.Context) string {
	if j == nil {
		return ""
	}
	info, err := j.streamInfo(ctx)
	switch {
	case err != nil:
		return ""
	case info.State.Msgs == 0:
		return "infinity"
	}
	return info.State.FirstTime.Add(-clockMargin).UTC().Format(time.RFC3339)
}

// streamInfo asks how the stream of the jobs is now.
func (j *jobs) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	stream, err := j.js.Stream(ctx, j.config.Stream.Name)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}
