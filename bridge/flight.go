package bridge

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
	item
	id    string // empty for markers
	acked bool
}

func (f *flight) at(number uint64) *flying { return &f.ring[number%flightItems] }

func (f *flight) len() int      { return int(f.next - f.head) }
func (f *flight) unacked() int  { return int(f.sent - f.head) }
func (f *flight) unsent() bool  { return f.sent < f.next }
func (f *flight) hasRoom() bool { return f.len() < flightItems && f.bytes < flightBytes }

func (f *flight) add(it item, id string) {
	if f.ring == nil {
		f.ring = make([]flying, flightItems)
	}
	*f.at(f.next) = flying{item: it, id: id}
	f.next++
	f.bytes += it.size()
}

// takeOff returns the next item to send.
func (f *flight) takeOff() (*flying, uint64) {
	number := f.sent
	f.sent++
	return f.at(number), number
}

func (f *flight) ack(number uint64) {
	if number >= f.head && number < f.sent {
		f.at(number).acked = true
	}
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
	f.bytes -= f.at(f.head).size()
	*f.at(f.head) = flying{}
	f.head++
}

// storedUpTo acknowledges everything up to the item with this id, if one of
// those sent has it.
func (f *flight) storedUpTo(id string) bool {
	for n := f.head; n < f.sent; n++ {
		if f.at(n).id != id {
			continue
		}
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

func (f *flight) reset() {
	clear(f.ring)
	f.head, f.sent, f.bytes = f.next, f.next, 0
}
