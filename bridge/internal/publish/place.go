package publish

import (
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// place is where this replica took over.
type place struct {
	lost   uint64 // number of the takeover at which nobody knows what was published; 0: none
	undone bool   // the stream lost some of it
	// unsaid: of what was announced here nobody else knows how far it goes, before a marker
	// or an event behind it has arrived. Core NATS alone.
	unsaid bool
	apart  uint64 // number behind which the last gap was stored that was never queued
	// trimmed is when the ring was compared with the stream.
	trimmed time.Time
	behind  time.Time // since when the stream ends too early; zero: it does not
	salt    uint64    // so that no other replica gives gaps the same ids
}

// announced returns gaps as they are published. What a stream has lost is of
// nobody knows when.
func (l place) announced(gaps []event.Item) (all []event.Item) {
	for _, it := range gaps {
		if l.undone {
			g := *it.Gap
			g.Since, it.Gap = nil, &g
		}
		all = append(all, it)
	}
	return all
}
