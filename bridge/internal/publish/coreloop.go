package publish

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Run publishes until the queue is closed and empty, or ctx ends. What is
// queued then is lost; the gap of the next start covers it.
func (p *CorePublisher) Run(ctx context.Context) error {
	p.lost = losses{}
	p.salt = rand.Uint64N(1 << 52)
	defer p.Sweeper.Wait()
	for ctx.Err() == nil {
		items, generation := p.Queue.Take()
		switch {
		case items != nil:
			p.publishAll(ctx, items, generation)
			if time.Since(p.opened) > verifyAfter {
				p.verify()
			}
		case len(p.window) > 0:
			if !wait.ForOr(ctx, linger, p.Queue.Ready) {
				p.verify()
			}
		case p.Seq.Over() && p.Queue.Drained():
			return nil // the losses, too, are the next publishing replica's to announce
		case p.Queue.Kept():
			p.awaitTurn(ctx)
		case len(p.lost) > 0:
			wait.ForOr(ctx, lossTick, p.Queue.Ready)
			p.catchUp(ctx, nil, func() bool { return p.Queue.Current(generation) })
			p.announce(nil)
		case p.Queue.Drained():
			return nil
		default:
			wait.ForOr(ctx, time.Hour, p.Queue.Ready)
		}
	}
	return nil
}

// publishAll publishes a chunk, waiting as long as NATS or the lease is away.
func (p *CorePublisher) publishAll(ctx context.Context, items []event.Item, generation uint64) {
	wanted := func() bool { return p.Queue.Current(generation) }
	p.noteTime()
	for i := range items {
		it := &items[i]
		switch {
		case !wanted():
		case it.Kind == event.KindTakeover:
			p.takeOver(it)
		case it.Kind == event.KindGap && it.Sweep:
			p.lose(items[i : i+1])
			it = &event.Item{Kind: event.KindTakeover, Number: it.Number, Epoch: it.Epoch, Open: it.Open} // in its place, and no message
		}
		for !wanted() || !p.catchUp(ctx, it.Route, wanted) || !p.publish(it) {
			p.verify()
			if !p.Lease.Await(ctx, wanted, p.NC.IsConnected) {
				return
			}
			p.awaitIntent(ctx, it, wanted)
		}
		p.verifyEach(it.Route)
		if p.windowBytes >= verifyBytes {
			p.verify()
		}
	}
}

// awaitIntent waits until the other replicas can know that this item may be
// published.
func (p *CorePublisher) awaitIntent(ctx context.Context, it *event.Item, wanted func() bool) {
	for ctx.Err() == nil && wanted() && p.Lease.Valid() && !p.Queue.Intent.Allows(it) {
		p.Seq.WantIntent()
		wait.ForOr(ctx, turnPoll, p.Queue.Intent.Raised)
	}
}
