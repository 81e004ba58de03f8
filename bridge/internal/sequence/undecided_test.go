package sequence

import "testing"

// A replica that loses both sessions, and has the lock again before it notices that it
// no longer listens, announces nothing while another one has listened all the time:
// that one publishes, without a gap.
func TestLockTakenAgainWithoutListening(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	gaps := s.gaps("stored")
	first.conn.alive = false
	s.kill(first.session, false)
	s.write("stored")
	for before := first.session; first.session == before || first.session == nil || !first.session.holds; {
		s.tick()
		s.control(first, false)
	}
	s.hangUp(first, 0)
	if !first.Undecided() {
		t.Errorf("a %s that lost its connection is not undecided", first.state)
	}
	for range 20 { // a listener that fails has the control session ask at once
		s.tick()
		s.listen(first)
		s.control(first, false)
		s.deliver(first, true)
	}
	s.goesOn(t, second, gaps)
}

// goesOn wants a replica to publish in time, both events and no gap but so many.
func (s *simulation) goesOn(t *testing.T, second *simReplica, gaps int) {
	t.Helper()
	s.works(second, 300)
	s.write("stored")
	s.works(second, 300)
	if second.state != Publishing {
		t.Errorf("the replica that listened is %s, want that it publishes", second.state)
	}
	if n := s.gaps("stored") - gaps; n != 0 || s.came("stored") != 2 {
		t.Errorf("%d gaps, and %d events came; want none, and both", n, s.came("stored"))
	}
}

// takesLockAgain has the replica that publishes lose its session, take the lock with a new
// one whose marker the other sees, and hear nothing of the event written then.
func (s *simulation) takesLockAgain(first, second *simReplica) {
	first.conn.alive = false
	s.kill(first.session, false)
	for before := first.session; first.session == before || first.session == nil || first.session.marker != nil || first.back == first.committed; {
		s.tick()
		s.control(first, false)
	}
	s.write("stored")
	for len(second.conn.inbox) > 0 {
		s.deliver(second, true)
	}
}

// The same where the other replica has seen the new session's marker, whom it did not
// know, and so does not offer to go on: it learns from the next one that nothing was
// published behind the first.
func TestLockTakenAgainUnknown(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	gaps := s.gaps("stored")
	s.takesLockAgain(first, second)
	if !second.Stranger() {
		t.Fatal("the new session is known already")
	}
	s.hangUp(first, 0)
	for range 100 {
		s.works(second, 1)
		s.listen(first)
		s.control(first, false)
		s.deliver(first, true)
	}
	s.goesOn(t, second, gaps)
}

// A replica that is told by one holder how far it is can go on without a gap where the
// next one stops, though that one dies before it tells: its first marker begins the epoch
// in which both count.
func TestNewHoldersFirstMarker(t *testing.T) {
	t.Parallel()
	s := newSimulation(3)
	s.settle()
	s.settle()
	var first, next, last *simReplica
	for _, r := range s.replicas {
		switch {
		case r.state == Publishing:
			first = r
		case next == nil:
			next = r
		default:
			last = r
		}
	}
	gaps := s.gaps("stored")
	s.ends(first)
	for next.state != Candidate {
		s.tick()
		s.control(next, false)
	}
	for last.holder != next.session.pid {
		s.tick()
		s.control(last, false)
	}
	if !last.Whole() {
		t.Error("a replica that misses nothing is not whole while the lock changes hands")
	}
	for next.state != Publishing {
		s.tick()
		s.control(next, false)
		s.deliver(next, true)
	}
	s.write("stored")
	for s.came("stored") == 0 {
		s.tick()
		s.deliver(next, true)
		s.publish(next, next.publishers[1])
	}
	s.ends(next)
	s.write("stored")
	s.works(last, 600)
	if n := s.gaps("stored") - gaps; last.state != Publishing || n != 0 || s.came("stored") != 2 {
		t.Errorf("a %s announces %d gaps, and %d events came; want none, and both", last.state, n, s.came("stored"))
	}
}

// The same where all that the first one says of itself comes before the other knows whom
// it is from: that one asks, and is answered.
func TestUndecidedReplicaAnswers(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	gaps := s.gaps("stored")
	s.takesLockAgain(first, second)
	s.hangUp(first, 0)
	for first.conn == nil || !first.conn.told {
		s.listen(first)
	}
	for first.wants || first.session.marker != nil {
		s.tick()
		s.control(first, false)
	}
	for len(second.conn.inbox) > 0 {
		s.deliver(second, true)
	}
	if !second.Stranger() || second.Whole() || !first.Undecided() {
		t.Fatal("the other replica knows already who has the lock, or the first one does not leave it open")
	}
	for range 20 {
		s.works(second, 1)
		s.control(first, false)
		s.deliver(first, true)
	}
	s.goesOn(t, second, gaps)
	s.settle()
	if !first.Whole() {
		t.Error("the replica that left it to the other could not go on itself, though nothing fails")
	}
}

// While it is not decided who publishes, nothing is announced: the other replica may have
// what is missing here.
func TestUndecidedReplicaAnnouncesNothing(t *testing.T) {
	t.Parallel()
	s, first, _ := twoOf(t)
	s.hangUp(first, 0)
	for first.conn == nil || !first.conn.told {
		s.listen(first)
	}
	s.tick()
	m := first.Sending(true)
	first.session.marker = &m
	s.finishMarker(first.session)
	s.deliver(first, true)
	if c := first.Sequencer.channels["stored"]; !first.Undecided() || !first.Live() || c.lost == nil {
		t.Errorf("a %s that is undecided: %t has announced what it missed", first.state, first.Undecided())
	}
	first.Announce()
	s.works(first, 30)
	if c := first.Sequencer.channels["stored"]; c.lost != nil {
		t.Error("what was missed is not announced when that is decided")
	}
}
