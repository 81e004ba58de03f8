// Package verdict compares what was committed with what arrived, item by item and in
// order.
package verdict

import (
	"fmt"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/ledger"
)

// Finding is a discrepancy.
type Finding struct {
	Kind   string // lost, repeated, disorder, invented, gap, …
	Detail string
	At     time.Time // about when
}

// Rules say what may be missing. The zero value allows nothing.
type Rules struct {
	// Away reports whether whoever listened was away for a part of that time: what was
	// published then need not have come. Nil: never.
	Away func(from, to time.Time) bool
	// Allowed reports whether a gap may be there at all; nil: every one.
	Allowed func(api.Gap) bool
	// Forgotten lets an event come that was not committed, where a gap history_lost
	// follows: the database that had it is gone.
	Forgotten bool
	// Late reports whether an event may come behind later ones: core NATS has no fence,
	// and what a frozen link held back comes when it passes again. Nil: none may.
	Late func(harvest.Item) bool
	// CatchesUp reports whether a channel has a script for what it missed, so that each of
	// its gaps says what became of that. Nil: none has.
	CatchesUp func(channel string) bool
	// Uncovered has a loss be one whether a gap covers it or not.
	Uncovered bool
}

// Result is what a comparison found.
type Result struct {
	Events    int // that were committed
	Arrived   int
	Announced int            // missing, and covered by a gap
	CaughtUp  int            // missing, covered by a gap, and told by a catch-up script
	Rows      int            // of catch-up scripts
	CatchUps  map[string]int // what became of those scripts
	Excused   int
	Forgotten int // came, and were lost with the database that had them
	Late      int // came behind later ones
	Gaps      map[api.Reason]int
	False     int // gaps in whose window nothing is missing
	Findings  []Finding
}

// comparison walks through both sides at once.
type comparison struct {
	rules    Rules
	expected []ledger.Event
	got      []harvest.Item
	place    map[string]int // of each event that has a key of its own
	matched  []int          // where in got each expected event is, -1: nowhere
	next     int            // in expected
	rows     map[string]int // where in got the row of an event is
	result   Result
}

// Compare compares one order of commits with one order of arrival.
func Compare(expected []ledger.Event, got []harvest.Item, rules Rules) Result {
	c := &comparison{rules: rules, expected: expected, got: got, place: map[string]int{}, matched: slices.Repeat([]int{-1}, len(expected))}
	c.result.Events, c.result.Gaps, c.result.CatchUps = len(expected), map[api.Reason]int{}, map[string]int{}
	c.told()
	for i, e := range expected {
		if single(e.Key()) {
			c.place[name(e.Channel, e.Key())] = i
		}
	}
	for i, g := range got {
		if g.Live() {
			c.event(i, g)
		}
	}
	c.gaps(c.losses())
	return c.result
}

func name(channel, key string) string { return channel + " " + key }

// single tells keys that only one event has.
func single(key string) bool { return key != string(ledger.Equal) && key != string(ledger.Empty) }

func (c *comparison) event(i int, g harvest.Item) {
	if !single(g.Key) {
		c.alike(i, g)
		return
	}
	p, known := c.place[name(g.Channel, g.Key)]
	switch {
	case !known && c.forgotten(i):
		c.result.Forgotten++
	case !known:
		c.find("invented", g.At, "%s was not committed, or not in this round", g)
	case c.matched[p] >= 0:
		c.find("repeated", g.At, "%s had come as %s", g, c.got[c.matched[p]])
	case p < c.next && c.late(g):
		c.matched[p] = i
	case p < c.next:
		c.matched[p] = i
		c.find("disorder", g.At, "%s came behind %s", g, show(c.expected[c.next-1]))
	default:
		c.matched[p], c.next = i, p+1
	}
}

// alike places an event whose payload others have too, before the next event with a
// key of its own. Where fewer came than were committed, those that a gap announced
// are the ones that did not.
func (c *comparison) alike(i int, g harvest.Item) {
	end, more := len(c.expected), 0
	for _, later := range c.got[i+1:] {
		if p, known := c.place[name(later.Channel, later.Key)]; later.Live() && known && p >= c.next {
			end = p
			break
		}
		if later.Live() && later.Channel == g.Channel && later.Key == g.Key {
			more++
		}
	}
	var places []int
	for p := c.next; p < end; p++ {
		if e := c.expected[p]; e.Channel == g.Channel && e.Key() == g.Key {
			places = append(places, p)
		}
	}
	for n, p := range places {
		if len(places)-n > more+1 && c.cover(c.expected[p], i) != nil {
			continue
		}
		c.matched[p], c.next = i, p+1
		return
	}
	switch {
	case c.forgotten(i):
		c.result.Forgotten++
		return
	case c.late(g):
		return
	}
	c.find("repeated", g.At, "%s: no more of its kind were committed there", g)
}

// late reports, and counts, whether an event may come behind later ones.
func (c *comparison) late(g harvest.Item) bool {
	if c.rules.Late == nil || !c.rules.Late(g) {
		return false
	}
	c.result.Late++
	return true
}

// forgotten reports whether an event that was not committed may have come: where the
// database that had it is gone, and a gap behind it says so.
func (c *comparison) forgotten(i int) bool {
	return c.rules.Forgotten && slices.ContainsFunc(c.got[i:], func(later harvest.Item) bool {
		return later.Gap != nil && later.Gap.Reason == api.ReasonHistoryLost && later.Channel == c.got[i].Channel
	})
}

// losses judges what did not come, and returns the events that a gap has to cover.
func (c *comparison) losses() []ledger.Event {
	following := slices.Repeat([]int{len(c.got)}, len(c.expected)+1) // where the next one that came is
	for i := len(c.expected) - 1; i >= 0; i-- {
		following[i] = following[i+1]
		if c.matched[i] >= 0 {
			following[i] = c.matched[i]
		}
	}
	var announced []ledger.Event
	for i, e := range c.expected {
		if c.matched[i] >= 0 {
			c.result.Arrived++
		} else if c.missing(e, following[i]) {
			announced = append(announced, e)
		}
	}
	return announced
}

// missing judges an event that did not come live, and reports whether it is one that a
// gap has to cover. Where the gap says that it was caught up, a script told it before
// what was committed later came.
func (c *comparison) missing(e ledger.Event, before int) (announced bool) {
	g := c.cover(e, before)
	row, told := c.rows[name(e.Channel, e.Row())]
	switch {
	case c.away(e.Committed, e.Committed):
		c.result.Excused++
		return false
	case c.rules.Uncovered || g == nil:
		c.find("lost", e.Committed, "%s did not come; %s", show(e), c.nearby(e))
		return false
	case told && row < before:
		c.result.CaughtUp++
	case !complete(*g):
		c.result.Announced++
	case c.away(e.Committed, g.At):
		c.result.Excused++
	case told:
		c.find("disorder", e.Committed, "%s was told as %s, behind what was committed later", show(e), c.got[row])
	default:
		c.find("uncaught", e.Committed, "%s did not come, and was not told though %s", show(e), g)
	}
	return true
}

func (c *comparison) away(from, to time.Time) bool {
	return c.rules.Away != nil && c.rules.Away(from, to)
}

// cover returns a gap that stands before the next event that came and has the missing
// one in its window, one that was caught up if there is any.
func (c *comparison) cover(e ledger.Event, before int) (found *harvest.Item) {
	for i := range c.got[:before] {
		g := &c.got[i]
		if g.Gap != nil && g.Channel == e.Channel && within(*g.Gap, e.Committed) && (found == nil || complete(*g)) {
			found = g
		}
	}
	return found
}

func within(g api.Gap, at time.Time) bool {
	return (g.Since == nil || !at.Before(*g.Since)) && !at.After(g.Until)
}

// nearby is the gap of the channel that comes closest, for whoever reads a finding.
func (c *comparison) nearby(e ledger.Event) string {
	closest, distance := "no gap of its channel", time.Duration(1<<62)
	for _, g := range c.got {
		if g.Gap == nil || g.Channel != e.Channel {
			continue
		}
		if d := g.Gap.Until.Sub(e.Committed).Abs(); d < distance {
			closest, distance = "the closest gap is "+g.String(), d
		}
	}
	return closest
}

func (c *comparison) gaps(announced []ledger.Event) {
	for _, g := range c.got {
		if g.Gap == nil {
			continue
		}
		c.result.Gaps[g.Gap.Reason]++
		if !slices.ContainsFunc(announced, func(e ledger.Event) bool { return e.Channel == g.Channel && within(*g.Gap, e.Committed) }) {
			c.result.False++
		}
		if c.rules.Allowed != nil && !c.rules.Allowed(*g.Gap) {
			c.find("gap", g.At, "%s", g)
		}
	}
}

func (c *comparison) find(kind string, at time.Time, format string, args ...any) {
	c.result.Findings = append(c.result.Findings, Finding{kind, fmt.Sprintf(format, args...), at})
}

func show(e ledger.Event) string {
	return fmt.Sprintf("event %d (%s) of %s committed %s", e.ID, e.Kind, e.Channel, e.Committed.UTC().Format("15:04:05.000000"))
}
