package sequence

import (
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
)

// trim lets go of what the publishing replica says is published. A position that
// is not here says nothing: it is from before this replica listened, or counted
// otherwise.
func (s *Sequencer) trim(w word) {
	s.mute, s.settled = w.mute, false
	s.taught = w.told
	s.claim.told(w)
	prove(s.Stream, w.stream)
	if prove(s.Core, w.core) {
		s.settled = w.settled
	}
}

func prove(q *queue.Queue, p queue.Proof) bool {
	if before := q.Proven(); before.Number != 0 && before.Position == p.Position && q.Kept() {
		p.Number = before.Number // it may be forgotten
		q.Prove(p)
		return true
	}
	if at, ok := event.ParsePosition(p.Position); ok && q.Kept() {
		if p.Number = q.Find(at); p.Number != 0 {
			q.Prove(p)
			return true
		}
	}
	return false
}
