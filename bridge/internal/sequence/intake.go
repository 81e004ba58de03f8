package sequence

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
)

// Notification takes what the listener received next.
func (s *Sequencer) Notification(channel, payload string, pid int) {
	at := s.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if channel == s.Marker {
		if m, err := parseMarker(payload); err == nil {
			s.arrived(m, pid, at)
		}
		return
	}
	c := s.channels[channel]
	if c == nil {
		return // unlistened a moment ago
	}
	c.stats.Received.Add(1)
	c.n++
	q := s.queueOf(c)
	if c.lost == nil && q.Dropping() {
		l := event.Loss{Reason: api.ReasonOverflow, Since: s.epoch.Time}
		if !s.state.queues() {
			l.Dropped = event.UnknownCount // the publishing replica may not drop it
		}
		s.lose(c, loss{Loss: l, after: lossOpen})
	}
	if c.lost != nil {
		s.drop(c)
		return
	}
	if q == s.Core {
		s.wantIntent(at)
	}
	q.Push(event.Item{Kind: event.KindEvent, PID: int32(pid), Route: c.route, Counters: c.stats,
		Payload: payload, Epoch: c.epoch, N: c.n, Received: at, Open: s.open})
}

// Disconnected says that the connection is gone and everything it delivered
// has been handed over.
func (s *Sequencer) Disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sight, s.listening = blind, lossOpen
	clear(s.liars) // after a restart of PostgreSQL a PID can be another's
	s.followed.forget()
	s.settled, s.claim = false, claim{} // another replica may publish unseen
	for _, c := range s.channels {
		c.listened, c.heard = lossOpen, false
	}
	s.learning = s.Now()
	s.retireIfBlind()
	if s.undecided = (s.state == Publishing || s.state == Candidate) && s.peers; s.undecided {
		s.WantMarker() // whoever could go on may have to learn that this one has not begun
	}
	var since time.Time
	if s.epoch != nil {
		since = s.epoch.Time
	}
	for _, c := range s.channels {
		s.lose(c, loss{Loss: event.Loss{Reason: api.ReasonReconnected, Since: since, Dropped: event.UnknownCount}, after: lossOpen})
	}
}
