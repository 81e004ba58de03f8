package sequence

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
)

// twoOf are a simulated replica that publishes and one that stands by, after some
// markers have gone round.
func twoOf(t *testing.T) (s *simulation, first, second *simReplica) {
	t.Helper()
	s = newSimulation(2)
	s.settle()
	s.settle()
	first, second = s.replicas[0], s.replicas[1]
	if second.state == Publishing {
		first, second = second, first
	}
	if first.state != Publishing || second.state != Standby || !second.Whole() {
		t.Fatalf("replicas are %s and %s, want one that publishes and one that could", first.state, second.state)
	}
	return s, first, second
}

// threeOf is one that publishes, and two that could.
func threeOf() (s *simulation, first, next, last *simReplica) {
	s = newSimulation(3)
	s.settle()
	s.settle()
	slices.SortFunc(s.replicas, func(a, b *simReplica) int { return cmp.Compare(b.state, a.state) })
	first, next, last = s.replicas[0], s.replicas[1], s.replicas[2]
	return s, first, next, last
}

// publishesUnproved has an event come that the replica has not proved to have published.
func (s *simulation) publishesUnproved(t *testing.T, r *simReplica) {
	t.Helper()
	s.write("plain")
	for i := 0; s.came("plain") == 0; i++ {
		s.tick()
		s.control(r, false)
		s.deliver(r, true)
		s.publish(r, r.publishers[0])
		if i > 100 {
			t.Fatal("the event is not published")
		}
	}
}

// ends has a replica die.
func (s *simulation) ends(r *simReplica) {
	s.kill(r.session, false)
	s.replicas = slices.DeleteFunc(s.replicas, func(other *simReplica) bool { return other == r })
}

// works has one replica do what it does for so many milliseconds.
func (s *simulation) works(r *simReplica, ms int) {
	for range ms {
		s.tick()
		s.listen(r)
		s.control(r, false)
		for len(r.conn.inbox) > 0 {
			s.deliver(r, true)
		}
		for _, p := range r.publishers {
			s.publish(r, p)
		}
	}
}

// came counts the events that were published on a channel.
func (s *simulation) came(channel string) (n int) {
	for _, e := range s.sent[channel] {
		if e.gap == nil {
			n++
		}
	}
	return n
}

// Where the replica that dies had said that it publishes nothing more until it says
// so, the next one goes on without a gap in core NATS, too.
func TestDeathOfAQuietReplicaLeavesNoGap(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	gaps := s.gaps("plain") + s.gaps("extra")
	s.ends(first)
	for range 3 {
		s.write("plain")
		s.works(second, 1)
	}
	s.works(second, 300)
	if n := s.gaps("plain") + s.gaps("extra") - gaps; n != 0 || s.came("plain") != 3 {
		t.Errorf("%d gaps, and %d events came; want none, and all 3", n, s.came("plain"))
	}
}

// An event that the dead one may have published is a gap, from the last marker before
// it on, and never sent again; of other channels there is none. What was committed
// when the time was over that the dead one had given itself comes.
func TestGapOfWhatMayHaveBeenPublished(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	gaps, others, lock := s.gaps("plain"), s.gaps("extra"), s.holder
	before := s.now
	s.publishesUnproved(t, first)
	s.write("plain")
	at := s.now
	s.ends(first)
	s.holder = lock // as of one that is frozen: nobody gets the lock
	s.works(second, int((shortestIntent+fenceAfter+intentMargin)/time.Millisecond)+20)
	s.write("plain")
	s.works(second, 50)
	s.holder = nil
	s.works(second, 300)
	if n := s.gaps("plain") - gaps; n != 1 || s.came("plain") != 2 {
		t.Fatalf("%d gaps, and %d events came; want one, the first event and the last", n, s.came("plain"))
	}
	if n := s.gaps("extra") - others; n != 0 {
		t.Errorf("%d gaps of a channel without an event, want none", n)
	}
	g := s.lastGap(t, "plain")
	if g.Reason != api.ReasonTakeover || g.Since == nil || g.Since.After(before) || before.Sub(*g.Since) > time.Second || g.Until.Before(at) {
		t.Errorf("gap = %s, want a takeover from shortly before %s to after %s", g.Body(), before, at)
	}
}

// While another replica is there nothing is published in core NATS before its intent
// is known to the others; a single replica waits for nothing.
func TestIntentComesFirst(t *testing.T) {
	t.Parallel()
	s, first, second := twoOf(t)
	s.write("plain")
	s.deliver(first, true)
	for range 10 {
		s.publish(first, first.publishers[0])
	}
	if n := s.came("plain"); n != 0 {
		t.Errorf("%d events came before a marker said that they may", n)
	}
	s.works(first, 10)
	if n := s.came("plain"); n != 1 {
		t.Errorf("%d events came, want 1", n)
	}
	for len(second.conn.inbox) > 0 {
		s.deliver(second, true)
	}
	if !second.followed.told || second.followed.fence != 0 {
		t.Errorf("the other one knows of %+v, want an intent that goes on", second.followed)
	}

	s, only := alone(t)
	s.write("plain")
	s.deliver(only, true)
	for range 10 {
		s.publish(only, only.publishers[0])
	}
	if n := s.came("plain"); n != 1 {
		t.Errorf("%d events of a single replica came, want 1", n)
	}
}

// A replica that does not say how it goes on, as one of an earlier version, takes
// what it has not proved with it; and it understands what a later one says.
func TestEndingOfAWord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]word{
		"true":   {settled: true, intent: intent{told: true}},
		"false":  {},
		"0":      {intent: intent{told: true}},
		"100":    {intent: intent{told: true, within: 100 * time.Millisecond}},
		"-1":     {},
		"999999": {},
		"other":  {},
	} {
		var got word
		got.settled, got.intent = parseEnding(text)
		if got != want {
			t.Errorf("parseEnding(%q) = %+v, want %+v", text, got, want)
		}
	}
	for _, w := range []word{{settled: true}, {}, {intent: intent{told: true}}, {intent: intent{told: true, within: time.Second}}} {
		settled, i := parseEnding(w.ending())
		if settled != w.settled || !settled && i != w.intent {
			t.Errorf("parseEnding(%q) = %t, %+v, want %+v", w.ending(), settled, i, w)
		}
	}
}

// A replica that stops before it has published anything in core NATS knows no more of it
// than what the one before said: what that one may have published is not sent again.
func TestLastWordOfAReplicaThatHadNotBegun(t *testing.T) {
	t.Parallel()
	s, first, next, last := threeOf()
	s.publishesUnproved(t, first)
	gaps := s.gaps("plain")
	s.ends(first)
	for i := 0; next.state != Publishing; i++ {
		s.tick()
		s.control(next, false)
		s.deliver(next, true)
		if i > 300 {
			t.Fatalf("the next replica is %s", next.state)
		}
	}
	for len(last.conn.inbox) > 0 || last.holder != next.session.pid {
		s.tick()
		s.control(last, false)
		s.deliver(last, true)
	}
	word := next.Farewell()
	next.session.marker = &word
	s.finishMarker(next.session)
	s.ends(next)
	s.write("plain")
	s.works(last, 600)
	if n := s.gaps("plain") - gaps; last.state != Publishing || n != 1 || s.came("plain") != 2 {
		t.Errorf("a %s announces %d gaps, and %d events came; want a gap, and each event once", last.state, n, s.came("plain"))
	}
}

// The last word of one replica is not the last any more once another one says that it
// publishes, though nobody knows yet that this one has the lock.
func TestLastWordBeforeAStranger(t *testing.T) {
	t.Parallel()
	s, first, next, last := threeOf()
	word := first.Farewell()
	first.session.marker = &word
	s.finishMarker(first.session)
	s.ends(first)
	gaps := s.gaps("plain")
	s.write("plain")
	for i := 0; s.came("plain") == 0; i++ {
		s.works(next, 1)
		if i > 600 {
			t.Fatalf("the next replica, %s, publishes nothing", next.state)
		}
	}
	for len(last.conn.inbox) > 0 {
		s.deliver(last, true)
	}
	if !last.Stranger() {
		t.Fatal("who publishes is known already")
	}
	s.ends(next)
	s.works(last, 600)
	s.write("plain")
	s.works(last, 300)
	if n := s.gaps("plain") - gaps; last.state != Publishing || n != 1 || s.came("plain") != 2 {
		t.Errorf("a %s announces %d gaps, and %d events came; want a gap, and each event once", last.state, n, s.came("plain"))
	}
}
