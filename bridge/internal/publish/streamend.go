package publish

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// readEnd finds the stream's end and begins a run after it.
func (p *StreamPublisher) readEnd(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, p.Stream.patience())
	defer cancel()
	reconnects := p.NC.Stats().Reconnects
	tail, err := p.Stream.open(limited)
	if err != nil {
		if ctx.Err() == nil {
			p.Problem.Set(p.Log, err)
			p.notBefore = time.Now().Add(p.retry.Next())
		}
		return
	}
	if !p.Lease.Valid() { // it ended meanwhile, and this may be the end of a successor's
		p.become(leaseEnded)
	}
	if reconnects != p.run.reconnects {
		p.refused.renew()
	}
	switch behind := p.behind(tail); {
	case !behind:
		p.place.behind = time.Time{}
	case p.place.behind.IsZero():
		p.place.behind = time.Now()
		fallthrough
	case time.Since(p.place.behind) < behindFor:
		p.notBefore = time.Now().Add(behindFor / 4)
		return
	}
	switch {
	case !p.Queue.Kept():
		p.reconcile(tail)
	case !p.goOn(limited, tail):
		return
	}
	p.compare(tail)
	if !p.state.leased() && !p.tail.created.IsZero() {
		tail.created = p.tail.created // a loss is the publishing replica's to announce, or ours later
	}
	p.tail = tail
	if !p.proof.Created.Equal(tail.created) {
		p.proof.Created, p.proof.Seq = tail.created, tail.seq
	}
	p.after = p.proof.Position
	p.run = run{number: p.run.number + 1, reconnects: reconnects, progress: time.Now(), window: 1,
		batched: tail.batched && time.Now().After(p.batchless)}
	p.batch = nil
	p.become(endRead)
	if p.flight.len() == 0 {
		p.Problem.Clear(p.Log)
	}
}

// compare announces the loss of a stream that is not the one it was, before
// everything that the new one gets.
func (p *StreamPublisher) compare(tail streamTail) {
	if !p.state.leased() || p.tail.created.IsZero() || tail.created.IsZero() || tail.created.Equal(p.tail.created) {
		return
	}
	p.Log.Error("the stream was deleted and made anew, its events are gone", zap.String("stream", p.Stream.name()))
	gaps := p.Seq.StreamLost()
	p.Queue.Hold(event.Size(gaps))
	p.takeBack(gaps...)
}

// reconcile drops from the flight what the stream has, and takes the rest back.
func (p *StreamPublisher) reconcile(tail streamTail) {
	if !p.place.behind.IsZero() {
		p.place.behind = time.Time{}
		p.undo(tail)
		p.storedID = tail.id
		return
	}
	known := tail.id == "" || tail.id == p.storedID || p.storedID == ""
	if tail.id != "" && (p.flight.storedUpTo(tail.id, tail.seq) || !known && p.takenBackIsStored(tail.id, tail.seq)) {
		known = true
		p.advance()
	}
	if !known {
		number := p.findStored(tail)
		known = number != 0 && number >= p.proof.Number && p.goTo(tail, number)
	}
	if p.state.leased() && (!known || tail.foreign) {
		p.Log.Warn("the stream has a message that this replica did not publish", zap.String("stream", p.Stream.name()))
	}
	p.storedID = tail.id
	p.flight.rewind()
}

// takenBackIsStored lets go of what was taken back from the flight and is stored.
func (p *StreamPublisher) takenBackIsStored(id string, seq uint64) bool {
	p.intake.pause() // or some of it would be out of sight
	stored := p.intake.storedUpTo(id, flightItems-p.flight.len())
	for i := range stored {
		p.flight.add(stored[i], p.id(&stored[i]))
	}
	return len(stored) > 0 && p.flight.storedUpTo(id, seq)
}
