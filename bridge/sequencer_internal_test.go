package bridge

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSequencersKeepThePromises draws every kind of fault in every order.
func TestSequencersKeepThePromises(t *testing.T) {
	t.Parallel()
	for replicas := range 3 {
		t.Run(fmt.Sprint(replicas+1), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { keepThePromises(t, replicas+1) })
		})
	}
}

func keepThePromises(t *rapid.T, replicas int) {
	s := newSimulation(replicas)
	s.settle()
	for _, seed := range rapid.SliceOfN(rapid.Uint64(), 300, 300).Draw(t, "steps") {
		if seed != 0 { // what rapid makes of a step that does not matter
			s.tick()
			s.step(rand.New(rand.NewPCG(seed, 0)))
		}
	}
	s.finish(t)
	s.judge(t, "plain")
	s.judge(t, "stored")
}

// step does one thing; the usual ones are drawn more often.
func (s *simulation) step(random *rand.Rand) {
	i := random.IntN(len(s.replicas))
	r := s.replicas[i]
	several := 1 + random.IntN(8)
	switch op := random.IntN(100); {
	case op < 20:
		for range several {
			s.write(simChannels()[random.IntN(3)])
			s.tick()
		}
	case op < 40:
		for range several {
			s.deliver(r, op < 30)
		}
	case op < 50:
		for range several {
			s.publish(r, r.publishers[random.IntN(2)])
		}
	case op < 75:
		for range several {
			s.control(r, op < 55)
			s.tick()
		}
	case op < 87:
		for range several {
			s.listen(r)
			s.tick()
		}
	case op < 91 && r.session != nil:
		s.kill(r.session, random.IntN(2) == 0)
	case op < 93 && r.conn != nil:
		r.conn.alive = false
	case op < 95 && r.conn != nil:
		s.hangUp(r, random.IntN(len(r.conn.inbox)+1))
	case op < 97 && !r.reloaded:
		r.configure(simChannels()[:2+random.IntN(2)])
	case op < 97 && r.reloaded:
		r.tellSequencer()
	case op == 98 && random.IntN(2) == 0:
		s.forge(random)
	case op == 99 && random.IntN(4) == 0:
		s.stop(i)
	case op == 99 && random.IntN(2) == 0:
		s.crash(i)
	}
}

// forge commits a marker that no replica sent. It makes no claim about what is
// published: that would be believed.
func (s *simulation) forge(random *rand.Rand) {
	m := marker{
		replica: s.replicas[random.IntN(len(s.replicas))].replica, number: uint64(random.IntN(20)),
		epoch: randomHex(epochBytes), publishing: random.IntN(2) == 0,
	}
	if random.IntN(2) == 0 {
		m.replica = "stranger"
	}
	at := s.now.Add(time.Duration(random.IntN(3)-1) * time.Hour)
	s.commit(simMarkerChannel, m.head()+formatMicros(at))
}

// alone is a simulated replica that publishes.
func alone(t *testing.T) (*simulation, *simReplica) {
	t.Helper()
	s := newSimulation(1)
	s.settle()
	if r := s.replicas[0]; r.state == stateActive && r.lock == lockConfirmed {
		return s, r
	}
	t.Fatal("the only replica does not publish")
	return nil, nil
}

// lastGap is the newest gap published on a channel.
func (s *simulation) lastGap(t *testing.T, channel string) *Gap {
	t.Helper()
	sent := s.sent[channel]
	for i := len(sent) - 1; i >= 0; i-- {
		if sent[i].gap != nil {
			return sent[i].gap
		}
	}
	t.Fatalf("no gap on %s", channel)
	return nil
}

func (s *simulation) gaps(channel string) (n int) {
	for _, e := range s.sent[channel] {
		if e.gap != nil {
			n++
		}
	}
	return n
}

func (s *simulation) reload(channels ...string) {
	for _, r := range s.replicas {
		r.configure(channels)
		r.tellSequencer()
	}
}

// fill writes and delivers until the queue of the channel overflows, and then
// drops so many more.
func (s *simulation) fill(r *simReplica, channel string, dropped int) {
	q := r.queueOf(r.sequencer.channels[channel])
	for !q.full() {
		s.tick()
		s.write(channel)
		s.deliver(r, true)
	}
	for range dropped {
		s.tick()
		s.write(channel)
		s.deliver(r, true)
	}
}

func TestGapReasons(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		fault   func(*simulation, *simReplica)
		reason  Reason
		dropped int64
		since   bool
	}{
		{"start", func(*simulation, *simReplica) {}, ReasonStarted, unknownCount, false},
		{"reconnect", func(s *simulation, r *simReplica) { s.hangUp(r, 0) }, ReasonReconnected, unknownCount, true},
		{"overflow", func(s *simulation, r *simReplica) { s.fill(r, "plain", 7) }, ReasonOverflow, 7, true},
		{"reconnect within overflow", func(s *simulation, r *simReplica) {
			s.fill(r, "plain", 7)
			s.hangUp(r, 0)
		}, ReasonReconnected, unknownCount, true},
		{"a peer that published", func(s *simulation, r *simReplica) {
			m := marker{replica: "peer", epoch: randomHex(epochBytes), publishing: true}
			s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
		}, ReasonTakeover, unknownCount, true},
		{"a channel added", func(s *simulation, r *simReplica) {
			s.reload("stored")
			s.settle()
			s.reload(simChannels()...)
		}, ReasonStarted, unknownCount, false},
		{"a channel removed and added at once", func(s *simulation, r *simReplica) {
			s.reload("stored")
			s.reload(simChannels()...)
		}, ReasonStarted, unknownCount, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, r := alone(t)
			tt.fault(s, r)
			s.settle()
			g := s.lastGap(t, "plain")
			dropped := int64(unknownCount)
			if g.Dropped != nil {
				dropped = *g.Dropped
			}
			if g.Reason != tt.reason || dropped != tt.dropped || (g.Since != nil) != tt.since {
				t.Errorf("gap = %s, want reason %s, dropped %d, with since: %t", g.body(), tt.reason, tt.dropped, tt.since)
			}
		})
	}
}

// A marker that left before LISTEN was committed proves nothing, however late
// it arrives.
func TestLateMarkerEndsNoLoss(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	before := s.gaps("plain")
	s.hangUp(r, 0)
	m := r.sending(true)
	for !(r.conn != nil && r.conn.told) {
		s.tick()
		s.listen(r)
	}
	s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.back != m.number {
		t.Fatalf("back = %d, want the late marker %d", r.back, m.number)
	}
	if r.sequencer.channels["plain"].lost == nil {
		t.Error("a marker from before LISTEN ended the loss")
	}
	s.settle()
	if n := s.gaps("plain"); n != before+1 {
		t.Errorf("%d gaps for one reconnect", n-before)
	}
}

// The session that had the lock may have got a marker through that says so;
// it says nothing about the session that has the lock now.
func TestMarkerOfAnEarlierLockConfirmsNothing(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	m := r.sending(true)
	r.unlocked()
	r.locked()
	s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.back != m.number || r.lease.confirmed.Load() {
		t.Errorf("back = %d, confirmed = %t; want %d and false", r.back, r.lease.confirmed.Load(), m.number)
	}
}

// Between the loss of the lock and its return another replica may have
// published, unseen when the connection broke before its marker arrived.
func TestRetakenLockDoesNotSaveABlindReplica(t *testing.T) {
	t.Parallel()
	for _, peers := range []bool{false, true} {
		s, r := alone(t)
		r.peers = peers
		r.unlocked()
		r.locked()
		s.hangUp(r, 0)
		if r.active() == peers {
			t.Errorf("active() = %t with peers %t", r.active(), peers)
		}
	}
}

// The lock may have been lost, and used by another replica, long before this
// one notices.
func TestLockLostUnnoticedWhileBlind(t *testing.T) {
	t.Parallel()
	for _, proved := range []bool{false, true} {
		s, r := alone(t)
		r.peers = true
		s.hangUp(r, 0)
		for !(r.conn != nil && r.conn.told) {
			s.tick()
			s.listen(r)
		}
		m := r.sending(proved)
		s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
		s.deliver(r, true)
		if !r.active() || !r.live() {
			t.Fatalf("active() = %t, live() = %t, want both", r.active(), r.live())
		}
		r.unlocked()
		if r.active() != proved {
			t.Errorf("active() = %t, want %t: the lock was proved to be held since the connection broke: %t", r.active(), proved, proved)
		}
	}
}

// What is lost and not yet announced keeps the publishing replica from saying
// that its work is done up to a later moment.
func TestProgressWaitsForTheGap(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	s.fill(r, "plain", 1)
	began := r.epoch.time
	for range 3 {
		m := r.sending(true)
		s.tick()
		s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
		s.deliver(r, true)
	}
	for range 10 {
		s.publish(r, r.publishers[0])
		s.publish(r, r.publishers[1])
	}
	if done := r.sending(true).done; done.After(began) {
		t.Errorf("done = %s, but an event of after %s is neither published nor announced", done, began)
	}
	s.settle()
	if done := r.sending(true).done; !done.After(began) {
		t.Errorf("done = %s after the gap, want it after %s", done, began)
	}
}

func TestRemovedChannelAnnouncesItsLoss(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	s.fill(r, "plain", 3)
	s.reload("stored")
	s.settle()
	if g := s.lastGap(t, "plain"); g.Reason != ReasonOverflow || *g.Dropped != 3 {
		t.Errorf("gap = %s, want an overflow of 3", g.body())
	}
}

func TestStopAnnouncesWhatWasDropped(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	s.fill(r, "plain", 3)
	s.stop(0)
	if g := s.lastGap(t, "plain"); g.Reason != ReasonOverflow || *g.Dropped != 3 {
		t.Errorf("gap = %s, want an overflow of 3", g.body())
	}
	if !r.core.drained() || !r.stream.drained() {
		t.Error("the queues of a stopped replica are not drained")
	}
}

// The queue may have got room between the look at it and the decision to drop.
func TestOverflowOfAnEmptyQueueDropsNothing(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	r.overflowed(r.core)
	s.write("plain")
	s.settle()
	if last := s.sent["plain"][len(s.sent["plain"])-1]; last.gap != nil || last.payload != "0" {
		t.Errorf("last = %+v, want the event", last)
	}
}

// The gap of a reconnect does not cover what the stream had stored before, so
// a stream that is lost meanwhile widens it.
func TestLostStream(t *testing.T) {
	t.Parallel()
	for _, connected := range []bool{true, false} {
		s, r := alone(t)
		before := s.gaps("plain")
		if !connected {
			s.hangUp(r, 0)
		}
		r.streamLost()
		s.settle()
		g := s.lastGap(t, "stored")
		if g.Since != nil {
			t.Errorf("connected %t: gap = %s, want since null", connected, g.body())
		}
		if n := s.gaps("plain") - before; connected && n != 0 {
			t.Errorf("%d gaps on a channel that does not use the stream", n)
		}
	}
}

// A standby takes over with a gap that begins where the one before said it was.
func TestTakeoverGapBeginsAtTheLastWord(t *testing.T) {
	t.Parallel()
	s := newSimulation(2)
	s.settle()
	first := 0
	if s.replicas[1].state == stateActive {
		first = 1
	}
	s.settle() // some more markers go round
	done := s.replicas[1-first].progress()
	if done.IsZero() {
		t.Fatal("the standby knows nothing of the other's progress")
	}
	s.kill(s.replicas[first].session, false)
	s.replicas[first].session = nil
	for i := 0; i < 50 && s.replicas[1-first].state != stateActive; i++ {
		s.tick()
		s.control(s.replicas[1-first], true)
		s.deliver(s.replicas[1-first], true)
	}
	for range 10 {
		s.publish(s.replicas[1-first], s.replicas[1-first].publishers[0])
	}
	if g := s.lastGap(t, "plain"); g.Reason != ReasonTakeover || g.Since == nil || g.Since.Before(done) {
		t.Errorf("gap = %s, want a takeover since %s or later", g.body(), done)
	}
}

// What a forger could say about time, losses and the lock is not believed, and
// a replica that is made to retire comes back.
func TestForgedMarkers(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	before := r.clock
	for _, m := range []marker{
		{replica: r.replica, number: r.sent, epoch: "0123456789abcdef", publishing: true},
		{replica: r.replica, number: r.sent + 5, epoch: "0123456789abcdef", publishing: true},
		{replica: r.replica, number: r.back, epoch: r.sentMarker(r.back).epoch, publishing: true},
		{replica: r.replica, number: lossOpen, epoch: "0123456789abcdef", publishing: true},
	} {
		s.commit(simMarkerChannel, m.head()+formatMicros(s.now.Add(time.Hour)))
		s.deliver(r, true)
	}
	if r.clock != before || !r.epoch.time.Equal(before.server) || r.back != r.sent {
		t.Errorf("clock %v, epoch %v, back %d: a forged marker was believed", r.clock, r.epoch.time, r.back)
	}
	if r.state != stateActive || !r.lease.confirmed.Load() {
		t.Error("a marker in this replica's own name made it retire")
	}
	m := marker{replica: "peer", number: 1, epoch: "0123456789abcdef", publishing: true, done: s.now.Add(time.Hour)}
	s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.state != stateStandby {
		t.Error("another replica that publishes did not make this one retire")
	}
	if r.done.After(s.now) {
		t.Errorf("done = %s, which is still to come", r.done)
	}
	s.settle()
	if r.state != stateActive || !r.lease.confirmed.Load() {
		t.Error("a replica that holds the lock did not come back")
	}
}

// More markers on their way than the sequencer remembers: the oldest cannot
// tell the time, since nobody knows when they left.
func TestForgottenMarkerTellsNoTime(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	oldest := r.sending(true)
	for range len(r.recent) {
		r.sending(true)
	}
	before := r.clock
	s.commit(simMarkerChannel, oldest.head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.clock != before {
		t.Errorf("clock = %v, want %v", r.clock, before)
	}
}

func TestOutstanding(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	if away := r.outstanding(); away != 0 {
		t.Fatalf("outstanding() = %s with all markers back", away)
	}
	m := r.sending(true)
	s.now = s.now.Add(3 * time.Second)
	r.sending(true)
	if away := r.outstanding(); away != 3*time.Second {
		t.Errorf("outstanding() = %s, want 3s", away)
	}
	s.commit(simMarkerChannel, m.head()+formatMicros(s.now))
	s.deliver(r, true)
	s.now = s.now.Add(time.Second)
	if away := r.outstanding(); away != time.Second {
		t.Errorf("outstanding() = %s, want 1s", away)
	}
}
