// Package event has the things that travel from the sequencer to NATS: events,
// gaps and markers, what a channel's route makes of them, and the messages
// that they become.
//
// An event's id is alike on every replica; a gap says what may be missing and
// between which moments of PostgreSQL's clock it was committed. Nothing here
// does I/O.
package event

import (
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
)

// Item is one thing on its way to NATS: an event, a gap, or a marker, which is
// not published but tells a publisher how far it has come.
type Item struct {
	Kind     itemKind
	PID      int32
	Route    *Route
	Counters *Counters
	Payload  string
	Epoch    *Epoch
	N        uint64
	Received time.Time
	// Gap is a gap's; of an event the one in front of which it stands, as a row of the
	// channel's catch-up script. Nil for others.
	Gap *api.Gap
	// Sweep: what a gap speaks of can be had from the channel's catch-up script, which
	// was not run for it yet.
	Sweep  bool
	Origin *Origin // of a durable event; nil for others
	// Number counts what was queued, from 1; 0: it never was.
	Number uint64
	// Open are the losses that were not announced yet where this was queued.
	Open     Open
	Takeover *Takeover
}

// Takeover is what a replica announces where it began to publish.
type Takeover struct {
	Lost  []Item // if nobody knows how far the replica before it had come
	Found []Item // if that is known: what this replica itself missed
}

// Origin is what is known of an event that came through the write-ahead log.
type Origin struct {
	LSN       string // of the transaction's commit, as PostgreSQL writes it
	Committed time.Time
	Header    map[string]string // that the writer gave; nil: none
}

// CaughtUp reports whether it is a row of a catch-up script: an event without a number
// in the order of notifications.
func (it *Item) CaughtUp() bool { return it.Kind == KindEvent && it.Gap != nil }

// Window is when what it tells of was committed, by PostgreSQL's clock; since is zero
// where that is unknown.
func (it *Item) Window() (since, until time.Time) {
	if it.Gap != nil {
		return LossOf(it.Gap).Since, it.Gap.Until
	}
	return it.Epoch.Time, it.Epoch.Clock.Bound(it.Received)
}

// CountDropped counts so many notifications that were received and are not published;
// UnknownCount, and what is none, count for nothing.
func (it *Item) CountDropped(n int64) {
	if it.Gap == nil {
		it.Counters.Dropped.Add(max(n, 0))
	}
}

// Deliver counts an event that NATS has since at, by its own word.
func (it *Item) Deliver(at time.Time) {
	it.Counters.Deliver(it.Received, at)
	if it.CaughtUp() {
		it.Counters.Rows.Add(1)
	}
}

type itemKind uint8

// What an item is.
const (
	KindEvent itemKind = iota
	KindGap
	KindMarker
	KindTakeover // becomes gaps, or nothing
)

// AtMarker is the number of a gap that stands right behind the marker that began
// its epoch.
const AtMarker = 1

// ItemOverhead is what an item costs in memory besides its payload.
const ItemOverhead = 128

// headerOverhead is what a header costs besides its name and value.
const headerOverhead = 64

// Size is what an item costs in memory.
func (it *Item) Size() int64 {
	n := int64(len(it.Payload)) + ItemOverhead
	if it.Origin != nil {
		for name, value := range it.Origin.Header {
			n += int64(len(name)+len(value)) + headerOverhead
		}
	}
	return n
}

// Apart is what an item costs that was never queued, 0 for others.
func (it *Item) Apart() int64 {
	if it.Number != 0 {
		return 0
	}
	return it.Size()
}

// Apart is that of several items.
func Apart(items []Item) int64 {
	var n int64
	for i := range items {
		n += items[i].Apart()
	}
	return n
}

// Size is the size of several items.
func Size(items []Item) int64 {
	var n int64
	for i := range items {
		n += items[i].Size()
	}
	return n
}
