package publish

import (
	"cmp"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/api"
)

// announceEvery is how often a loss that goes on is announced.
const announceEvery = time.Second

// losses are what was lost on the way to NATS and not announced yet, by the
// route of its channel.
type losses map[*event.Route]*unsent

// unsent is the loss of one route.
type unsent struct {
	event.Loss
	stats *event.Counters
	until time.Time
	epoch *event.Epoch
	sweep bool // the catch-up script of the channel is to be run for it
	// refused is the subject on which NATS refused something of it last, where that is
	// known for sure; empty: none.
	refused string
}

// add adds an item to its channel's loss: an event, or a gap whose own message
// was lost. A loss that was the item's own fault would be again, if the channel's
// script returned what it was: it is to be announced alone.
func (l losses) add(it *event.Item, dropped int64, reason api.Reason, ownFault bool) {
	since, until := it.Window()
	later := unsent{Loss: event.Loss{Reason: reason, Since: since, Dropped: dropped},
		stats: it.Counters, until: until, epoch: it.Epoch, sweep: it.Route.CatchUp != "" && !ownFault}
	if it.Kind == event.KindGap {
		later.Loss = event.LossOf(it.Gap)
	}
	it.CountDropped(dropped)
	l.merge(it.Route, &later)
}

// addAll adds what is an item of a channel's.
func (l losses) addAll(items []event.Item, dropped int64, reason api.Reason, ownFault bool) {
	for i := range items {
		if items[i].Route != nil { // neither a marker nor a takeover
			l.add(&items[i], dropped, reason, ownFault)
		}
	}
}

// noteRefused says that an item became a loss because NATS takes nothing on its subject.
func (l losses) noteRefused(it *event.Item) {
	if it.Route != nil {
		l[it.Route].refused = it.Subject()
	}
}

// refused is the subject of a route on which NATS refused something of its loss, empty if
// there is none.
func (l losses) refused(r *event.Route) string {
	if l[r] == nil {
		return ""
	}
	return l[r].refused
}

func (l losses) merge(r *event.Route, later *unsent) {
	u := l[r]
	if u == nil {
		l[r] = later
		return
	}
	u.Merge(later.Loss)
	u.until, u.epoch, u.sweep = later.until, later.epoch, u.sweep || later.sweep
	u.refused = cmp.Or(later.refused, u.refused)
}

// gap is the item that announces a route's loss. It stays a loss until the
// caller deletes it.
func (l losses) gap(r *event.Route) event.Item {
	u := l[r]
	g := u.Gap(r.Channel, u.until)
	return event.Item{Kind: event.KindGap, Route: r, Counters: u.stats, Epoch: u.epoch, Gap: &g, Sweep: u.sweep}
}

// unswept returns the route of a loss for which a script is to be run, nil if there is
// none.
func (l losses) unswept() *event.Route {
	for r, u := range l {
		if u.sweep {
			return r
		}
	}
	return nil
}
