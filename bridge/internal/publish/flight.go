package publish

import "github.com/pgbridge/pgbridge/bridge/internal/event"

const (
	flightItems = 4096    // unacknowledged at the most
	flightBytes = 4 << 20 // the same in bytes
)

// flight is the ring of items between the queue and their acknowledgement, by
// number. head <= sent <= next: acknowledged ones leave at head, the ones from
// sent on wait to be sent, and after a doubt sent goes back to head.
type flight struct {
	ring             []flying
	head, sent, next uint64
	bytes            int64
}

// flying is an item in flight.
type flying struct {
	event.Item
	id    string // empty for markers
	seq   uint64 // in the stream, once it was sent
	acked bool
}

func (f *flight) at(number uint64) *flying { return &f.ring[number%flightItems] }

func (f *flight) len() int      { return int(f.next - f.head) }
func (f *flight) unacked() int  { return int(f.sent - f.head) }
func (f *flight) unsent() bool  { return f.sent < f.next }
func (f *flight) hasRoom() bool { return f.len() < flightItems && f.bytes < flightBytes }

// waiting is how many items are not sent yet, unsentMessages whether one of them
// is more than a marker.
func (f *flight) waiting() int { return int(f.next - f.sent) }

func (f *flight) unsentMessages() bool {
	for n := f.sent; n < f.next; n++ {
		if f.at(n).Kind != event.KindMarker {
			return true
		}
	}
	return false
}

func (f *flight) add(it event.Item, id string) {
	if f.ring == nil {
		f.ring = make([]flying, flightItems)
	}
	*f.at(f.next) = flying{Item: it, id: id}
	f.next++
	f.bytes += it.Size()
}

// takeOff returns the next item to send.
func (f *flight) takeOff() (*flying, uint64) {
	number := f.sent
	f.sent++
	return f.at(number), number
}

func (f *flight) ack(number uint64) {
	if sent := f.sentAs(number); sent != nil {
		sent.acked = true
	}
}

// sentAs returns the item that was sent with this number, nil if it is not in
// flight.
func (f *flight) sentAs(number uint64) *flying {
	if number < f.head || number >= f.sent {
		return nil
	}
	return f.at(number)
}

// on returns an item on this subject that is sent and not acknowledged, nil if there is none.
func (f *flight) on(subject string) *flying {
	for n := f.head; n < f.sent; n++ {
		if !f.at(n).acked && f.at(n).Subject() == subject {
			return f.at(n)
		}
	}
	return nil
}

// first returns the head if it is acknowledged, nil otherwise.
func (f *flight) first() *flying {
	if f.head == f.sent || !f.at(f.head).acked {
		return nil
	}
	return f.at(f.head)
}

// pop removes the head.
func (f *flight) pop() {
	f.bytes -= f.at(f.head).Size()
	*f.at(f.head) = flying{}
	f.head++
}

// storedUpTo acknowledges everything up to the item with this id, if there is one.
// It may be one that this run has not sent: what an earlier run sent can arrive
// after the stream's end was read.
// It has this sequence in the stream.
func (f *flight) storedUpTo(id string, seq uint64) bool {
	for n := f.head; n < f.next; n++ {
		if f.at(n).id != id {
			continue
		}
		f.sent = max(f.sent, n+1)
		f.at(n).seq = seq
		for m := f.head; m <= n; m++ {
			f.at(m).acked = true
		}
		return true
	}
	return false
}

// rewind takes back everything that is not acknowledged.
func (f *flight) rewind() {
	for n := f.head; n < f.sent; n++ {
		f.at(n).acked = false
	}
	f.sent = f.head
}

// items returns all of it, in order, as items that are not in flight.
func (f *flight) items() []event.Item {
	items := make([]event.Item, 0, f.len())
	for n := f.head; n < f.next; n++ {
		items = append(items, f.at(n).Item)
	}
	return items
}

// apart is the bytes of what was never queued.
func (f *flight) apart() (n int64) {
	for i := f.head; i < f.next; i++ {
		n += f.at(i).Apart()
	}
	return n
}

func (f *flight) reset() {
	clear(f.ring)
	f.head, f.sent, f.bytes = f.next, f.next, 0
}
