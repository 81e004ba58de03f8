package service

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	settlePause = time.Millisecond
	// requestOverhead is what a request holds in memory besides its message.
	requestOverhead = 1 << 10
	// refusalBacklog is how many messages may wait for a look until refused
	// requests are dropped instead of answered: who floods loses answers then,
	// and not the others their requests.
	refusalBacklog = maxReceived / 4
)

func (e *endpoint) newQueue(work context.Context) *queue {
	q := &queue{
		serve:       func(batch []*Request) { e.serve(work, batch) },
		concurrency: e.Concurrency,
		maxBatch:    e.MaxBatch,
		maxWaiting:  e.host.waiting,
		share:       e.host.config.Share,
		lanes:       make(map[string]*lane),
		lines:       make(map[string]*line),
	}
	if e.Private != nil {
		q.maxWaitingPerKey = e.Private.MaxWaiting
	}
	return q
}

// receive has one message taken directly, or puts it into the queue, unless it
// may not be served.
func (e *endpoint) receive(q *queue, msg *nats.Msg) {
	defer e.handled.Add(1)
	if e.flood.again(msg.Subject) {
		e.host.metrics.drop(dropFlood)
		return
	}
	r := &Request{
		Subject:  msg.Subject,
		Tokens:   strings.Split(msg.Subject, ".")[e.literal:],
		Header:   msg.Header,
		Data:     msg.Data,
		Received: time.Now(),
		reply:    msg.Reply,
		nc:       e.nc,
		Budget:   e.host.config.Budget,
		endpoint: e,
	}
	why := e.host.unwelcome(msg)
	if e.Private == nil && why == "" && chunk(msg.Header) {
		why = dropNATS
	}
	if err := CheckHeaders(msg); err != nil && why == "" {
		e.refuse(r, msg.Sub, err)
		return
	}
	if e.Private != nil && e.Private.Direct != nil && (why == "" || why == dropNATS && r.NoResponders()) && e.direct(r) {
		return
	}
	if why == "" && r.reply == "" && (e.NoReply == nil || !e.NoReply(r)) {
		why = dropNoReply
	}
	if why != "" {
		e.host.metrics.drop(why)
		return
	}
	if err := e.admit(q, r, msg); err != nil {
		e.refuse(r, msg.Sub, err)
	}
}

// crowded reports whether so much waits for a look that refusals are not sent.
func crowded(sub *nats.Subscription) bool {
	waiting, _, _ := sub.Pending()
	return waiting > refusalBacklog
}

// errFlood refuses a request that is dropped in any case, so nobody reads it.
var errFlood = errors.New("too many requests are waiting")

// admit takes the memory that a request is in, and a place for it to wait.
func (e *endpoint) admit(q *queue, r *Request, msg *nats.Msg) error {
	place := Place{Owner: r.Subject}
	if e.Place != nil {
		place = e.Place(r)
	}
	r.Owner = place.Owner
	if !q.room(r.Owner) && crowded(msg.Sub) {
		return errFlood
	}
	if e.host.config.Refuse != nil && !e.ForOperators {
		if err := e.host.config.Refuse(); err != nil {
			return err
		}
	}
	if most := e.host.config.MaxBodyBytes; most > 0 && len(r.Data) > most {
		return Errorf(CodeTooLarge, "the request has %d bytes, and may have %d", len(r.Data), most)
	}
	r.memory = r.Memory()
	if err := r.memory.Grow(sizeOf(msg) + requestOverhead); err != nil {
		return err
	}
	return q.add(place, r)
}

// refuse answers a request that is not served, as long as nobody's requests are
// lost over that.
func (e *endpoint) refuse(r *Request, sub *nats.Subscription, err error) {
	if (err == errFlood || crowded(sub)) && r.answered.CompareAndSwap(false, true) {
		r.memory.Close()
		e.flood = floodBehind(r.Subject, r.Received)
		e.host.metrics.drop(dropFlood)
		return
	}
	r.Answer(Reply{}, err)
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
	return e.Private.Direct(r)
}

// settle returns when what has come by now was looked at. More may come all the
// time.
func (e *endpoint) settle(ctx context.Context) error {
	handled := e.handled.Load()
	waiting, _, err := e.subscription().Pending()
	for err == nil && !e.settled(handled, waiting) {
		if !wait.For(ctx, settlePause) {
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("receive %s: %w", e.Subject, err)
	}
	return nil
}

// settled reports whether everything has been looked at that had come when so
// many were handled and so many were waiting.
func (e *endpoint) settled(handled uint64, waiting int) bool {
	if e.handled.Load()-handled >= uint64(waiting) {
		return true
	}
	left, _, err := e.subscription().Pending()
	return err == nil && left == 0
}

func (e *endpoint) panicked(p any) {
	e.host.config.Logger.Error("a request handler panicked",
		zap.String("endpoint", e.Name), zap.Error(PanicError(p)), zap.Stack("stack"))
}

// serve hands a batch to the handler and answers what it leaves unanswered.
func (e *endpoint) serve(ctx context.Context, batch []*Request) {
	defer func() {
		if p := recover(); p != nil {
			e.panicked(p)
			answerAll(batch, errPanicked)
		}
	}()
	for _, r := range batch {
		e.waited.Observe(time.Since(r.Received).Seconds())
	}
	if ctx.Err() != nil {
		answerAll(batch, Errorf(CodeUnavailable, "pgbridge is stopping"))
		return
	}
	ctx = e.trace(ctx, batch)
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

// PanicError describes what a handler has panicked with; a value that is not the
// runtime's own may quote the request, so only its type is told.
func PanicError(p any) error {
	if err, ok := p.(runtime.Error); ok {
		return err
	}
	return fmt.Errorf("panic with a %T", p)
}

// Brought is how much memory a request takes that came some other way than to an
// endpoint, in bytes. Who made it counts it in [Request.Memory].
func (r *Request) Brought() int {
	return sizeOf(&nats.Msg{Subject: r.Subject, Header: r.Header, Data: r.Data}) + requestOverhead
}
