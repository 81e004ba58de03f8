package publish

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
)

// This file is how the publisher goes on where another replica stopped, or where the
// stream has lost what it had acknowledged.

// trimEvery is how often a full ring is compared with the stream.
const trimEvery = time.Second

// goOn finds what of the ring the stream has, and takes the rest. False means that
// it has to be asked again.
func (p *StreamPublisher) goOn(ctx context.Context, tail streamTail) bool {
	leased := p.state.leased()
	p.place.trimmed = time.Now()
	if !leased && !p.Queue.Full() {
		return true
	}
	generation, over := p.Queue.Generation(), p.Queue.Over()
	find := p.Seq.PlaceInStream
	if !leased {
		find = p.Seq.StoredInStream
	}
	at, err := find(p.end(ctx, tail))
	switch {
	case err != nil:
		p.Problem.Set(p.Log, err)
		p.notBefore = time.Now().Add(p.retry.Next())
		return false
	case !leased:
		if at.Number > 0 {
			p.Queue.Prove(queue.Proof{Position: at.Position, Created: tail.created, Seq: at.Seq, Open: at.Open, Number: at.Number - 1})
			p.Seq.Relaxed(p.Queue)
		}
		return true
	case over == 0:
		return false // another replica publishes after all
	}
	gaps := p.Seq.OpenGaps(p.Queue, at.Open)
	p.place.lost, p.place.undone = 0, at.Undone
	if at.Number == 0 {
		at.Number, p.place.lost, gaps = over, over, nil
	}
	p.intake.renew()
	p.Queue.Release(p.flight.apart())
	p.flight.reset()
	if !p.Queue.Resume(generation, at.Number) {
		return false
	}
	p.intake.generation = generation
	p.storedID, p.admitted, p.place.apart = tail.id, at.Number-1, 0
	p.proof = queue.Proof{Position: at.Position, Open: at.Open, Created: tail.created, Seq: tail.seq, Number: at.Number - 1}
	if p.place.lost != 0 {
		p.proof.Number = 0 // nothing is proved before its gaps are stored
	}
	p.Queue.Hold(event.Size(gaps))
	p.takeBack(gaps...)
	p.Log.Info("took over the stream", zap.String("stream", p.Stream.name()), zap.Bool("found", p.place.lost == 0))
	return true
}

// end is the stream as the sequencer asks for it.
func (p *StreamPublisher) end(ctx context.Context, tail streamTail) sequence.Stream {
	read := map[uint64]*storedMessage{}
	lowest := tail.seq + 1
	message := func(seq uint64) (sequence.Stored, bool, error) {
		if seq < lowest {
			n := uint64(1)
			if lowest <= tail.seq { // the last one was not enough
				n = tailSearch
			}
			found, err := p.Stream.messages(ctx, seq, n)
			if err != nil {
				return sequence.Stored{}, false, err
			}
			lowest = seq - min(n, seq) + 1
			for _, m := range found {
				read[m.sequence()] = m
			}
		}
		m := read[seq]
		if m == nil {
			return sequence.Stored{}, false, nil
		}
		delete(read, seq)
		return sequence.Stored{ID: m.id(), After: m.header(event.HeaderAfter), Open: event.Open(m.header(event.HeaderOpen))}, true, nil
	}
	return sequence.Stream{Created: tail.created, Seq: tail.seq, Message: message}
}

// messages reads n messages of the stream, the newest with this sequence. One that
// it does not have is nil.
func (s *EventStream) messages(ctx context.Context, newest, n uint64) ([]*storedMessage, error) {
	reader := endReader{nc: s.js.Conn(), request: apiPrefix(s.js) + "STREAM.MSG.GET." + s.name()}
	var requests []messageRequest
	for seq := newest; seq > 0 && uint64(len(requests)) < n; seq-- {
		requests = append(requests, messageRequest{Seq: seq})
	}
	found, err := reader.getAll(ctx, requests...)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errNoStream
	}
	return found, err
}

// behindFor is how long a stream has to be seen to end before what it had
// acknowledged: a server that has just begun to lead it may not have all of it yet.
const behindFor = time.Second

// behind reports whether the stream ends before what it had acknowledged.
func (p *StreamPublisher) behind(tail streamTail) bool {
	return p.state.leased() && !p.Queue.Kept() && p.proof.Created.Equal(tail.created) && tail.seq < p.proof.Seq
}

// undo publishes again what the stream had acknowledged and does not have, as after
// the crash of its host. What is not kept any more is announced.
func (p *StreamPublisher) undo(tail streamTail) {
	number := p.findStored(tail)
	again := number != 0 && number >= p.place.apart && p.goTo(tail, number)
	p.Log.Error("the stream lost messages that it had acknowledged", zap.String("stream", p.Stream.name()), zap.Bool("published_again", again))
	p.proof.Seq = tail.seq
	if again {
		return
	}
	gaps := p.Seq.StreamLost()
	p.Queue.Hold(event.Size(gaps))
	p.takeBack(gaps...)
}

// findStored returns the number of the stream's last message, 0 if it is not here.
func (p *StreamPublisher) findStored(tail streamTail) uint64 {
	at, ok := event.ParsePosition(tail.id)
	if !ok || tail.foreign {
		return 0
	}
	return p.Queue.Find(at)
}

// goTo goes on behind the item with this number, unless something would be
// forgotten by it that was never queued.
func (p *StreamPublisher) goTo(tail streamTail, number uint64) bool {
	if p.flight.apart() > 0 || p.intake.apart() > 0 || !p.Queue.Rewind(number+1) {
		return false
	}
	p.flight.reset()
	p.intake.renew()
	p.proof.Position, p.proof.Number, p.admitted = tail.id, number, number
	return true
}
