package publish

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// flightModel is what a flight should be: a list whose first items are sent
// and in part acknowledged.
type flightModel struct {
	flight
	items []flying
	first uint64 // number of items[0]
	sent  int    // of items
}

func TestFlightIsAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &flightModel{}
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "send": m.send, "acknowledge": m.acknowledge, "advance": m.advance,
			"stored": m.stored, "rewind": m.rewindAll, "reset": m.resetAll, "": m.check,
		})
	})
}

func (m *flightModel) add(t *rapid.T) {
	for range rapid.IntRange(1, flightItems).Draw(t, "items") {
		if !m.hasRoom() {
			return
		}
		it := event.Item{N: m.next, Payload: fmt.Sprint(m.next)}
		id := fmt.Sprint("id", m.next)
		m.flight.add(it, id)
		m.items = append(m.items, flying{Item: it, id: id})
	}
}

func (m *flightModel) send(t *rapid.T) {
	for range rapid.IntRange(1, flightItems).Draw(t, "items") {
		if !m.unsent() {
			return
		}
		f, number := m.takeOff()
		if want := m.first + uint64(m.sent); number != want || f.id != m.items[m.sent].id {
			t.Fatalf("takeOff() = %s as %d, want %s as %d", f.id, number, m.items[m.sent].id, want)
		}
		m.sent++
	}
}

// acknowledge takes acknowledgements of what is not in flight, too.
func (m *flightModel) acknowledge(t *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(t, "acknowledgements") {
		i := rapid.IntRange(-1, len(m.items)+1).Draw(t, "item")
		m.ack(m.first + uint64(i))
		if 0 <= i && i < m.sent {
			m.items[i].acked = true
		}
	}
}

func (m *flightModel) advance(t *rapid.T) {
	for f := m.flight.first(); f != nil; f = m.flight.first() {
		if m.sent == 0 || !m.items[0].acked || f.id != m.items[0].id {
			t.Fatalf("first() = %s, want only the acknowledged head", f.id)
		}
		m.pop()
		m.items, m.first, m.sent = m.items[1:], m.first+1, m.sent-1
	}
	if m.sent > 0 && m.items[0].acked {
		t.Fatalf("first() = nil, want %s", m.items[0].id)
	}
}

func (m *flightModel) stored(t *rapid.T) {
	i := rapid.IntRange(0, len(m.items)).Draw(t, "item")
	if got, want := m.storedUpTo(fmt.Sprint("id", m.first+uint64(i)), 7), i < len(m.items); got != want {
		t.Fatalf("storedUpTo() = %t for item %d of %d", got, i, len(m.items))
	}
	if i == len(m.items) {
		return
	}
	m.sent = max(m.sent, i+1)
	for n := range i + 1 {
		m.items[n].acked = true
	}
}

func (m *flightModel) rewindAll(*rapid.T) {
	m.rewind()
	for i := range m.sent {
		m.items[i].acked = false
	}
	m.sent = 0
}

func (m *flightModel) resetAll(*rapid.T) {
	m.reset()
	m.first += uint64(len(m.items))
	m.items, m.sent = nil, 0
}

func (m *flightModel) check(t *rapid.T) {
	var bytes int64
	for i := range m.items {
		bytes += m.items[i].Size()
	}
	if m.len() != len(m.items) || m.unacked() != m.sent || m.unsent() != (m.sent < len(m.items)) || m.flight.bytes != bytes {
		t.Fatalf("len %d, unacked %d, unsent %t, %d bytes; want %d, %d, %t, %d",
			m.len(), m.unacked(), m.unsent(), m.flight.bytes, len(m.items), m.sent, m.sent < len(m.items), bytes)
	}
	if m.hasRoom() != (len(m.items) < flightItems && bytes < flightBytes) {
		t.Fatalf("hasRoom() = %t with %d items of %d bytes", m.hasRoom(), len(m.items), bytes)
	}
}
