package pinned

import (
	"sync/atomic"
	"time"
)

// Work is something in a transaction that goes on for longer than a statement: a
// cursor that is open, a copy. What does it keeps Rows and Bytes up to date, and
// sets the rest before it is shown.
type Work struct {
	Kind   string // cursor, copy in, copy out
	Name   string // the cursor's; empty for a copy
	Script string // empty: SQL of a request's own
	Begun  time.Time
	// TotalRows and TotalBytes are how many there will be, nil: nobody knows.
	TotalRows, TotalBytes *int64
	Rows, Bytes           atomic.Int64
}
