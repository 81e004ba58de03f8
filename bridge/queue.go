package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// item is one thing on its way to NATS: an event, a gap, or a marker, which is
// not published but tells a publisher how far it has come.
type item struct {
	kind     itemKind
	pid      int32
	route    *route
	stats    *channelStats
	payload  string
	epoch    *epoch
	n        uint64
	received time.Time
	gap      *Gap
}

type itemKind uint8

const (
	itemEvent itemKind = iota
	itemGap
	itemMarker
)

// itemOverhead is what an item costs in memory besides its payload.
const itemOverhead = 128

func (it *item) size() int64 { return int64(len(it.payload)) + itemOverhead }

// chunkItems is how many items a publisher takes at once at the most.
const chunkItems = 512

// queue holds items between the sequencer and a publisher. Its bound is a
// promise of the producer, who looks at full before it reads on; push itself
// never refuses, so gaps and markers always find their place in the order.
// Items count until the publisher releases them.
type queue struct {
	limit int64
	bytes atomic.Int64
	ready chan struct{} // holds a token when there is something to take
	freed chan struct{} // holds a token when bytes were released
	// dropping: it stayed full too long, so its events are lost until it has
	// room again. Owned by the sequencer.
	dropping atomic.Bool
	marked   atomic.Int64 // see passed

	generation atomic.Uint64 // counts discards

	mu     sync.Mutex // guards what follows
	chunks [][]item
	spare  [][]item
	closed bool
}

func newQueue(limit int) *queue {
	return &queue{limit: int64(limit), ready: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
}

func (q *queue) full() bool    { return q.bytes.Load() >= q.limit }
func (q *queue) relaxed() bool { return q.bytes.Load() <= q.limit/2 }

// push appends an item.
func (q *queue) push(it item) {
	q.bytes.Add(it.size())
	q.mu.Lock()
	last := len(q.chunks) - 1
	if last < 0 || len(q.chunks[last]) == chunkItems {
		q.chunks = append(q.chunks, q.newChunk())
		last++
	}
	q.chunks[last] = append(q.chunks[last], it)
	first := last == 0 && len(q.chunks[0]) == 1
	q.mu.Unlock()
	if first {
		signal(q.ready)
	}
}

// newChunk reuses a chunk that a publisher gave back. The caller holds mu.
func (q *queue) newChunk() []item {
	if n := len(q.spare); n > 0 {
		c := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return c
	}
	return make([]item, 0, chunkItems)
}

// take removes the oldest chunk and returns it with the queue's generation.
// Nil means empty. It never blocks.
func (q *queue) take() (items []item, generation uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.chunks) == 0 {
		return nil, q.generation.Load()
	}
	items = q.chunks[0]
	q.chunks = q.chunks[1:]
	if len(q.chunks) > 0 || q.closed {
		signal(q.ready)
	}
	return items, q.generation.Load()
}

// give returns a chunk whose items are no longer needed.
func (q *queue) give(items []item) {
	clear(items)
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.spare) < 8 {
		q.spare = append(q.spare, items[:0])
	}
}

// release says that n bytes of items are done with.
func (q *queue) release(n int64) {
	q.bytes.Add(-n)
	signal(q.freed)
}

// pass says that everything before this epoch's marker is published.
func (q *queue) pass(e *epoch) { q.marked.Store(e.time.UnixMicro()) }

// passed is the time of the newest marker that everything queued before is
// published; zero before the first.
func (q *queue) passed() time.Time {
	if us := q.marked.Load(); us != 0 {
		return time.UnixMicro(us).UTC()
	}
	return time.Time{}
}

// discard drops everything that waits, and makes what a publisher has taken stale.
func (q *queue) discard() {
	q.mu.Lock()
	var n int64
	for _, c := range q.chunks {
		for i := range c {
			n += c[i].size()
		}
	}
	q.chunks = nil
	q.generation.Add(1)
	q.mu.Unlock()
	q.release(n)
	signal(q.ready)
}

// current reports whether items taken at this generation are still wanted.
func (q *queue) current(generation uint64) bool { return q.generation.Load() == generation }

// close says that nothing will be pushed any more.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.ready)
}

// drained reports whether the queue is closed and empty.
func (q *queue) drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && len(q.chunks) == 0
}

// signal leaves a token in a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sleep waits for d, or less when ctx ends or wake holds a token; it reports
// whether wake did.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
		return true
	case <-ctx.Done():
	}
	return false
}
