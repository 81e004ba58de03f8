package api

import (
	"encoding/json"
	"time"
)

// Gap says that notifications of a channel may be missing before it. It is
// published as JSON on <prefix>.gap.<channel>, in order with the channel's events.
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
	// CatchUp says what the channel's catch-up script made of it; nil: it has none, or
	// it was not run for this.
	CatchUp *CatchUp `json:"catch_up,omitempty"`
}

// CatchUp says what became of a channel's catch-up script, whose rows are the events
// in front of the gap.
type CatchUp struct {
	// Complete: all its rows were published. Else some may have been.
	Complete bool  `json:"complete"`
	Rows     int64 `json:"rows"` // that were published
	// Since is what the script was given: the gap's, moved back by the age of the
	// oldest transaction of that time. Nil: nothing is known of the time before.
	Since *time.Time `json:"since"`
	// Error says why it is not complete: an error code, and PostgreSQL's SQLSTATE
	// where there is one. Empty: it is.
	Error string `json:"error,omitempty"`
}

// Body is the gap as JSON. Moments in years that JSON does not have, which only a clock of
// PostgreSQL's that is wrong can tell, become the nearest that it has.
func (g *Gap) Body() []byte {
	told := *g
	told.Since, told.Until = writableOrNil(g.Since), Writable(g.Until)
	if g.CatchUp != nil {
		caught := *g.CatchUp
		caught.Since = writableOrNil(caught.Since)
		told.CatchUp = &caught
	}
	b, err := json.Marshal(&told)
	if err != nil {
		panic(err) // plain strings, numbers and times within RFC 3339's years
	}
	return b
}

// Writable is the moment itself or, where JSON does not have its year, the nearest that it
// has.
func Writable(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Year() < 0:
		return time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	case t.Year() > 9999:
		return time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	}
	return t
}

func writableOrNil(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	moment := Writable(*t)
	return &moment
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
	// ReasonSlotLost: what the replication slot of durable channels no longer has.
	ReasonSlotLost Reason = "slot_lost"
	// ReasonHistoryLost: the database lost what the stream has, after a failover
	// or a restore.
	ReasonHistoryLost Reason = "history_lost"
)

// Reasons returns all of them.
func Reasons() []Reason {
	return []Reason{
		ReasonStarted, ReasonReconnected, ReasonTakeover, ReasonOverflow, ReasonNATSUnavailable, ReasonSlotLost, ReasonHistoryLost,
	}
}
