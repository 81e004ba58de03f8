package publish

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// turnPoll is how often a replica that is about to publish looks whether it may.
const turnPoll = 20 * time.Millisecond

// awaitTurn waits until the queue is not a ring any more, or something else may be
// done.
func (p *CorePublisher) awaitTurn(ctx context.Context) {
	clear(p.lost) // named in the last word, or within the gap of who publishes now
	switch over := p.Queue.Over(); {
	case over == 0:
		wait.ForOr(ctx, time.Hour, p.Queue.Ready)
	case !p.Lease.Valid() || !p.goOn(over):
		wait.ForOr(ctx, turnPoll, p.Queue.Ready)
	}
}

// goOn goes on where the replica before said that it stops. Where it could not say
// so, nobody knows what arrived.
func (p *CorePublisher) goOn(over uint64) bool {
	generation := p.Queue.Generation()
	at := p.Seq.PlaceInCore()
	gaps := append(p.Seq.OpenGaps(p.Queue, at.Open), at.Lost...)
	p.place.lost = 0
	if at.Number == 0 {
		at.Number, p.place.lost, gaps = over, over, nil
	}
	p.place.unsaid = p.place.lost != 0 || len(at.Lost) > 0
	p.doubtful = p.place.unsaid
	p.Queue.Expose(p.doubtful) // before this replica's own word counts
	if !p.Queue.Resume(generation, at.Number) {
		return false
	}
	p.number, p.proof = at.Number-1, p.Queue.Proven()
	if p.place.lost != 0 {
		p.proof = queue.Proof{}
	}
	p.lose(gaps)
	p.Log.Info("took over core NATS", zap.Bool("found", p.place.lost == 0), zap.Int("gaps", len(gaps)))
	return true
}

// takeOver puts the gaps of a takeover in its place.
func (p *CorePublisher) takeOver(it *event.Item) {
	if it.Number == p.place.lost {
		p.lose(it.Takeover.Lost)
		return
	}
	p.lose(it.Takeover.Found)
}

// lose makes gaps losses, which are announced before anything else is published.
func (p *CorePublisher) lose(gaps []event.Item) {
	for i := range gaps {
		p.lost.add(&gaps[i], 0, gaps[i].Gap.Reason, false)
	}
}
