package wal

import "time"

// Kind says what an [Event] is.
type Kind byte

const (
	// KindMessage is a logical message whose prefix was asked for.
	KindMessage Kind = iota + 1
	// KindCommit ends a transaction. It comes for transactions with messages,
	// and from some servers for others too.
	KindCommit
	// KindIdle says that the server has nothing to send before a position.
	KindIdle
)

// Event is what a slot delivers. It owns its bytes.
type Event struct {
	Kind Kind
	// LSN is where a message lies, which stays the same whenever it is read; for
	// a commit and an idle position it is what may be confirmed once everything
	// before is safe.
	LSN LSN
	// Commit is where the record lies that commits the message's transaction. It
	// is zero for an idle position.
	Commit LSN
	// Time is when the transaction committed, or when the server was idle, by
	// PostgreSQL's clock.
	Time time.Time
	// Prefix and Content are those of a message.
	Prefix  string
	Content []byte
	// Size is the length of the content. Where it is larger than wanted it was
	// skipped, and Content is nil.
	Size int
}

// Place is where the event lies in the order of commits.
func (e *Event) Place() LSN {
	if e.Kind == KindIdle {
		return e.LSN
	}
	return e.Commit
}

// Skipped reports whether a message's content was too large to be kept.
func (e *Event) Skipped() bool { return e.Size > len(e.Content) }
