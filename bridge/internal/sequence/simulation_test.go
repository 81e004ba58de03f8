package sequence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lib/pq"
	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/api"
)

// simulation runs the sequencers of several replicas against a PostgreSQL and
// a NATS that exist only as lists, one step at a time, in an order that rapid
// draws. Every step takes a millisecond of PostgreSQL's clock; each replica's
// own clock is off by an hour or so.
type simulation struct {
	now      time.Time
	holder   *simSession // of the advisory lock
	replicas []*simReplica
	serial   int
	writes   map[string][]simWrite // by channel, in commit order
	sent     map[string][]simSent  // by channel, in order of publication
	room     int                   // of a queue, in events
	frozen   *simReplica
	stream   []Stored          // what JetStream has
	log      []string          // what was published, and from where on
	numbers  map[string]string // of an event, by channel and payload
	numbered map[string]string // the event, by number
}

type simWrite struct{ at time.Time }

// simSent is an event, or a gap, on its way out.
type simSent struct {
	write int // its number on the channel
	gap   *api.Gap
}

// simSession is a control session. It is alive as PostgreSQL sees it; the
// replica may learn of its end later.
type simSession struct {
	pid          int
	alive, holds bool
	marker       *Marker // on its way to PostgreSQL
}

// simConn is a listener's connection.
type simConn struct {
	alive    bool
	listened []string // committed on the server
	wanted   []string // what the client goes through
	told     bool     // the sequencer, that it is listened to
	inbox    []*pq.Notification
}

type simReplica struct {
	*Sequencer
	wants      bool // a marker
	deferred   int  // how often it left the lock to another
	deciding   int  // steps
	session    *simSession
	conn       *simConn
	channels   []string // what the listener is to listen on
	reloaded   bool     // the listener has new channels, the sequencer not yet
	changed    bool     // as the listener's
	publishers []*simPublisher
	whole      []*channelState // in this epoch nothing of them is missing
	counting   *event.Epoch    // that epoch
}

type simPublisher struct {
	queue      *queue.Queue
	items      []event.Item
	generation uint64
	lost       uint64      // see place of package publish
	after      string      // the position published last
	unproved   queue.Proof // what is published
	gaps       int
}

var simCreated = time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)

const simMarkerChannel = "marker"

func simChannels() []string { return []string{"plain", "stored", "extra"} }

// simStored spreads the channels over both queues; extra comes and goes.
func simStored(channel string) bool { return channel == "stored" }

func newSimulation(replicas int) *simulation {
	s := &simulation{
		now:    time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		writes: map[string][]simWrite{}, sent: map[string][]simSent{}, numbers: map[string]string{}, numbered: map[string]string{},
	}
	s.room = 5
	s.launch(replicas)
	return s
}

func (s *simulation) launch(replicas int) {
	for range replicas {
		s.replicas = append(s.replicas, nil)
	}
	for i := range s.replicas {
		s.start(i, simChannels())
	}
}

// start replaces a replica by a process that knows nothing, except that it is
// not alone if it is not.
func (s *simulation) start(i int, channels []string) {
	s.serial++
	skew := time.Duration(s.serial%7-3) * time.Hour
	r := &simReplica{}
	r.Sequencer = &Sequencer{
		Replica: fmt.Sprint("r", s.serial), Marker: simMarkerChannel, Lease: lease.New(),
		Core: s.queue(), Stream: s.queue(),
		Now:        func() time.Time { return s.now.Add(skew) },
		WantMarker: func() { r.wants = true },
		peers:      len(s.replicas) > 1,
	}
	r.publishers = []*simPublisher{{queue: r.Core}, {queue: r.Stream}}
	r.configure(channels)
	r.tellSequencer()
	s.replicas[i] = r
}

// configure is the first half of a reload.
func (r *simReplica) configure(channels []string) {
	r.channels, r.reloaded = append([]string{simMarkerChannel}, channels...), true
}

// tellSequencer is the second.
func (r *simReplica) tellSequencer() {
	routes := map[string]*event.Route{}
	for _, c := range r.channels[1:] {
		route, err := event.NewRoute(c, "p", event.RouteOptions{Stored: simStored(c), CatchUp: "missed"})
		if err != nil {
			panic(err)
		}
		routes[c] = route
	}
	r.SetChannels(routes, event.NewCounters)
	r.reloaded, r.changed = false, true
}

func (s *simulation) queue() *queue.Queue {
	room := int64(s.room) * event.ItemOverhead
	return queue.NewRing(queue.Limits{Queue: room, Ring: 6 * room, Kept: 2 * room})
}

func (s *simulation) tick() { s.now = s.now.Add(time.Millisecond) }

// commit hands a notification to every listener.
func (s *simulation) commit(channel, payload string) { s.commitFrom(0, channel, payload) }

// commitFrom is commit by a backend.
func (s *simulation) commitFrom(pid int, channel, payload string) {
	for _, r := range s.replicas {
		if r.conn != nil && r.conn.alive && slices.Contains(r.conn.listened, channel) {
			r.conn.inbox = append(r.conn.inbox, &pq.Notification{Channel: channel, Extra: payload, BePid: pid})
		}
	}
}

func (s *simulation) write(channel string) {
	s.writes[channel] = append(s.writes[channel], simWrite{at: s.now})
	n := len(s.writes[channel])
	s.commitFrom(n, channel, simPayload(n))
}

// simPayload is mostly the same: what tells one notification from another is the
// PID, which here counts the channel's notifications from 1 and no id has.
func simPayload(n int) string {
	if n%5 == 0 {
		return fmt.Sprint(n)
	}
	return ""
}

// crash ends a replica's process and starts another with the same channels.
func (s *simulation) crash(i int) {
	r := s.replicas[i]
	if r.session != nil {
		s.kill(r.session, false)
	}
	s.start(i, slices.Sorted(maps.Keys(r.Sequencer.channels)))
}

// stop ends a replica as its Run does: it publishes what it has, if it may.
func (s *simulation) stop(i int) {
	r := s.replicas[i]
	r.Sequencer.Stop()
	for range 30 {
		for _, p := range r.publishers {
			s.publish(r, p)
		}
	}
	s.crash(i)
}

// kill ends a session on the server; a marker on its way is committed first,
// or never.
func (s *simulation) kill(session *simSession, arrives bool) {
	if session.marker != nil && arrives {
		s.finishMarker(session)
	}
	session.alive = false
	if s.holder == session {
		s.holder = nil
	}
}

func (s *simulation) finishMarker(session *simSession) {
	if session.marker.time.IsZero() {
		session.marker.time = s.now
	}
	s.commitFrom(session.pid, simMarkerChannel, session.marker.Head()+formatMicros(session.marker.time))
	session.marker = nil
}

// control is one step of a replica's control session.
func (s *simulation) control(r *simReplica, periodic bool) {
	c := r.session
	switch {
	case c == nil:
		s.serial++
		r.session = &simSession{alive: true, pid: s.serial}
	case !c.alive:
		r.session = nil
		if c.marker != nil {
			r.wants = true
		}
		r.Unlocked()
	case c.marker != nil && c.marker.time.IsZero():
		c.marker.time = s.now
	case c.marker != nil:
		m := *c.marker
		s.finishMarker(c)
		r.Sent(m)
	case c.holds && r.Undecided() && s.decide(r):
	case !c.holds && s.holder == nil && !s.defers(r):
		s.holder, c.holds = c, true
		r.Locked()
	case !c.holds && s.holder != nil && s.holder.pid != r.holder:
		r.HeldBy(s.holder.pid)
	case r.wants || periodic || r.Owes() || r.Asks() || r.Due():
		r.wants = false
		m := r.Sending(c.holds)
		c.marker = &m
	}
}

// decide is what a holder does that has lost its connection. False means that it goes on
// as it is, for a while.
func (s *simulation) decide(r *simReplica) bool {
	if !s.othersWhole(r) {
		learns := slices.ContainsFunc(s.replicas, func(other *simReplica) bool {
			return other != r && other.session != nil && other.session.alive && other.Learns()
		})
		if r.deciding++; learns && r.deciding < 20 {
			return false
		}
		r.deciding = 0
		r.Announce()
		return true
	}
	r.deciding = 0
	r.Yield()
	if r.state.queues() {
		m := r.Farewell()
		r.session.marker = &m
		s.finishMarker(r.session)
	}
	s.kill(r.session, false)
	return true
}

// defers is true for a while.
func (s *simulation) defers(r *simReplica) bool {
	if r.Whole() || !s.othersWhole(r) {
		r.deferred = 0
		return false
	}
	r.deferred++
	return r.deferred < 200
}

// othersWhole reports whether another replica could go on without a gap, as far as
// it has told PostgreSQL.
func (s *simulation) othersWhole(r *simReplica) bool {
	return slices.ContainsFunc(s.replicas, func(other *simReplica) bool {
		return other != r && other.session != nil && other.session.alive && other.Whole()
	})
}

// listen is one step of a listener's commands.
func (s *simulation) listen(r *simReplica) {
	c := r.conn
	if c == nil {
		r.conn = &simConn{alive: true, wanted: r.channels}
		r.changed = false
		return
	}
	if !c.alive {
		s.hangUp(r, len(c.inbox))
		return
	}
	for _, name := range c.wanted {
		if !slices.Contains(c.listened, name) {
			c.listened = append(c.listened, name)
			return
		}
	}
	for i, name := range c.listened {
		if !slices.Contains(c.wanted, name) {
			c.listened = slices.Delete(c.listened, i, i+1)
			return
		}
	}
	if !c.told {
		c.told = true
		r.Listening(c.wanted)
		return
	}
	if r.changed {
		r.changed, c.told, c.wanted = false, false, r.channels
	}
}

// hangUp lets a replica notice a broken connection after n more notifications.
func (s *simulation) hangUp(r *simReplica, n int) {
	r.conn.alive = false
	for range min(n, len(r.conn.inbox)) {
		s.deliver(r, true)
	}
	r.conn, r.whole = nil, nil
	r.Disconnected()
}

// deliver hands over one notification. With a full queue it waits, or gives up
// waiting if patience is out.
func (s *simulation) deliver(r *simReplica, impatient bool) {
	if r.conn == nil || len(r.conn.inbox) == 0 {
		return
	}
	for _, q := range []*queue.Queue{r.Core, r.Stream} {
		if q.Full() && !q.Dropping() {
			if !impatient {
				return
			}
			r.Overflowed(q)
		}
	}
	n := r.conn.inbox[0]
	r.conn.inbox = r.conn.inbox[1:]
	r.Notification(n.Channel, n.Extra, n.BePid)
	r.count(s, n)
}

// count checks that replicas number alike what both receive whole, in an epoch
// that the publishing replica began.
func (r *simReplica) count(s *simulation, n *pq.Notification) {
	c := r.Sequencer.channels[n.Channel]
	switch {
	case n.Channel == simMarkerChannel:
		r.countFrom(n)
	case c != nil && slices.Contains(r.whole, c):
		s.number(n.Channel, n.BePid, c.epoch, c.n)
	}
}

func (r *simReplica) countFrom(n *pq.Notification) {
	m, err := parseMarker(n.Extra)
	if err != nil || !m.publishing && r.epoch == r.counting {
		return
	}
	r.whole, r.counting = nil, r.epoch
	if r.epoch == nil || !m.publishing || r.epoch.ID != m.epoch {
		return
	}
	for _, c := range r.Sequencer.channels {
		if c.listened < r.back {
			r.whole = append(r.whole, c)
		}
	}
}

// number notes an event's number, which has to be the same on every replica, and
// its own.
func (s *simulation) number(channel string, write int, e *event.Epoch, n uint64) {
	event, number := fmt.Sprint(channel, " ", write), numberOf(channel, e, n)
	if other, known := s.numbers[event]; known && other != number {
		panic(fmt.Sprintf("event %s is %s here and %s there", event, number, other))
	}
	s.numbers[event] = number
	s.use(event, number)
}

func numberOf(channel string, e *event.Epoch, n uint64) string {
	return fmt.Sprint(e.ID, " ", channel, " ", n)
}

// use notes that a number is an event's.
func (s *simulation) use(event, number string) {
	if other, used := s.numbered[number]; used && other != event {
		panic(fmt.Sprintf("events %s and %s are both %s", event, other, number))
	}
	s.numbered[number] = event
}

// settle lets everything work until nothing is under way.
func (s *simulation) settle() {
	for round := range 100 {
		for _, r := range s.replicas {
			s.tick()
			if r.reloaded {
				r.tellSequencer()
			}
			s.listen(r)
			s.control(r, round%30 == 0)
			for r.conn != nil && len(r.conn.inbox) > 0 {
				s.deliver(r, true)
			}
			for range 20 {
				for _, p := range r.publishers {
					s.publish(r, p)
				}
			}
		}
	}
}

// finish commits a last notification on each channel, which has to arrive.
func (s *simulation) finish(t *rapid.T) {
	for _, r := range s.replicas {
		r.configure(simChannels())
	}
	s.settle()
	for _, c := range simChannels() {
		s.write(c)
	}
	s.settle()
	for c, writes := range s.writes {
		last := len(writes)
		if !slices.ContainsFunc(s.sent[c], func(e simSent) bool { return e.gap == nil && e.write == last }) {
			t.Log(strings.Join(s.log, "\n"))
			t.Fatalf("%s: the last event %d was never published", c, last)
		}
	}
}
