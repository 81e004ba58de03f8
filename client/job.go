package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client/internal/request"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Job is one that was left in the stream of jobs. Its result is listened for
// from before it was left, until Wait has returned it or Close was called.
type Job struct {
	// ID finds the result again: the same script with this MessageID.
	ID string
	// Stream and Sequence are where it was stored.
	Stream   string
	Sequence uint64
	// Duplicate says that it had been left before, and this is about that one.
	Duplicate bool

	client *Client
	result *nats.Subscription
}

const (
	// lookAgain is how often the stream of results is looked at: the message that
	// brings a result is lost when the link breaks just then.
	lookAgain = 5 * time.Second
	lookLimit = 5 * time.Second
)

var errJobCaller = errors.New("a job has no caller")

// Job leaves a run in the stream of jobs, from where some replica takes it and
// runs it once. Without a MessageID it gets one.
func (c *Client) Job(ctx context.Context, s Script) (*Job, error) {
	body, err := s.runRequest()
	if err != nil {
		return nil, err
	}
	return c.leave(ctx, "run", s, body)
}

// CopyJob leaves a copy between PostgreSQL and an object in the stream of jobs.
// [Job.Copied] reads its result.
func (c *Client) CopyJob(ctx context.Context, s Script, object Object, o CopyOptions) (*Job, error) {
	body, err := s.copyRequest(o)
	if err != nil {
		return nil, err
	}
	body.Object = &api.Object{Bucket: object.Bucket, Name: object.Name}
	return c.leave(ctx, "copy", s, body)
}

// leave publishes a job. It is safe to do so again: the stream knows its id.
func (c *Client) leave(ctx context.Context, verb string, s Script, body any) (*Job, error) {
	switch {
	case c.options.Caller != "":
		return nil, errJobCaller
	case s.Name == "":
		return nil, errNoScript
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode the job %s: %w", s.Name, err)
	}
	job := &Job{ID: cmp.Or(s.MessageID, rand.Text()), client: c}
	// Subscribed first, or a quick job's result would be missed.
	results := c.plain("result", s.Name, subject.Token(job.ID))
	if job.result, err = c.nc.SubscribeSync(results); err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", results, err)
	}
	if err := job.publish(ctx, c.plain("job", verb, s.Name), data); err != nil {
		job.Close()
		return nil, err
	}
	return job, nil
}

func (j *Job) publish(ctx context.Context, to string, data []byte) error {
	limited, cancel := context.WithTimeout(ctx, waySlack)
	defer cancel()
	m := &nats.Msg{Subject: to, Data: data}
	request.Trace(ctx, m)
	ack, err := j.client.options.JetStream.PublishMsg(limited, m, jetstream.WithMsgID(j.ID))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("publish %s: no stream takes it: are jobs turned on?: %w", to, err)
	case ctx.Err() != nil:
		return fmt.Errorf("publish %s: %w: %w", to, context.Cause(ctx), ErrOutcomeUnknown)
	case limited.Err() != nil:
		return fmt.Errorf("publish %s: no answer within %s: %w", to, waySlack, ErrOutcomeUnknown)
	case err != nil:
		return fmt.Errorf("publish %s: %w", to, err)
	}
	j.Stream, j.Sequence, j.Duplicate = ack.Stream, ack.Sequence, ack.Duplicate
	return nil
}

// Close stops listening for the result. The job goes on.
func (j *Job) Close() {
	_ = j.result.Unsubscribe() // it ends with the connection, or now
}

// Wait returns a run's result, however long the job takes; where it was given up
// the error is an [*Error]. After ctx the job goes on. It closes the job.
func (j *Job) Wait(ctx context.Context) (*Reply, error) {
	m, err := j.last(ctx)
	if err != nil {
		return nil, err
	}
	return readReply(m)
}

// Copied is Wait for a copy.
func (j *Job) Copied(ctx context.Context) (*Copied, error) {
	m, err := j.last(ctx)
	if err != nil {
		return nil, err
	}
	return readCopied(m)
}

// last waits for the job's last word.
func (j *Job) last(ctx context.Context) (*nats.Msg, error) {
	defer j.Close()
	pause := lookAgain
	if j.Duplicate { // it may have been done already
		pause = 0
	}
	for ; ; pause = lookAgain {
		m := j.next(ctx, pause)
		if m == nil && ctx.Err() != nil {
			return nil, fmt.Errorf("wait for job %s: %w", j.ID, context.Cause(ctx))
		}
		if m == nil {
			m = j.stored(ctx)
		}
		if m == nil || m.Header.Get(api.HeaderJob) == "" { // what others have had a stream say there
			continue
		}
		if failure := api.DecodeError(m.Header, m.Data); failure != nil {
			return nil, public(failure)
		}
		return m, nil
	}
}

func (j *Job) next(ctx context.Context, within time.Duration) *nats.Msg {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	m, err := j.result.NextMsgWithContext(ctx)
	if err != nil {
		return nil
	}
	return m
}

// stored returns the result that some stream has kept, if this user may look.
func (j *Job) stored(ctx context.Context) *nats.Msg {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	name, err := j.client.options.JetStream.StreamNameBySubject(ctx, j.result.Subject)
	if err != nil {
		return nil
	}
	stream, err := j.client.options.JetStream.Stream(ctx, name)
	if err != nil {
		return nil
	}
	last, err := stream.GetLastMsgForSubject(ctx, j.result.Subject)
	if err != nil {
		return nil
	}
	return &nats.Msg{Subject: last.Subject, Header: last.Header, Data: last.Data}
}
