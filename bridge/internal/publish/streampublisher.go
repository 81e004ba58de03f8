package publish

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	ackTimeout = 5 * time.Second
	streamTick = 100 * time.Millisecond
	// refusedTick is the same while NATS refuses something: its word against a message comes
	// as no answer to that.
	refusedTick = 5 * time.Millisecond
)

// StreamPublisher publishes to the event stream, many messages in flight.
//
// Each message carries its id and names its predecessor's, so a message that
// was lost on the way stops the ones after it instead of being overtaken. The
// first after every doubt names the stream's last sequence instead; on a
// replicated stream every message does, since nats-server 2.15 stops such a
// stream for good when it refuses a predecessor's id
// (https://github.com/nats-io/nats-server/blob/v2.15.2/server/jetstream_cluster.go,
// applyStreamMsgOp), while it refuses a sequence before it is replicated. After a
// refusal, a lost connection or a missing acknowledgement the publisher reads
// the stream's last id, drops what it finds stored, and sends the rest again.
//
// An item leaves the flight only when the stream has acknowledged it. When the
// process dies, what is in flight is stored or not; the gap of the next start
// or takeover covers it.
type StreamPublisher struct {
	NC      *nats.Conn
	Stream  *EventStream
	Queue   *queue.Queue
	Seq     *sequence.Sequencer
	Lease   *lease.Lease
	Encoder *event.Encoder
	Log     *zap.Logger
	Problem *problem.Problem
	Refused *problem.Problem // on some subjects nothing is taken
	Latency prometheus.Observer
	Sweeper *catchup.Sweeper

	acks      chan *nats.Msg
	inbox     string // acknowledgements come to <inbox>.<run>.<number>
	state     streamState
	intake    intake
	flight    flight
	run       run
	tail      streamTail
	storedID  string // of the last message known to be stored
	gaps      uint64 // ids given to gaps, and to rows of scripts
	retry     wait.Retry
	notBefore time.Time // of the next look at the stream's end

	batch      *batch // of this run
	batchCount uint64
	batchless  time.Time // until then, none is tried

	refused       refusals
	lastViolation error // of permissions, that the connection told of
	lost          losses
	announceAt    time.Time // not before

	proof    queue.Proof // of what is acknowledged
	admitted uint64      // number of the last item that the flight took
	after    string      // the position behind which the next message is sent
	place    place
}

// run is a sequence of messages that continues the stream's end where it was
// read. It ends with a doubt.
type run struct {
	number     uint64 // counts runs
	reconnects uint64 // of the connection
	sent       uint64 // messages
	lastID     string // of the last message sent; empty: none yet
	progress   time.Time
	// window is how many items may be unacknowledged. It begins with one, so that
	// a stream which still refuses is not sent everything again and again, and
	// grows by one with each acknowledgement, which doubles it in a round trip.
	window  int
	batched bool // all of it goes in batches
}

func (p *StreamPublisher) become(o streamOccasion) { p.state = p.state.after(o) }

// silence says why no acknowledgement may have come.
func (p *StreamPublisher) silence() error {
	if err := p.NC.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return fmt.Errorf("no acknowledgement from stream %s within %s", p.Stream.name(), ackTimeout)
}

// doubt ends the run: what of the flight is stored must be found out.
func (p *StreamPublisher) doubt(err error) {
	p.become(endUnknown)
	p.Problem.Set(p.Log, err)
}

// abandonFlight lets go of items from before a discard: another replica
// publishes them.
func (p *StreamPublisher) abandonFlight() {
	p.Queue.Release(p.flight.apart())
	p.flight.reset()
	clear(p.lost)
	p.refused = refusals{}
	p.Refused.Clear(p.Log)
	p.become(endUnknown)
}

func (p *StreamPublisher) id(it *event.Item) string {
	switch it.Kind {
	case event.KindEvent:
		if it.CaughtUp() {
			p.gaps++
			return event.RowID(it, p.place.salt+p.gaps)
		}
		return event.ID(it)
	case event.KindGap:
		p.gaps++
		return it.Epoch.ID + "." + it.Route.Token + ".gap." + strconv.FormatUint(p.place.salt+p.gaps, 10)
	}
	return ""
}

// advance lets go of the acknowledged head of the flight.
func (p *StreamPublisher) advance() {
	now := time.Now()
	var released int64
	passed := false
	for f := p.flight.first(); f != nil; f = p.flight.first() {
		released += f.Apart()
		passed = true
		p.prove(f)
		switch f.Kind {
		case event.KindEvent:
			f.Deliver(now)
			p.Latency.Observe(now.Sub(f.Received).Seconds())
		case event.KindGap:
			f.Counters.Gap(f.Gap)
		case event.KindMarker:
			if f.Open == "" {
				p.Queue.Pass(f.Epoch)
			}
		}
		p.stored(&f.Item)
		if f.id != "" {
			p.storedID = f.id
		}
		p.flight.pop()
	}
	if !passed {
		return
	}
	if p.flight.len() == 0 && p.intake.empty() {
		p.proof.Number = max(p.proof.Number, p.admitted) // past what was lost
	}
	p.Queue.Prove(p.proof)
	p.Problem.Clear(p.Log)
	if released > 0 {
		p.Queue.Release(released)
	}
	p.Seq.Relaxed(p.Queue)
}

// prove takes note of an item that is stored.
func (p *StreamPublisher) prove(f *flying) {
	p.proof.Open = f.Open
	p.proof.Number = max(p.proof.Number, f.Number)
	p.proof.Seq = max(p.proof.Seq, f.seq)
	switch {
	case f.Kind == event.KindMarker:
		p.proof.Position = f.Epoch.ID
	case f.Kind == event.KindEvent && !f.CaughtUp():
		p.proof.Position = f.id
	case f.Number == 0: // a gap or a row
		p.place.apart = p.proof.Number
	}
}

// stored forgets what was refused once it is not.
func (p *StreamPublisher) stored(it *event.Item) {
	if p.refused.empty() {
		return
	}
	p.refused.stored(it.Subject())
	if p.refused.empty() {
		p.Refused.Clear(p.Log)
	}
}

// takeOver puts the gaps of a takeover in its place.
func (p *StreamPublisher) takeOver(it *event.Item) {
	gaps := it.Takeover.Found
	if it.Number == p.place.lost {
		gaps = it.Takeover.Lost
	}
	gaps = p.place.announced(gaps)
	p.Queue.Hold(event.Size(gaps))
	marker := *it
	marker.Kind = event.KindMarker
	p.intake.unread(append(gaps, marker)...)
}
