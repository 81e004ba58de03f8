package bridge

import "time"

// This file is the sequencer's part in what replicas agree on: which markers
// came and went, and who publishes. sequencer.go is what becomes of channels.

type replicaState uint8

const (
	stateStandby replicaState = iota // another replica publishes; count only
	stateActive                      // queue events: publishing, or an orphan
)

type lockState uint8

const (
	lockNone      lockState = iota
	lockTaken               // taken, own marker not back yet
	lockConfirmed           // publish
)

// arrived takes a marker from the stream of notifications. Any marker begins
// an epoch, but only this replica's own tells the time and ends losses: the
// others could be anybody's.
func (s *sequencer) arrived(m marker, at time.Time) {
	own := s.knows(m)
	switch {
	case own:
		s.back = m.number
		s.clock = clock{server: m.time, sent: s.sentMarker(m.number).at}
	case m.replica != s.replica:
		s.arrivedFromPeer(m, at)
	}
	s.sighted = true
	s.epoch = &epoch{id: m.epoch, time: s.clock.server, clock: s.clock}
	for _, c := range s.channels {
		c.n = 0
	}
	s.endOverflow()
	if own {
		s.settle(m, at)
	}
	s.pushMarker()
}

// knows reports whether this replica sent m, and neither it nor a later one
// came back before.
func (s *sequencer) knows(m marker) bool {
	return m.replica == s.replica && s.back < m.number && m.number <= s.sent &&
		s.sent-m.number < uint64(len(s.recent)) && s.sentMarker(m.number).epoch == m.epoch
}

func (s *sequencer) sentMarker(number uint64) *sentMarker {
	return &s.recent[number%uint64(len(s.recent))]
}

// pushMarker lets the publishers say how far they are, unless what is lost
// before the marker is not announced yet.
func (s *sequencer) pushMarker() {
	if s.state != stateActive {
		return
	}
	for _, c := range s.channels {
		if c.lost != nil {
			return
		}
	}
	it := item{kind: itemMarker, epoch: s.epoch}
	s.core.push(it)
	s.stream.push(it)
}

func (s *sequencer) arrivedFromPeer(m marker, at time.Time) {
	s.peers = true
	if !m.publishing {
		if s.lock == lockConfirmed {
			s.wantMarker() // it may be new, and has to learn how far this replica is
		}
		return
	}
	if s.state == stateActive {
		s.retire()
	}
	if s.lock == lockConfirmed { // lost after our own marker, unnoticed so far; or the marker lies
		s.take()
	}
	if !s.clock.server.IsZero() && !m.done.After(s.clock.bound(at)) {
		s.done = later(s.done, m.done)
	}
}

// settle does what only the return of this replica's own marker allows.
func (s *sequencer) settle(m marker, at time.Time) {
	if s.lock != lockNone && m.publishing && m.number > s.lockedAt {
		s.setLock(lockConfirmed)
		s.proved = true
		if s.state == stateStandby {
			s.activate()
		}
	}
	if s.state != stateActive {
		return
	}
	until := s.clock.bound(at)
	for _, c := range s.channels {
		if c.lost != nil && c.lost.after < m.number {
			s.pushGap(c, until)
		}
	}
}

// activate begins to publish: what the replica before left undone is a gap
// that this very marker ends.
func (s *sequencer) activate() {
	s.state = stateActive
	reason := ReasonTakeover
	if !s.peers && s.done.IsZero() {
		reason = ReasonStarted
	}
	for _, c := range s.channels {
		c.lost = &loss{reason: reason, since: s.done, dropped: unknownCount, after: c.listened}
	}
}

// retireIfBlind gives up what is queued when another replica may have
// published unseen. The loss of the lock is noticed late, so its possession
// says nothing about the time since the last proof once it is lost.
func (s *sequencer) retireIfBlind() {
	if s.state == stateActive && s.peers && s.lock != lockConfirmed && !s.proved {
		s.retire()
	}
}

// retire leaves publishing to another replica, whose gap covers what is queued here.
func (s *sequencer) retire() {
	s.done = s.progress()
	s.state = stateStandby
	for _, c := range s.channels {
		c.lost = nil
	}
	for _, q := range []*queue{s.core, s.stream} {
		q.discard()
		q.dropping.Store(false)
	}
}

// progress is the moment before which everything is published or announced,
// as far as this replica knows: its own work, or what the publishing one said.
func (s *sequencer) progress() time.Time {
	core, stream := s.core.passed(), s.stream.passed()
	if core.After(stream) {
		core = stream
	}
	return later(core, s.done)
}

// sending returns the marker to send next, at once, and from the session that
// holds the lock if publishing is set.
func (s *sequencer) sending(publishing bool) marker {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	epoch := randomHex(epochBytes)
	*s.sentMarker(s.sent) = sentMarker{epoch: epoch, at: s.now()}
	return marker{replica: s.replica, number: s.sent, epoch: epoch, publishing: publishing, done: s.progress()}
}

// locked says that the control session has taken the lock.
func (s *sequencer) locked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take()
}

// take waits for the next marker of the session that has the lock: where it
// comes back no other replica has published since.
func (s *sequencer) take() {
	s.setLock(lockTaken)
	s.lockedAt = s.sent
	s.wantMarker()
}

// unlocked says that the control session may have lost the lock.
func (s *sequencer) unlocked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setLock(lockNone)
	s.retireIfBlind()
}

// awaitsMarker reports whether nothing is published until the listener has read
// this replica's own marker.
func (s *sequencer) awaitsMarker() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lock == lockTaken
}

func (s *sequencer) setLock(l lockState) {
	s.lock = l
	s.lease.confirmed.Store(l == lockConfirmed)
}

// active reports whether events are being queued here.
func (s *sequencer) active() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateActive
}

// live reports whether a marker came back on the present connection.
func (s *sequencer) live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sighted
}

// outstanding tells how long the oldest marker after the newest returned one
// has been away; zero when none is.
func (s *sequencer) outstanding() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back == s.sent {
		return 0
	}
	oldest := max(s.back+1, s.sent-min(s.sent, uint64(len(s.recent)))+1)
	return s.now().Sub(s.sentMarker(oldest).at)
}
