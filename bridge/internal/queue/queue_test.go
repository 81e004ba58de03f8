package queue

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// queueModel is what a queue should be: a list, and the bytes of what was
// pushed and neither released nor discarded.
type queueModel struct {
	*Queue
	waiting    []event.Item
	taken      []event.Item
	done       []event.Item // and not forgotten
	bytes      int64
	generation uint64
	next       uint64
	closed     bool
}

func TestQueueIsAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &queueModel{Queue: NewRing(Limits{Queue: 4 * event.ItemOverhead, Ring: 9 * event.ItemOverhead, Kept: 700 * event.ItemOverhead})}
		t.Repeat(map[string]func(*rapid.T){
			"push":    m.push,
			"take":    m.take,
			"done":    m.doneTaken,
			"keep":    m.keep,
			"rewind":  m.rewind,
			"discard": m.discardAll,
			"close":   func(*rapid.T) { m.Close(); m.closed = true },
			"":        m.check,
		})
	})
}

func (m *queueModel) push(t *rapid.T) {
	for range rapid.IntRange(1, chunkItems+1).Draw(t, "items") {
		it := event.Item{N: m.next, Payload: fmt.Sprint(m.next)}
		m.next++
		m.Queue.Push(it)
		it.Number = m.next
		m.waiting, m.bytes = append(m.waiting, it), m.bytes+it.Size()
	}
}

func (m *queueModel) take(t *rapid.T) {
	items, generation := m.Queue.Take()
	if generation != m.generation {
		t.Fatalf("generation = %d, want %d", generation, m.generation)
	}
	if (len(items) == 0) != (len(m.waiting) == 0) {
		t.Fatalf("take() = %d items of %d", len(items), len(m.waiting))
	}
	for i := range items {
		if items[i].N != m.waiting[0].N || items[i].Number != m.waiting[0].Number {
			t.Fatalf("took item %d as %d, want %d as %d", items[i].N, items[i].Number, m.waiting[0].N, m.waiting[0].Number)
		}
		m.waiting = m.waiting[1:]
	}
	m.taken = append(m.taken, items...)
}

// doneTaken is done with some of what was taken.
func (m *queueModel) doneTaken(t *rapid.T) {
	n := rapid.IntRange(0, len(m.taken)).Draw(t, "items")
	if n == 0 {
		return
	}
	m.Done(m.taken[n-1].Number)
	m.bytes -= event.Size(m.taken[:n])
	m.done, m.taken = append(m.done, m.taken[:n]...), m.taken[n:]
	for event.Size(m.done) > m.limits.Kept {
		m.done = m.done[1:]
	}
}

// keep makes a ring of it, and goes on anywhere.
func (m *queueModel) keep(t *rapid.T) {
	m.Keep()
	m.generation++
	m.waiting, m.taken = append(m.taken, m.waiting...), nil
	if items, _ := m.Take(); items != nil || m.Waiting() {
		t.Fatalf("a ring handed out %d items", len(items))
	}
	if full := m.bytes >= m.limits.Ring; m.Full() != full {
		t.Fatalf("full() = %t with %d bytes of a ring of %d", m.Full(), m.bytes, m.limits.Ring)
	}
	at := m.anywhere(t)
	if m.Resume(m.generation-1, at) {
		t.Fatal("it went on in an earlier generation")
	}
	if !m.Resume(m.generation, at) {
		t.Fatalf("it did not go on at %d, which is there", at)
	}
	m.goTo(at)
}

func (m *queueModel) rewind(t *rapid.T) {
	m.waiting, m.taken = append(m.taken, m.waiting...), nil
	at := m.anywhere(t)
	if !m.Rewind(at) {
		t.Fatalf("it did not go back to %d, which is there", at)
	}
	m.goTo(at)
}

// anywhere is a number that is not forgotten.
func (m *queueModel) anywhere(t *rapid.T) uint64 {
	if m.Rewind(m.next+2) || m.Rewind(m.next+1-uint64(len(m.done)+len(m.waiting))-1) {
		t.Fatal("it went to an item that is not there")
	}
	back := rapid.IntRange(0, len(m.done)+len(m.waiting)).Draw(t, "back")
	return m.next + 1 - uint64(back)
}

func (m *queueModel) goTo(number uint64) {
	all := slices.Concat(m.done, m.waiting)
	n := len(all) - int(m.next+1-number)
	m.done, m.waiting = all[:n:n], all[n:]
	m.bytes = event.Size(m.waiting)
	for event.Size(m.done) > m.limits.Kept {
		m.done = m.done[1:]
	}
}

func (m *queueModel) discardAll(t *rapid.T) {
	m.Discard()
	m.generation++
	m.waiting, m.taken, m.done, m.bytes = nil, nil, nil, 0
	if m.Current(m.generation - 1) {
		t.Fatal("what was taken before a discard is still current")
	}
}

func (m *queueModel) check(t *rapid.T) {
	if got := m.Queue.Bytes(); got != m.bytes {
		t.Fatalf("bytes = %d, want %d", got, m.bytes)
	}
	if m.Full() != (m.bytes >= m.limits.Queue) || m.Relaxed() != (m.bytes <= m.limits.Queue/2) {
		t.Fatalf("full() = %t, relaxed() = %t with %d bytes of %d", m.Full(), m.Relaxed(), m.bytes, m.limits.Queue)
	}
	if m.Drained() != (m.closed && len(m.waiting) == 0) {
		t.Fatalf("drained() = %t with %d items, closed %t", m.Drained(), len(m.waiting), m.closed)
	}
	if !m.Current(m.generation) {
		t.Fatalf("generation %d is not current", m.generation)
	}
}

// A publisher that waits for the token sees every item, in order, and the end.
func TestQueueBetweenGoroutines(t *testing.T) {
	t.Parallel()
	const items = 20_000
	q := New(64 << 10)
	go func() {
		for n := range uint64(items) {
			for q.Full() {
				<-q.Freed
			}
			q.Push(event.Item{N: n})
		}
		q.Close()
	}()
	deadline := time.After(time.Minute)
	for next := uint64(0); !q.Drained(); {
		chunk, _ := q.Take()
		if chunk == nil {
			select {
			case <-q.Ready:
			case <-deadline:
				t.Fatalf("no token after item %d of %d", next, items)
			}
		}
		for i := range chunk {
			if chunk[i].N != next {
				t.Fatalf("took item %d, want %d", chunk[i].N, next)
			}
			next++
		}
		if n := event.Size(chunk); n > 0 {
			q.Done(chunk[len(chunk)-1].Number)
		}
		if q.Drained() && next != items {
			t.Fatalf("drained after %d items, want %d", next, items)
		}
	}
}

func TestPassed(t *testing.T) {
	t.Parallel()
	q := New(1)
	if at := q.Passed(); !at.IsZero() {
		t.Errorf("passed() = %s before the first marker", at)
	}
	want := time.UnixMicro(1_900_000_000_000_001).UTC()
	q.Pass(&event.Epoch{Time: want})
	if at := q.Passed(); !at.Equal(want) {
		t.Errorf("passed() = %s, want %s", at, want)
	}
}
