package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	ackTimeout  = 5 * time.Second
	syncTimeout = 5 * time.Second
	streamTick  = 100 * time.Millisecond
)

// streamPublisher publishes to the event stream, many messages in flight.
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
type streamPublisher struct {
	nc      *nats.Conn
	stream  *eventStream
	queue   *queue
	seq     *sequencer
	lease   *lease
	encoder *encoder
	log     *zap.Logger
	trouble *trouble
	latency observer

	acks       chan *nats.Msg
	inbox      string // acknowledgements come to <inbox>.<run>.<number>
	flight     flight
	taken      []item // a chunk of the queue
	rest       []item // what of it is not in the flight yet
	generation uint64 // of the queue, for taken and flight
	held       bool   // the lease, when last looked at
	synced     bool   // tail is known and the flight's run continues it
	tail       streamTail
	runs       uint64 // counts synchronisations
	reconnects uint64 // of the connection, in this run
	sent       uint64 // messages, in this run
	lastID     string // of the last message sent in this run; empty: none yet
	storedID   string // of the last message known to be stored
	progress   time.Time
	gaps       uint64 // ids given to gaps
	retry      backoff
	notBefore  time.Time // of the next synchronisation
}

// run publishes until the queue is closed and all of it acknowledged, or ctx
// ends.
func (p *streamPublisher) run(ctx context.Context) error {
	p.inbox = p.nc.NewInbox()
	p.acks = make(chan *nats.Msg, 2*flightItems)
	sub, err := p.nc.ChanSubscribe(p.inbox+".>", p.acks)
	if err != nil {
		return fmt.Errorf("subscribe for acknowledgements: %w", err)
	}
	defer sub.Unsubscribe()
	for ctx.Err() == nil {
		p.look()
		if !p.synced && p.nc.IsConnected() && time.Now().After(p.notBefore) {
			p.sync(ctx)
		}
		if p.synced && p.held {
			p.fill()
		}
		if p.flight.len() == 0 && len(p.rest) == 0 && p.queue.drained() {
			return nil
		}
		p.wait(ctx)
	}
	return nil
}

// look notices what changed around the publisher.
func (p *streamPublisher) look() {
	if !p.queue.current(p.generation) {
		p.abandon(p.queue.generation.Load())
	}
	if valid := p.lease.valid(); valid != p.held {
		p.held = valid
		if valid {
			p.synced, p.storedID = false, "" // another replica may have published meanwhile
		}
	}
	switch {
	case !p.synced:
	case p.nc.Stats().Reconnects != p.reconnects:
		p.doubt(errLinkBroke)
	case p.flight.unacked() > 0 && time.Since(p.progress) > ackTimeout:
		p.doubt(p.silence())
	case p.stream.changed() && p.flight.unacked() == 0:
		p.synced = false
	}
}

// silence says why no acknowledgement may have come.
func (p *streamPublisher) silence() error {
	if err := p.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return err
	}
	return fmt.Errorf("no acknowledgement from stream %s within %s", p.stream.config.Name, ackTimeout)
}

// doubt ends the run: what of the flight is stored must be found out.
func (p *streamPublisher) doubt(err error) {
	p.synced = false
	p.trouble.set(p.log, err)
}

// abandon lets go of items from before a discard: another replica publishes them.
func (p *streamPublisher) abandon(generation uint64) {
	p.queue.release(p.flight.bytes + sizeOf(p.rest))
	p.flight.reset()
	p.dropTaken()
	p.synced = false
	p.generation = generation
}

func (p *streamPublisher) dropTaken() {
	if p.taken != nil {
		p.queue.give(p.taken)
	}
	p.taken, p.rest = nil, nil
}

// sync finds the stream's end and begins a new run after it.
func (p *streamPublisher) sync(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	reconnects := p.nc.Stats().Reconnects
	tail, err := p.stream.open(limited)
	if err != nil {
		if ctx.Err() == nil {
			p.trouble.set(p.log, err)
			sleep(ctx, p.retry.next(), nil)
		}
		return
	}
	if p.held && !p.tail.created.IsZero() && !tail.created.IsZero() && !tail.created.Equal(p.tail.created) {
		p.log.Error("the stream was deleted and made anew, its events are gone", zap.String("stream", p.stream.config.Name))
		p.seq.streamLost()
	}
	p.reconcile(tail)
	if !p.held && !p.tail.created.IsZero() {
		tail.created = p.tail.created // a loss is the publishing replica's to announce, or ours later
	}
	p.tail, p.reconnects = tail, reconnects
	p.runs++
	p.lastID, p.sent, p.synced, p.progress = "", 0, true, time.Now()
	if p.flight.len() == 0 {
		p.trouble.clear(p.log)
	}
}

// reconcile drops from the flight what the stream has, and takes the rest back.
func (p *streamPublisher) reconcile(tail streamTail) {
	known := tail.id == "" || tail.id == p.storedID || p.storedID == ""
	if tail.id != "" && p.flight.storedUpTo(tail.id) {
		known = true
		p.advance()
	}
	if p.held && (!known || tail.foreign) {
		p.log.Warn("the stream has a message that this replica did not publish", zap.String("stream", p.stream.config.Name))
	}
	p.storedID = tail.id
	p.flight.rewind()
}

// fill moves items from the queue into the flight and sends them.
func (p *streamPublisher) fill() {
	for !p.stream.changed() && p.flight.hasRoom() {
		it := p.next()
		if it == nil {
			break
		}
		p.flight.add(*it, p.id(it))
	}
	for p.synced && p.flight.unsent() {
		if err := p.send(p.flight.takeOff()); err != nil {
			p.doubt(err)
		}
	}
	p.advance() // past markers, which nobody acknowledges
}

func (p *streamPublisher) next() *item {
	if len(p.rest) == 0 {
		p.dropTaken()
		items, generation := p.queue.take()
		if generation != p.generation {
			p.abandon(generation)
		}
		if p.taken, p.rest = items, items; items == nil {
			return nil
		}
	}
	it := &p.rest[0]
	p.rest = p.rest[1:]
	return it
}

func (p *streamPublisher) id(it *item) string {
	switch it.kind {
	case itemEvent:
		return eventID(it)
	case itemGap:
		p.gaps++
		return it.epoch.id + "." + it.route.token + ".gap." + strconv.FormatUint(p.gaps, 10)
	}
	return ""
}

func (p *streamPublisher) send(f *flying, number uint64) error {
	if f.kind == itemMarker {
		f.acked = true
		return nil
	}
	m := p.encoder.encode(&f.item, f.id)
	p.encoder.set(headerMsgID, f.id)
	if p.lastID == "" || p.tail.replicated {
		p.encoder.set(headerLastSeq, strconv.FormatUint(p.tail.seq+p.sent, 10))
	} else {
		p.encoder.set(headerLastMsgID, p.lastID)
	}
	m.Reply = p.replySubject(number)
	if p.flight.unacked() == 1 {
		p.progress = time.Now()
	}
	err := p.nc.PublishMsg(m)
	if errors.Is(err, nats.ErrMaxPayload) && f.kind == itemEvent {
		f.item = tooLarge(f.item)
		return p.send(f, number)
	}
	p.lastID = f.id
	p.sent++
	return err
}

// tooLarge is the gap that takes the place of an event which no message holds.
func tooLarge(it item) item {
	l := loss{reason: ReasonOverflow, since: it.epoch.time, dropped: 1}
	g := l.gap(it.route.channel, it.epoch.clock.bound(it.received))
	it.kind, it.gap = itemGap, &g
	it.stats.dropped.Add(1)
	it.stats.gap(ReasonOverflow)
	return it
}

func (p *streamPublisher) replySubject(number uint64) string {
	b := make([]byte, 0, 64)
	b = append(b, p.inbox...)
	b = append(b, '.')
	b = strconv.AppendUint(b, p.runs, 36)
	b = append(b, '.')
	return string(strconv.AppendUint(b, number, 36))
}

// wait handles acknowledgements, and returns when there may be something else
// to do.
func (p *streamPublisher) wait(ctx context.Context) {
	ready := p.queue.ready
	if !p.synced || !p.held || !p.flight.hasRoom() || len(p.rest) > 0 && p.flight.len() > 0 {
		ready = nil
	}
	tick := time.NewTimer(streamTick)
	defer tick.Stop()
	select {
	case <-ctx.Done():
	case <-tick.C:
	case <-ready:
	case m := <-p.acks:
		p.acknowledged(m)
		for range len(p.acks) {
			p.acknowledged(<-p.acks)
		}
		p.advance()
	}
}

// acknowledged takes one answer of the stream. Answers to earlier runs say
// nothing about this one.
func (p *streamPublisher) acknowledged(m *nats.Msg) {
	run, number, err := parseReply(strings.TrimPrefix(m.Subject, p.inbox+"."))
	if err != nil || run != p.runs || !p.synced {
		return
	}
	if err := ackError(m); err != nil {
		p.doubt(err)
		p.notBefore = time.Now().Add(p.retry.next()) // it may refuse for long, as when it is full
		return
	}
	p.flight.ack(number)
	p.progress = time.Now()
	p.retry.reset()
}

func parseReply(rest string) (run, number uint64, err error) {
	r, n, _ := strings.Cut(rest, ".")
	run, err1 := strconv.ParseUint(r, 36, 64)
	number, err2 := strconv.ParseUint(n, 36, 64)
	return run, number, errors.Join(err1, err2)
}

var errNoStream = errors.New("no stream takes the subject")

// ackError returns the stream's refusal, if it is one.
func ackError(m *nats.Msg) error {
	if len(m.Data) == 0 {
		return errNoStream
	}
	if !bytes.Contains(m.Data, []byte(`"error"`)) {
		return nil
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if answer.Error == nil {
		return nil // a stream named error
	}
	return answer.Error
}

// advance lets go of the acknowledged head of the flight.
func (p *streamPublisher) advance() {
	now := time.Now()
	var released int64
	for f := p.flight.first(); f != nil; f = p.flight.first() {
		released += f.size()
		switch f.kind {
		case itemEvent:
			f.stats.published.Add(1)
			p.latency.observe(now.Sub(f.received))
		case itemMarker:
			p.queue.pass(f.epoch)
		}
		if f.id != "" {
			p.storedID = f.id
		}
		p.flight.pop()
	}
	if released > 0 {
		p.trouble.clear(p.log)
		p.queue.release(released)
		p.seq.relaxed(p.queue)
	}
}

func sizeOf(items []item) int64 {
	var n int64
	for i := range items {
		n += items[i].size()
	}
	return n
}
