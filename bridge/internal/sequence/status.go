package sequence

import "time"

// This file is what a sequencer tells of itself to those who run it.

// State is what this replica is. Publishing means that it may publish now: when
// the lease has run out it is an orphan, even if the loss of the lock was not
// noticed yet.
func (s *Sequencer) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Publishing && !s.Lease.Valid() {
		return Orphan
	}
	return s.state
}

// Active reports whether events are being queued here.
func (s *Sequencer) Active() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.queues()
}

// Live reports whether a marker came back on the present connection.
func (s *Sequencer) Live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sight != blind
}

// Unheard is for how many channels the present connection is still to LISTEN. It is 0
// without a connection, too.
func (s *Sequencer) Unheard() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sight == blind {
		return 0
	}
	for _, c := range s.channels {
		if c.listened == lossOpen {
			n++
		}
	}
	return n
}

// AwaitsMarker reports whether nothing is published until the listener has read
// this replica's own marker.
func (s *Sequencer) AwaitsMarker() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.awaitsMarker()
}

// CameBack reports whether a marker came back, or a later one of this replica's.
func (s *Sequencer) CameBack(number uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.back >= number
}

// HolderHeard reports whether a marker of the session came that HeldBy named last.
func (s *Sequencer) HolderHeard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard
}

// Outstanding tells how long the oldest marker after the newest returned one
// has been away; zero when none is.
func (s *Sequencer) Outstanding() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back == s.sent {
		return 0
	}
	oldest := max(s.back+1, s.sent-min(s.sent, uint64(len(s.recent)))+1)
	return s.Now().Sub(s.sentMarker(oldest).at)
}

// Silence tells how long the oldest marker has been away that must have come on
// this connection: it was committed, and began after all channels were listened
// to. Zero when none is away.
func (s *Sequencer) Silence() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := max(s.back, s.listening) + 1
	if s.listening == lossOpen || oldest > s.committed {
		return 0
	}
	oldest = max(oldest, s.sent-min(s.sent, uint64(len(s.recent)))+1)
	return s.Now().Sub(s.sentMarker(oldest).at)
}
