package publish

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/problem"
)

const (
	verifyBytes   = 1 << 20                // unverified at the most
	verifyAfter   = 100 * time.Millisecond // the window stays open while events keep coming
	linger        = 20 * time.Millisecond  // the next event may come, and save a ping
	verifyTimeout = 4 * time.Second
	lossTick      = 500 * time.Millisecond
)

// CorePublisher publishes with core NATS.
//
// A nil error from Publish only means "buffered". So it keeps what it
// published in a window until the server has answered a ping on the same
// unbroken connection; where that fails, nobody knows what arrived, and each
// channel in the window gets a gap. It never publishes an event twice.
type CorePublisher struct {
	NC      *nats.Conn
	Queue   *queue.Queue
	Seq     *sequence.Sequencer
	Lease   *lease.Lease
	Encoder *event.Encoder
	Log     *zap.Logger
	Refused *problem.Problem
	Latency prometheus.Observer
	Sweeper *catchup.Sweeper

	coreRefusals
	window      []event.Item
	windowBytes int64
	opened      time.Time // the window
	sent        []sending // of the window, in order
	reconnects  uint64    // of the connection, when the window was opened
	lost        losses
	sweeping    *event.Item // the gap whose rows are being published; nil: none
	rows, salt  uint64      // of scripts: how many were published, and what no other replica adds to it
	announceAt  time.Time   // not before
	number      uint64      // of the last item that is in the window, or was
	proof       queue.Proof // of what arrived
	place       place
	doubtful    bool // of the last window nobody knows whether it arrived
}

// sending says when the window's items were published, from one on.
type sending struct {
	from int
	at   time.Time
}

// publish puts one item into the window; false means not now. It says that it may
// have published something before it looks whether it may: so whoever ends the lease
// and finds nothing said knows that nothing will be published.
func (p *CorePublisher) publish(it *event.Item) bool {
	if !p.Queue.Intent.Allows(it) {
		return false
	}
	if p.refusedJustNow(it) {
		p.lost.add(it, 1, api.ReasonNATSUnavailable, true)
		return p.passed(it)
	}
	p.verifyEach(it.Route)
	if len(p.window) == 0 {
		p.Queue.Expose(true)
	}
	if !p.Lease.Valid() || !p.announce(it.Route) {
		if len(p.window) == 0 {
			p.Queue.Expose(p.doubtful)
		}
		return false
	}
	switch err := p.send(it); {
	case err == nil:
		p.keep(it)
	case errors.Is(err, nats.ErrMaxPayload): // it never will
		p.lost.add(it, 1, api.ReasonOverflow, true)
		return p.passed(it)
	default:
		return false
	}
	p.number = max(p.number, it.Number)
	return true
}

// passed is done with an item that became a loss.
func (p *CorePublisher) passed(it *event.Item) bool {
	p.Queue.Release(it.Apart())
	p.number = max(p.number, it.Number)
	if len(p.window) == 0 {
		p.Queue.Expose(p.doubtful)
		p.Queue.Done(p.number)
	}
	return true
}

func (p *CorePublisher) send(it *event.Item) error {
	if len(p.window) == 0 {
		p.reconnects, p.opened = p.NC.Stats().Reconnects, time.Now()
	} else if !p.unbroken() {
		return errLinkBroke // what may be lost is announced first
	}
	if it.Kind == event.KindMarker || it.Kind == event.KindTakeover {
		return nil
	}
	id := ""
	if it.Kind == event.KindEvent && it.Route.Envelope != event.EnvelopeRaw {
		id = p.id(it)
	}
	m := p.Encoder.Encode(it, id)
	if len(m.Header) == 0 {
		return p.NC.Publish(m.Subject, m.Data)
	}
	return p.NC.PublishMsg(m)
}

func (p *CorePublisher) id(it *event.Item) string {
	if !it.CaughtUp() {
		return event.ID(it)
	}
	p.rows++
	return event.RowID(it, p.salt+p.rows)
}

// dueRoute is one whose script is to be run before anything else is published, or before
// the next item's, nil if there is none.
func (p *CorePublisher) dueRoute(next *event.Route) *event.Route {
	if u := p.lost[next]; u != nil && u.sweep {
		return next
	}
	if len(p.lost) == 0 || time.Now().Before(p.announceAt) {
		return nil
	}
	return p.lost.unswept()
}

// refusedJustNow reports whether NATS takes nothing on an item's subject, by its own word
// of a moment ago. What comes there until that is announced is lost, too.
func (p *CorePublisher) refusedJustNow(it *event.Item) bool {
	subject := p.lost.refused(it.Route)
	return subject != "" && time.Now().Before(p.announceAt) && subject == it.Subject()
}

func (p *CorePublisher) noteTime() { p.sent = append(p.sent, sending{len(p.window), time.Now()}) }

func (p *CorePublisher) keep(it *event.Item) {
	if len(p.sent) == 0 { // the window is a new one
		p.noteTime()
	}
	p.window = append(p.window, *it)
	p.windowBytes += it.Size()
}

// announce publishes the gaps of what was lost on the way, before anything
// else, or for a while after a refusal the gap of the next item's route alone; false
// means not now.
func (p *CorePublisher) announce(next *event.Route) bool {
	if len(p.lost) == 0 {
		return true
	}
	routes := slices.Collect(maps.Keys(p.lost))
	if time.Now().Before(p.announceAt) {
		routes = slices.DeleteFunc(routes, func(r *event.Route) bool { return r != next || p.lost.refused(r) == r.GapSubject })
	}
	for _, r := range routes {
		p.verifyEach(r)
		it := p.lost.gap(r)
		if it.Sweep {
			continue // its rows come first
		}
		if !p.Lease.Valid() || p.send(&it) != nil {
			return false
		}
		p.Queue.Hold(it.Size())
		p.keep(&it)
		delete(p.lost, r)
		p.verifyEach(r)
		p.verifyEach(next)
	}
	return true
}

// verifyEach closes the window before and after each item for a while after a refusal
// that can have meant its route.
func (p *CorePublisher) verifyEach(route *event.Route) {
	if p.isolates(route) {
		p.verify()
	}
}

// verify asks the server whether the window arrived, and accounts for it.
func (p *CorePublisher) verify() {
	if len(p.window) == 0 {
		return
	}
	asked := time.Now()
	switch err := p.confirm(); {
	case err == nil:
		p.delivered(time.Since(asked))
	case errors.Is(err, nats.ErrPermissionViolation):
		p.refused()
	default:
		p.undelivered(event.UnknownCount, false)
	}
	p.Queue.Release(event.Apart(p.window))
	clear(p.window)
	p.window, p.sent, p.windowBytes = p.window[:0], p.sent[:0], 0
	p.Queue.Done(p.number)
	p.Seq.Relaxed(p.Queue)
}

var errLinkBroke = errors.New("the connection broke")

// confirm returns nil only if the server has received all of the window and
// refused none of it.
func (p *CorePublisher) confirm() error {
	if !p.NC.IsConnected() {
		return errLinkBroke
	}
	err := p.NC.FlushTimeout(verifyTimeout)
	if errors.Is(err, nats.ErrTimeout) {
		_ = p.NC.ForceReconnect() // frozen: its own pings would need longer
	}
	if err != nil || !p.unbroken() {
		return errLinkBroke
	}
	return p.latestRefusal(p.NC, p.Refused, p.Log)
}

// unbroken reports whether the connection is the one that the window was opened on.
func (p *CorePublisher) unbroken() bool { return p.NC.Stats().Reconnects == p.reconnects }

// refused makes the window lost: which of its items was meant is known where it is one.
func (p *CorePublisher) refused() {
	p.announceAt = time.Now().Add(announceEvery)
	p.suspect(p.window)
	// What goes to a stream is refused on the same connection.
	if len(p.window) > 1 || quoted(p.last.Error()) != p.window[0].Subject() {
		p.undelivered(event.UnknownCount, true)
		return
	}
	p.undelivered(1, true)
	p.lost.noteRefused(&p.window[0])
}

// delivered counts the window. An event took as long as it waited here and its
// confirmation took: that it was asked for later only saves some.
func (p *CorePublisher) delivered(confirmed time.Duration) {
	at := time.Now()
	sent := p.sent
	for i := range p.window {
		for len(sent) > 0 && sent[0].from <= i {
			at, sent = sent[0].at.Add(confirmed), sent[1:]
		}
		switch it := &p.window[i]; it.Kind {
		case event.KindEvent:
			it.Deliver(at)
			p.Latency.Observe(at.Sub(it.Received).Seconds())
		case event.KindGap:
			it.Counters.Gap(it.Gap)
		case event.KindMarker:
			if len(p.lost) == 0 && p.sweeping == nil && it.Open == "" {
				p.Queue.Pass(it.Epoch)
			}
		}
	}
	p.prove()
	p.doubtful = p.place.unsaid
	p.Queue.Expose(p.doubtful)
}

// prove says how far everything arrived or is a loss.
func (p *CorePublisher) prove() {
	for i := len(p.window) - 1; i >= 0; i-- {
		it := &p.window[i]
		position := ""
		switch it.Kind {
		case event.KindEvent:
			position = event.ID(it) // a row's Number is 0
		case event.KindMarker:
			position = it.Epoch.ID
		}
		if it.Number != 0 && position != "" {
			p.proof, p.place.unsaid = queue.Proof{Position: position, Open: it.Open, Number: it.Number}, false
			break
		}
	}
	proof := p.proof
	for r, u := range p.lost {
		proof.Open = proof.Open.With(r.Token, u.Since)
	}
	if g := p.sweeping; g != nil {
		proof.Open = proof.Open.With(g.Route.Token, event.LossOf(g.Gap).Since)
	}
	p.Queue.Prove(proof)
}

// undelivered makes the window lost, each item of which counts for so many events. refused
// says that NATS forbids it, and would again.
func (p *CorePublisher) undelivered(each int64, refused bool) {
	p.doubtful = true
	p.lost.addAll(p.window, each, api.ReasonNATSUnavailable, refused)
}
