package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// run serves the endpoint until ctx ends, then what it has received; work is
// the handlers' context.
func (e *endpoint) run(ctx, work context.Context) error {
	q := e.newQueue(work)
	defer q.wait()
	now := load(q.now)
	e.now.Store(&now)
	defer e.notSubscribed()
	if e.Private != nil && e.Private.Done != nil {
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
		wait.For(ctx, e.host.retry)
	}
	return nil
}

// linger returns a context that ends after ctx has, when nobody needs the
// endpoint any more or work is over.
func (e *endpoint) linger(ctx, work context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-e.Private.Done:
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
		e.host.config.Logger.Warn("NATS refuses a subscription",
			zap.String("subject", e.Subject), zap.Error(err), zap.Duration("backoff", e.host.retry))
	}
}

// subscribe holds one subscription and queues what it brings, until ctx ends
// and nothing is left to receive, or NATS refuses it, or the connection is
// closed.
//
// Messages come to a callback, because only there does nats.go bound the bytes
// that wait, and because NextMsg swallows NATS's word that nobody listens.
func (e *endpoint) subscribe(ctx context.Context, q *queue) error {
	drop(e.refusals)
	sub, err := e.nc.QueueSubscribe(e.Subject, e.queueGroup(), func(msg *nats.Msg) { e.receive(q, msg) })
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", e.Subject, err)
	}
	ended := make(chan struct{})
	// nats.go calls it twice for some kinds: for Drain, and for Unsubscribe.
	closed := sync.OnceFunc(func() { close(ended) })
	sub.SetClosedHandler(func(string) { closed() })
	if err := e.limit(sub); err != nil { // closed meanwhile
		return fmt.Errorf("subscribe %s: %w", e.Subject, err)
	}
	e.follow(sub)
	defer func() {
		_ = sub.Unsubscribe()
		<-ended
		e.countLost()
	}()
	defer context.AfterFunc(ctx, func() { e.stop(sub) })()
	if err := e.confirm(ctx); err != nil {
		return err
	}
	_ = e.limit(sub) // now that the server has said how long messages can be
	if ctx.Err() == nil {
		e.problem.Store(nil)
	}
	select {
	case err := <-e.refusals:
		return e.unless(ctx, err)
	case <-ended:
		if e.nc.IsClosed() {
			return fmt.Errorf("receive %s: %w", e.Subject, errors.Join(nats.ErrConnectionClosed, e.nc.LastError()))
		}
		return e.unless(ctx, fmt.Errorf("receive %s: %w", e.Subject, nats.ErrBadSubscription))
	}
}

// limit bounds what waits for a look.
func (e *endpoint) limit(sub *nats.Subscription) error {
	return sub.SetPendingLimits(maxReceived, max(maxReceivedBytes, minReceived*int(e.nc.MaxPayload())))
}

func drop(errs <-chan error) {
	select {
	case <-errs: //nolint:errcheck // a report that was looked at already
	default:
	}
}

// unless returns err, but nil where ctx has ended.
func (e *endpoint) unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stop ends a subscription; what the server has sent by now is still received.
func (e *endpoint) stop(sub *nats.Subscription) {
	e.notSubscribed()
	if e.nc.IsConnected() {
		_ = sub.Drain()
		time.AfterFunc(drainTimeout, func() { _ = sub.Unsubscribe() })
		return
	}
	// Drain would wait for the link.
	if err := e.nc.Barrier(func() { _ = sub.Unsubscribe() }); err != nil {
		_ = sub.Unsubscribe()
	}
}

// confirm returns when the server has seen the subscription. It waits for a
// connection as long as ctx lets it.
func (e *endpoint) confirm(ctx context.Context) error {
	for ctx.Err() == nil {
		err := flush(ctx, e.nc, confirmTimeout)
		if err == nil {
			return nil
		}
		if e.nc.IsClosed() {
			return fmt.Errorf("subscribe %s: %w", e.Subject, err)
		}
		wait.For(ctx, confirmPause)
	}
	return nil
}
