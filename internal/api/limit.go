package api

import "time"

// The limits that a client meets, beside those that the configuration sets. The
// document about requests lists them.
const (
	MaxCallerBytes    = 256 // of a caller's name, before it is encoded
	MaxMessageIDBytes = 256
	MaxNoticeBytes    = 64 << 10 // of one request's notices; the rest is dropped
	MaxTextBytes      = 8 << 10  // of each text in an error; the rest is cut off

	// MaxServed is how many requests of one endpoint are served at a time on
	// one replica; nearly all of them wait for a connection.
	MaxServed = 1024
	// MaxWaiting is how many requests of one endpoint may wait for a worker.
	MaxWaiting = 8192
	// MaxWaitingInTransaction is how many requests may wait besides the one that
	// is being served on a pinned transaction.
	MaxWaitingInTransaction = 16
	// RememberedEnds is how many ended transactions a replica can tell the end of.
	RememberedEnds = 1000

	// ConnectionWait is how long a request waits for a connection.
	ConnectionWait = 5 * time.Second
)
