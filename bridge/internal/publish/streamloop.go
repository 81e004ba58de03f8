package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Run publishes until the queue is closed and all of it acknowledged, or ctx
// ends.
func (p *StreamPublisher) Run(ctx context.Context) error {
	p.retry.Backoff = wait.Backoff{First: 250 * time.Millisecond, Max: 5 * time.Second}
	p.intake.queue, p.intake.log = p.Queue, p.Log
	p.intake.start = func(gap *event.Item) *catchup.Sweep { return p.Sweeper.Start(ctx, gap) }
	defer p.Sweeper.Wait()
	defer p.intake.renew()
	p.lost = losses{}
	p.inbox = p.NC.NewInbox()
	p.place.salt = rand.Uint64N(1 << 52)
	p.acks = make(chan *nats.Msg, 2*flightItems)
	sub, err := p.NC.ChanSubscribe(p.inbox+".>", p.acks)
	if err != nil {
		return fmt.Errorf("subscribe for acknowledgements: %w", err)
	}
	defer sub.Unsubscribe()
	for ctx.Err() == nil {
		p.look()
		if !p.state.knowsEnd() && p.NC.IsConnected() && time.Now().After(p.notBefore) {
			p.readEnd(ctx)
		}
		if p.state == publishing {
			p.announce()
			p.fill()
			p.settleBatch()
		}
		if p.flight.len() == 0 && p.intake.empty() && p.Queue.Drained() && !p.owes() {
			return nil
		}
		p.wait(ctx)
	}
	return nil
}

// look notices what changed around the publisher.
func (p *StreamPublisher) look() {
	if p.intake.stale() {
		p.intake.renew()
		p.abandonFlight()
	}
	switch valid := p.Lease.Valid(); {
	case valid && !p.state.leased():
		p.become(leaseBegan)
		p.storedID = "" // another replica may have published meanwhile
	case !valid:
		p.become(leaseEnded)
		p.intake.pause() // whoever publishes next does it again
	}
	p.lookForViolation()
	switch {
	case !p.state.knowsEnd():
	case p.NC.Stats().Reconnects != p.run.reconnects:
		p.doubt(errLinkBroke)
	case p.flight.unacked() > 0 && time.Since(p.run.progress) > ackTimeout:
		p.doubt(p.silence())
	case p.Stream.changed() && p.flight.unacked() == 0:
		p.become(endUnknown)
	case p.Queue.Kept() && (p.state == publishing || p.Queue.Full() && time.Since(p.place.trimmed) > trimEvery):
		p.become(endUnknown)
	}
}

// fill moves items from the queue into the flight and sends them.
func (p *StreamPublisher) fill() {
	for !p.Stream.changed() && p.flight.hasRoom() {
		if !p.intake.refill() {
			p.abandonFlight()
		}
		it := p.intake.next()
		if it == nil {
			break
		}
		p.admit(it)
	}
	for p.state == publishing && p.flight.unsent() && p.mayFly() {
		if err := p.send(p.flight.takeOff()); err != nil {
			p.doubt(err)
		}
	}
	p.advance() // past markers, which nobody acknowledges
}

// mayFly reports whether one more item may be sent.
func (p *StreamPublisher) mayFly() bool {
	if p.flight.unacked() >= p.run.window {
		p.advance() // past markers, which nobody acknowledges
	}
	return p.flight.unacked() < p.run.window && p.batchTakes()
}

func (p *StreamPublisher) send(f *flying, number uint64) error {
	if f.id == "" { // a marker
		f.acked = true
		if f.Kind == event.KindMarker {
			p.after = f.Epoch.ID
		}
		return nil
	}
	m := p.Encoder.Encode(&f.Item, f.id)
	p.Encoder.Set(event.HeaderID, f.id)
	if !p.run.batched {
		p.Encoder.Set(event.HeaderMsgID, f.id) // the next message names it
	}
	if p.run.lastID == "" || p.tail.replicated || p.run.batched {
		p.Encoder.Set(event.HeaderLastSeq, strconv.FormatUint(p.tail.seq+p.run.sent, 10))
	} else {
		p.Encoder.Set(event.HeaderLastMsgID, p.run.lastID)
	}
	p.setPlace(f)
	m.Reply = p.replySubject(number)
	if p.flight.unacked() == 1 {
		p.run.progress = time.Now()
	}
	err := p.NC.PublishMsg(m)
	if errors.Is(err, nats.ErrMaxPayload) && f.Kind == event.KindEvent {
		f.Item = tooLarge(f.Item)
		if p.batch != nil {
			p.batch.takeBack()
		}
		return p.send(f, number)
	}
	p.run.lastID = f.id
	p.run.sent++
	f.seq = p.tail.seq + p.run.sent
	return err
}

// setPlace adds the headers by which another replica finds where to go on.
func (p *StreamPublisher) setPlace(f *flying) {
	switch {
	case f.Kind == event.KindEvent && !f.CaughtUp():
		p.after = f.id
	case f.N == event.AtMarker && f.Kind == event.KindGap:
		p.Encoder.Set(event.HeaderAfter, f.Epoch.ID)
	case p.after != "":
		p.Encoder.Set(event.HeaderAfter, p.after)
	}
	if f.Open != "" {
		p.Encoder.Set(event.HeaderOpen, string(f.Open))
	}
}

// tooLarge is the gap that takes the place of an event which no message holds.
func tooLarge(it event.Item) event.Item {
	since, until := it.Window()
	l := event.Loss{Reason: api.ReasonOverflow, Since: since, Dropped: 1}
	g := l.Gap(it.Route.Channel, until)
	it.CountDropped(1)
	it.Kind, it.Gap = event.KindGap, &g
	return it
}

// wait handles acknowledgements, and returns when there may be something else
// to do.
func (p *StreamPublisher) wait(ctx context.Context) {
	ready := p.Queue.Ready
	if p.state != publishing || !p.flight.hasRoom() || !p.intake.empty() && p.flight.len() > 0 {
		ready = nil
	}
	more := p.intake.more()
	if p.state != publishing || !p.flight.hasRoom() {
		more = nil
	}
	pause := streamTick
	if !p.refused.empty() && p.flight.unacked() > 0 {
		pause = refusedTick
	}
	tick := time.NewTimer(pause)
	defer tick.Stop()
	select {
	case <-ctx.Done():
	case <-more:
	case <-tick.C:
		p.forgetRefusals()
	case <-ready:
	case m := <-p.acks:
		p.acknowledged(m)
		for range len(p.acks) {
			p.acknowledged(<-p.acks)
		}
		p.advance()
	}
}
