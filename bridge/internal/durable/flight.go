package durable

import (
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

const (
	flightItems = 2048    // unacknowledged at the most
	flightBytes = 8 << 20 // the same in bytes, but for one item
)

// flight is the ring of messages between the slot and their acknowledgement,
// by number: head <= sent <= next. Acknowledged ones leave at head; the ones
// from sent on wait to be sent.
type flight struct {
	ring             []flying
	head, sent, next uint64
	bytes            int64
}

// flying is a message in flight.
type flying struct {
	event.Item
	position position
	id       string
	// confirm is what may be confirmed once this message and all before it are
	// stored; zero: nothing.
	confirm wal.LSN
	gap     bool // that travels alone
}

func (f *flight) at(number uint64) *flying { return &f.ring[number%flightItems] }
func (f *flight) len() int                 { return int(f.next - f.head) }
func (f *flight) empty() bool              { return f.head == f.next }
func (f *flight) unsent() bool             { return f.sent < f.next }
func (f *flight) unacknowledged() bool     { return f.sent > f.head }
func (f *flight) hasRoom() bool            { return f.next-f.head < flightItems && f.bytes < flightBytes }

func (f *flight) add(it flying) {
	if f.ring == nil {
		f.ring = make([]flying, flightItems)
	}
	*f.at(f.next) = it
	f.next++
	f.bytes += it.Size()
}

// last is the newest message; the flight must not be empty.
func (f *flight) last() *flying { return f.at(f.next - 1) }

// pop removes the head and returns it.
func (f *flight) pop() flying {
	it := *f.at(f.head)
	*f.at(f.head) = flying{}
	f.bytes -= it.Size()
	f.head++
	return it
}

// rewind takes back what was sent.
func (f *flight) rewind() { f.sent = f.head }
