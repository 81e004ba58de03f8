package sequence

import (
	"maps"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// This file is the sequencer's part in what replicas agree on: which markers
// came and went, and who publishes. sequencer.go is what becomes of channels.

// arrived takes a marker from the stream of notifications. Anybody may send the
// like, so one counts only where it is proved: this replica's own by its number
// and its random epoch, another's by the backend that sent it, which PostgreSQL
// vouches for. Any other changes nothing but what this replica is wary of.
func (s *Sequencer) arrived(m Marker, pid int, at time.Time) {
	switch {
	case s.knows(m):
		s.arrivedOwn(m, at)
	case m.replica != s.Replica:
		s.arrivedFromPeer(m, pid, at)
	}
}

func (s *Sequencer) arrivedOwn(m Marker, at time.Time) {
	s.back = m.number
	s.clock = event.Clock{Server: m.time, Sent: s.sentMarker(m.number).at}
	s.sight = max(s.sight, sighted)
	s.hear(m)
	if m.publishing || s.holder == 0 || s.epoch == nil {
		s.begin(m.epoch)
	}
	s.endOverflow()
	s.fence(m, at)
	s.settle(m, at)
	// Behind what another replica may have and this one has not there is no place.
	if s.epoch.ID == m.epoch && !s.undecided {
		s.reached(m, s.pushMarker())
	}
}

// begin begins an epoch. A standby leaves that to the replica which publishes, so
// that both number alike.
func (s *Sequencer) begin(id string) {
	s.epoch = &event.Epoch{ID: id, Time: s.clock.Server, Clock: s.clock}
	for _, c := range s.channels {
		if c.heard {
			c.epoch, c.n = s.epoch, 0
		}
	}
}

// hear takes note of which channels are listened to for sure. Until the publishing
// replica begins an epoch, their events have numbers of an epoch that is nobody's:
// what was counted so far may have begun anywhere.
func (s *Sequencer) hear(m Marker) {
	own := &event.Epoch{ID: RandomHex(epochBytes), Time: s.clock.Server, Clock: s.clock}
	for _, c := range s.channels {
		if !c.heard && c.listened < m.number {
			c.heard, c.epoch, c.n = true, own, 0
		}
	}
}

// knows reports whether this replica sent m, and neither it nor a later one
// came back before.
func (s *Sequencer) knows(m Marker) bool {
	return m.replica == s.Replica && s.back < m.number && m.number <= s.sent &&
		s.sent-m.number < uint64(len(s.recent)) && s.sentMarker(m.number).epoch == m.epoch
}

// pushMarker lets the publishers say how far they are. It stands where the epoch
// begins.
func (s *Sequencer) pushMarker() (inCore uint64) {
	it := event.Item{Kind: event.KindMarker, Epoch: s.epoch, Open: s.open}
	s.Stream.Push(it)
	return s.Core.Push(it)
}

// arrivedFromPeer takes another replica's marker, or what somebody made look like
// one.
func (s *Sequencer) arrivedFromPeer(m Marker, pid int, at time.Time) {
	if s.liars[pid] {
		return
	}
	s.peers = true
	switch {
	case !m.publishing:
		s.owes = true // it may be new, and has to learn how far this replica is
		s.going.peerAt = at
		if m.undecided && pid != 0 && pid == s.holder {
			s.claim.withdrawn(pid)
		}
	case s.state.queues():
		s.doubt(pid)
	case pid == 0: // 0: no holder is known
	case pid == s.holder, pid == s.predecessor && s.state == Candidate:
		s.follow(m, at)
	default:
		// If it is true, what the one before said last is not the last word.
		s.stranger, s.settled = true, false
		s.claim.made(pid)
		s.followed.forget()
	}
}

// doubt stops publishing until proveTenure has decided: either the lock is lost,
// unnoticed so far, or the marker lies.
func (s *Sequencer) doubt(pid int) {
	if len(s.suspects) < maxSuspects {
		s.suspects[pid] = true
	}
	if s.state == Publishing {
		s.become(contradicted)
		s.awaitMarker()
	}
}

// follow takes the marker of the session that holds the lock.
func (s *Sequencer) follow(m Marker, at time.Time) {
	s.heard, s.stranger = true, false
	if !s.clock.Server.IsZero() && !m.done.After(s.clock.Bound(at)) {
		s.done = later(s.done, m.done)
	}
	s.begin(m.epoch)
	s.trim(m.word)
	s.followIntent(m.word.intent, s.pushMarker(), at)
}

// proveTenure decides what contradictions were, once this replica's own marker
// comes back from a session that holds the lock. Where the one before came from
// the same session, the lock was held all the time between them, so nobody else
// was publishing there. Otherwise another replica may have been.
func (s *Sequencer) proveTenure(m Marker) {
	tenure := s.sentMarker(m.number).tenure
	switch {
	case len(s.suspects) == 0:
	case tenure != s.tenureBack:
		s.retire()
	case len(s.liars)+len(s.suspects) > maxLiars:
		s.liars = s.suspects
	default:
		maps.Copy(s.liars, s.suspects)
	}
	s.suspects, s.tenureBack = map[int]bool{}, tenure
}

// settle does what only the return of this replica's own marker allows.
func (s *Sequencer) settle(m Marker, at time.Time) {
	if s.undecided && s.state == Candidate {
		return // it may be better that another replica publishes
	}
	if (s.state.awaitsMarker() || s.state == Publishing) && m.publishing && m.number > s.lockedAt {
		s.proveTenure(m)
		if s.state == Candidate {
			s.takeOver(m, s.clock.Bound(at))
		}
		s.become(ownMarkerBack)
		s.sight = proved
	}
	if s.undecided {
		return // another replica may have what is missing here
	}
	until := s.clock.Bound(at)
	for _, c := range s.channels {
		if c.lost != nil && c.lost.after < m.number {
			place := uint64(0)
			if s.epoch.ID == m.epoch {
				place = event.AtMarker
			}
			s.pushGap(c, until, place)
		}
	}
}

// Sending returns the marker to send next, at once, and from the session that
// holds the lock if publishing is set.
func (s *Sequencer) Sending(publishing bool) Marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sending(publishing)
}

// Farewell returns the marker to send last, from the session that holds the lock:
// it says how far this replica has published, and that it has stopped. One that had not
// begun to publish knows no more than the one before it said.
func (s *Sequencer) Farewell() Marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.sending(true)
	settled := !s.Core.Exposed()
	if s.Core.Kept() {
		settled = s.settled
	}
	m.word.settled = m.word.told && settled
	m.word.intent = intent{told: m.word.told}
	return m
}

func (s *Sequencer) sending(publishing bool) Marker {
	s.sent++
	epoch := RandomHex(epochBytes)
	sent := sentMarker{epoch: epoch, at: s.Now()}
	if publishing {
		sent.tenure = s.tenure
	}
	*s.sentMarker(s.sent) = sent
	m := Marker{replica: s.Replica, number: s.sent, epoch: epoch, publishing: publishing, done: s.progress()}
	if publishing && s.undecided && s.state == Candidate {
		m.publishing, m.undecided = false, true // it has not begun, and may not
	}
	if publishing && s.state.queues() {
		m.word = word{told: true, stream: s.Stream.Proven(), core: s.Core.Proven(), intent: s.intend(sent.at)}
		s.told = m.word
	}
	return m
}

// Sent says that a marker was committed.
func (s *Sequencer) Sent(m Marker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.committed = max(s.committed, m.number)
	s.intended(m)
}

// Locked says that the control session has taken the lock.
func (s *Sequencer) Locked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenure++
	s.predecessor, s.holder = s.holder, 0
	s.become(lockTaken)
	s.awaitMarker()
}

// HeldBy says that the session of another replica holds the lock, by its
// backend's PID: its markers count from now on, and what is queued here is its
// to announce. Zero says that no replica does, as far as is known.
func (s *Sequencer) HeldBy(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid != s.holder {
		s.holder, s.heard, s.learning = pid, false, s.Now()
		s.taught, s.mute = false, false
		s.claim.able = s.claim.able && pid != 0
		s.followed.forget()
	}
	s.stranger = false
	delete(s.liars, pid) // it was another's session then
	if pid != 0 && s.state != Publishing {
		s.retire()
	}
}

// Owes reports, once, that another replica wants to know how far this one is.
func (s *Sequencer) Owes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	owes := s.owes && (s.state == Publishing || s.undecided)
	s.owes = false
	return owes
}

// awaitMarker waits for the next marker of the session that has the lock: where
// it comes back no other replica has published since.
func (s *Sequencer) awaitMarker() {
	s.lockedAt = s.sent
	s.WantMarker()
}

// Unlocked says that the control session may have lost the lock.
func (s *Sequencer) Unlocked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.become(lockLost)
	s.retireIfBlind()
	s.undecided = s.undecided && s.state != Standby
	s.giveUpIfOver()
}
