package publish

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// This file is how core NATS gets the rows of catch-up scripts. What is lost waits among
// the losses, as a channel's loss whose gap is not published before its script has run.

// catchUp runs the scripts of what was lost, one after the other, before the next item;
// false means not now.
func (p *CorePublisher) catchUp(ctx context.Context, next *event.Route, wanted func() bool) bool {
	for r := p.dueRoute(next); r != nil; r = p.dueRoute(next) {
		if !p.Lease.Valid() || !p.NC.IsConnected() || !p.sweepRoute(ctx, r, wanted) {
			return false
		}
	}
	return true
}

// sweepRoute publishes the rows of a route's script, and the gap. Where it may not any
// more the loss stays, for another time or another replica.
func (p *CorePublisher) sweepRoute(ctx context.Context, r *event.Route, wanted func() bool) bool {
	gap, u := p.lost.gap(r), p.lost[r]
	delete(p.lost, r)
	p.sweeping = &gap
	done := p.sweepGap(ctx, &gap, wanted)
	p.sweeping = nil
	if !done {
		if later := p.lost[r]; later != nil {
			delete(p.lost, r)
			p.lost.merge(r, u)
			u = later
		}
		p.lost.merge(r, u)
	}
	return done
}

func (p *CorePublisher) sweepGap(ctx context.Context, gap *event.Item, wanted func() bool) bool {
	sweep := p.Sweeper.Start(ctx, gap)
	defer sweep.Stop()
	for ctx.Err() == nil && wanted() && p.Lease.Valid() && p.NC.IsConnected() {
		it, over := sweep.Next(time.Now())
		switch {
		case over:
			sweep.Log(p.Log)
			return p.endSweep(it)
		case it == nil:
			p.verify()
			wait.ForOr(ctx, turnPoll, sweep.Ready)
		case !p.publishRow(it):
			return false
		}
	}
	return false
}

func (p *CorePublisher) publishRow(it *event.Item) bool {
	p.Queue.Hold(it.Size())
	if !p.publish(it) {
		p.Queue.Release(it.Size())
		return false
	}
	p.verifyEach(it.Route)
	if p.windowBytes >= verifyBytes || time.Since(p.opened) > verifyAfter {
		p.verify()
	}
	return true
}

// endSweep publishes the gap behind its rows. Those that did not arrive are losses by
// then, and caught up with later.
func (p *CorePublisher) endSweep(gap *event.Item) bool {
	p.verify()
	if !p.Lease.Valid() || p.send(gap) != nil {
		return false
	}
	p.Queue.Hold(gap.Size())
	gap.Number = 0
	p.keep(gap)
	p.sweeping = nil
	p.verifyEach(gap.Route)
	return true
}
