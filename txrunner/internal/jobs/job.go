package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/stream"
	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	headerJob      = api.HeaderJob
	headerAttempts = api.HeaderAttempts

	publishTimeout = 5 * time.Second

	// maxScriptToken is how much of a script's name that does not exist goes
	// into a subject: longer ones than 4 KiB would cost the connection.
	maxScriptToken = 1024
)

// serve runs a job and either ends it or hands it back.
func (j *Jobs) serve(ctx context.Context, msg *nats.Msg) {
	s := j.sources.Load()
	j.running.Add(1)
	defer j.running.Add(-1)
	j.metrics.running.Inc()
	defer j.metrics.running.Dec()
	defer keepAlive(ctx, msg, s.ackWait)()
	one, err := j.identify(ctx, msg)
	if err != nil {
		j.fault(err)
		_ = msg.NakWithDelay(backoff(1)) // lost, it is delivered again a little later
		return
	}
	j.begins(one)
	ctx, span := j.trace(ctx, one)
	v := j.settle(ctx, s, one)
	if span.Recorded() {
		span.End(v.failure(), attribute.String("pgbridge.outcome", v.outcome))
	}
	j.ends(one, v)
	j.metrics.jobs.WithLabelValues(v.outcome).Inc()
	j.record(one, v)
	switch {
	case v.outcome == outcomeDone || v.outcome == outcomeFailed:
		_ = msg.Ack() // lost, the next delivery finds the result
	case ctx.Err() != nil: // another replica may have it at once
		_ = msg.Nak()
	default:
		_ = msg.NakWithDelay(v.delay)
	}
}

// keepAlive tells JetStream every now and then that a job is under way, until
// the function that it returns is called.
func keepAlive(ctx context.Context, msg *nats.Msg, ackWait time.Duration) func() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var signals sync.WaitGroup
	signals.Go(func() {
		for wait.For(ctx, ackWait/3) {
			_ = msg.InProgress() // lost, there is another in time
		}
	})
	return func() {
		cancel()
		signals.Wait()
	}
}

// identify reads what the job is.
func (j *Jobs) identify(ctx context.Context, msg *nats.Msg) (*job, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("stream %s: read a job: %w", j.config.Stream, err)
	}
	one := &job{msg: msg, meta: meta}
	one.verb, one.script, _ = strings.Cut(strings.TrimPrefix(msg.Subject, j.subject()+"."), ".")
	one.refused = service.CheckHeaders(msg)
	if err := j.claim(ctx, one, idOf(msg)); err != nil {
		return nil, err
	}
	if one.refused == nil {
		if one.key, one.refused = j.newKey(one, idOf(msg)); one.key != nil {
			return one, nil
		}
	}
	id, err := j.serial(ctx, meta)
	if err != nil {
		return nil, err
	}
	one.key, err = j.newKey(one, id)
	return one, err
}

// serial names a job without an id of its own. The stream is asked every time:
// one that was deleted and made anew counts from 1 again, and under its old
// creation time new jobs would be taken for old ones.
func (j *Jobs) serial(ctx context.Context, meta *nats.MsgMetadata) (string, error) {
	info, err := j.streamInfo(ctx)
	if err != nil {
		return "", fmt.Errorf("stream %s: look up its creation time: %w", j.config.Stream, err)
	}
	if meta.Timestamp.Before(info.Created) {
		return "", fmt.Errorf("stream %s: it was deleted while a job was taken", j.config.Stream)
	}
	return serialOf(info.Created.UnixNano(), meta.Sequence.Stream), nil
}

// settle brings a job to its end as far as that is possible now.
func (j *Jobs) settle(ctx context.Context, s *sources, one *job) verdict {
	if one.early {
		return j.waiting(one, errEarly)
	}
	if one.meta.NumDelivered > 1 {
		if v, over := j.again(ctx, s, one); over {
			return v
		}
	}
	begun := time.Now()
	body, failure := j.execute(ctx, one)
	j.ended(ctx, one, time.Since(begun), failure)
	if failure == nil {
		return j.conclude(ctx, one, service.Reply{Data: body}, nil)
	}
	if errors.Is(failure, execution.ErrNoIDs) { // the table went away
		j.fault(errors.New(failure.Message))
		return j.waiting(one, failure)
	}
	switch failure.Code {
	case service.CodeUnavailable, service.CodeBusy, service.CodeUnknown:
		return j.waiting(one, failure)
	}
	if errors.Is(failure, execution.ErrIDHeld) { // what has the job elsewhere may commit yet
		return j.waiting(one, failure)
	}
	if failure.Retryable {
		failed, err := j.countFailure(context.WithoutCancel(ctx), one)
		if err != nil {
			return j.waiting(one, err)
		}
		if failed < j.config.Attempts {
			return verdict{outcomeRetried, backoff(failed), failure}
		}
		one.failed = failed - 1
	}
	return j.fail(ctx, one, failure)
}

// again looks at what is known of a job that was delivered before, and counts that it
// starts once more. It reports whether this delivery is over with that.
func (j *Jobs) again(ctx context.Context, s *sources, one *job) (v verdict, over bool) {
	said, err := j.recall(ctx, s, one)
	starts := 0
	if !said && err == nil {
		starts, err = j.begin(ctx, one)
	}
	switch {
	case unstorable(err):
		return j.fail(ctx, one, errUnstorable), true
	case said || err != nil:
		return j.waiting(one, err), true
	case starts > maxStarts:
		return j.fail(ctx, one, givenUp()), true
	}
	return v, false
}

// fail makes an error the last word, unless a job with this id has committed.
func (j *Jobs) fail(ctx context.Context, one *job, failure *service.Error) verdict {
	body, known, err := j.owned(ctx, one)
	var other *service.Error
	switch {
	case errors.As(err, &other) && other.Code == service.CodeConflict && !other.Retryable:
		failure = other
	case err != nil:
		return j.waiting(one, err)
	case known:
		return j.conclude(ctx, one, service.Reply{Data: body}, nil)
	}
	reply, err := service.ErrorReply(failure)
	if err != nil {
		return j.waiting(one, err)
	}
	j.keep(context.WithoutCancel(ctx), one, j.resultSubject(one), failure)
	return j.conclude(ctx, one, reply, failure)
}

// waiting hands a job back without an attempt used up; without an error it is
// over already.
func (j *Jobs) waiting(one *job, err error) verdict {
	if err == nil {
		return verdict{outcome: outcomeDone}
	}
	return verdict{outcomeWaiting, backoff(int(one.meta.NumDelivered)), err}
}

// recall looks up what is known of a job that was delivered before: whether its
// result is there, and how often it failed.
func (j *Jobs) recall(ctx context.Context, s *sources, one *job) (said bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last, err := s.results.GetLastMsgForSubject(ctx, j.resultSubject(one))
	switch {
	case err == nil && last.Header.Get(nats.MsgIdHdr) == j.delivery(one):
		return true, nil
	case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
		err = fmt.Errorf("stream %s: look for a result: %w", j.config.Results, err)
		j.fault(err)
		return false, err
	}
	one.failed, err = j.failures(ctx, one)
	return false, err
}

// conclude publishes a job's result.
func (j *Jobs) conclude(ctx context.Context, one *job, reply service.Reply, failure *service.Error) verdict {
	ctx = context.WithoutCancel(ctx) // what is committed is told, if there is any time left
	err := j.publish(ctx, one, reply, failure)
	if errors.Is(err, nats.ErrMaxPayload) || stream.TooLarge(err) { // it was stored when messages could be larger, or this stream takes only smaller ones
		if reply, err = service.ErrorReply(ErrResultGrown); err == nil {
			err = j.publish(ctx, one, reply, ErrResultGrown)
		}
	}
	if err != nil {
		err = fmt.Errorf("stream %s: publish a result: %w", j.config.Results, err)
		j.fault(err)
		return j.waiting(one, err)
	}
	if one.failed > 0 || one.meta.NumDelivered > 1 {
		if err := j.forgetFailures(ctx, one); err != nil {
			j.log.Debug("the failed attempts of a job are still counted", zap.String("script", one.script), zap.Error(err))
		}
	}
	if failure != nil {
		return verdict{outcome: outcomeFailed, err: failure}
	}
	return verdict{outcome: outcomeDone}
}

// ErrResultGrown is the failure of what was done when messages could be larger, or whose
// result is larger than the stream of results takes one.
var ErrResultGrown = service.Errorf(service.CodeTooLarge, "it was done, but its result does not fit one message of the stream of results")

func (j *Jobs) publish(ctx context.Context, one *job, reply service.Reply, failure *service.Error) error {
	msg := &nats.Msg{Subject: j.resultSubject(one), Header: reply.Header, Data: reply.Data}
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	msg.Header.Set(headerJob, one.key.ID)
	msg.Header.Set(headerAttempts, strconv.Itoa(one.failed+1))
	msg.Header.Set(nats.MsgIdHdr, j.delivery(one))
	reused := failure != nil && failure.Code == service.CodeConflict && !failure.Retryable
	if reused { // the other job's result is not to be replaced
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	}
	ctx, told := publishing(ctx)
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := j.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(j.config.Results))
	var refused *jetstream.APIError
	if reused && errors.As(err, &refused) && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return told(nil)
	}
	return told(err)
}

// delivery names the message that is the job, so that its result is stored
// once. It says no more than the job's stream and place in it.
func (j *Jobs) delivery(one *job) string {
	return fmt.Sprintf("%s.%d.%d", j.config.Stream, one.meta.Timestamp.UnixNano(), one.meta.Sequence.Stream)
}

// resultSubject is where a job's result goes.
func (j *Jobs) resultSubject(one *job) string {
	tokens := strings.Split(one.script, ".")
	for i := range tokens {
		tokens[i] = subject.Token(tokens[i])
	}
	script := strings.Join(tokens, ".")
	if len(script) > maxScriptToken {
		hash := sha256.Sum256([]byte(one.script))
		script = hex.EncodeToString(hash[:])
	}
	return j.config.Prefix + ".result." + script + "." + subject.Token(one.key.ID)
}

// backoff is between deliveries of a job that is not done yet.
func backoff(deliveries int) time.Duration {
	return wait.Backoff{First: 500 * time.Millisecond, Max: 15 * time.Second}.After(deliveries)
}

// record writes failures of our own, and everything for those who look for it.
func (j *Jobs) record(one *job, v verdict) {
	log := j.log.Debug
	var failure *service.Error
	if errors.As(v.err, &failure) && failure.Code == service.CodeInternal {
		log = j.log.Error
	}
	log("job "+v.outcome, zap.String("script", one.script), zap.Uint64("delivery", one.meta.NumDelivered),
		zap.Int("attempt", one.failed+1), zap.Duration("backoff", v.delay), zap.Error(v.err))
}
