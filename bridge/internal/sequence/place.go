package sequence

import (
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/api"
)

// This file is how a replica goes on where another one stopped.

// Stored is what a stream tells of one message.
type Stored struct {
	ID    string     // empty: it is nobody's
	After string     // the position that it follows, where it has none of its own
	Open  event.Open // losses that were not announced then
}

// Stream is the end of a stream.
type Stream struct {
	Created time.Time
	Seq     uint64 // its last
	// Message returns the message with a sequence; false: the stream does not have
	// it.
	Message func(seq uint64) (Stored, bool, error)
}

// Place is where to go on.
type Place struct {
	Number uint64     // of the first item to publish; 0: nobody knows
	Open   event.Open // losses to announce before it
	// Position is that of what the stream has.
	Position string
	Seq      uint64 // of the stream's message there
	// Undone: the stream has lost some of what it had acknowledged.
	Undone bool
	// Lost are the gaps of what may have been published before it, or not.
	Lost []event.Item
}

// maxWalk is how many messages may hide the last one whose place is known.
const maxWalk = 4096

// PlaceInStream finds the place in the queue behind everything that the stream has.
// What has no place here is passed over where its channel is not known here. Else
// it is the end of the search: whatever is before it, the event would be published
// again, or events behind a gap that speaks of them.
func (s *Sequencer) PlaceInStream(end Stream) (Place, error) {
	proof := s.Stream.Proven()
	same := proof.Number != 0 && proof.Created.Equal(end.Created)
	nowhere := Place{Undone: same && end.Seq < proof.Seq}
	open, first := proof.Open, true
	for seq := end.Seq; ; seq-- {
		if same && seq == proof.Seq {
			p := placeOf(proof.Number, open, proof.Position)
			p.Seq = seq
			return p, nil
		}
		if seq == 0 || end.Seq-seq >= maxWalk {
			return nowhere, nil
		}
		m, ok, err := end.Message(seq)
		if err != nil || !ok {
			return nowhere, err
		}
		if m.ID == "" {
			continue
		}
		if first {
			open, first = m.Open, false
		}
		number, position, pass := s.placeBehind(m)
		switch {
		case number != 0:
			p := placeOf(number, open, position)
			p.Seq, p.Undone = seq, p.Number != 0 && nowhere.Undone
			return p, nil
		case !pass:
			return nowhere, nil
		}
	}
}

// StoredInStream finds the place behind what the stream has of a ring that is full. The
// stream may have gone on far behind the ring's end, since nothing is read meanwhile:
// then the ring's last event is about as many messages behind the place that was proved
// last as events are.
func (s *Sequencer) StoredInStream(end Stream) (Place, error) {
	if proof := s.Stream.Proven(); proof.Number != 0 && proof.Created.Equal(end.Created) {
		events := uint64(0)
		s.Stream.Each(proof.Number+1, s.Stream.Last(), func(it *event.Item) {
			if it.Kind == event.KindEvent {
				events++
			}
		})
		end.Seq = min(end.Seq, proof.Seq+events)
	}
	return s.PlaceInStream(end)
}

func placeOf(number uint64, open event.Open, position string) Place {
	if _, ok := open.Losses(); !ok {
		return Place{}
	}
	return Place{Number: number + 1, Open: open, Position: position}
}

// placeBehind finds a message in the queue, and reports whether it may be passed
// over where it is not there.
func (s *Sequencer) placeBehind(m Stored) (number uint64, position string, pass bool) {
	position = m.ID
	at, ok := event.ParsePosition(position)
	if !ok {
		position = m.After
		at, ok = event.ParsePosition(position)
	}
	if ok {
		number = s.Stream.Find(at)
	}
	return number, position, s.channelOf(tokenOf(m.ID)) == nil
}

// tokenOf is the channel's in the id of an event or a gap.
func tokenOf(id string) string {
	_, rest, _ := strings.Cut(id, ".")
	token, _, _ := strings.Cut(rest, ".")
	return token
}

// PlaceInCore is the place for core NATS, which keeps nothing: it is known where
// the replica before has said where it stops, or where it would have stopped.
func (s *Sequencer) PlaceInCore() Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	proof := s.Core.Proven()
	switch {
	case proof.Number == 0 || !s.Core.Has(proof.Number+1): // what is done with is not always published
		return Place{}
	case s.settled:
		return placeOf(proof.Number, proof.Open, proof.Position)
	case s.followed.fence < proof.Number:
		return Place{}
	}
	at := placeOf(s.followed.fence, proof.Open, proof.Position)
	if at.Number != 0 {
		at.Lost = s.unproven(proof.Number+1, s.followed.fence)
	}
	return at
}

// channelOf returns the channel with a token, nil if there is none.
func (s *Sequencer) channelOf(token string) *channelState {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.channels {
		if c.route.Token == token {
			return c
		}
	}
	return nil
}

// OpenGaps are the gaps of losses that the replica before had not announced.
func (s *Sequencer) OpenGaps(q *queue.Queue, open event.Open) (gaps []event.Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	losses, _ := open.Losses()
	for _, l := range losses {
		for _, c := range s.channels {
			if c.route.Token == l.Token && s.queueOf(c) == q {
				all := event.Loss{Reason: api.ReasonTakeover, Since: l.Since, Dropped: event.UnknownCount}
				gaps = append(gaps, s.gap(c, all, s.clock.Bound(s.Now())))
			}
		}
	}
	return gaps
}

// Whole reports whether this replica could go on where the publishing one stops:
// it counts as that one does, and misses nothing of what is not proved to be
// published. That the lock changes hands does not end it, as long as whoever has it
// publishes in epochs that are known here.
func (s *Sequencer) Whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole() && (s.state.queues() || s.claim.able && !s.stranger)
}

// Learns reports whether it may soon be so: nothing is missing, but who publishes is
// not known well enough.
func (s *Sequencer) Learns() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == Standby && s.whole() && !(s.claim.able && !s.stranger)
}

// follows reports whether this replica counts as the publishing one does.
func (s *Sequencer) follows() bool { return s.taught && !s.stranger }

func (s *Sequencer) whole() bool {
	for _, c := range s.channels {
		if !c.heard || c.lost != nil {
			return false
		}
	}
	return s.Core.Whole() && s.Stream.Whole()
}

// Undecided reports whether the listener's connection was lost, and another replica
// may have what is missing here: nothing is announced before Announce or Yield.
func (s *Sequencer) Undecided() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.undecided
}

// Announce lets what is missing here be announced.
func (s *Sequencer) Announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undecided = false
	s.WantMarker()
}

// Yield stops publishing, because the lock is about to be given to another replica.
func (s *Sequencer) Yield() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.become(contradicted)
	s.lockedAt = lossOpen // no marker of this session brings it back
}

// Learning reports whether this replica, which does not publish, is about to learn
// how far the publishing one is, or to offer that it could go on there: until then
// that takes a gap.
func (s *Sequencer) Learning(offers bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	able := s.whole() && s.follows() && offers
	return s.state == Standby && s.holder != 0 && !s.mute && !able && s.Now().Sub(s.learning) < learnWithin
}

// learnWithin is how long that may take. A holder that cannot publish proves nothing.
const learnWithin = 15 * time.Second

// Asks reports whether this replica should send a marker, so that the publishing
// one answers and it learns how far that one is.
func (s *Sequencer) Asks() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == Standby && s.holder != 0 && !s.mute && !(s.whole() && s.follows())
}

// Mute reports whether the replica that publishes does not tell how far it is, as
// one of an earlier version.
func (s *Sequencer) Mute() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard && s.mute
}

// Untold reports whether something was published since the last marker that others
// want to know of.
func (s *Sequencer) Untold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.peers || s.state != Publishing {
		return false
	}
	return news(s.told.stream, s.Stream.Proven()) || news(s.told.core, s.Core.Proven())
}

// news reports whether an event was published: a marker that tells of markers alone
// would never end.
func news(told, proof queue.Proof) bool {
	at, ok := event.ParsePosition(proof.Position)
	return ok && at.Token != "" && told.Position != proof.Position
}

// Stranger reports whether a session that is not known to hold the lock says that
// it publishes.
func (s *Sequencer) Stranger() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stranger
}
