package durable

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	ackTimeout  = 5 * time.Second
	syncTimeout = 5 * time.Second
	tickEvery   = 100 * time.Millisecond
	drainLimit  = 2 * time.Second
)

var (
	errNotFound = errors.New("the slot does not give the stream's last message")
	errMoved    = errors.New("the stream has what this replica did not publish, or lost what it did")
	errLease    = errors.New("another replica publishes")
	errReload   = errors.New("the channels changed")
	errLink     = errors.New("the connection to NATS broke")
	errNoStream = errors.New("no stream takes the subject")
)

// publisher publishes one session's events, many in flight.
//
// Each message names the sequence of the stream's last one. So one that was
// lost on the way stops the ones after it, and an acknowledgement speaks for
// all before it. After a refusal, a lost connection or a silence the publisher
// reads the stream's end from its leader, drops what it finds stored, and sends
// the rest again.
//
// A predecessor that froze may wake up and send what it had read: several
// messages, each with the sequence that the one before would have had. For that
// to do no harm whichever of them the stream takes, a session first repeats
// exactly what its predecessor may have on its way: the events of the channels
// that it had, removed ones too, up to the end of the log when this session began
// (see [term]). What they
// wrote is the same then at every sequence, and once the session is beyond, the
// stream refuses all of it. Only then do new channels begin, with a gap. A gap
// travels alone, and no event follows it before the database remembers that it is
// announced, so that neither it nor its repetition moves the events of a predecessor.
type publisher struct {
	*Feed
	routes       *routes
	confirmation confirmation
	system       *wal.System
	log          *log
	created      string
	until        *position           // events up to this one are stored
	compare      *comparison         // nil: nothing to compare
	covers       position            // of a gap now: that of the last event
	carried      map[string]*carried // channels, by the prefixes of their messages
	terms        map[string]term     // the same, by name
	gaps         []gapFor            // still to be announced, in order of their places
	clock        time.Time           // PostgreSQL's, when the session began

	flight     flight
	rest       []wal.Event // of a batch, not yet in the flight
	base       uint64      // the stream's sequence before the message number first
	first      uint64
	lastID     string // of the last message known to be stored
	largest    int    // bytes of a message that the stream takes; not above zero: no limit
	forbidden  forbidden
	acks       chan *nats.Msg
	inbox      string
	run        uint64 // counts synchronisations
	reconnects uint64
	progress   time.Time
	doubt      error // what makes a look at the stream's end necessary
	retry      wait.Retry

	opened     time.Time // when PostgreSQL began to read the log for this session
	began      bool
	unsent     map[api.Reason]int // events that became gaps since they were told of
	toldUnsent time.Time
	stored     atomic.Pointer[row] // newest; nil: nothing in this session
	announced  wait.Signal         // raised when a gap is stored
	gapAt      uint64              // sequence of the last gap of gaps that is stored
	kept       atomic.Uint64       // sequence up to which the database remembers
	keptMore   wait.Signal         // raised when that is so
}

// sync finds out what of the flight is stored, and takes the rest back.
func (p *publisher) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	reconnects := p.NC.Stats().Reconnects
	t, err := p.log.tail(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return errMoved
	}
	if err != nil {
		p.doubt = err // and once more
		return nil
	}
	count := t.last - p.base // of messages stored since first
	if t.created != p.created || t.last < p.sequence(p.flight.head)-1 || count > p.flight.sent-p.first {
		return errMoved
	}
	want, certain := p.lastID, t.sequence == t.last
	if after := p.first + count; after > p.flight.head {
		want = p.flight.at(after - 1).id
		if !certain {
			return errMoved // what was stored is gone again, so nobody can say what it was
		}
	}
	if certain && want != "" && t.id != want {
		return errMoved
	}
	p.advance(p.first + count)
	if reconnects != p.reconnects { // another connection may have other permissions
		p.forbidden.clear()
	}
	p.base, p.first, p.reconnects, p.doubt, p.progress = t.last, p.flight.head, reconnects, nil, time.Now()
	p.run++
	p.flight.rewind()
	if p.flight.empty() { // else the next acknowledgement says that it is over
		p.Problem.Clear(p.Log)
	}
	return nil
}

// sequence is what the stream gives to a message of this number.
func (p *publisher) sequence(number uint64) uint64 { return p.base + (number - p.first) + 1 }

// advance lets go of the flight up to a number, and confirms what is safe.
func (p *publisher) advance(to uint64) {
	var last flying
	var confirm wal.LSN
	now := time.Now()
	for p.flight.head < to {
		sequence := p.sequence(p.flight.head)
		last = p.flight.pop()
		confirm = max(confirm, last.confirm)
		p.lastID = last.id
		if last.Kind == event.KindEvent {
			p.forbidden.stored(&last)
			last.Counters.Deliver(last.Received, now)
			p.Latency.Observe(now.Sub(last.Received).Seconds())
			p.trace(&last, now)
		}
		if p.flight.head == to {
			p.stored.Store(&row{created: p.created, sequence: sequence, id: last.id, committed: last.Origin.Committed, channels: p.routes.channels, owed: p.owed(), terms: p.terms})
		}
		if last.gap {
			p.gapAt = sequence
			p.announced.Raise()
		}
	}
	if confirm > 0 {
		p.confirmation.safe(confirm, now)
	}
}

// trace adds the span of an event that is stored.
func (p *publisher) trace(it *flying, now time.Time) {
	if p.Tracer != nil {
		p.Tracer.Published(it.Origin.Header, it.Received, now, attribute.String("pgbridge.channel", it.Route.Channel))
	}
}

// remembered reports whether the database knows of all gaps that are stored.
func (p *publisher) remembered() bool { return p.kept.Load() >= p.gapAt }

// tellOldest notes when the oldest event in flight committed.
func (p *publisher) tellOldest() {
	var at int64
	if !p.flight.empty() {
		at = p.flight.at(p.flight.head).Origin.Committed.UnixMicro()
	}
	p.oldest.Store(at)
}

// owed are the gaps that the stream does not have yet, after the flight has
// gone.
func (p *publisher) owed() map[string]api.Reason {
	owed := make(map[string]api.Reason, len(p.gaps))
	for _, g := range p.gaps {
		owed[g.channel] = g.reason
	}
	return owed
}
