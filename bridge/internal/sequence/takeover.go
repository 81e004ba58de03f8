package sequence

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/api"
)

// This file is where one replica begins to publish and another ends.

// takeOver begins to publish. Where the publisher finds the place at which the
// replica before stopped, it goes on there, and what this replica missed itself
// stays a gap. Otherwise what that one left undone is a gap that this very marker
// ends.
func (s *Sequencer) takeOver(m Marker, until time.Time) {
	reason := api.ReasonTakeover
	if !s.peers && s.done.IsZero() {
		reason = api.ReasonStarted
	}
	all := map[*queue.Queue]*event.Takeover{s.Core: {}, s.Stream: {}}
	for _, c := range s.channels {
		t := all[s.queueOf(c)]
		l := event.Loss{Reason: reason, Since: s.done, Dropped: event.UnknownCount}
		if c.lost != nil && c.lost.after < m.number {
			t.Found = append(t.Found, s.gap(c, c.lost.Loss, until))
			c.lost = nil
		}
		if c.heard {
			t.Lost = append(t.Lost, s.gap(c, l, until))
			continue
		}
		if c.lost != nil && c.lost.Since.IsZero() {
			l.Since = time.Time{} // nobody may have published it before
		}
		c.lost = &loss{Loss: l, after: c.listened}
	}
	s.lossesChanged()
	s.goOnFrom(until)
	for q, t := range all {
		s.line(t.Lost)
		s.line(t.Found)
		q.Push(event.Item{Kind: event.KindTakeover, Epoch: s.epoch, Takeover: t, Open: s.open})
	}
}

// line has gaps stand right behind the marker that is just back, one behind the
// other: each says that those behind it are not announced yet.
func (s *Sequencer) line(gaps []event.Item) {
	open := s.open
	for i := len(gaps) - 1; i >= 0; i-- {
		gaps[i].N, gaps[i].Open = event.AtMarker, open
		var since time.Time
		if gaps[i].Gap.Since != nil {
			since = *gaps[i].Gap.Since
		}
		open = open.With(gaps[i].Route.Token, since)
	}
}

// retireIfBlind gives up what is queued when another replica may have
// published unseen. The loss of the lock is noticed late, so its possession
// says nothing about the time since the last proof once it is lost.
func (s *Sequencer) retireIfBlind() {
	if s.peers && s.state != Publishing && s.sight != proved {
		s.retire()
	}
}

// retire leaves publishing to another replica, whose gap covers what is queued
// here, if anything is.
func (s *Sequencer) retire() {
	queued := s.state.queues()
	s.become(superseded)
	if !queued {
		return
	}
	s.done, s.settled, s.undecided = s.progress(), false, false
	s.followed.forget()
	s.Core.Keep()
	s.Stream.Keep()
}

// progress is the moment before which everything is published or announced,
// as far as this replica knows: its own work, or what the publishing one said.
func (s *Sequencer) progress() time.Time {
	core, stream := s.Core.Passed(), s.Stream.Passed()
	if core.After(stream) {
		core = stream
	}
	return later(core, s.done)
}
