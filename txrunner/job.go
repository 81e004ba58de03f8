package txrunner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/subject"
)

const (
	headerJob      = "Pgbridge-Job"
	headerAttempts = "Pgbridge-Attempts"

	publishTimeout = 5 * time.Second
	firstJobDelay  = 500 * time.Millisecond
	maxJobDelay    = 15 * time.Second

	// maxScriptToken is how much of a script's name that does not exist goes
	// into a subject: longer ones than 4 KiB would cost the connection.
	maxScriptToken = 1024
)

// job is one delivery of a job.
type job struct {
	msg     jetstream.Msg
	meta    *jetstream.MsgMetadata
	verb    string // run, or an extension's
	script  string
	key     *messageID
	refused error // why its id is not one; nil: it is
	failed  int   // attempts before this one
}

// verdict is what becomes of a delivery.
type verdict struct {
	outcome string
	delay   time.Duration // until it is delivered again, unless it is over
	err     error         // why it is not done
}

// serve runs a job and either ends it or hands it back.
func (j *jobs) serve(ctx context.Context, msg jetstream.Msg) {
	s := j.sources.Load()
	j.metrics.running.Inc()
	defer j.metrics.running.Dec()
	defer keepAlive(ctx, msg, s.ackWait)()
	one, err := j.identify(ctx, msg)
	if err != nil {
		j.fault(err)
		_ = msg.NakWithDelay(jobDelay(1)) // lost, it is delivered again a little later
		return
	}
	v := j.settle(ctx, s, one)
	j.metrics.jobs.WithLabelValues(v.outcome).Inc()
	j.record(one, v)
	switch {
	case v.outcome == jobDone || v.outcome == jobFailed:
		_ = msg.Ack() // lost, the next delivery finds the result
	case ctx.Err() != nil: // another replica may have it at once
		_ = msg.Nak()
	default:
		_ = msg.NakWithDelay(v.delay)
	}
}

// keepAlive tells JetStream every now and then that a job is under way, until
// the function that it returns is called.
func keepAlive(ctx context.Context, msg jetstream.Msg, wait time.Duration) func() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var signals sync.WaitGroup
	signals.Go(func() {
		for sleep(ctx, wait/3) {
			_ = msg.InProgress() // lost, there is another in time
		}
	})
	return func() {
		cancel()
		signals.Wait()
	}
}

// identify reads what the job is.
func (j *jobs) identify(ctx context.Context, msg jetstream.Msg) (*job, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("stream %s: read a job: %w", j.config.Stream.Name, err)
	}
	one := &job{msg: msg, meta: meta}
	one.verb, one.script, _ = strings.Cut(strings.TrimPrefix(msg.Subject(), j.subject()+"."), ".")
	one.key, one.refused = j.newKey(one, msg.Headers().Get(nats.MsgIdHdr))
	if one.key != nil {
		return one, nil
	}
	id, err := j.serial(ctx, meta)
	if err != nil {
		return nil, err
	}
	one.key, err = j.newKey(one, id)
	return one, err
}

func (j *jobs) newKey(one *job, id string) (*messageID, error) {
	return newMessageID(j.prefix(), "", kindJob, one.script, id, one.msg.Data())
}

// serial names a job without an id of its own. The stream is asked every time:
// one that was deleted and made anew counts from 1 again, and under its old
// creation time new jobs would be taken for old ones.
func (j *jobs) serial(ctx context.Context, meta *jetstream.MsgMetadata) (string, error) {
	info, err := j.streamInfo(ctx)
	if err != nil {
		return "", fmt.Errorf("stream %s: look up its creation time: %w", j.config.Stream.Name, err)
	}
	if meta.Timestamp.Before(info.Created) {
		return "", fmt.Errorf("stream %s: it was deleted while a job was taken", j.config.Stream.Name)
	}
	return fmt.Sprintf("%d.%d", info.Created.UnixNano(), meta.Sequence.Stream), nil
}

// settle brings a job to its end as far as that is possible now.
func (j *jobs) settle(ctx context.Context, s *sources, one *job) verdict {
	if one.meta.NumDelivered > 1 {
		said, err := j.recall(ctx, s, one)
		if said || err != nil {
			return j.waiting(one, err)
		}
	}
	body, failure := j.execute(ctx, one)
	if failure == nil {
		return j.conclude(ctx, one, service.Reply{Data: body}, nil)
	}
	switch failure.Code {
	case service.CodeDenied: // the table of ids went away
		j.fault(errors.New(failure.Message))
		return j.waiting(one, failure)
	case service.CodeUnavailable, service.CodeBusy, service.CodeUnknown:
		return j.waiting(one, failure)
	}
	if errors.Is(failure, errIDHeld) { // what has the job elsewhere may commit yet
		return j.waiting(one, failure)
	}
	if failure.Retryable {
		failed, err := j.countFailure(context.WithoutCancel(ctx), one)
		if err != nil {
			return j.waiting(one, err)
		}
		if failed < j.config.Attempts {
			return verdict{jobRetried, jobDelay(failed), failure}
		}
		one.failed = failed - 1
	}
	reply, err := failure.Reply()
	if err != nil {
		return j.waiting(one, err)
	}
	return j.conclude(ctx, one, reply, failure)
}

// waiting hands a job back without an attempt used up; without an error it is
// over already.
func (j *jobs) waiting(one *job, err error) verdict {
	if err == nil {
		return verdict{outcome: jobDone}
	}
	return verdict{jobWaiting, jobDelay(int(one.meta.NumDelivered)), err}
}

// recall looks up what is known of a job that was delivered before: whether its
// last word was said, and how often it failed.
func (j *jobs) recall(ctx context.Context, s *sources, one *job) (said bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	last, err := s.results.GetLastMsgForSubject(ctx, j.resultSubject(one))
	switch {
	case err == nil && last.Header.Get(nats.MsgIdHdr) == j.delivery(one):
		return true, nil
	case err != nil && !errors.Is(err, jetstream.ErrMsgNotFound):
		err = fmt.Errorf("stream %s: look for a result: %w", j.config.Results.Name, err)
		j.fault(err)
		return false, err
	}
	one.failed, err = j.failures(ctx, one)
	return false, err
}

// execute runs a job. What it stores makes it safe to call again.
func (j *jobs) execute(ctx context.Context, one *job) (body []byte, failure *service.Error) {
	defer func() {
		if p := recover(); p != nil {
			j.log.Error("a job panicked", zap.String("script", one.script), zap.Any("error", p), zap.Stack("stack"))
			failure = service.Errorf(service.CodeInternal, "internal error, see the log of pgbridge")
		}
	}()
	if one.refused != nil {
		return nil, service.AsError(one.refused)
	}
	request := &service.Request{
		Subject: one.msg.Subject(), Header: one.msg.Headers(), Data: one.msg.Data(), Received: time.Now(),
	}
	var err error
	if one.verb == kindRun {
		body, err = j.executeRun(ctx, one, request)
	} else {
		body, err = j.executeTask(ctx, one, request)
	}
	if err != nil {
		return nil, service.AsError(err)
	}
	return body, nil
}

func (j *jobs) executeRun(ctx context.Context, one *job, request *service.Request) ([]byte, error) {
	c, err := j.runner.newCall(address{script: one.script}, request)
	if err != nil {
		return nil, err
	}
	c.id = one.key
	done, err := j.runner.run(ctx, j.runner.work, c, nil)
	return done.body, err
}

func (j *jobs) executeTask(ctx context.Context, one *job, request *service.Request) ([]byte, error) {
	e := j.runner.extension(one.verb)
	if e == nil || e.Job == nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "there are no jobs of the kind %q", one.verb)
	}
	task, err := j.runner.newTask(e, nil, address{script: one.script}, request)
	if err != nil {
		return nil, err
	}
	task.call.id = one.key
	return e.Job(ctx, task)
}

// conclude publishes a job's last word.
func (j *jobs) conclude(ctx context.Context, one *job, reply service.Reply, failure *service.Error) verdict {
	ctx = context.WithoutCancel(ctx) // what is committed is told, if there is any time left
	err := j.publish(ctx, one, reply, failure)
	if errors.Is(err, nats.ErrMaxPayload) { // it was stored when messages could be larger
		if reply, err = errResultGrown.Reply(); err == nil {
			err = j.publish(ctx, one, reply, errResultGrown)
		}
	}
	if err != nil {
		err = fmt.Errorf("stream %s: publish a result: %w", j.config.Results.Name, err)
		j.fault(err)
		return j.waiting(one, err)
	}
	if one.failed > 0 {
		if err := j.forgetFailures(ctx, one); err != nil {
			j.log.Debug("the failures of a job stay counted", zap.String("script", one.script), zap.Error(err))
		}
	}
	if failure != nil {
		return verdict{outcome: jobFailed, err: failure}
	}
	return verdict{outcome: jobDone}
}

var errResultGrown = service.Errorf(service.CodeTooLarge, "it was done, but its stored result does not fit one message any more")

func (j *jobs) publish(ctx context.Context, one *job, reply service.Reply, failure *service.Error) error {
	msg := &nats.Msg{Subject: j.resultSubject(one), Header: reply.Header, Data: reply.Data}
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	msg.Header.Set(headerJob, one.key.id)
	msg.Header.Set(headerAttempts, strconv.Itoa(one.failed+1))
	msg.Header.Set(nats.MsgIdHdr, j.delivery(one))
	reused := failure != nil && failure.Code == service.CodeConflict && !failure.Retryable
	if reused { // the other job's result is not to be replaced
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	_, err := j.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(j.config.Results.Name))
	var refused *jetstream.APIError
	if reused && errors.As(err, &refused) && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) {
		return nil
	}
	return err
}

// delivery names the message that is the job, so that its result is stored
// once. It says no more than the job's stream and place in it.
func (j *jobs) delivery(one *job) string {
	return fmt.Sprintf("%s.%d.%d", j.config.Stream.Name, one.meta.Timestamp.UnixNano(), one.meta.Sequence.Stream)
}

// resultSubject is where a job's last word goes.
func (j *jobs) resultSubject(one *job) string {
	tokens := strings.Split(one.script, ".")
	for i := range tokens {
		tokens[i] = subject.Token(tokens[i])
	}
	script := strings.Join(tokens, ".")
	if len(script) > maxScriptToken {
		hash := sha256.Sum256([]byte(one.script))
		script = hex.EncodeToString(hash[:])
	}
	return j.prefix() + ".result." + script + "." + subject.Token(one.key.id)
}

// jobDelay returns a random wait that grows with the attempts.
func jobDelay(attempt int) time.Duration { // from 1
	limit := min(firstJobDelay<<min(attempt-1, 16), maxJobDelay)
	return limit/2 + rand.N(limit/2)
}

// record writes failures of our own, and everything for those who look for it.
func (j *jobs) record(one *job, v verdict) {
	log := j.log.Debug
	var failure *service.Error
	if errors.As(v.err, &failure) && failure.Code == service.CodeInternal {
		log = j.log.Error
	}
	log("job "+v.outcome, zap.String("script", one.script), zap.Uint64("delivery", one.meta.NumDelivered),
		zap.Int("attempt", one.failed+1), zap.Duration("backoff", v.delay), zap.Error(v.err))
}
