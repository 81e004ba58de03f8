package bridge

import (
	"sync"
	"time"

	"github.com/lib/pq"
)

// sequencer turns what the listener receives into what the publishers publish:
// it numbers events by epoch, keeps account of losses and puts each gap in its
// place. It starts no goroutine, does no I/O and never blocks.
//
// Every loss ends the same way: the cause ends, a marker is sent after that,
// and when the marker comes back the gap is queued and events follow. What
// arrives in between belongs to the loss.
type sequencer struct {
	replica string
	marker  string // the marker channel
	core    *queue
	stream  *queue
	lease   *lease
	// wantMarker asks the control session for a marker; must neither block nor
	// call back.
	wantMarker func()
	now        func() time.Time

	mu       sync.Mutex // guards what follows
	channels map[string]*channelState
	epoch    *epoch // nil until the first marker arrives
	sighted  bool   // a marker arrived on this connection
	clock    clock
	done     time.Time      // latest done of a publishing replica
	sent     uint64         // markers sent by this replica
	back     uint64         // the newest of them that came back
	recent   [32]sentMarker // the newest sent, by number modulo 32
	state    replicaState
	lock     lockState
	lockedAt uint64 // markers sent when the lock was taken
	// proved: this connection delivered a marker of the session that has the
	// lock, so whatever another replica published since is told by a marker on
	// this connection.
	proved bool
	peers  bool // another replica's marker was seen
}

// channelState is the sequencer's account of one channel.
type channelState struct {
	route *route
	stats *channelStats
	n     uint64 // events in this epoch
	lost  *loss
	// listened is the number of markers sent when LISTEN was committed: later
	// ones prove that notifications arrive. lossOpen before.
	listened uint64
}

// sentMarker is what a replica keeps of a marker, to know it again. Its epoch
// is random, so nobody can have sent the like before.
type sentMarker struct {
	epoch string
	at    time.Time
}

// setChannels replaces the channels. New ones begin with a gap once listened
// to; events that are queued already keep their old route.
func (s *sequencer) setChannels(routes map[string]*route, stats func(channel string) *channelStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]*channelState, len(routes))
	for name, r := range routes {
		c := s.channels[name]
		if c == nil {
			c = &channelState{listened: lossOpen}
			if s.state == stateActive {
				c.lost = &loss{reason: ReasonStarted, dropped: unknownCount, after: lossOpen}
			}
		}
		c.route, c.stats = r, stats(name)
		next[name] = c
	}
	for name, c := range s.channels {
		if next[name] == nil && s.state == stateActive && c.lost != nil {
			s.pushGap(c, s.clock.bound(s.now()))
		}
	}
	s.channels = next
}

// listening says that LISTEN has been committed for these channels: the loss
// of a reconnect or of a new channel is over, and the next marker can end it.
func (s *sequencer) listening(names []string) {
	s.mu.Lock()
	for _, name := range names {
		if c := s.channels[name]; c != nil && c.listened == lossOpen {
			c.listened = s.sent
		}
	}
	s.endLosses()
	s.mu.Unlock()
	s.wantMarker()
}

// endLosses lets the next marker end every loss whose cause is over.
func (s *sequencer) endLosses() {
	for _, c := range s.channels {
		if c.lost != nil && c.lost.after == lossOpen && c.listened != lossOpen && !s.queueOf(c).dropping.Load() {
			c.lost.after = s.sent
		}
	}
}

// disconnected says that the connection is gone and everything it delivered
// has been handed over.
func (s *sequencer) disconnected() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sighted, s.proved = false, false
	for _, c := range s.channels {
		c.listened = lossOpen
	}
	if s.state != stateActive {
		return
	}
	s.retireIfBlind()
	for _, c := range s.channels {
		s.lose(c, loss{reason: ReasonReconnected, since: s.epoch.time, dropped: unknownCount, after: lossOpen})
	}
}

func (s *sequencer) lose(c *channelState, l loss) {
	switch {
	case s.state != stateActive: // nothing is published here, so nothing is lost
	case c.lost == nil:
		c.lost = &l
	default:
		c.lost.merge(l)
	}
}

func (s *sequencer) queueOf(c *channelState) *queue {
	if c.route.config.Delivery == DeliveryJetStream {
		return s.stream
	}
	return s.core
}

// notification takes what the listener received next.
func (s *sequencer) notification(n *pq.Notification) {
	at := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.Channel == s.marker {
		if m, err := parseMarker(n.Extra); err == nil {
			s.arrived(m, at)
		}
		return
	}
	c := s.channels[n.Channel]
	if c == nil {
		return // unlistened a moment ago
	}
	c.stats.received.Add(1)
	c.n++
	if s.state == stateStandby {
		return
	}
	q := s.queueOf(c)
	if c.lost == nil && q.dropping.Load() {
		c.lost = &loss{reason: ReasonOverflow, since: s.epoch.time, after: lossOpen}
	}
	if c.lost != nil {
		c.drop()
		return
	}
	q.push(item{kind: itemEvent, pid: int32(n.BePid), route: c.route, stats: c.stats,
		payload: n.Extra, epoch: s.epoch, n: c.n, received: at})
}

func (c *channelState) drop() {
	c.stats.dropped.Add(1)
	if c.lost.dropped != unknownCount {
		c.lost.dropped++
	}
}

func (s *sequencer) pushGap(c *channelState, until time.Time) {
	g := c.lost.gap(c.route.channel, until)
	c.lost = nil
	c.stats.gap(g.Reason)
	s.queueOf(c).push(item{kind: itemGap, route: c.route, stats: c.stats, epoch: s.epoch, received: s.now(), gap: &g})
}

// streamLost announces that the stream lost what it had stored.
func (s *sequencer) streamLost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateActive {
		return // the publishing replica sees it too
	}
	for _, c := range s.channels {
		switch {
		case s.queueOf(c) != s.stream:
		case c.lost != nil:
			c.lost.since = time.Time{}
		default:
			c.lost = &loss{reason: ReasonNATSUnavailable, dropped: unknownCount}
			s.pushGap(c, s.clock.bound(s.now()))
		}
	}
}

// overflowed begins to drop what would go to q, since it stayed full too long.
func (s *sequencer) overflowed(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.dropping.Store(true)
	s.endOverflow() // the queue may have got room just before
}

// relaxed ends dropping where a queue has room again. Publishers call it after
// releasing items.
func (s *sequencer) relaxed(q *queue) {
	if !q.dropping.Load() || !q.relaxed() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endOverflow()
}

// endOverflow ends dropping where a queue has room again.
func (s *sequencer) endOverflow() {
	for _, q := range []*queue{s.core, s.stream} {
		if q.dropping.Load() && q.relaxed() {
			q.dropping.Store(false)
			s.endLosses()
			s.wantMarker()
		}
	}
}

// stop ends every loss with a gap, so that what was dropped is announced
// before the queues close.
func (s *sequencer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateActive && !s.clock.server.IsZero() {
		for _, c := range s.channels {
			if c.lost != nil && c.lost.dropped != 0 {
				s.pushGap(c, s.clock.bound(s.now()))
			}
		}
	}
	s.core.close()
	s.stream.close()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
