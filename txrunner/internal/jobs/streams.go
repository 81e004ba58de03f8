package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/stream"
)

const (
	// ackWait is how long JetStream waits for a sign of life of a job before
	// it hands it to another replica.
	ackWait = 30 * time.Second
	// maxUnacknowledged bounds the jobs that are under way or wait to be tried
	// again, of all replicas together. Beyond it jobs stay in the stream.
	maxUnacknowledged = 4096
	// maxWaiting is how many workers may wait for a job, of all replicas together. JetStream
	// says nothing to those beyond, who take that for a stream that is away.
	maxWaiting = 16_384

	// askTimeout bounds what is asked of JetStream.
	askTimeout = 5 * time.Second

	duplicateWindow = 2 * time.Minute
	// clockMargin is how far the clocks of NATS and PostgreSQL may be apart.
	clockMargin = time.Hour
)

// open finds the streams and the consumer, and creates what may be created.
func (j *Jobs) open(ctx context.Context) (s *sources, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s = &sources{}
	jobs, err := stream.Need{Kind: stream.Jobs, Config: j.jobStream(), Create: j.config.CreateStream}.Ensure(ctx, j.js)
	if err != nil {
		return nil, err
	}
	if s.results, err = (stream.Need{Config: j.resultStream(), Create: j.config.CreateResults}).Ensure(ctx, j.js); err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			j.backlog.Store(backlogOf(jobs.CachedInfo(), s.consumer.CachedInfo()))
		}
	}()
	if s.consumer, err = j.openConsumer(ctx, jobs); err != nil {
		return nil, fmt.Errorf("stream %s: consumer %s: %w", j.config.Stream, j.consumerName(), err)
	}
	s.ackWait = s.consumer.CachedInfo().Config.AckWait
	return s, nil
}

// backlogOf says what there is to be done.
func backlogOf(info *jetstream.StreamInfo, consumer *jetstream.ConsumerInfo) *backlog {
	b := &backlog{waiting: consumer.NumPending, unacknowledged: consumer.NumAckPending}
	if info.State.Msgs > 0 {
		b.oldest = info.State.FirstTime
	}
	return b
}

// jobStream is the stream as it is created. Other subjects than those somebody
// takes jobs from are left out, so that their senders hear of it.
func (j *Jobs) jobStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        j.config.Stream,
		Description: "Jobs for pgbridge.",
		Subjects:    j.subjects(),
		Retention:   jetstream.WorkQueuePolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew,
		Duplicates:  duplicateWindow,
		Replicas:    j.config.StreamReplicas,
	}
}

// resultStream is the stream as it is created. It keeps one result for each
// subject: the last one, where a job was answered twice.
func (j *Jobs) resultStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              j.config.Results,
		Description:       "Results of the jobs that pgbridge has run.",
		Subjects:          []string{j.config.Prefix + ".result.>"},
		MaxMsgsPerSubject: 1,
		MaxAge:            j.config.ResultsMaxAge,
		Storage:           jetstream.FileStorage,
		Duplicates:        min(duplicateWindow, j.config.ResultsMaxAge),
		Replicas:          j.config.ResultsReplicas,
		AllowDirect:       true,
	}
}

// subjects are those of all jobs there are.
func (j *Jobs) subjects() []string {
	var all []string
	for _, kind := range j.config.Kinds {
		all = append(all, j.subject()+"."+kind+".>")
	}
	slices.Sort(all)
	return all
}

// consumerName is shared by the replicas of one prefix.
func (j *Jobs) consumerName() string { return strings.ReplaceAll(j.config.Prefix, ".", "_") + "_jobs" }

// openConsumer returns the consumer that all replicas share. One that somebody
// else has made is used if it keeps our promises.
func (j *Jobs) openConsumer(ctx context.Context, jobs jetstream.Stream) (jetstream.Consumer, error) {
	want := jetstream.ConsumerConfig{
		Durable:        j.consumerName(),
		Description:    "Shared by the replicas of pgbridge.",
		FilterSubjects: j.subjects(),
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     -1,
		MaxAckPending:  maxUnacknowledged,
		MaxWaiting:     maxWaiting,
	}
	consumer, err := jobs.Consumer(ctx, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return jobs.CreateConsumer(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	info := consumer.CachedInfo()
	have := info.Config
	if !slices.Equal(filters(have), want.FilterSubjects) || have.AckPolicy != want.AckPolicy || have.MaxDeliver != want.MaxDeliver || len(have.BackOff) > 0 {
		return nil, fmt.Errorf("it must have the filters %s, explicit acknowledgements, unlimited deliveries and no backoff: delete it", strings.Join(want.FilterSubjects, ", "))
	}
	if have.HeadersOnly || have.MaxRequestExpires > 0 || len(have.PriorityGroups) > 0 {
		return nil, errors.New("it must not have headers_only, max_expires or priority groups: delete it")
	}
	if info.Paused {
		return nil, errPaused
	}
	return consumer, nil
}

// errPaused is why no jobs come. Somebody has paused the consumer.
var errPaused = errors.New("it is paused: jobs wait until it is resumed")

// filters returns what a consumer is for, however it was asked for.
func filters(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}
	return slices.Sorted(slices.Values(c.FilterSubjects))
}

// Purgeable returns the time up to which the ids of committed jobs may be
// forgotten, as PostgreSQL reads it: one whose job is still in the stream may
// be needed yet, however old it is. It is empty when nothing may be.
func (j *Jobs) Purgeable(ctx context.Context) string {
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
func (j *Jobs) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	jobs, err := j.js.Stream(ctx, j.config.Stream)
	if err != nil {
		return nil, err
	}
	return jobs.CachedInfo(), nil
}
