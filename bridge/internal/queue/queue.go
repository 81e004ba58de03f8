// Package queue holds what waits between the sequencer and a publisher, and for a
// while what was published, bounded in bytes. Each item has a number: those below
// one are done with, those below another were handed to the publisher, who can be
// given them again. A replica that does not publish keeps the queue as a ring of
// what nobody has proved to be published yet.
package queue

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// chunkItems is how many items a publisher takes at once at the most.
const chunkItems = 512

// Queue holds items between the sequencer and a publisher. Its bound is a
// promise of the producer, which looks at Full before it reads on; Push itself
// never refuses, so gaps and markers always find their place in the order.
// Items count until they are done with.
type Queue struct {
	limits Limits
	bytes  atomic.Int64
	Ready  wait.Signal // raised when there is something to take
	Freed  wait.Signal // raised when bytes were released
	// dropping: it stayed full too long, so its events are lost until it has
	// room again. Owned by the sequencer.
	dropping atomic.Bool
	marked   atomic.Int64 // see Passed
	held     atomic.Bool  // changed under mu
	exposed  atomic.Bool  // see Expose
	// Intent is what of it may be published.
	Intent Intent

	generation atomic.Uint64 // counts discards and holds

	mu     sync.Mutex // guards what follows
	chunks [][]event.Item
	spare  [][]event.Item
	closed bool
	proof  Proof
	// base is the number of the first item of the first chunk. Below oldest items
	// are forgotten, below done they are done with, below taken they were handed
	// out; next is the number of the one that is pushed next.
	base, oldest, done, taken, next uint64
	kept                            int64  // bytes of what is done with and not forgotten
	over                            uint64 // the takeover pushed last since Hold; 0: none
	gap                             uint64 // the gap pushed last
}

// Limits bound a queue in bytes.
type Limits struct {
	Queue int64 // it is full from so many on
	Ring  int64 // the same while it is held
	Kept  int64 // of what is done with
}

// New returns a queue that is full from limit bytes on and keeps nothing that is
// done with.
func New(limit int) *Queue {
	return NewRing(Limits{Queue: int64(limit), Ring: int64(limit)})
}

// NewRing returns a queue with these bounds.
func NewRing(l Limits) *Queue {
	return &Queue{limits: l, Intent: Intent{Raised: wait.NewSignal()}, Ready: wait.NewSignal(), Freed: wait.NewSignal(), base: 1, oldest: 1, done: 1, taken: 1, next: 1}
}

// Bytes is what waits, or was taken and is not done with.
func (q *Queue) Bytes() int64 { return q.bytes.Load() }

// Hold counts n bytes of something that is published without having waited here.
func (q *Queue) Hold(n int64) { q.bytes.Add(n) }

func (q *Queue) limit() int64 {
	if q.held.Load() {
		return q.limits.Ring
	}
	return q.limits.Queue
}

// Full reports whether the bound is reached.
func (q *Queue) Full() bool { return q.bytes.Load() >= q.limit() }

// Relaxed reports whether there is room for a burst again.
func (q *Queue) Relaxed() bool { return q.bytes.Load() <= q.limit()/2 }

// Overfull reports whether twice the bound is reached.
func (q *Queue) Overfull() bool { return q.bytes.Load() >= 2*q.limit() }

// Dropping reports whether events for this queue are dropped, which the
// sequencer decides by SetDropping.
func (q *Queue) Dropping() bool { return q.dropping.Load() }

// SetDropping begins or ends dropping.
func (q *Queue) SetDropping(yes bool) { q.dropping.Store(yes) }

// Generation counts discards and holds.
func (q *Queue) Generation() uint64 { return q.generation.Load() }

// Push appends an item, and returns its number.
func (q *Queue) Push(it event.Item) (number uint64) {
	q.bytes.Add(it.Size())
	q.mu.Lock()
	last := len(q.chunks) - 1
	if last < 0 || len(q.chunks[last]) == chunkItems {
		q.chunks = append(q.chunks, q.newChunk())
		last++
	}
	it.Number = q.next
	switch it.Kind {
	case event.KindGap:
		q.gap = it.Number
	case event.KindTakeover:
		q.over = it.Number
	}
	q.chunks[last] = append(q.chunks[last], it)
	first := q.taken == q.next && !q.held.Load() || it.Kind == event.KindTakeover
	q.next++
	q.mu.Unlock()
	if first {
		q.Ready.Raise()
	}
	return it.Number
}

// Last is the number of the item that was pushed last, 0 if none was.
func (q *Queue) Last() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.next - 1
}

// newChunk reuses a chunk that is forgotten. The caller holds mu.
func (q *Queue) newChunk() []event.Item {
	if n := len(q.spare); n > 0 {
		c := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return c
	}
	return make([]event.Item, 0, chunkItems)
}

// at returns the item with this number, which is there. The caller holds mu.
func (q *Queue) at(number uint64) *event.Item {
	n := number - q.base
	return &q.chunks[n/chunkItems][n%chunkItems]
}

// Take hands out the oldest items that were not yet, with the queue's generation.
// They stay valid until they are done with. Nil means none. It never blocks.
func (q *Queue) Take() (items []event.Item, generation uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken == q.next || q.held.Load() {
		return nil, q.generation.Load()
	}
	n := q.taken - q.base
	items = q.chunks[n/chunkItems][n%chunkItems:]
	items = items[:len(items):len(items)]
	q.taken += uint64(len(items))
	if q.taken < q.next || q.closed {
		q.Ready.Raise()
	}
	return items, q.generation.Load()
}

// Waiting reports whether there is something to take.
func (q *Queue) Waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taken < q.next && !q.held.Load()
}

// Done says that everything up to the item with this number is done with.
func (q *Queue) Done(number uint64) {
	q.mu.Lock()
	n := q.finish(number + 1)
	q.mu.Unlock()
	if n > 0 {
		q.Release(n)
	}
}

// finish has everything below a number done with, and returns its bytes. The caller
// holds mu.
func (q *Queue) finish(end uint64) (n int64) {
	for end = min(end, q.next); q.done < end; q.done++ {
		n += q.at(q.done).Size()
	}
	q.taken = max(q.taken, q.done)
	q.kept += n
	q.forget()
	return n
}

// forget lets go of the oldest items where more are kept than should be. The caller
// holds mu.
func (q *Queue) forget() {
	for q.oldest < q.done && q.kept > q.limits.Kept {
		it := q.at(q.oldest)
		q.kept -= it.Size()
		*it = event.Item{}
		if q.oldest++; q.oldest-q.base == chunkItems {
			if len(q.spare) < 8 {
				q.spare = append(q.spare, q.chunks[0][:0])
			}
			q.chunks[0] = nil
			q.chunks = q.chunks[1:]
			q.base = q.oldest
		}
	}
}

// Release says that n bytes of what was held apart are done with.
func (q *Queue) Release(n int64) {
	q.bytes.Add(-n)
	q.Freed.Raise()
}

// Pass says that everything before this epoch's marker is published.
func (q *Queue) Pass(e *event.Epoch) { q.marked.Store(e.Time.UnixMicro()) }

// Passed is the time of the newest marker that everything queued before is
// published; zero before the first.
func (q *Queue) Passed() time.Time {
	if us := q.marked.Load(); us != 0 {
		return time.UnixMicro(us).UTC()
	}
	return time.Time{}
}

// Discard drops everything, and makes what a publisher has taken stale.
func (q *Queue) Discard() {
	q.mu.Lock()
	n := q.finish(q.next)
	q.chunks, q.kept = nil, 0
	q.base, q.oldest, q.done, q.taken = q.next, q.next, q.next, q.next
	q.generation.Add(1)
	q.mu.Unlock()
	q.Release(n)
	q.Ready.Raise()
}

// Current reports whether items taken at this generation are still wanted.
func (q *Queue) Current(generation uint64) bool { return q.generation.Load() == generation }

// Close says that nothing will be pushed any more.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.Ready.Raise()
}

// Drained reports whether the queue is closed and all of it was taken.
func (q *Queue) Drained() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed && q.taken == q.next
}
