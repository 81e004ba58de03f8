package durable

import (
	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

// term says which of a channel's events are carried, by where they committed. The
// first session with other channels than the one before decides it, and the
// database remembers it for all that come after: whatever order they come in,
// they publish the same messages at the same places of the stream, so that one
// which froze can only repeat what is refused.
type term struct {
	Subject  string         `json:"subject,omitempty"` // as configured
	Envelope event.Envelope `json:"envelope,omitempty"`
	// From is where a channel begins. It stays when the first gap is announced, for
	// the slot may give again what lies before: a session that took such an event
	// for the channel's would not repeat what its predecessor has on its way. Zero:
	// before anything that the slot gives.
	From wal.LSN `json:"from,omitempty"`
	// Until is where a channel ends that is not configured any more. Zero: it
	// goes on. One that ended and begins again does so at From, which is later.
	Until wal.LSN `json:"until,omitempty"`
}

// carries reports whether an event that committed there is.
func (t term) carries(commit wal.LSN) bool {
	switch {
	case t.Until == 0:
		return commit >= t.From
	case t.Until <= t.From:
		return commit < t.Until || commit >= t.From
	default:
		return commit >= t.From && commit < t.Until
	}
}
