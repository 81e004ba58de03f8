package client

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Event is a notification, or the word that some are missing.
type Event struct {
	// Gap is nil for a notification. Otherwise notifications of the channel may
	// be missing before this point, and there is no payload.
	Gap *Gap
	// Channel is PostgreSQL's. It is empty where nobody knows it: a subject of the
	// subscriber's own without the header, or a loss on the way to this client.
	Channel string
	// Payload is the message's body: the notification's bytes or, where the
	// channel has one, the envelope.
	Payload []byte
	// ID is the same whenever the event is delivered; empty over core NATS.
	ID string
	// CaughtUp says that it is a row of the channel's catch-up script, which returns what
	// was missed. It may have come before.
	CaughtUp bool
	// Message is what came, nil for a gap that this client has found itself.
	Message *nats.Msg
}

// Gap says what may be missing: notifications that were committed between Since
// and Until, by PostgreSQL's clock.
type Gap struct {
	Reason string
	Since  *time.Time // nil: nobody knows
	Until  time.Time  // for gaps of this client's own its own clock
	// Dropped is how many are missing; nil: nobody counted.
	Dropped *int64
	// CatchUp says what the channel's catch-up script made of it; nil: it has none.
	CatchUp *CatchUp
}

// CatchUp says what became of a channel's catch-up script, whose rows are the events in
// front of the gap.
type CatchUp struct {
	Complete bool       // all its rows were published; else some may have been
	Rows     int64      // how many were
	Since    *time.Time // that the script was given; nil: nobody knows
	Error    string     // why it is not complete: a code, and perhaps a SQLSTATE
}

// The reasons of gaps that pgbridge announces.
const (
	ReasonStarted         = string(api.ReasonStarted)         // what came before pgbridge, or a channel, started
	ReasonReconnected     = string(api.ReasonReconnected)     // what came while its connection to PostgreSQL was away
	ReasonTakeover        = string(api.ReasonTakeover)        // what the replica that published before left undone
	ReasonOverflow        = string(api.ReasonOverflow)        // what its queue could not hold
	ReasonNATSUnavailable = string(api.ReasonNATSUnavailable) // what NATS lost or refused
	ReasonSlotLost        = string(api.ReasonSlotLost)        // what the replication slot of durable channels lost
	ReasonHistoryLost     = string(api.ReasonHistoryLost)     // the stream has what the database lost, after a failover or a restore
)

// The reasons of gaps that a client finds itself.
const (
	ReasonDisconnected = "client_disconnected" // its connection to NATS was lost and is back
	ReasonSlow         = "client_slow"         // it did not take events as fast as they came
)

// events reads messages of the subjects that belong to a prefix.
type events struct{ event, gap string }

func newEvents(prefix string) events {
	return events{event: prefix + ".event.", gap: prefix + ".gap."}
}

// read makes an event of a message.
func (e events) read(m *nats.Msg) (Event, error) {
	id := m.Header.Get(api.HeaderID)
	if id == "" {
		id = m.Header.Get(nats.MsgIdHdr)
	}
	ev := Event{Channel: m.Header.Get(api.HeaderChannel), ID: id, Message: m}
	if !strings.HasPrefix(m.Subject, e.gap) {
		ev.Payload, ev.CaughtUp = m.Data, m.Header.Get(api.HeaderCatchUp) != ""
		channel, isEvent := strings.CutPrefix(m.Subject, e.event)
		if ev.Channel == "" && isEvent {
			ev.Channel, _ = subject.Untoken(channel) // else it stays unknown
		}
		return ev, nil
	}
	var gap api.Gap
	if err := json.Unmarshal(m.Data, &gap); err != nil {
		return ev, fmt.Errorf("read the gap on %s: %w", m.Subject, err)
	}
	ev.Channel = gap.Channel
	ev.Gap = &Gap{string(gap.Reason), gap.Since, gap.Until, gap.Dropped, (*CatchUp)(gap.CatchUp)}
	return ev, nil
}

// subjects are those of channels, with > for all, and further ones.
func (e events) subjects(channels, more []string) []string {
	if len(channels) == 0 && len(more) == 0 {
		return []string{e.event + ">", e.gap + ">"}
	}
	var all []string
	for _, name := range channels {
		all = append(all, e.event+subject.Token(name), e.gap+subject.Token(name))
	}
	return append(all, more...)
}
