package durable

import (
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// place is where an event lies, and the channel that it is of; nil: none.
func (p *publisher) place(e *wal.Event) (at position, channel *carried) {
	at = position{system: p.system.ID, timeline: p.system.Owner(e.Commit), commit: e.Commit, message: e.LSN}
	channel = p.carried[e.Prefix]
	if !e.Skipped() {
		at.hash = hashOf(e.Prefix, e.Content)
	} else if channel != nil {
		at.hash = gapHash(channel.route.Channel)
	}
	return at, channel
}

// isNew reports whether an event is to be published that the stream has not, while the
// slot is compared with it.
func (p *publisher) isNew(e *wal.Event) bool {
	if e.Kind != wal.KindMessage {
		return false
	}
	at, channel := p.place(e)
	return channel != nil && channel.term.carries(e.Commit) && !p.compare.has(at, channel.route.Channel)
}

// message puts an event into the flight, unless it is stored or nobody's.
func (p *publisher) message(e *wal.Event) {
	at, channel := p.place(e)
	if p.until != nil {
		if p.until.covers(at) || at.gap() && at.covers(*p.until) {
			p.until = nil
		}
		return
	}
	if p.compare != nil && p.compare.given(at) {
		p.covers = at
		return
	}
	if channel == nil || !channel.term.carries(e.Commit) {
		return
	}
	if p.compare != nil && p.compare.has(at, channel.route.Channel) {
		p.covers = at
		return
	}
	route := channel.route
	it := flying{position: at, Item: event.Item{
		Kind: event.KindEvent, Route: route, Counters: p.Counters(route.Channel), Received: time.Now(),
		Origin: &event.Origin{LSN: e.Commit.String(), Committed: e.Time},
	}}
	it.Counters.Received.Add(1)
	header, payload, err := decode(e.Prefix, e.Content)
	if e.Skipped() || err != nil {
		it = p.gapOfOne(it, api.ReasonOverflow)
	} else {
		it.Payload, it.Origin.Header = string(payload), header
	}
	it.id = it.position.id()
	p.covers = it.position
	p.flight.add(it)
}

// fits reports whether the stream takes a message for its size, as far as is known
// beforehand: a refusal costs more than a look, and whoever may send can send many.
func (p *publisher) fits(m *nats.Msg, it *flying) bool {
	if p.largest <= 0 && len(it.Origin.Header) == 0 {
		return true
	}
	headers := m.Size() - len(m.Subject) - len(m.Reply) - len(m.Data)
	return headers <= stream.MaxHeaderBytes && (p.largest <= 0 || headers+len(m.Data) <= p.largest)
}

// giveUp puts a gap in the place of an event in the flight that cannot be stored.
func (p *publisher) giveUp(it *flying, reason api.Reason) {
	p.flight.bytes -= it.Size()
	*it = p.gapOfOne(*it, reason)
	p.flight.bytes += it.Size()
}

// gapOfOne is the gap that takes the place of an event which cannot be stored.
func (p *publisher) gapOfOne(it flying, reason api.Reason) flying {
	one := event.Loss{Reason: reason, Since: it.Origin.Committed.Add(-time.Microsecond), Dropped: 1}
	g := one.Gap(it.Route.Channel, it.Origin.Committed)
	it.Kind, it.Gap, it.Payload = event.KindGap, &g, ""
	it.position.hash = gapHash(it.Route.Channel)
	it.id = it.position.id()
	it.Counters.Dropped.Add(1)
	p.unsent[reason]++
	it.Counters.Gap(it.Gap)
	return it
}

// addGap puts a gap into the flight, at the position it covers.
func (p *publisher) addGap(g gapFor, until time.Time) {
	route := p.routes.byPrefix[plainPrefix+g.channel]
	l := event.Loss{Reason: g.reason, Since: g.since, Dropped: event.UnknownCount}
	gap := l.Gap(g.channel, until)
	at := p.covers
	at.hash = gapHash(g.channel)
	it := flying{position: at, id: at.id(), gap: true, Item: event.Item{
		Kind: event.KindGap, Route: route, Counters: p.Counters(g.channel), Received: time.Now(), Gap: &gap,
		Origin: &event.Origin{LSN: at.commit.String(), Committed: until},
	}}
	it.Counters.Gap(it.Gap)
	p.flight.add(it)
}

// afterComparison are the gaps of a session that compares. They wait until the slot
// gives what the stream has not: each carries the position of the event before it, and
// whoever comes next would take one from before that for the end, and repeat what is
// behind it.
func (p *publisher) afterComparison(gaps []gapFor) []gapFor {
	isLost := func(g gapFor) bool { return g.reason == api.ReasonHistoryLost }
	if p.compare.lost = p.compare.lost || slices.ContainsFunc(gaps, isLost); p.compare.lost {
		gaps = append(p.historyLost(), slices.DeleteFunc(gaps, isLost)...)
	}
	for i := range gaps {
		gaps[i].after = max(gaps[i].after, p.compare.end+1)
	}
	return gaps
}

// announceMissing has the gaps come now that waited for the comparison, and the one that
// it has found to be necessary.
func (p *publisher) announceMissing(clock time.Time) {
	for i := range p.gaps {
		if p.gaps[i].after <= p.compare.end+1 {
			p.gaps[i].after = 0
		}
	}
	if p.compare.missed() && !p.compare.lost { // else it is among them, or announced
		p.compare.lost = true
		p.gaps, p.clock = append(p.historyLost(), p.gaps...), clock
	}
}

// historyLost is a gap for every channel.
func (p *publisher) historyLost() (gaps []gapFor) {
	for _, channel := range p.routes.channels {
		gaps = append(gaps, gapFor{channel: channel, reason: api.ReasonHistoryLost})
	}
	return gaps
}
