package sequence

import (
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/api"
)

// Sequencer turns what the listener receives into what the publishers publish:
// it numbers events by epoch, keeps account of losses and puts each gap in its
// place. It starts no goroutine, does no I/O and never blocks.
//
// Every loss ends the same way: the cause ends, a marker is sent after that,
// and when the marker comes back the gap is queued and events follow. What
// arrives in between belongs to the loss.
type Sequencer struct {
	Replica string
	Marker  string // the marker channel
	Core    *queue.Queue
	Stream  *queue.Queue
	Lease   *lease.Lease
	// WantMarker asks the control session for a marker; must neither block nor
	// call back.
	WantMarker func()
	Now        func() time.Time

	mu        sync.Mutex // guards what follows
	channels  map[string]*channelState
	epoch     *event.Epoch // nil until the first marker arrives
	sight     sight        // of this connection
	clock     event.Clock
	done      time.Time // latest done of a publishing replica
	sent      uint64    // markers sent by this replica
	committed uint64    // the newest of them that PostgreSQL said was
	// listening is how many were sent when the present connection listened to its
	// channels; lossOpen before.
	listening uint64
	back      uint64         // the newest of them that came back
	recent    [32]sentMarker // the newest sent, by number modulo 32
	state     State
	lockedAt  uint64 // markers sent when the lock was taken
	peers     bool   // what may be another replica's marker was seen
	owes      bool   // one of them may want to know how far this replica is
	holder    int    // PID of another replica's session that holds the lock; 0: none known
	heard     bool   // a marker of that session came
	taught    bool   // and said how far it has published
	stranger  bool   // another session than that says that it publishes
	claim     claim
	tenure    uint64 // counts how often the lock was taken
	// tenureBack is the tenure in which the newest marker that came back was
	// sent, of those from the session with the lock.
	tenureBack uint64
	// suspects are the backends whose markers said since then that another
	// replica publishes; liars those of which that was proved untrue.
	suspects, liars map[int]bool
	stopped         bool       // the listener has ended
	open            event.Open // the losses that are not queued as gaps yet
	settled         bool       // the replica that published last says that it has stopped, see word
	mute            bool       // it does not tell how far it has published
	learning        time.Time  // since when it may not be known how far it is
	undecided       bool       // whether what is missing here is announced, or another replica publishes
	told            word       // what this one said last
	predecessor     int        // the holder that was known when the lock was taken
	going           going      // how core NATS goes on here
	followed        followed   // and at the replica that publishes
}

// channelState is the sequencer's account of one channel.
type channelState struct {
	route *event.Route
	stats *event.Counters
	// epoch is that of the replica which publishes, or, until its next marker
	// comes, one of this replica's own, which no other has.
	epoch *event.Epoch
	n     uint64 // events in it
	// heard: a marker came back that was sent after LISTEN was committed, so
	// whatever came since is all there was.
	heard bool
	lost  *loss
	// listened is the number of markers sent when LISTEN was committed: later
	// ones prove that notifications arrive. lossOpen before.
	listened uint64
}

// loss is a gap in the making, and what can end it.
type loss struct {
	event.Loss
	// after is the number of the last marker that cannot end the loss: one
	// that was on its way before the loss ended proves nothing. lossOpen while
	// it still goes on.
	after uint64
}

const lossOpen = ^uint64(0)

// merge adds a later loss of the same channel.
func (l *loss) merge(later loss) {
	l.Merge(later.Loss)
	l.after = later.after
}

// sentMarker is what a replica keeps of a marker, to know it again. Its epoch
// is random, so nobody can have sent the like before.
type sentMarker struct {
	epoch  string
	at     time.Time
	tenure uint64 // in which the session that sent it held the lock; 0: it did not
}

const (
	maxSuspects = 64
	maxLiars    = 1024 // then the older ones are forgotten
)

// SetChannels replaces the channels. New ones begin with a gap once listened
// to; events that are queued already keep their old route.
func (s *Sequencer) SetChannels(routes map[string]*event.Route, stats func(channel string) *event.Counters) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspects == nil {
		s.suspects, s.liars = map[int]bool{}, map[int]bool{}
		s.listening = lossOpen
		s.Core.Keep()
		s.Stream.Keep()
	}
	next := make(map[string]*channelState, len(routes))
	for name, r := range routes {
		c := s.channels[name]
		if c == nil {
			c = &channelState{listened: lossOpen}
			c.lost = &loss{Loss: event.Loss{Reason: api.ReasonStarted, Dropped: event.UnknownCount}, after: lossOpen}
		}
		c.route, c.stats = r, stats(name)
		next[name] = c
	}
	for name, c := range s.channels {
		if next[name] == nil && s.state.queues() && c.lost != nil {
			s.pushGap(c, s.clock.Bound(s.Now()), 0)
		}
	}
	s.channels = next
	s.lossesChanged()
}

// Listening says that LISTEN has been committed for these channels: the loss
// of a reconnect or of a new channel is over, and the next marker can end it.
func (s *Sequencer) Listening(names []string) {
	s.mu.Lock()
	if s.listening == lossOpen {
		s.listening = s.sent
	}
	for _, name := range names {
		if c := s.channels[name]; c != nil && c.listened == lossOpen {
			c.listened = s.sent
		}
	}
	s.endLosses()
	s.mu.Unlock()
	s.WantMarker()
}

// endLosses lets the next marker end every loss whose cause is over.
func (s *Sequencer) endLosses() {
	for _, c := range s.channels {
		if c.lost != nil && c.lost.after == lossOpen && c.listened != lossOpen && !s.queueOf(c).Dropping() {
			c.lost.after = s.sent
		}
	}
}

func (s *Sequencer) lose(c *channelState, l loss) {
	if c.lost == nil {
		c.lost = &l
		s.lossesChanged()
		return
	}
	c.lost.merge(l)
}

// lossesChanged notes which losses go on, for what is queued meanwhile.
func (s *Sequencer) lossesChanged() {
	s.open = ""
	var lost []*channelState
	for _, c := range s.channels {
		if c.lost == nil {
			continue
		}
		if lost = append(lost, c); len(lost) > event.NamedOpen {
			s.open = event.ManyOpen
			return
		}
	}
	for _, c := range lost {
		s.open = s.open.With(c.route.Token, c.lost.Since)
	}
}

func (s *Sequencer) queueOf(c *channelState) *queue.Queue {
	if c.route.Stored {
		return s.Stream
	}
	return s.Core
}

func (s *Sequencer) drop(c *channelState) {
	if s.state.queues() {
		c.stats.Dropped.Add(1)
	}
	if c.lost.Dropped != event.UnknownCount {
		c.lost.Dropped++
	}
}

func (s *Sequencer) pushGap(c *channelState, until time.Time, place uint64) {
	it := s.gap(c, c.lost.Loss, until)
	it.N = place
	c.lost = nil
	s.lossesChanged()
	it.Open = s.open
	s.queueOf(c).Push(it)
}

func (s *Sequencer) gap(c *channelState, l event.Loss, until time.Time) event.Item {
	g := l.Gap(c.route.Channel, until)
	return event.Item{Kind: event.KindGap, Route: c.route, Counters: c.stats, Epoch: s.epoch, Received: s.Now(), Gap: &g, Sweep: c.route.CatchUp != ""}
}

// StreamLost returns the gaps that announce that the stream lost what it had
// stored. They belong before everything that is published after that, whatever
// else is lost or waits.
func (s *Sequencer) StreamLost() (gaps []event.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.queues() {
		return nil // the publishing replica sees it too
	}
	for _, c := range s.channels {
		if s.queueOf(c) == s.Stream {
			all := event.Loss{Reason: api.ReasonNATSUnavailable, Dropped: event.UnknownCount}
			gaps = append(gaps, s.gap(c, all, s.clock.Bound(s.Now())))
		}
	}
	return gaps
}

// Overflowed begins to drop what would go to q, since it stayed full too long.
func (s *Sequencer) Overflowed(q *queue.Queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.SetDropping(true)
	s.endOverflow() // the queue may have got room just before
}

// Relaxed ends dropping where a queue has room again. Publishers call it after
// releasing items.
func (s *Sequencer) Relaxed(q *queue.Queue) {
	if !q.Dropping() || !q.Relaxed() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endOverflow()
}

// endOverflow ends dropping where a queue has room again.
func (s *Sequencer) endOverflow() {
	for _, q := range []*queue.Queue{s.Core, s.Stream} {
		if q.Dropping() && q.Relaxed() {
			q.SetDropping(false)
			s.endLosses()
			s.WantMarker()
		}
	}
}

// Stop says that the listener has ended. Every loss ends with a gap, so that what
// was dropped is announced before the queues close. A replica that is not
// publishing never will, since no marker comes back any more: what it has queued
// is given up at once, and the gap of the next one that publishes covers it.
func (s *Sequencer) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.state == Publishing && !s.clock.Server.IsZero() {
		for _, c := range s.channels {
			if c.lost != nil && c.lost.Dropped != 0 {
				s.pushGap(c, s.clock.Bound(s.Now()), 0)
			}
		}
	}
	s.Core.Close()
	s.Stream.Close()
	s.giveUpIfOver()
}

// giveUpIfOver lets go of what can never be published.
func (s *Sequencer) giveUpIfOver() {
	if s.stopped && s.state != Publishing {
		s.Core.Discard()
		s.Stream.Discard()
	}
}

// Over reports that this replica will never publish anything any more.
func (s *Sequencer) Over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped && s.state != Publishing
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// become takes an occasion to change the state.
func (s *Sequencer) become(o occasion) {
	s.state = s.state.after(o)
	s.Lease.Confirm(s.state == Publishing)
}

func (s *Sequencer) sentMarker(number uint64) *sentMarker {
	return &s.recent[number%uint64(len(s.recent))]
}
