package queue

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// Proof is how far a queue is published.
type Proof struct {
	Position string     // an event's id or an epoch's: all up to there is; empty: unknown
	Created  time.Time  // of the stream; zero for core NATS
	Seq      uint64     // the stream's last sequence with that
	Open     event.Open // what of it was lost and is not announced
	Number   uint64     // of the item there, in the queue of this replica; 0: not known
}
