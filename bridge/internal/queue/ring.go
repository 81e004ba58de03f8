package queue

import (
	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// This file is the queue as a ring: what a replica keeps that does not publish, and
// how it goes on where another one stopped.

// Prove says how far the queue is published, and that it is done with.
func (q *Queue) Prove(p Proof) {
	q.mu.Lock()
	n := q.finish(p.Number + 1)
	q.proof = p
	q.mu.Unlock()
	if n > 0 {
		q.Release(n)
	}
}

// Proven returns what Prove was told last.
func (q *Queue) Proven() Proof {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.proof
}

// Expose says whether something was published that nobody has proved to have
// arrived.
func (q *Queue) Expose(yes bool) { q.exposed.Store(yes) }

// Exposed returns what Expose was told last.
func (q *Queue) Exposed() bool { return q.exposed.Load() }

// Keep makes the queue a ring: nothing is handed out until Resume, and what was
// and is not done with waits again. What a publisher has of it is stale.
func (q *Queue) Keep() {
	q.mu.Lock()
	q.held.Store(true)
	q.taken, q.over = q.done, 0
	q.generation.Add(1)
	q.mu.Unlock()
	q.Ready.Raise()
}

// Kept reports whether it is a ring.
func (q *Queue) Kept() bool { return q.held.Load() }

// Over is the number of the takeover that was pushed last, 0 if none was since Keep.
func (q *Queue) Over() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.over
}

// Resume ends Keep: the items from this number on are handed out, and those before
// are done with. False means that it is another generation, or that they are
// forgotten.
func (q *Queue) Resume(generation, number uint64) bool {
	q.mu.Lock()
	if q.generation.Load() != generation || !q.held.Load() || number < q.oldest || number > q.next {
		q.mu.Unlock()
		return false
	}
	n := q.goTo(number)
	q.held.Store(false)
	q.mu.Unlock()
	q.bytes.Add(-n)
	q.Freed.Raise()
	q.Ready.Raise()
	return true
}

// Rewind hands out what comes from this number on, whether it is done with or not.
// The publisher has let go of everything it took. False means that it is forgotten.
func (q *Queue) Rewind(number uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if number < q.oldest || number > q.next {
		return false
	}
	q.bytes.Add(-q.goTo(number))
	q.Freed.Raise()
	q.Ready.Raise()
	return true
}

// goTo makes a number the one that is handed out next, and returns how many bytes
// are done with by it. The caller holds mu.
func (q *Queue) goTo(number uint64) (n int64) {
	for q.done > number {
		q.done--
		n -= q.at(q.done).Size()
	}
	q.kept += n
	n += q.finish(number)
	q.taken = q.done
	return n
}

// Find returns the number of the item at this position, 0 where there is none, or
// more than one: then it is no place.
func (q *Queue) Find(p event.Position) (number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := q.oldest; n < q.next; n++ {
		if !p.Is(q.at(n)) {
			continue
		}
		if number != 0 {
			return 0
		}
		number = n
	}
	return number
}

// Has reports whether everything from this number on is there.
func (q *Queue) Has(number uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.oldest <= number && number <= q.next
}

// Each visits the items with the numbers from first to last that are not forgotten.
// They must not be kept.
func (q *Queue) Each(first, last uint64, visit func(*event.Item)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := max(first, q.oldest); n <= last && n < q.next; n++ {
		visit(q.at(n))
	}
}

// Whole reports whether nothing is missing among what is not done with.
func (q *Queue) Whole() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.done > q.gap && !q.dropping.Load()
}
