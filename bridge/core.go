package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

const (
	verifyBytes   = 1 << 20                // unverified at the most
	verifyAfter   = 100 * time.Millisecond // the window stays open while events keep coming
	linger        = time.Millisecond       // the next event may come, and save a ping
	verifyTimeout = 4 * time.Second
	carefulFor    = time.Minute // after a refusal, one event at a time
	announceEvery = time.Second // of a loss that goes on
)

// corePublisher publishes with core NATS.
//
// A nil error from Publish only means "buffered". So it keeps what it
// published in a window until the server has answered a ping on the same
// unbroken connection; where that fails, nobody knows what arrived, and each
// channel in the window gets a gap. It never publishes an event twice.
type corePublisher struct {
	nc      *nats.Conn
	queue   *queue
	seq     *sequencer
	lease   *lease
	encoder *encoder
	log     *zap.Logger
	refused *trouble
	latency observer

	window      []item
	windowBytes int64
	opened      time.Time // the window
	reconnects  uint64    // of the connection, when the window was opened
	lost        map[*route]*unsent
	announceAt  time.Time // not before
	lastRefusal error
	careful     time.Time // until then, a window holds one item
}

// unsent is a loss that happened on the way to NATS.
type unsent struct {
	loss
	stats *channelStats
	until time.Time
	epoch *epoch
}

// run publishes until the queue is closed and empty, or ctx ends. What is
// queued then is lost; the gap of the next start covers it.
func (p *corePublisher) run(ctx context.Context) error {
	p.lost = map[*route]*unsent{}
	for ctx.Err() == nil {
		items, generation := p.queue.take()
		switch {
		case items != nil:
			p.publishAll(ctx, items, generation)
			p.queue.give(items)
			if time.Since(p.opened) > verifyAfter {
				p.verify()
			}
		case len(p.window) > 0:
			if !sleep(ctx, linger, p.queue.ready) {
				p.verify()
			}
		case len(p.lost) > 0:
			sleep(ctx, controlTick, p.queue.ready)
			p.announce()
		case p.queue.drained():
			return nil
		default:
			sleep(ctx, time.Hour, p.queue.ready)
		}
	}
	return nil
}

// publishAll publishes a chunk, waiting as long as NATS or the lease is away.
func (p *corePublisher) publishAll(ctx context.Context, items []item, generation uint64) {
	wanted := func() bool { return p.queue.current(generation) }
	for i := range items {
		for !wanted() || !p.publish(&items[i]) {
			p.verify()
			if !p.lease.await(ctx, wanted, p.nc.IsConnected) {
				p.queue.release(sizeOf(items[i:]))
				return
			}
		}
		p.apart()
		if p.windowBytes >= verifyBytes {
			p.verify()
		}
	}
}

// publish puts one item into the window; false means not now.
func (p *corePublisher) publish(it *item) bool {
	if !p.lease.valid() || !p.announce() {
		return false
	}
	switch err := p.send(it); {
	case err == nil:
		p.keep(it)
	case errors.Is(err, nats.ErrMaxPayload): // it never will
		p.lose(it, 1, ReasonOverflow)
		p.queue.release(it.size())
	default:
		return false
	}
	return true
}

func (p *corePublisher) send(it *item) error {
	if len(p.window) == 0 {
		p.reconnects, p.opened = p.nc.Stats().Reconnects, time.Now()
	}
	if it.kind == itemMarker {
		return nil
	}
	id := ""
	if it.kind == itemEvent && it.route.config.Envelope != EnvelopeRaw {
		id = eventID(it)
	}
	m := p.encoder.encode(it, id)
	if len(m.Header) == 0 {
		return p.nc.Publish(m.Subject, m.Data)
	}
	return p.nc.PublishMsg(m)
}

func (p *corePublisher) keep(it *item) {
	p.window = append(p.window, *it)
	p.windowBytes += it.size()
}

// announce publishes the gaps of what was lost on the way, before anything
// else; false means not now.
func (p *corePublisher) announce() bool {
	if len(p.lost) == 0 || time.Now().Before(p.announceAt) {
		return true
	}
	for _, r := range slices.Collect(maps.Keys(p.lost)) {
		u := p.lost[r]
		g := u.gap(r.channel, u.until)
		it := item{kind: itemGap, route: r, stats: u.stats, epoch: u.epoch, gap: &g}
		if !p.lease.valid() || p.send(&it) != nil {
			return false
		}
		p.queue.bytes.Add(it.size())
		p.keep(&it)
		u.stats.gap(u.reason)
		delete(p.lost, r)
		p.apart()
	}
	return true
}

// apart closes the window after each item while refusals are about: in one that
// holds more, nobody knows which was refused.
func (p *corePublisher) apart() {
	if !p.careful.IsZero() {
		p.verify()
	}
}

// verify asks the server whether the window arrived, and accounts for it.
func (p *corePublisher) verify() {
	if len(p.window) == 0 {
		return
	}
	switch err := p.confirm(); {
	case err == nil:
		p.delivered()
	case errors.Is(err, nats.ErrPermissionViolation):
		each := int64(unknownCount)
		if len(p.window) == 1 {
			each = 1
		}
		p.undelivered(each)
		p.announceAt = time.Now().Add(announceEvery)
	default:
		p.undelivered(unknownCount)
	}
	clear(p.window)
	p.window = p.window[:0]
	p.queue.release(p.windowBytes)
	p.windowBytes = 0
	p.seq.relaxed(p.queue)
}

var errLinkBroke = errors.New("the connection broke")

// confirm returns nil only if the server has received all of the window and
// refused none of it.
func (p *corePublisher) confirm() error {
	if !p.nc.IsConnected() {
		return errLinkBroke
	}
	err := p.nc.FlushTimeout(verifyTimeout)
	if errors.Is(err, nats.ErrTimeout) {
		p.nc.ForceReconnect() // frozen: its own pings would need longer
	}
	if err != nil || p.nc.Stats().Reconnects != p.reconnects {
		return errLinkBroke
	}
	return p.refusal()
}

// refusal returns the server's refusal to let us publish, if one came since
// the last call. The server sends it before it answers the ping.
func (p *corePublisher) refusal() error {
	err := p.nc.LastError()
	if err == p.lastRefusal || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), "publish") {
		if !p.careful.IsZero() && time.Now().After(p.careful) {
			p.careful = time.Time{}
			p.refused.clear(p.log)
		}
		return nil
	}
	p.lastRefusal = err
	p.careful = time.Now().Add(carefulFor)
	p.refused.set(p.log, err)
	return err
}

func (p *corePublisher) delivered() {
	now := time.Now()
	for i := range p.window {
		switch it := &p.window[i]; it.kind {
		case itemEvent:
			it.stats.published.Add(1)
			p.latency.observe(now.Sub(it.received))
		case itemMarker:
			if len(p.lost) == 0 {
				p.queue.pass(it.epoch)
			}
		}
	}
}

func (p *corePublisher) undelivered(each int64) {
	for i := range p.window {
		if it := &p.window[i]; it.kind != itemMarker {
			p.lose(it, each, ReasonNATSUnavailable)
		}
	}
}

// lose adds an item to its channel's loss.
func (p *corePublisher) lose(it *item, dropped int64, reason Reason) {
	later := unsent{loss: loss{reason: reason, since: it.epoch.time, dropped: dropped},
		stats: it.stats, until: it.epoch.clock.bound(it.received), epoch: it.epoch}
	if it.kind == itemGap {
		later.loss, later.until = it.gap.loss(), it.gap.Until
	} else {
		it.stats.dropped.Add(max(dropped, 0))
	}
	u := p.lost[it.route]
	if u == nil {
		p.lost[it.route] = &later
		return
	}
	u.merge(later.loss)
	u.until, u.epoch = later.until, later.epoch
}
