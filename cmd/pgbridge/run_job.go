package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/subject"
)

// lookAgain is how often the stream of results is looked at: the message that
// brings a result is lost when the link breaks just then.
const lookAgain = 5 * time.Second

// sendJob leaves a job in its stream and waits for its result, unless nobody
// wants it.
func (r *runClient) sendJob(ctx context.Context, verb, script string, body []byte) (*nats.Msg, error) {
	js, err := jetstream.New(r.nc)
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	id := cmp.Or(r.ID, rand.Text())
	result := r.subject("result", script, subject.Token(id))
	var answers *nats.Subscription
	if !r.NoWait { // subscribed first, or a quick job would be missed
		if answers, err = r.nc.SubscribeSync(result); err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", result, err)
		}
	}
	ack, err := r.publishJob(ctx, js, r.subject("job", verb, script), id, body)
	if err != nil {
		return nil, err
	}
	if ack.Duplicate {
		r.say("job %s was sent before, as number %d of stream %s; this is about that one", printable(id), ack.Sequence, ack.Stream)
	} else {
		r.say("job %s is number %d of stream %s", printable(id), ack.Sequence, ack.Stream)
	}
	if r.NoWait {
		return nil, nil
	}
	wait := lookAgain
	if ack.Duplicate { // it may have been done already
		wait = 0
	}
	return r.await(ctx, js, answers, wait)
}

func (r *runClient) publishJob(ctx context.Context, js jetstream.JetStream, to, id string, body []byte) (*jetstream.PubAck, error) {
	ctx, done := r.whileAllowed(ctx)
	defer done()
	limited, cancel := context.WithTimeout(ctx, waySlack)
	defer cancel()
	ack, err := js.PublishMsg(limited, &nats.Msg{Subject: to, Data: body}, jetstream.WithMsgID(id))
	switch {
	case forbidden(ctx):
		return nil, fmt.Errorf("publish %s: NATS forbids it", to)
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("publish %s: no stream takes it: are jobs turned on?", to)
	case err != nil:
		return nil, fmt.Errorf("publish %s: %w", to, err)
	}
	return ack, nil
}

// await returns the result, however long the job takes.
func (r *runClient) await(ctx context.Context, js jetstream.JetStream, answers *nats.Subscription, wait time.Duration) (*nats.Msg, error) {
	ctx, done := r.whileAllowed(ctx)
	defer done()
	for {
		if msg := nextWithin(ctx, answers, wait); msg != nil {
			return msg, nil
		}
		if forbidden(ctx) {
			return nil, fmt.Errorf("subscribe %s: NATS forbids it; the job goes on", answers.Subject)
		}
		if ctx.Err() != nil {
			return nil, errors.New("interrupted; the job goes on, and the same --id finds its result")
		}
		if msg := stored(ctx, js, answers.Subject); msg != nil {
			return msg, nil
		}
		wait = lookAgain
	}
}

func nextWithin(ctx context.Context, sub *nats.Subscription, wait time.Duration) *nats.Msg {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return nil
	}
	return msg
}

// stored returns the result that some stream has kept, if this user may look.
func stored(ctx context.Context, js jetstream.JetStream, result string) *nats.Msg {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	name, err := js.StreamNameBySubject(ctx, result)
	if err != nil {
		return nil
	}
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return nil
	}
	last, err := stream.GetLastMsgForSubject(ctx, result)
	if err != nil {
		return nil
	}
	return &nats.Msg{Subject: last.Subject, Header: last.Header, Data: last.Data}
}
