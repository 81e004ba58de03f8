package bridge

import (
	"encoding/json"
	"time"
)

// Gap announces that notifications of a channel may be missing before this
// point. It is published as JSON on <prefix>.gap.<channel>, in order with the
// channel's events.
type Gap struct {
	Channel string `json:"channel"`
	Reason  Reason `json:"reason"`
	// Since and Until are moments of PostgreSQL's clock: every missing
	// notification was committed between them. Since is nil where nothing is
	// known of the time before, as after a cold start.
	Since *time.Time `json:"since"`
	Until time.Time  `json:"until"`
	// Dropped is the number of missing notifications, nil where unknown.
	Dropped *int64 `json:"dropped"`
}

// Reason is why notifications may be missing.
type Reason string

const (
	// ReasonStarted: what came before the bridge, or a channel, started.
	ReasonStarted Reason = "started"
	// ReasonReconnected: what came while the listener's connection was away.
	ReasonReconnected Reason = "reconnected"
	// ReasonTakeover: what the replica that published before left undone.
	ReasonTakeover Reason = "takeover"
	// ReasonOverflow: what the queue could not hold.
	ReasonOverflow Reason = "overflow"
	// ReasonNATSUnavailable: what NATS lost or refused.
	ReasonNATSUnavailable Reason = "nats_unavailable"
)

// unknownCount marks a loss whose size nobody knows.
const unknownCount = -1

// loss is a gap in the making.
type loss struct {
	reason  Reason
	since   time.Time // zero: unknown
	dropped int64     // or unknownCount
	// after is the number of the last marker that cannot end the loss: one
	// that was on its way before the loss ended proves nothing. lossOpen while
	// it still goes on.
	after uint64
}

const lossOpen = ^uint64(0)

// merge adds a later loss of the same channel.
func (l *loss) merge(later loss) {
	if l.dropped == unknownCount || later.dropped == unknownCount {
		l.dropped, l.reason = unknownCount, later.reason
	} else {
		l.dropped += later.dropped
	}
	l.after = later.after
}

// gap ends the loss at a moment of PostgreSQL's clock.
func (l *loss) gap(channel string, until time.Time) Gap {
	g := Gap{Channel: channel, Reason: l.reason, Until: ceilMicro(until)}
	if !l.since.IsZero() {
		since := l.since.UTC()
		g.Since = &since
	}
	if l.dropped != unknownCount {
		g.Dropped = &l.dropped
	}
	return g
}

func (g *Gap) body() []byte {
	b, err := json.Marshal(g)
	if err != nil {
		panic(err) // plain strings, numbers and times within RFC 3339's years
	}
	return b
}

// ceilMicro rounds up to PostgreSQL's resolution, so that an upper bound stays one.
func ceilMicro(t time.Time) time.Time {
	return t.UTC().Add(time.Microsecond - 1).Truncate(time.Microsecond)
}

// clock maps this process's clock to an upper bound of PostgreSQL's: a marker
// carries PostgreSQL's time at some moment after it was sent.
type clock struct {
	server time.Time // PostgreSQL's clock, as a marker carried it
	sent   time.Time // this process's clock when that marker was sent
}

// bound returns a time that PostgreSQL's clock had not passed at the local
// moment at.
func (c clock) bound(at time.Time) time.Time { return c.server.Add(at.Sub(c.sent)) }

// loss is the gap as a loss again, after its own message was lost.
func (g *Gap) loss() loss {
	l := loss{reason: g.Reason, dropped: unknownCount}
	if g.Since != nil {
		l.since = *g.Since
	}
	if g.Dropped != nil {
		l.dropped = *g.Dropped
	}
	return l
}
