package publish

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/catchup"
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// intake takes items from the queue, one by one.
type intake struct {
	queue      *queue.Queue
	rest       []event.Item // what was taken and not handed out yet
	generation uint64       // of the queue, when it was taken

	start  func(gap *event.Item) *catchup.Sweep
	log    *zap.Logger
	sweep  *catchup.Sweep // whose rows come next, and then its gap; nil: none
	behind []event.Item   // what comes then
}

func (i *intake) empty() bool { return len(i.rest) == 0 && i.sweep == nil }

// sweeping reports whether the rows of a script are handed out.
func (i *intake) sweeping() bool { return i.sweep != nil }

// more is raised when the script has more rows; nil where none runs.
func (i *intake) more() wait.Signal {
	if i.sweep == nil {
		return nil
	}
	return i.sweep.Ready
}

// pause ends a script that runs. Its gap is to be handed out again.
func (i *intake) pause() {
	if i.sweep == nil {
		return
	}
	i.sweep.Stop()
	i.rest = slices.Concat(i.rest, []event.Item{i.sweep.Gap()}, i.behind)
	i.sweep, i.behind = nil, nil
}

// apart is the bytes of what was never queued.
func (i *intake) apart() int64 {
	n := event.Apart(i.rest) + event.Apart(i.behind)
	if i.sweep != nil {
		gap := i.sweep.Gap()
		n += gap.Apart()
	}
	return n
}

// stale reports whether what was taken is from before a discard.
func (i *intake) stale() bool { return !i.queue.Current(i.generation) }

// refill takes a chunk of the queue when it is empty. False means that the queue
// was discarded since the chunk before.
func (i *intake) refill() (fresh bool) {
	if !i.empty() {
		return true
	}
	items, generation := i.queue.Take()
	fresh = generation == i.generation
	i.rest, i.generation = items, generation
	return fresh
}

// next returns the next item, nil when there is none yet. In front of a gap it runs the
// script of the gap's channel, if there is one, and returns its rows.
func (i *intake) next() *event.Item {
	if len(i.rest) == 0 {
		return i.swept()
	}
	it := &i.rest[0]
	i.rest = i.rest[1:]
	if it.Kind != event.KindGap || !it.Sweep {
		return it
	}
	i.sweep, i.behind, i.rest = i.start(it), i.rest, nil
	return i.swept()
}

// swept returns the next row of the script that runs, or its gap.
func (i *intake) swept() *event.Item {
	if i.sweep == nil {
		return nil
	}
	it, over := i.sweep.Next(time.Now())
	switch {
	case over:
		i.sweep.Stop()
		i.sweep.Log(i.log)
		i.sweep, i.rest, i.behind = nil, i.behind, nil
	case it != nil:
		i.queue.Hold(it.Size())
	}
	return it
}

// storedUpTo removes and returns everything up to the event with this id, if there
// is one among the first so many: a message can arrive at the stream after its item
// was taken back.
func (i *intake) storedUpTo(id string, among int) (stored []event.Item) {
	for n := range min(len(i.rest), among) {
		if it := &i.rest[n]; it.Kind == event.KindEvent && event.ID(it) == id {
			stored, i.rest = i.rest[:n+1], i.rest[n+1:]
			return stored
		}
	}
	return nil
}

// unread puts items before everything that was not handed out. They count in the
// queue already.
func (i *intake) unread(items ...event.Item) {
	i.pause()
	i.rest = slices.Concat(items, i.rest)
}

// renew lets go of what was taken and not handed out.
func (i *intake) renew() {
	i.pause()
	i.queue.Release(event.Apart(i.rest))
	i.rest, i.generation = nil, i.queue.Generation()
}
