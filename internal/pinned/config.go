package pinned

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config describes the transactions of a replica. Every field is required.
type Config struct {
	Prefix  string
	Replica string // one token, the replica's own
	// Lifetime is how long a transaction may last at all, MaxTimeout how long a
	// request on it may take.
	Lifetime, MaxTimeout time.Duration
	// ReplyLimit is how long a reply's body may be, in bytes.
	ReplyLimit func() int
	// Ended is told what came of work on a script that goes on after its request was
	// answered, empty: SQL of a request's own. It must not block.
	Ended func(script string, err error, took time.Duration)
	// Begun counts transactions, Expired leases that were over, Replays stored replies.
	Begun, Expired, Replays prometheus.Counter
}
