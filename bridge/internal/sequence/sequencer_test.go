package sequence

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
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

// forge commits a marker that no replica sent, with any claim.
func (s *simulation) forge(random *rand.Rand) {
	m := Marker{
		replica: s.replicas[random.IntN(len(s.replicas))].Replica, number: uint64(random.IntN(20)),
		epoch: RandomHex(epochBytes), publishing: random.IntN(2) == 0,
	}
	if random.IntN(2) == 0 {
		m.replica = "stranger"
	}
	at := s.now.Add(time.Duration(random.IntN(3)-1) * time.Hour)
	if random.IntN(2) == 0 {
		m.done = s.now.Add(time.Duration(random.IntN(3)-1) * time.Minute)
	}
	s.commitFrom(-random.IntN(3), simMarkerChannel, m.Head()+formatMicros(at))
}

// alone is a simulated replica that publishes.
func alone(t *testing.T) (*simulation, *simReplica) {
	t.Helper()
	s := newSimulation(1)
	s.settle()
	if r := s.replicas[0]; r.state == Publishing {
		return s, r
	}
	t.Fatal("the only replica does not publish")
	return nil, nil
}

// lastGap is the newest gap published on a channel.
func (s *simulation) lastGap(t *testing.T, channel string) *api.Gap {
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
	q := r.queueOf(r.Sequencer.channels[channel])
	for !q.Full() {
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
		reason  api.Reason
		dropped int64
		since   bool
	}{
		{"start", func(*simulation, *simReplica) {}, api.ReasonStarted, event.UnknownCount, false},
		{"reconnect", func(s *simulation, r *simReplica) { s.hangUp(r, 0) }, api.ReasonReconnected, event.UnknownCount, true},
		{"overflow", func(s *simulation, r *simReplica) { s.fill(r, "plain", 7) }, api.ReasonOverflow, 7, true},
		{"reconnect within overflow", func(s *simulation, r *simReplica) {
			s.fill(r, "plain", 7)
			s.hangUp(r, 0)
		}, api.ReasonReconnected, event.UnknownCount, true},
		{"a peer that published", func(s *simulation, r *simReplica) {
			s.kill(r.session, false)
			s.holder = &simSession{pid: 99, alive: true, holds: true}
			m := Marker{replica: "peer", epoch: RandomHex(epochBytes), publishing: true}
			s.commitFrom(99, simMarkerChannel, m.Head()+formatMicros(s.now))
			s.settle()
			s.kill(s.holder, false)
		}, api.ReasonTakeover, event.UnknownCount, true},
		{"a channel added", func(s *simulation, r *simReplica) {
			s.reload("stored")
			s.settle()
			s.reload(simChannels()...)
		}, api.ReasonStarted, event.UnknownCount, false},
		{"a channel removed and added at once", func(s *simulation, r *simReplica) {
			s.reload("stored")
			s.reload(simChannels()...)
		}, api.ReasonStarted, event.UnknownCount, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, r := alone(t)
			tt.fault(s, r)
			s.settle()
			g := s.lastGap(t, "plain")
			dropped := int64(event.UnknownCount)
			if g.Dropped != nil {
				dropped = *g.Dropped
			}
			if g.Reason != tt.reason || dropped != tt.dropped || (g.Since != nil) != tt.since {
				t.Errorf("gap = %s, want reason %s, dropped %d, with since: %t", g.Body(), tt.reason, tt.dropped, tt.since)
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
	m := r.Sending(true)
	for !(r.conn != nil && r.conn.told) {
		s.tick()
		s.listen(r)
	}
	s.commit(simMarkerChannel, m.Head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.back != m.number {
		t.Fatalf("back = %d, want the late marker %d", r.back, m.number)
	}
	if r.Sequencer.channels["plain"].lost == nil {
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
	m := r.Sending(true)
	r.Unlocked()
	r.Locked()
	s.commit(simMarkerChannel, m.Head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.back != m.number || r.Lease.Confirmed() {
		t.Errorf("back = %d, confirmed = %t; want %d and false", r.back, r.Lease.Confirmed(), m.number)
	}
}

// Between the loss of the lock and its return another replica may have
// published, unseen when the connection broke before its marker arrived.
func TestRetakenLockDoesNotSaveABlindReplica(t *testing.T) {
	t.Parallel()
	for _, peers := range []bool{false, true} {
		s, r := alone(t)
		r.peers = peers
		r.Unlocked()
		r.Locked()
		s.hangUp(r, 0)
		if r.Active() == peers {
			t.Errorf("Active() = %t with peers %t", r.Active(), peers)
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
		m := r.Sending(proved)
		s.commit(simMarkerChannel, m.Head()+formatMicros(s.now))
		s.deliver(r, true)
		if !r.Active() || !r.Live() {
			t.Fatalf("Active() = %t, Live() = %t, want both", r.Active(), r.Live())
		}
		r.Unlocked()
		if r.Active() != proved {
			t.Errorf("Active() = %t, want %t: the lock was proved to be held since the connection broke: %t", r.Active(), proved, proved)
		}
	}
}

// What is lost and not yet announced keeps the publishing replica from saying
// that its work is done up to a later moment.
func TestProgressWaitsForTheGap(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	s.fill(r, "plain", 1)
	began := r.epoch.Time
	for range 3 {
		m := r.Sending(true)
		s.tick()
		s.commit(simMarkerChannel, m.Head()+formatMicros(s.now))
		s.deliver(r, true)
	}
	for range 10 {
		s.publish(r, r.publishers[0])
		s.publish(r, r.publishers[1])
	}
	if done := r.Sending(true).done; done.After(began) {
		t.Errorf("done = %s, but an event of after %s is neither published nor announced", done, began)
	}
	s.settle()
	if done := r.Sending(true).done; !done.After(began) {
		t.Errorf("done = %s after the gap, want it after %s", done, began)
	}
}

func TestRemovedChannelAnnouncesItsLoss(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	s.fill(r, "plain", 3)
	s.reload("stored")
	s.settle()
	if g := s.lastGap(t, "plain"); g.Reason != api.ReasonOverflow || *g.Dropped != 3 {
		t.Errorf("gap = %s, want an overflow of 3", g.Body())
	}
}

func TestStopAnnouncesWhatWasDropped(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	s.fill(r, "plain", 3)
	s.stop(0)
	if g := s.lastGap(t, "plain"); g.Reason != api.ReasonOverflow || *g.Dropped != 3 {
		t.Errorf("gap = %s, want an overflow of 3", g.Body())
	}
	if !r.Core.Drained() || !r.Stream.Drained() {
		t.Error("the queues of a stopped replica are not drained")
	}
}

// The queue may have got room between the look at it and the decision to drop.
func TestOverflowOfAnEmptyQueueDropsNothing(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	r.Overflowed(r.Core)
	s.write("plain")
	s.settle()
	if last := s.sent["plain"][len(s.sent["plain"])-1]; last.gap != nil || last.write != 1 {
		t.Errorf("last = %+v, want the event", last)
	}
}

// The gap of a reconnect does not cover what the stream had stored before, so a
// stream that is lost meanwhile has a gap of its own.
func TestLostStream(t *testing.T) {
	t.Parallel()
	for _, connected := range []bool{true, false} {
		s, r := alone(t)
		if !connected {
			s.hangUp(r, 0)
		}
		gaps := r.StreamLost()
		if len(gaps) != 1 || gaps[0].Route.Channel != "stored" || gaps[0].Gap.Since != nil {
			t.Errorf("connected %t: StreamLost() = %+v, want a gap of the stored channel with since null", connected, gaps)
		}
	}
}

// What a forger could say about time, losses and the lock is not believed, and
// the publishing replica goes on without a gap.
func TestForgedMarkers(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	before := r.clock
	for _, m := range []Marker{
		{replica: r.Replica, number: r.sent, epoch: "0123456789abcdef", publishing: true},
		{replica: r.Replica, number: r.sent + 5, epoch: "0123456789abcdef", publishing: true},
		{replica: r.Replica, number: r.back, epoch: r.sentMarker(r.back).epoch, publishing: true},
		{replica: r.Replica, number: lossOpen, epoch: "0123456789abcdef", publishing: true},
	} {
		s.commit(simMarkerChannel, m.Head()+formatMicros(s.now.Add(time.Hour)))
		s.deliver(r, true)
	}
	if r.clock != before || !r.epoch.Time.Equal(before.Server) || r.back != r.sent {
		t.Errorf("clock %v, epoch %v, back %d: a forged marker was believed", r.clock, r.epoch.Time, r.back)
	}
	if r.state != Publishing || !r.Lease.Confirmed() {
		t.Error("a marker in this replica's own name made it retire")
	}
	m := Marker{replica: "peer", number: 1, epoch: "0123456789abcdef", publishing: true, done: s.now.Add(time.Hour)}
	gaps := s.gaps("plain")
	s.commitFrom(-1, simMarkerChannel, m.Head()+formatMicros(s.now))
	s.deliver(r, true)
	if !r.state.queues() || r.Lease.Confirmed() {
		t.Error("a contradiction made it give up its queue, or did not stop it")
	}
	if !r.done.IsZero() {
		t.Errorf("done = %s, which nobody proved", r.done)
	}
	s.settle()
	if r.state != Publishing || !r.Lease.Confirmed() || s.gaps("plain") != gaps {
		t.Error("a replica that holds the lock did not come back without a gap")
	}
	s.commitFrom(-1, simMarkerChannel, m.Head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.state != Publishing || !r.Lease.Confirmed() {
		t.Error("the same liar was listened to again")
	}
}

// More markers on their way than the sequencer remembers: the oldest cannot
// tell the time, since nobody knows when they left.
// A replica that knows of no holder of the lock believes no marker of nobody's.
func TestMarkerOfNobody(t *testing.T) {
	t.Parallel()
	s := newSimulation(1)
	r := s.replicas[0]
	s.listen(r)
	r.clock = event.Clock{Server: s.now, Sent: r.Now()}
	m := Marker{replica: "peer", number: 1, epoch: "0123456789abcdef", publishing: true, done: s.now}
	r.Notification(simMarkerChannel, m.Head()+formatMicros(s.now), 0)
	if !r.done.IsZero() || r.epoch != nil {
		t.Errorf("done %v, epoch %v: a marker was believed", r.done, r.epoch)
	}
}

func TestForgottenMarkerTellsNoTime(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	oldest := r.Sending(true)
	for range len(r.recent) {
		r.Sending(true)
	}
	before := r.clock
	s.commit(simMarkerChannel, oldest.Head()+formatMicros(s.now))
	s.deliver(r, true)
	if r.clock != before {
		t.Errorf("clock = %v, want %v", r.clock, before)
	}
}

func TestOutstanding(t *testing.T) {
	t.Parallel()
	s, r := alone(t)
	if away := r.Outstanding(); away != 0 {
		t.Fatalf("outstanding() = %s with all markers back", away)
	}
	m := r.Sending(true)
	s.now = s.now.Add(3 * time.Second)
	r.Sending(true)
	if away := r.Outstanding(); away != 3*time.Second {
		t.Errorf("outstanding() = %s, want 3s", away)
	}
	s.commit(simMarkerChannel, m.Head()+formatMicros(s.now))
	s.deliver(r, true)
	s.now = s.now.Add(time.Second)
	if away := r.Outstanding(); away != time.Second {
		t.Errorf("outstanding() = %s, want 1s", away)
	}
}

// A loss that goes on again can be ended only by what ends the later one.
func TestMergedLossEndsWithTheLater(t *testing.T) {
	t.Parallel()
	l := loss{Loss: event.Loss{Dropped: 2}, after: 1}
	l.merge(loss{Loss: event.Loss{Dropped: 3}, after: lossOpen})
	if l.after != lossOpen || l.Dropped != 5 {
		t.Errorf("merged = %+v, want 5 dropped and the loss open", l)
	}
}

// A PID belongs to another session some time: to another replica's, when that has the
// lock, and to anybody's after a restart of PostgreSQL.
func TestLiarsPIDIsAnothersLater(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		s, r := alone(t)
		lie := Marker{replica: "stranger", epoch: RandomHex(epochBytes), publishing: true}
		s.commitFrom(99, simMarkerChannel, lie.Head()+formatMicros(s.now))
		s.settle()
		if !r.liars[99] {
			t.Fatal("who has lied is not known")
		}
		s.kill(r.session, false)
		if restarted {
			s.hangUp(r, 0)
			if r.liars[99] {
				t.Error("who has lied is known beyond the connection")
			}
		}
		s.holder = &simSession{pid: 99, alive: true, holds: true}
		s.settle()
		m := Marker{replica: "peer", epoch: RandomHex(epochBytes), publishing: true}
		s.commitFrom(99, simMarkerChannel, m.Head()+formatMicros(s.now))
		s.settle()
		if r.epoch.ID != m.epoch {
			t.Errorf("the marker of the replica that publishes was not believed; restarted: %t", restarted)
		}
	}
}
