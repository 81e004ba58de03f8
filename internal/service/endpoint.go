package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

const (
	confirmTimeout = 2 * time.Second
	confirmPause   = 100 * time.Millisecond
	drainTimeout   = 2 * time.Second
	idleTimeout    = time.Minute
	settleTime     = 10 * time.Millisecond
)

// endpoint receives the requests of one subject:
//
//	not subscribed ──confirmed──► receiving ──ctx──► draining ──► end
//	      ▲                           │
//	      └────── retry ── refused ◄──┘
type endpoint struct {
	Endpoint
	service *Service
	literal int // tokens of the subject before its first wildcard
	problem atomic.Pointer[string]
	stats   stats
}

func newEndpoint(s *Service, config Endpoint) *endpoint {
	config.MaxBatch = cmp.Or(config.MaxBatch, 1)
	config.Concurrency = cmp.Or(config.Concurrency, defaultConcurrency)
	config.MaxWaiting = cmp.Or(config.MaxWaiting, defaultMaxWaiting)
	e := &endpoint{Endpoint: config, service: s, literal: literalTokens(config.Subject)}
	e.notSubscribed()
	return e
}

func literalTokens(subject string) int {
	n := 0
	for token := range strings.SplitSeq(subject, ".") {
		if token == "*" || token == ">" {
			break
		}
		n++
	}
	return n
}

func (e *endpoint) notSubscribed() {
	text := fmt.Sprintf("%s is not subscribed yet", e.Subject)
	e.problem.Store(&text)
}

// run serves the endpoint until ctx ends, then what it has received; work is
// the handlers' context.
func (e *endpoint) run(ctx, work context.Context) error {
	q := &queue{
		serve:            func(batch []*Request) { e.serve(work, batch) },
		concurrency:      e.Concurrency,
		maxBatch:         e.MaxBatch,
		maxWaiting:       e.MaxWaiting,
		maxWaitingPerKey: e.MaxWaitingPerKey,
		lanes:            make(map[string]*lane),
	}
	defer q.wait()
	defer e.notSubscribed()
	for ctx.Err() == nil {
		err := e.subscribe(ctx, q)
		if !errors.Is(err, nats.ErrPermissionViolation) {
			return err
		}
		e.refused(err)
		pause(ctx, e.service.retry)
	}
	return nil
}

func (e *endpoint) refused(err error) {
	text := fmt.Sprintf("NATS refuses subscribing %s: %v", e.Subject, err)
	if old := e.problem.Swap(&text); old == nil || *old != text {
		e.service.config.Logger.Warn("NATS refuses a subscription",
			zap.String("subject", e.Subject), zap.Error(err), zap.Duration("backoff", e.service.retry))
	}
}

// subscribe holds one subscription and queues what it brings, until ctx ends
// and nothing is left to receive, or NATS refuses it, or the connection is
// closed.
func (e *endpoint) subscribe(ctx context.Context, q *queue) error {
	sub, err := e.service.nc.QueueSubscribeSync(e.Subject, e.service.config.QueueGroup)
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", e.Subject, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	defer context.AfterFunc(ctx, func() { e.stop(sub) })()
	if err := e.confirm(ctx); err != nil {
		return err
	}
	wait := settleTime // a refusal is known by now and comes at once
	for {
		msg, err := sub.NextMsg(wait)
		switch {
		case err == nil:
			e.receive(q, msg)
		case errors.Is(err, nats.ErrTimeout):
		case errors.Is(err, nats.ErrSlowConsumer):
			e.service.metrics.drop(dropSlowConsumer)
		case ctx.Err() != nil:
			return nil // drained
		default:
			return fmt.Errorf("receive %s: %w", e.Subject, err)
		}
		if wait == settleTime && ctx.Err() == nil {
			wait = idleTimeout
			e.problem.Store(nil)
		}
	}
}

// stop ends a subscription; what the server has sent by now is still received.
func (e *endpoint) stop(sub *nats.Subscription) {
	e.notSubscribed()
	if e.service.nc.IsConnected() {
		_ = sub.Drain()
		time.AfterFunc(drainTimeout, func() { _ = sub.Unsubscribe() })
	} else { // Drain would wait for the link
		_ = sub.Unsubscribe()
	}
}

// confirm returns when the server has seen the subscription. It waits for a
// connection as long as ctx lets it.
func (e *endpoint) confirm(ctx context.Context) error {
	for ctx.Err() == nil {
		err := e.service.flush(ctx, confirmTimeout)
		if err == nil {
			return nil
		}
		if e.service.nc.IsClosed() {
			return fmt.Errorf("subscribe %s: %w", e.Subject, err)
		}
		pause(ctx, confirmPause)
	}
	return nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// receive puts one message into the queue, unless its answer may not be sent.
func (e *endpoint) receive(q *queue, msg *nats.Msg) {
	if msg.Reply != "" && !e.service.replyAllowed(msg.Reply) {
		e.service.metrics.drop(dropReplySubject)
		return
	}
	r := &Request{
		Subject:  msg.Subject,
		Tokens:   strings.Split(msg.Subject, ".")[e.literal:],
		Header:   msg.Header,
		Data:     msg.Data,
		Received: time.Now(),
		reply:    msg.Reply,
		endpoint: e,
	}
	key := ""
	if e.Key != nil {
		key = e.Key(r)
	}
	if err := q.add(key, r); err != nil {
		r.Answer(Reply{}, err)
	}
}

// serve hands a batch to the handler and answers what it leaves unanswered.
func (e *endpoint) serve(ctx context.Context, batch []*Request) {
	defer func() {
		if p := recover(); p != nil {
			e.service.config.Logger.Error("a request handler panicked",
				zap.String("endpoint", e.Name), zap.Error(panicError(p)), zap.Stack("stack"))
			answerAll(batch, errPanicked)
		}
	}()
	if ctx.Err() != nil {
		answerAll(batch, Errorf(CodeUnavailable, "pgbridge is stopping"))
		return
	}
	e.Handler(ctx, slices.Clone(batch)) // it may reorder or filter its own
	answerAll(batch, errUnanswered)
}

func answerAll(batch []*Request, err error) {
	for _, r := range batch {
		r.Answer(Reply{}, err)
	}
}

var (
	errUnanswered = errors.New("the handler gave no answer")
	errPanicked   = errors.New("the handler panicked")
)

// panicError describes a panic; a value that is not the runtime's own may
// quote the request, so only its type is told.
func panicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return err
	}
	return fmt.Errorf("panic with a %T", p)
}

// answer sends what r's sender gets to see, and counts and logs the outcome.
func (e *endpoint) answer(r *Request, reply Reply, err error) {
	if err == nil {
		err = e.send(r, reply)
	}
	if err == nil {
		e.record(r, codeOK)
		return
	}
	failure := AsError(err)
	e.record(r, failure.Code)
	e.log(r, failure)
	if reply, err = failure.Reply(); err == nil {
		err = e.send(r, reply)
	}
	if err != nil {
		e.service.config.Logger.Warn("an error reply was not sent", e.subject(r), zap.Error(err))
	}
}

// subject is the log field that tells what was asked.
func (e *endpoint) subject(r *Request) zap.Field {
	if e.SecretSubjects {
		return zap.String("subject", e.Subject)
	}
	return zap.String("subject", r.Subject)
}

func (e *endpoint) record(r *Request, code Code) {
	took := time.Since(r.Received)
	e.stats.add(code, took)
	e.service.metrics.served(e.Name, code, took)
}

// log writes failures of our own, and those of which nobody else hears.
func (e *endpoint) log(r *Request, failure *Error) {
	log := e.service.config.Logger.Debug
	switch {
	case failure.Code == CodeInternal:
		log = e.service.config.Logger.Error
	case r.reply == "":
		log = e.service.config.Logger.Warn
	}
	log("request failed", zap.String("endpoint", e.Name), e.subject(r), zap.Error(failure))
}

// send publishes an answer; it does nothing when nobody waits for one. An
// answer that does not fit a message is the handler's defect.
func (e *endpoint) send(r *Request, reply Reply) error {
	if r.reply == "" {
		return nil
	}
	header := reply.Header
	if e.Header != nil {
		header = merge(header, e.Header(r))
	}
	err := e.service.nc.PublishMsg(&nats.Msg{Subject: r.reply, Header: header, Data: reply.Data})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("publish a reply of %d bytes: %w", len(reply.Data), err)
	}
	return Errorf(CodeUnavailable, "the reply cannot be sent").WithCause(err)
}

// merge adds more to header, which may be nil, and returns it.
func merge(header, more nats.Header) nats.Header {
	if header == nil {
		return more
	}
	maps.Copy(header, more)
	return header
}
