package sequence

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
)

// This file is how core NATS, which keeps nothing and refuses nobody, is left to
// another replica. The publishing one says in its markers what it may publish behind
// them before it does: nothing, or what it receives within a time. So whoever takes
// over knows what nobody can have published.

// intend returns what the marker says that is sent now. Where no other replica is
// there it restricts nothing.
func (s *Sequencer) intend(at time.Time) intent {
	if at.Sub(s.going.peerAt) > peerGone {
		return intent{}
	}
	i := intent{told: true}
	if s.going.wanted || at.Sub(s.going.coreAt) < s.going.horizon()/2 {
		i.within = s.going.horizon()
	}
	s.going.wanted = false
	s.Core.Intent.Bind(s.Core.Last(), i.within == 0)
	return i
}

// intended lets be published what a marker said that was committed.
func (s *Sequencer) intended(m Marker) {
	if !m.word.told || m.number != s.sent {
		return
	}
	sent := s.sentMarker(m.number).at
	s.going.trip = max(s.Now().Sub(sent), s.going.trip*7/8)
	switch i := m.word.intent; {
	case !i.told:
		s.Core.Intent.Unbind()
	case i.within > 0:
		s.Core.Intent.AllowUntil(sent.Add(i.within))
	}
}

// reached lets be published what is before this replica's marker, whatever it said.
func (s *Sequencer) reached(m Marker, number uint64) {
	if m.word.told {
		s.Core.Intent.AllowTo(number)
	}
}

// wantIntent takes note of an event for core NATS, and asks for a marker well before
// the time of the one before is over.
func (s *Sequencer) wantIntent(at time.Time) {
	s.going.coreAt = at
	ends, bound := s.Core.Intent.Ends()
	if s.state.queues() && bound && !s.going.wanted && ends.Sub(at) < s.going.horizon()/2 {
		s.going.wanted = true
		s.WantMarker()
	}
}

// WantIntent asks for a marker that lets more be published with core NATS.
func (s *Sequencer) WantIntent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.going.wanted {
		s.going.wanted = true
		s.WantMarker()
	}
}

// Due reports whether a marker is to be sent so that it is known behind which place
// nothing is published with core NATS: by the replica that publishes when it has
// nothing to publish any more, by another when that one does not say how it goes on.
func (s *Sequencer) Due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	if s.state.queues() {
		ends, _ := s.Core.Intent.Ends()
		return s.state == Publishing && !ends.IsZero() && now.After(ends) && !s.Core.Exposed()
	}
	f := &s.followed
	return f.told && f.fence == 0 && now.After(f.lapses.Add(fenceAfter)) && !s.sentMarker(s.sent).at.After(f.lapses)
}

// followIntent takes what a marker says that stands at this place in the queue.
func (s *Sequencer) followIntent(i intent, number uint64, at time.Time) {
	f := &s.followed
	f.told, f.fence = i.told && !s.clock.Server.IsZero(), 0
	switch {
	case !f.told:
	case i.within > 0:
		if lapses := at.Add(i.within + intentMargin); lapses.After(f.lapses) {
			f.lapses = lapses
		}
	default:
		f.fence, f.until = number, s.clock.Bound(at)
	}
}

// fence takes this replica's own marker that came back. What was received by the
// publishing one in the time it had was committed before a marker that was sent
// later.
func (s *Sequencer) fence(m Marker, at time.Time) {
	f := &s.followed
	if !s.state.queues() && f.told && f.fence == 0 && s.sentMarker(m.number).at.After(f.lapses) {
		f.fence, f.until = s.Core.Last(), s.clock.Bound(at)
	}
}

// goOnFrom says that this replica publishes from here on: nobody else does. What it
// said itself, before it gave up publishing for a moment, still holds.
func (s *Sequencer) goOnFrom(until time.Time) {
	if f := &s.followed; f.told && f.fence == 0 {
		f.fence, f.until = s.Core.Last(), until
	}
	s.going.wanted = false
}

// unproven returns the gaps of what nobody knows of whether it was published: a range
// of numbers in the queue.
func (s *Sequencer) unproven(first, last uint64) (gaps []event.Item) {
	at := map[*event.Route]int{}
	add := func(it *event.Item, l event.Loss) {
		n, known := at[it.Route]
		if !known {
			at[it.Route] = len(gaps)
			gaps = append(gaps, event.Item{Kind: event.KindGap, Route: it.Route, Counters: it.Counters, Epoch: s.epoch, Received: s.Now(), Sweep: it.Route.CatchUp != ""})
		} else {
			before := event.LossOf(gaps[n].Gap)
			before.Merge(l)
			l = before
		}
		g := l.Gap(it.Route.Channel, s.followed.until)
		gaps[at[it.Route]].Gap = &g
	}
	s.Core.Each(first, last, func(it *event.Item) {
		switch it.Kind {
		case event.KindEvent:
			add(it, event.Loss{Reason: api.ReasonTakeover, Since: it.Epoch.Time, Dropped: event.UnknownCount})
		case event.KindGap:
			add(it, event.LossOf(it.Gap))
		case event.KindTakeover: // which this replica began, and did not get round to
			for i := range it.Takeover.Found {
				add(&it.Takeover.Found[i], event.LossOf(it.Takeover.Found[i].Gap))
			}
		}
	})
	return gaps
}
