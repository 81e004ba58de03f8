package bridge

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// queueModel is what a queue should be: a list, and the bytes of what was
// pushed and neither released nor discarded.
type queueModel struct {
	*queue
	waiting    []uint64 // numbers of items, by event
	taken      []item
	bytes      int64
	generation uint64
	next       uint64
	closed     bool
}

func TestQueueIsAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &queueModel{queue: newQueue(4 * itemOverhead)}
		t.Repeat(map[string]func(*rapid.T){
			"push":    m.push,
			"take":    m.take,
			"give":    func(*rapid.T) { m.give(make([]item, 3)) },
			"release": m.releaseTaken,
			"discard": m.discardAll,
			"close":   func(*rapid.T) { m.close(); m.closed = true },
			"":        m.check,
		})
	})
}

func (m *queueModel) push(t *rapid.T) {
	for range rapid.IntRange(1, chunkItems+1).Draw(t, "items") {
		it := item{n: m.next, payload: fmt.Sprint(m.next)}
		m.next++
		m.queue.push(it)
		m.waiting, m.bytes = append(m.waiting, it.n), m.bytes+it.size()
	}
}

func (m *queueModel) take(t *rapid.T) {
	items, generation := m.queue.take()
	if generation != m.generation {
		t.Fatalf("generation = %d, want %d", generation, m.generation)
	}
	if (len(items) == 0) != (len(m.waiting) == 0) {
		t.Fatalf("take() = %d items of %d", len(items), len(m.waiting))
	}
	for i := range items {
		if items[i].n != m.waiting[0] {
			t.Fatalf("took item %d, want %d", items[i].n, m.waiting[0])
		}
		m.waiting = m.waiting[1:]
	}
	m.taken = append(m.taken, items...) // a copy, as the chunk goes back
	if items != nil {
		m.give(items)
	}
}

func (m *queueModel) releaseTaken(*rapid.T) {
	n := sizeOf(m.taken)
	m.release(n)
	m.taken, m.bytes = nil, m.bytes-n
}

func (m *queueModel) discardAll(t *rapid.T) {
	m.discard()
	m.generation++
	m.waiting, m.bytes = nil, sizeOf(m.taken)
	if m.current(m.generation - 1) {
		t.Fatal("what was taken before a discard is still current")
	}
}

func (m *queueModel) check(t *rapid.T) {
	if got := m.queue.bytes.Load(); got != m.bytes {
		t.Fatalf("bytes = %d, want %d", got, m.bytes)
	}
	if m.full() != (m.bytes >= m.limit) || m.relaxed() != (m.bytes <= m.limit/2) {
		t.Fatalf("full() = %t, relaxed() = %t with %d bytes of %d", m.full(), m.relaxed(), m.bytes, m.limit)
	}
	if m.drained() != (m.closed && len(m.waiting) == 0) {
		t.Fatalf("drained() = %t with %d items, closed %t", m.drained(), len(m.waiting), m.closed)
	}
	if !m.current(m.generation) {
		t.Fatalf("generation %d is not current", m.generation)
	}
}

// A publisher that waits for the token sees every item, in order, and the end.
func TestQueueBetweenGoroutines(t *testing.T) {
	t.Parallel()
	const items = 20_000
	q := newQueue(64 << 10)
	go func() {
		for n := range uint64(items) {
			for q.full() {
				<-q.freed
			}
			q.push(item{n: n})
		}
		q.close()
	}()
	deadline := time.After(time.Minute)
	for next := uint64(0); !q.drained(); {
		chunk, _ := q.take()
		if chunk == nil {
			select {
			case <-q.ready:
			case <-deadline:
				t.Fatalf("no token after item %d of %d", next, items)
			}
		}
		for i := range chunk {
			if chunk[i].n != next {
				t.Fatalf("took item %d, want %d", chunk[i].n, next)
			}
			next++
		}
		if n := sizeOf(chunk); n > 0 {
			q.give(chunk)
			q.release(n)
		}
		if q.drained() && next != items {
			t.Fatalf("drained after %d items, want %d", next, items)
		}
	}
}

func TestPassed(t *testing.T) {
	t.Parallel()
	q := newQueue(1)
	if at := q.passed(); !at.IsZero() {
		t.Errorf("passed() = %s before the first marker", at)
	}
	want := time.UnixMicro(1_900_000_000_000_001).UTC()
	q.pass(&epoch{time: want})
	if at := q.passed(); !at.Equal(want) {
		t.Errorf("passed() = %s, want %s", at, want)
	}
}
