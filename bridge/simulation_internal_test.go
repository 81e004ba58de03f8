package bridge

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lib/pq"
	"pgregory.net/rapid"
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
	numbers  map[string]string     // of an event, by channel and payload
	numbered map[string]string     // the event, by number
}

type simWrite struct {
	payload string
	at      time.Time
}

// simSent is an event, or a gap, on its way out.
type simSent struct {
	payload string
	gap     *Gap
}

// simSession is a control session. It is alive as PostgreSQL sees it; the
// replica may learn of its end later.
type simSession struct {
	alive, holds bool
	marker       *marker // on its way to PostgreSQL
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
	*sequencer
	wants      bool // a marker
	session    *simSession
	conn       *simConn
	channels   []string // what the listener is to listen on
	reloaded   bool     // the listener has new channels, the sequencer not yet
	changed    bool     // as the listener's
	publishers []*simPublisher
	whole      []*channelState // in this epoch nothing of them is missing
}

type simPublisher struct {
	queue      *queue
	items      []item
	generation uint64
}

const simMarkerChannel = "marker"

func simChannels() []string { return []string{"plain", "stored", "extra"} }

// simDelivery spreads the channels over both queues; extra comes and goes.
func simDelivery(channel string) Delivery {
	if channel == "stored" {
		return DeliveryJetStream
	}
	return DeliveryCore
}

func newSimulation(replicas int) *simulation {
	s := &simulation{
		now:    time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
		writes: map[string][]simWrite{}, sent: map[string][]simSent{}, numbers: map[string]string{}, numbered: map[string]string{},
	}
	for range replicas {
		s.replicas = append(s.replicas, nil)
	}
	for i := range s.replicas {
		s.start(i, simChannels())
	}
	return s
}

// start replaces a replica by a process that knows nothing, except that it is
// not alone if it is not.
func (s *simulation) start(i int, channels []string) {
	s.serial++
	skew := time.Duration(s.serial%7-3) * time.Hour
	r := &simReplica{}
	r.sequencer = &sequencer{
		replica: fmt.Sprint("r", s.serial), marker: simMarkerChannel, lease: newLease(),
		core: newQueue(5 * itemOverhead), stream: newQueue(5 * itemOverhead),
		now:        func() time.Time { return s.now.Add(skew) },
		wantMarker: func() { r.wants = true },
		peers:      len(s.replicas) > 1,
	}
	r.publishers = []*simPublisher{{queue: r.core}, {queue: r.stream}}
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
	routes := map[string]*route{}
	for _, c := range r.channels[1:] {
		route, err := newRoute(c, Channel{Delivery: simDelivery(c)}, "p")
		if err != nil {
			panic(err)
		}
		routes[c] = route
	}
	r.setChannels(routes, newMetrics().of)
	r.reloaded, r.changed = false, true
}

func (s *simulation) tick() { s.now = s.now.Add(time.Millisecond) }

// commit hands a notification to every listener.
func (s *simulation) commit(channel, payload string) {
	for _, r := range s.replicas {
		if r.conn != nil && r.conn.alive && slices.Contains(r.conn.listened, channel) {
			r.conn.inbox = append(r.conn.inbox, &pq.Notification{Channel: channel, Extra: payload})
		}
	}
}

func (s *simulation) write(channel string) {
	w := simWrite{payload: fmt.Sprint(len(s.writes[channel])), at: s.now}
	s.writes[channel] = append(s.writes[channel], w)
	s.commit(channel, w.payload)
}

// crash ends a replica's process and starts another with the same channels.
func (s *simulation) crash(i int) {
	r := s.replicas[i]
	if r.session != nil {
		s.kill(r.session, false)
	}
	s.start(i, slices.Sorted(maps.Keys(r.sequencer.channels)))
}

// stop ends a replica as its Run does: it publishes what it has, if it may.
func (s *simulation) stop(i int) {
	r := s.replicas[i]
	r.sequencer.stop()
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
	s.commit(simMarkerChannel, session.marker.head()+formatMicros(session.marker.time))
	session.marker = nil
}

// control is one step of a replica's control session.
func (s *simulation) control(r *simReplica, periodic bool) {
	c := r.session
	switch {
	case c == nil:
		r.session = &simSession{alive: true}
	case !c.alive:
		r.session = nil
		if c.marker != nil {
			r.wants = true
		}
		r.unlocked()
	case c.marker != nil && c.marker.time.IsZero():
		c.marker.time = s.now
	case c.marker != nil:
		s.finishMarker(c)
	case !c.holds && s.holder == nil:
		s.holder, c.holds = c, true
		r.locked()
	case r.wants || periodic:
		r.wants = false
		m := r.sending(c.holds)
		c.marker = &m
	}
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
		r.listening(c.wanted)
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
	r.disconnected()
}

// deliver hands over one notification. With a full queue it waits, or gives up
// waiting if patience is out.
func (s *simulation) deliver(r *simReplica, impatient bool) {
	if r.conn == nil || len(r.conn.inbox) == 0 {
		return
	}
	for _, q := range []*queue{r.core, r.stream} {
		if q.full() && !q.dropping.Load() {
			if !impatient {
				return
			}
			r.overflowed(q)
		}
	}
	n := r.conn.inbox[0]
	r.conn.inbox = r.conn.inbox[1:]
	r.notification(n)
	r.count(s, n)
}

// count checks that replicas number alike what both receive whole.
func (r *simReplica) count(s *simulation, n *pq.Notification) {
	c := r.sequencer.channels[n.Channel]
	switch {
	case n.Channel == simMarkerChannel:
		r.whole = nil
		for _, c := range r.sequencer.channels {
			if c.listened < r.back {
				r.whole = append(r.whole, c)
			}
		}
	case c != nil && slices.Contains(r.whole, c):
		s.number(n.Channel, n.Extra, r.epoch, c.n)
	}
}

// number notes an event's number, which has to be its own and always the same.
func (s *simulation) number(channel, payload string, e *epoch, n uint64) {
	event, number := channel+" "+payload, fmt.Sprint(e.id, " ", channel, " ", n)
	if other, known := s.numbers[event]; known && other != number {
		panic(fmt.Sprintf("event %s is %s here and %s there", event, number, other))
	}
	if other, used := s.numbered[number]; used && other != event {
		panic(fmt.Sprintf("events %s and %s are both %s", event, other, number))
	}
	s.numbers[event], s.numbered[number] = number, event
}

// publish is one step of a publisher: lock and lease are one here.
func (s *simulation) publish(r *simReplica, p *simPublisher) {
	if len(p.items) == 0 {
		p.items, p.generation = p.queue.take()
	}
	switch {
	case len(p.items) == 0:
		return
	case !p.queue.current(p.generation):
		p.queue.release(sizeOf(p.items))
		p.items = nil
		return
	case !r.lease.confirmed.Load() || r.session == nil || s.holder != r.session:
		return
	}
	it := p.items[0]
	p.items = p.items[1:]
	switch it.kind {
	case itemMarker:
		p.queue.pass(it.epoch)
	case itemGap:
		s.sent[it.route.channel] = append(s.sent[it.route.channel], simSent{gap: it.gap})
	case itemEvent:
		s.sent[it.route.channel] = append(s.sent[it.route.channel], simSent{payload: it.payload})
		s.number(it.route.channel, it.payload, it.epoch, it.n)
	}
	p.queue.release(it.size())
	r.relaxed(p.queue)
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
		last := writes[len(writes)-1].payload
		if !slices.ContainsFunc(s.sent[c], func(e simSent) bool { return e.gap == nil && e.payload == last }) {
			t.Fatalf("%s: the last event %s was never published", c, last)
		}
	}
}

// judge compares what was committed on a channel with what was published.
// Nothing is repeated or reordered, and between two events with something
// missing between them stands a gap that covers it, with the right count
// where it has one.
func (s *simulation) judge(t *rapid.T, channel string) {
	next := 0 // the write expected next
	var gaps []*Gap
	for _, e := range s.sent[channel] {
		if e.gap != nil {
			gaps = append(gaps, e.gap)
			continue
		}
		i := slices.IndexFunc(s.writes[channel], func(w simWrite) bool { return w.payload == e.payload })
		if i < next {
			t.Fatalf("%s: event %d came again or too late, %d was due", channel, i, next)
		}
		judgeGaps(t, channel, s.writes[channel][next:i], gaps)
		next, gaps = i+1, nil
	}
}

func judgeGaps(t *rapid.T, channel string, missing []simWrite, gaps []*Gap) {
	for _, w := range missing {
		if !slices.ContainsFunc(gaps, func(g *Gap) bool { return g.covers(w.at) }) {
			t.Fatalf("%s: event %s of %s is missing, not covered by %s", channel, w.payload, w.at.Format(time.StampMilli), showGaps(gaps))
		}
	}
	counted, exact := 0, true
	for _, g := range gaps {
		if g.Dropped == nil {
			exact = false
			continue
		}
		counted += int(*g.Dropped)
	}
	if counted > len(missing) || exact && counted != len(missing) {
		t.Fatalf("%s: %d events are missing, the gaps count %d: %s", channel, len(missing), counted, showGaps(gaps))
	}
}

func (g *Gap) covers(at time.Time) bool {
	return (g.Since == nil || !at.Before(*g.Since)) && !at.After(g.Until)
}

func showGaps(gaps []*Gap) string {
	var text string
	for _, g := range gaps {
		text += string(g.body()) + " "
	}
	return text
}
