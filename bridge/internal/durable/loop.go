package durable

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// publish runs until ctx ends, which is no error once what is in flight had
// its time, or until the session must end.
func (p *publisher) publish(ctx context.Context, batches <-chan []wal.Event) error {
	p.inbox = p.NC.NewInbox()
	p.acks = make(chan *nats.Msg, 2*flightItems)
	sub, err := p.NC.ChanSubscribe(p.inbox+".>", p.acks)
	if err != nil {
		return fmt.Errorf("subscribe for acknowledgements: %w", err)
	}
	defer sub.Unsubscribe()
	p.reconnects, p.progress = p.NC.Stats().Reconnects, time.Now()
	p.forbidden.last = p.NC.LastError()
	p.retry = wait.Retry{Backoff: wait.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}}
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	defer func() { p.tellUnsent(p.toldUnsent.Add(tellUnsentEvery)) }()
	for {
		if err := p.look(ctx); err != nil {
			return err
		}
		if err := p.fill(); err != nil {
			return err
		}
		next := batches
		if p.doubt != nil || len(p.rest) > 0 || !p.flight.hasRoom() {
			next = nil
		}
		select {
		case <-ctx.Done():
			return p.drain(ctx)
		case now := <-tick.C:
			p.confirmation.pass(now)
			p.tellOldest()
			p.tellUnsent(now)
			if p.doubt == nil {
				p.doubt = p.violation()
			}
		case m := <-p.acks:
			p.acknowledge(m)
		case <-p.keptMore:
		case p.rest = <-next:
		}
	}
}

// look notices what changed around the publisher.
func (p *publisher) look(ctx context.Context) error {
	switch {
	case !p.Lease():
		return errLease
	case p.routes != p.Feed.routes.Load():
		return errReload
	case p.doubt != nil:
	case p.NC.Stats().Reconnects != p.reconnects:
		p.doubt = errLink
	case p.flight.unacknowledged() && time.Since(p.progress) > ackTimeout:
		p.doubt = fmt.Errorf("no acknowledgement from stream %s within %s", p.log.config.Name, ackTimeout)
	}
	if p.doubt == nil {
		return nil
	}
	p.Problem.Set(p.Log, p.doubt)
	if !p.retry.Wait(ctx) {
		return nil
	}
	return p.sync(ctx)
}

// fill moves events into the flight and sends what is there.
func (p *publisher) fill() error {
	for len(p.rest) > 0 && p.flight.hasRoom() {
		e := &p.rest[0]
		if p.compared(e); p.gapFirst(e.Place()) || !p.remembered() {
			break
		}
		if err := p.take(e); err != nil {
			return err
		}
		p.rest = p.rest[1:]
	}
	if len(p.rest) == 0 {
		p.gapFirst(0)
	}
	for p.doubt == nil && p.flight.unsent() {
		p.doubt = p.send(p.flight.sent)
	}
	return nil
}

// gapFirst reports whether a gap comes before what lies at this place, and puts
// it into the flight when that is empty.
func (p *publisher) gapFirst(place wal.LSN) bool {
	if p.flight.len() == 1 && p.flight.last().gap {
		return true
	}
	if len(p.gaps) == 0 || p.until != nil || p.gaps[0].after > place {
		return false
	}
	if p.flight.empty() {
		p.addGap(p.gaps[0], p.clock)
		p.gaps = p.gaps[1:]
	}
	return true
}

// compared ends the comparison with the last commit that the stream has, or with what
// comes first behind it. What is missing is announced before anything new is published or
// confirmed: whoever came next would go on from there, and compare nothing.
func (p *publisher) compared(e *wal.Event) {
	if p.compare == nil {
		return
	}
	over := beyond(e) > p.compare.end
	if !over && !p.isNew(e) {
		return
	}
	p.announceMissing(e.Time)
	if over {
		p.compare = nil
	}
}

// beyond is a place before which the slot has nothing more to give after the event.
func beyond(e *wal.Event) wal.LSN {
	if e.Kind == wal.KindCommit {
		return e.Commit + 1
	}
	return e.Place()
}

// take is one step through the log.
func (p *publisher) take(e *wal.Event) error {
	if p.until == nil {
		p.tellBegin()
	}
	if e.Kind == wal.KindMessage {
		p.message(e)
		return nil
	}
	if p.until != nil {
		if beyond(e) > p.until.commit {
			return errNotFound
		}
		return nil // nothing is confirmed before the position has come
	}
	if p.compare != nil {
		return nil // nor before what is missing is known
	}
	if p.flight.empty() {
		p.confirmation.safe(e.LSN, time.Now())
	} else {
		p.flight.last().confirm = e.LSN
	}
	return nil
}

// send publishes the message of a number, which is the next one.
func (p *publisher) send(number uint64) error {
	it := p.flight.at(number)
	m := p.Encoder.Encode(&it.Item, it.id)
	p.Encoder.Set(event.HeaderID, it.id)
	p.Encoder.Set(event.HeaderLastSeq, strconv.FormatUint(p.sequence(number)-1, 10))
	if p.forbidden.traces && traced(it) {
		p.Encoder.Set(traceHeader, traceDisabled)
	}
	m.Reply = p.reply(number)
	if it.Kind == event.KindEvent && !p.fits(m, it) {
		p.giveUp(it, api.ReasonOverflow)
		return p.send(number)
	}
	if !p.flight.unacknowledged() {
		p.progress = time.Now()
	}
	err := p.NC.PublishMsg(m)
	if errors.Is(err, nats.ErrMaxPayload) && it.Kind == event.KindEvent {
		p.giveUp(it, api.ReasonOverflow)
		return p.send(number)
	}
	if err == nil {
		p.flight.sent++
	}
	return err
}

// drain waits a moment for what is in flight. What is not acknowledged then is
// read again by whoever comes next, and found in the stream if it is there.
func (p *publisher) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	for p.flight.unacknowledged() && p.doubt == nil && p.Lease() {
		select {
		case <-ctx.Done():
			return nil
		case m := <-p.acks:
			p.acknowledge(m)
		}
	}
	return nil
}
