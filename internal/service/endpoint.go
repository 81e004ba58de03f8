package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	maxReceived    = 65_536 // messages that NATS has delivered and nobody has looked at
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

	lost     int                // messages of this subscription that found no room
	reported chan struct{}      // NATS has reported an error, of whatever
	settled  chan chan struct{} // to be closed when what has come was received
}

func newEndpoint(s *Service, config Endpoint) *endpoint {
	config.MaxBatch = cmp.Or(config.MaxBatch, 1)
	config.Concurrency = cmp.Or(config.Concurrency, defaultConcurrency)
	config.MaxWaiting = cmp.Or(config.MaxWaiting, defaultMaxWaiting)
	e := &endpoint{
		Endpoint: config, service: s, literal: literalTokens(config.Subject),
		reported: make(chan struct{}, 1), settled: make(chan chan struct{}),
	}
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
	if e.Linger != nil {
		var cancel context.CancelFunc
		ctx, cancel = e.linger(ctx, work)
		defer cancel()
	}
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

// linger returns a context that ends after ctx has, when nobody needs the
// endpoint any more or work is over.
func (e *endpoint) linger(ctx, work context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-e.Linger:
			cancel()
		case <-work.Done():
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
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
//
// Messages come through a channel of our own, because NextMsg swallows NATS's
// word that nobody listens, of which anybody can forge one. But only NextMsg
// tells of a refusal, so it is called when NATS has reported an error.
func (e *endpoint) subscribe(ctx context.Context, q *queue) error {
	messages, closed := make(chan *nats.Msg, maxReceived), make(chan struct{})
	sub, err := e.service.nc.ChanQueueSubscribe(e.Subject, e.queueGroup(), messages)
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", e.Subject, err)
	}
	sub.SetClosedHandler(func(string) { close(closed) })
	e.lost = 0
	defer func() {
		e.countLost(sub)
		_ = sub.Unsubscribe()
		e.receiveAll(q, messages)
	}()
	defer context.AfterFunc(ctx, func() { e.stop(sub) })()
	if err := e.confirm(ctx); err != nil {
		return err
	}
	if err := e.check(sub, q); err != nil { // a refusal is known by now
		return e.unless(ctx, err)
	}
	if ctx.Err() == nil {
		e.problem.Store(nil)
	}
	for {
		select {
		case msg := <-messages:
			e.receive(q, msg)
		case <-e.reported:
			if err := e.check(sub, q); err != nil {
				return e.unless(ctx, err)
			}
		case done := <-e.settled:
			e.receiveAll(q, messages)
			close(done)
		case <-closed:
			return e.unless(ctx, e.check(sub, q))
		}
	}
}

// receiveAll receives what has come already.
func (e *endpoint) receiveAll(q *queue, messages <-chan *nats.Msg) {
	for len(messages) > 0 {
		e.receive(q, <-messages)
	}
}

func (e *endpoint) queueGroup() string {
	if e.Alone {
		return ""
	}
	return e.service.config.QueueGroup
}

// unless returns err, but nil where ctx has ended.
func (e *endpoint) unless(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		return nil
	}
	return err
}

// countLost counts the messages that found no room.
func (e *endpoint) countLost(sub *nats.Subscription) {
	if lost, err := sub.Dropped(); err == nil && lost > e.lost {
		e.service.metrics.lose(lost - e.lost)
		e.lost = lost
	}
}

// check returns what NATS has against the subscription, and receives a message
// if there is one. It loses one that says that nobody listens.
func (e *endpoint) check(sub *nats.Subscription, q *queue) error {
	e.countLost(sub)
	msg, err := sub.NextMsg(time.Nanosecond)
	switch {
	case err == nil:
		e.receive(q, msg)
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrNoResponders):
	case errors.Is(err, nats.ErrSlowConsumer):
		e.service.config.Logger.Warn("requests are lost: they come faster than they can be refused", zap.String("subject", e.Subject))
	default:
		return fmt.Errorf("receive %s: %w", e.Subject, err)
	}
	return nil
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

// receive has one message taken directly, or puts it into the queue, unless its
// answer may not be sent.
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
	if e.Direct != nil && e.direct(r) {
		return
	}
	key := ""
	if e.Key != nil {
		key = e.Key(r)
	}
	if err := q.add(key, r); err != nil {
		r.Answer(Reply{}, err)
	}
}

// direct offers a request to the endpoint's Direct. One during which that
// panics is answered and not served.
func (e *endpoint) direct(r *Request) (taken bool) {
	defer func() {
		if p := recover(); p != nil {
			e.panicked(p)
			r.Answer(Reply{}, errPanicked)
			taken = true
		}
	}()
	return e.Direct(r)
}

func (e *endpoint) panicked(p any) {
	e.service.config.Logger.Error("a request handler panicked",
		zap.String("endpoint", e.Name), zap.Error(panicError(p)), zap.Stack("stack"))
}

// serve hands a batch to the handler and answers what it leaves unanswered.
func (e *endpoint) serve(ctx context.Context, batch []*Request) {
	defer func() {
		if p := recover(); p != nil {
			e.panicked(p)
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
