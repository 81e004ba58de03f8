package sequence

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
)

// ring is that of a replica which does not publish: a marker, and events of the channel
// "stored" with equal payloads behind it.
type ring struct {
	*Sequencer
	ids []string // of the marker and the events
}

func newRing(t *testing.T, events int) *ring {
	t.Helper()
	route, err := event.NewRoute("stored", "p", event.RouteOptions{Stored: true})
	if err != nil {
		t.Fatal(err)
	}
	r := &ring{Sequencer: &Sequencer{
		Core: queue.New(1 << 20), Stream: queue.NewRing(queue.Limits{Queue: 1 << 20, Ring: 1 << 20}), channels: map[string]*channelState{"stored": {route: route}}}}
	r.Stream.Keep()
	e := &event.Epoch{ID: RandomHex(epochBytes)}
	r.Stream.Push(event.Item{Kind: event.KindMarker, Epoch: e})
	r.ids = append(r.ids, e.ID)
	for n := range events {
		it := event.Item{Kind: event.KindEvent, Route: route, Epoch: e, N: uint64(n + 1)}
		r.Stream.Push(it)
		r.ids = append(r.ids, event.ID(&it))
	}
	return r
}

// streamOf is one with these messages, the last of which has the sequence.
func streamOf(seq uint64, all ...Stored) Stream {
	return Stream{Created: simCreated, Seq: seq, Message: func(n uint64) (Stored, bool, error) {
		i := len(all) - 1 - int(seq-n)
		if i < 0 {
			return Stored{}, false, nil
		}
		return all[i], true, nil
	}}
}

const elsewhere = "00000000000000ff" // an epoch that no ring has

// Where to go on is behind the newest message of the stream whose place is known. What
// hides it is passed over only where nothing is repeated or left out by that.
func TestPlaceInStream(t *testing.T) {
	t.Parallel()
	r := newRing(t, 5)
	marker, second := Stored{ID: r.ids[0]}, Stored{ID: r.ids[2]}
	gap := Stored{ID: elsewhere + ".stored.gap.1", After: r.ids[2]}
	row := Stored{ID: elsewhere + ".stored.row.1", After: r.ids[2]}
	unknown := Stored{ID: elsewhere + ".other.1.0000000000000001", After: elsewhere}
	lost := Stored{ID: elsewhere + ".stored.7.0000000000000001"}
	loses := func(m Stored, open event.Open) Stored { m.Open = open; return m }
	for _, tt := range []struct {
		name string
		tail []Stored
		want uint64 // number to go on with; 0: nobody knows
		open event.Open
	}{
		{"an event", []Stored{second}, 4, ""},
		{"the last event", []Stored{{ID: r.ids[5]}}, 7, ""},
		{"the gap at a marker", []Stored{{ID: elsewhere + ".stored.gap.1", After: marker.ID}}, 2, ""},
		{"a gap", []Stored{second, gap}, 4, ""},
		{"a row", []Stored{second, row, row}, 4, ""},
		{"a gap whose place is not known", []Stored{second, {ID: elsewhere + ".stored.gap.1", After: elsewhere}}, 0, ""},
		{"a channel that is not known", []Stored{second, unknown, unknown}, 4, ""},
		{"another's message", []Stored{second, {}, {}}, 4, ""},
		{"an event that is not here", []Stored{second, lost}, 0, ""},
		{"what hides it expired", slices.Repeat([]Stored{unknown}, 3), 0, ""},
		{"as much before it as may be", slices.Concat([]Stored{second}, slices.Repeat([]Stored{unknown}, maxWalk-1)), 4, ""},
		{"too much before it", slices.Concat([]Stored{second}, slices.Repeat([]Stored{unknown}, maxWalk)), 0, ""},
		{"a loss that goes on", []Stored{loses(second, "stored@1")}, 4, "stored@1"},
		{"a loss that is over", []Stored{loses(second, "stored@1"), gap}, 4, ""},
		{"a loss that began", []Stored{second, loses(unknown, "stored@2")}, 4, "stored@2"},
		{"losses that nobody names", []Stored{loses(second, event.ManyOpen)}, 0, ""},
	} {
		at, err := r.PlaceInStream(streamOf(10_000, tt.tail...))
		if err != nil || at.Number != tt.want || at.Open != tt.open {
			t.Errorf("%s: %+v, %v; want number %d, open %q", tt.name, at, err, tt.want, tt.open)
		}
	}
}

// A message that stands twice in the ring is no place: it might be the other one.
func TestPlaceThatIsNotTheOnlyOne(t *testing.T) {
	t.Parallel()
	r := newRing(t, 3)
	var again event.Item
	r.Stream.Each(2, 2, func(it *event.Item) { again = *it })
	r.Stream.Push(again)
	if at, err := r.PlaceInStream(streamOf(1, Stored{ID: r.ids[1]})); err != nil || at.Number != 0 {
		t.Errorf("%+v, %v; want none", at, err)
	}
	if at, err := r.PlaceInStream(streamOf(1, Stored{ID: r.ids[2]})); err != nil || at.Number != 4 {
		t.Errorf("%+v, %v; want number 4", at, err)
	}
}

// What was told last is known when it has left the ring, by where the stream has it.
// Another stream has something else there.
func TestPlaceThatHasLeftTheRing(t *testing.T) {
	t.Parallel()
	r := newRing(t, 3)
	told := queue.Proof{Position: r.ids[2], Created: simCreated, Seq: 7}
	for _, seq := range []uint64{7, 8} { // the second time it is not in the ring any more
		if told.Seq = seq; !prove(r.Stream, told) || r.Stream.Proven().Number != 3 || r.Stream.Proven().Seq != seq {
			t.Errorf("what is proved is %+v, want number 3 at sequence %d", r.Stream.Proven(), seq)
		}
	}
	end := streamOf(8, Stored{ID: elsewhere + ".stored.gap.1"})
	if at, err := r.PlaceInStream(end); err != nil || at.Number != 4 || at.Seq != 8 {
		t.Errorf("%+v, %v; want number 4 at the stream's end", at, err)
	}
	end.Created = simCreated.Add(time.Second)
	if at, err := r.PlaceInStream(end); err != nil || at.Number != 0 || at.Undone {
		t.Errorf("in another stream: %+v, %v; want none", at, err)
	}
	if at, err := r.PlaceInStream(streamOf(5, Stored{ID: r.ids[2]})); err != nil || !at.Undone {
		t.Errorf("in a stream that ends before it: %+v, %v; want that it has lost something", at, err)
	}
}

// A ring that is full is found in a stream that has gone on far behind its end.
func TestPlaceOfAFullRing(t *testing.T) {
	t.Parallel()
	r := newRing(t, 3)
	prove(r.Stream, queue.Proof{Position: r.ids[0], Created: simCreated, Seq: 10})
	all := []Stored{{ID: r.ids[1]}, {ID: r.ids[2]}, {ID: r.ids[3]}}
	for n := range 2 * maxWalk {
		all = append(all, Stored{ID: fmt.Sprint(elsewhere, ".stored.", n+1, ".0000000000000001")})
	}
	if at, err := r.StoredInStream(streamOf(10+uint64(len(all)), all...)); err != nil || at.Number != 5 || at.Seq != 13 {
		t.Errorf("%+v, %v; want number 5, behind sequence 13", at, err)
	}
}
