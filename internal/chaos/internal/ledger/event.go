// Package ledger writes events, each with a row in the same transaction, and tells
// what was committed and in which order.
//
// Whether a COMMIT without an answer was done is told by its rows. The order is that
// of a second replication slot, which nothing but this package reads, so it does not
// come from the program that is tested. NOTIFY and logical messages share it: a
// transaction that notifies holds a lock until its commit is written.
package ledger

import (
	"strconv"
	"strings"
	"time"
)

// Kind is what an event's payload looks like.
type Kind string

// The kinds of payloads.
const (
	Small Kind = "small" // its number
	Large Kind = "large" // its number and as much behind it as fits
	Equal Kind = "equal" // alike for all of its channel
	Empty Kind = "empty"
)

// Event is one that was committed.
type Event struct {
	ID        int64
	Channel   string
	Kind      Kind
	Committed time.Time // by PostgreSQL's clock
}

// Key tells one event from another as far as its payload does: equal payloads have
// equal keys.
func (e Event) Key() string { return key(e.ID, e.Kind) }

// Row is the key of the event's row, as a catch-up script tells it.
func (e Event) Row() string { return key(e.ID, Small) }

func key(id int64, kind Kind) string {
	switch kind {
	case Equal, Empty:
		return string(kind)
	default:
		return strconv.FormatInt(id, 10)
	}
}

const equalPayload = "refresh"

// payload is what is sent; size is that of a large one.
func payload(id int64, kind Kind, size int) string {
	number := strconv.FormatInt(id, 10)
	switch kind {
	case Large:
		return number + strings.Repeat("x", size-len(number))
	case Equal:
		return equalPayload
	case Empty:
		return ""
	default:
		return number
	}
}

// KeyOf is the key of the event that a payload belongs to; of one that nobody sent it
// is the payload in quotes. A large payload must have the size.
func KeyOf(text string, size int) string {
	if text == "" {
		return string(Empty)
	}
	if text == equalPayload {
		return string(Equal)
	}
	number := strings.TrimRight(text, "x")
	id, err := strconv.ParseInt(number, 10, 64)
	if err != nil || len(number) != len(text) && len(text) != size {
		return strconv.Quote(text[:min(len(text), 40)])
	}
	return key(id, Small)
}
