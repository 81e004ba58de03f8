package publish

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/stream"
)

const (
	// batchFrom is how many messages must wait for a batch of many.
	batchFrom = 256
	// batchIdle is how long the end of a batch of many may stay open with nothing
	// to follow. It happens only where something else than a message came last.
	batchIdle = 100 * time.Millisecond
	// batchStale is after how long a batch is not continued: the server ends one
	// after ten seconds without a message.
	batchStale = 2 * time.Second
	// batchlessFor is how long no batch is tried where the server takes none.
	batchlessFor = time.Minute
)

// replySubject is where the answer to the flight's item of this number comes.
func (p *StreamPublisher) replySubject(number uint64) string {
	if !p.run.batched {
		return p.ownReply(number)
	}
	if !p.batchGoesOn() {
		p.batchCount++
		flow := uint64(1)
		if min(p.flight.waiting(), p.run.window) >= batchFrom {
			flow = batchFlow
		}
		p.batch = newBatch(p.inbox, p.batchCount, number, flow)
	}
	return p.batch.next(p.endsBatch(p.batch))
}

func (p *StreamPublisher) batchGoesOn() bool {
	b := p.batch
	return b != nil && !b.closed && (b.unacked() > 0 || time.Since(b.last) < batchStale)
}

// batchTakes reports whether a message may be sent now. A batch may begin only
// when everything before it is acknowledged: its first message would be stored
// though the one before was refused, if a stranger's took that one's place.
func (p *StreamPublisher) batchTakes() bool {
	if !p.run.batched || p.batchGoesOn() {
		return true
	}
	p.advance()
	return p.flight.unacked() == 0
}

// endsBatch reports whether the message that is about to be sent is to be the
// batch's last. A batch with a flow of one ends when many wait, one of many when
// no more do, or when no more may be sent before some are acknowledged.
func (p *StreamPublisher) endsBatch(b *batch) bool {
	if b.flow == 1 {
		return b.sent > 0 && min(p.flight.waiting(), p.run.window) >= batchFrom
	}
	if p.flight.unacked() >= p.run.window || !p.flight.unsentMessages() && !p.flight.hasRoom() {
		return b.unacked()+1 < b.flow
	}
	return !p.flight.unsentMessages() && (p.intake.sweeping() || p.intake.empty() && !p.Queue.Waiting())
}

// settleBatch looks the end of a batch up where no message came that ends it.
func (p *StreamPublisher) settleBatch() {
	b := p.batch
	if b == nil || b.closed || b.flow == 1 || p.flight.unsent() || time.Since(b.last) < batchIdle {
		return
	}
	if p.batch = nil; p.flight.unacked() > 0 {
		p.become(endUnknown)
	}
}

// batchAnswered takes an answer to a batch. False means that it is none.
func (p *StreamPublisher) batchAnswered(m *nats.Msg, rest string) bool {
	if !strings.HasSuffix(rest, ".$FI") {
		return false
	}
	b := p.batch
	if id, _, _ := strings.Cut(rest, "."); b == nil || b.id != id || !p.state.knowsEnd() {
		return true // of an earlier one
	}
	if !stream.Answers(m, p.Stream.name()) {
		return true
	}
	a, err := parseBatchAnswer(m)
	switch {
	case err != nil:
		p.refusedWith(p.numberOf(b, b.acked+1), err)
	case a.Error != nil:
		p.batchRefused(b, a)
	case a.Type == "ack":
		b.flow = max(a.Messages, 1)
		p.ackBatch(b, a.Sequence)
	case a.Type == "gap":
		p.doubt(errBatchGap)
	default:
		p.ackBatch(b, a.Count)
		if !b.closed || b.unacked() > 0 {
			p.doubt(errBatchCut)
		}
		p.batch = nil
	}
	return true
}

var (
	errBatchGap = errors.New("a message of a batch was lost on the way")
	errBatchCut = errors.New("the server ended a batch early")
)

// batchRefused takes the refusal of a message of a batch, or of batches.
func (p *StreamPublisher) batchRefused(b *batch, a batchAnswer) {
	if a.Error.ErrorCode == codeUnknownBatch { // it was idle for longer than the server allows
		p.become(endUnknown)
		return
	}
	if slices.Contains(batchCodes(), a.Error.ErrorCode) {
		p.batchless = time.Now().Add(batchlessFor)
		p.doubt(fmt.Errorf("fast batch: %w", a.Error))
		return
	}
	p.refusedWith(p.numberOf(b, max(a.Sequence, 1)), a.Error)
}

// codeUnknownBatch is nats-server's JSBatchPublishUnknownBatchIDErr.
const codeUnknownBatch jetstream.ErrorCode = 10208

// batchCodes are nats-server's for batches that are not allowed, not well-formed,
// or too many (server/errors.json).
func batchCodes() []jetstream.ErrorCode {
	return []jetstream.ErrorCode{10205, 10206, 10207, 10211}
}

// ackBatch acknowledges the first so many messages of a batch.
func (p *StreamPublisher) ackBatch(b *batch, upTo uint64) {
	p.run.progress = time.Now()
	before := b.acked
	b.cursor = max(b.cursor, p.flight.head) // past markers that have left
	for ; b.acked < min(upTo, b.sent) && b.cursor < p.flight.sent; b.cursor++ {
		if f := p.flight.at(b.cursor); f.Kind != event.KindMarker {
			f.acked = true
			b.acked++
		}
	}
	if n := int(b.acked - before); n > 0 {
		p.run.window = min(p.run.window+n, flightItems)
		p.retry.Proved()
	}
}

// numberOf returns the number in the flight of a message of a batch.
func (p *StreamPublisher) numberOf(b *batch, sequence uint64) uint64 {
	left := sequence - min(b.acked+1, sequence)
	for n := max(b.cursor, p.flight.head); n < p.flight.sent; n++ {
		if p.flight.at(n).Kind == event.KindMarker {
			continue
		}
		if left == 0 {
			return n
		}
		left--
	}
	return p.flight.sent
}

// ownReply is where the answer to an item that goes alone comes.
func (p *StreamPublisher) ownReply(number uint64) string {
	b := make([]byte, 0, 64)
	b = append(b, p.inbox...)
	b = append(b, '.')
	b = strconv.AppendUint(b, p.run.number, 36)
	b = append(b, '.')
	return string(strconv.AppendUint(b, number, 36))
}
