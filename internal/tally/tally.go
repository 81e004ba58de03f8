// Package tally keeps metrics small where somebody else decides how many things
// there are, as with channels and scripts: those with the most traffic have a
// series each, all others share one.
//
// Every count is in exactly one series, and no series ever falls, whoever joins
// the leaders or leaves them: what a thing counts while it has a series is there,
// and what it counts while it has none is in the common one.
package tally

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Rest is the name of the series that all share which have none of their own.
// Something that is called so itself is always among them.
const Rest = "(rest)"

const (
	// rankEvery is how often the order is looked at: a leader that leaves takes a
	// series away.
	rankEvery = time.Minute
	// ahead is how many times the traffic of the last leader a follower needs to
	// take its place.
	ahead = 2
)

// Counts are a thing's counts since the process began. The first of them is its
// traffic.
type Counts struct {
	Name   string
	Values []uint64
}

// Tally divides things into leaders and followers. It is safe for concurrent use.
type Tally struct {
	most  int // leaders
	width int // counts of each thing

	mu     sync.Mutex // guards the rest
	things map[string]*thing
	led    int
	ranked time.Time
}

// thing is what is remembered of something that is counted.
type thing struct {
	name   string
	leads  bool
	seen   uint64  // its traffic at the last ranking
	lately float64 // what came since, and half of what it was before
	// apart is, of a leader, what the common series has of it, and of a follower
	// what its own series had; nil: nothing.
	apart []uint64
}

// New returns a tally with so many leaders, of things that have so many counts.
func New(most, width int) *Tally {
	return &Tally{most: most, width: width, things: make(map[string]*thing)}
}

// Split returns the counts to be shown at a moment: those of each leader, and in the
// end of all others together, where there are any. What was there once has to
// come again each time; no count may fall. Each of all has the tally's width.
func (t *Tally) Split(all []Counts, now time.Time) []Counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.welcome(all)
	rest := Counts{Name: Rest, Values: make([]uint64, t.width)}
	shown := make([]Counts, 0, t.led+1)
	for _, c := range all {
		own, common := t.things[c.Name].divide(c.Values)
		for i, n := range common {
			rest.Values[i] += n
		}
		if own != nil {
			shown = append(shown, Counts{Name: c.Name, Values: own})
		}
	}
	if len(t.things) > t.led {
		shown = append(shown, rest)
	}
	if now.Sub(t.ranked) >= rankEvery { // for the next time: what was counted by now is told
		t.ranked = now
		t.rank(all)
	}
	return shown
}

// divide says what of a thing's counts is in its own series, nil where it has none,
// and what in the common one.
func (g *thing) divide(values []uint64) (own, common []uint64) {
	if !g.leads {
		return nil, less(values, g.apart)
	}
	return less(values, g.apart), g.apart
}

func less(values, by []uint64) []uint64 {
	if by == nil {
		return values
	}
	left := make([]uint64, len(values))
	for i := range values {
		left[i] = values[i] - by[i]
	}
	return left
}

// welcome gives series to things that are new, the busiest first, as long as there
// are any.
func (t *Tally) welcome(all []Counts) {
	var fresh []Counts
	for _, c := range all {
		if t.things[c.Name] == nil {
			t.things[c.Name] = &thing{name: c.Name}
			fresh = append(fresh, c)
		}
	}
	if t.led == t.most {
		return
	}
	slices.SortFunc(fresh, func(a, b Counts) int {
		return cmp.Or(cmp.Compare(b.Values[0], a.Values[0]), cmp.Compare(a.Name, b.Name))
	})
	for _, c := range fresh {
		if t.led < t.most && c.Name != Rest {
			t.things[c.Name].leads = true
			t.led++
		}
	}
}

// rank has followers that are far ahead of a leader take its place.
func (t *Tally) rank(all []Counts) {
	values := make(map[*thing][]uint64, len(all))
	var leaders, followers []*thing
	for _, c := range all {
		g := t.things[c.Name]
		values[g] = c.Values
		g.lately = g.lately/2 + float64(c.Values[0]-g.seen)
		g.seen = c.Values[0]
		switch {
		case g.leads:
			leaders = append(leaders, g)
		case c.Name != Rest:
			followers = append(followers, g)
		}
	}
	quietest := func(a, b *thing) int { return cmp.Compare(a.lately, b.lately) }
	slices.SortFunc(leaders, quietest)
	slices.SortFunc(followers, func(a, b *thing) int { return quietest(b, a) })
	for i := range min(len(leaders), len(followers)) {
		if followers[i].lately <= ahead*leaders[i].lately {
			return
		}
		leaders[i].turn(values[leaders[i]])
		followers[i].turn(values[followers[i]])
	}
}

// turn makes a leader a follower, or the other way around.
func (g *thing) turn(values []uint64) {
	g.apart = slices.Clone(less(values, g.apart))
	g.leads = !g.leads
}
