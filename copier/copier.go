package copier

import (
	"cmp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/rows"
)

const (
	defaultPrefix   = "pgbridge"
	defaultWindow   = 8 << 20
	defaultStall    = 30 * time.Second
	defaultProgress = time.Second

	verbCopy = "copy"
	verbData = "data"
)

// Config describes a Copier. Requests is required; the zero value of any other
// field means its documented default.
type Config struct {
	// Requests is the connection for objects and progress: the Runner's
	// Transactions, or its Requests where it has no others. Copies with objects need
	// JetStream there.
	Requests *nats.Conn
	// JetStream is JetStream on Requests, where it has a domain or an API prefix of
	// its own. Nil means what the connection has.
	JetStream jetstream.JetStream
	// Prefix of all subjects. Default pgbridge.
	Prefix string
	// WindowBytes is how much of one copy may be under way, and so in memory;
	// clients may ask for less. Default 8 MiB.
	WindowBytes int
	// Stall is how long a copy waits for a client that does nothing; clients
	// may ask for less. Default 30 s.
	Stall time.Duration
	// ProgressEvery is how often a copy's progress is published. Default 1 s;
	// negative means never.
	ProgressEvery time.Duration
	// Logger receives what no client is told. Nil means none.
	Logger *zap.Logger
}

func (c Config) withDefaults() Config {
	c.Prefix = cmp.Or(c.Prefix, defaultPrefix)
	c.WindowBytes = cmp.Or(c.WindowBytes, defaultWindow)
	c.Stall = cmp.Or(c.Stall, defaultStall)
	c.ProgressEvery = cmp.Or(c.ProgressEvery, defaultProgress)
	c.Logger = cmp.Or(c.Logger, zap.NewNop())
	return c
}

// Copier serves copies. It is safe for concurrent use and a Prometheus
// collector.
type Copier struct {
	config  Config
	js      jetstream.JetStream
	text    *rows.Type // what parameters are passed as
	metrics *metrics
}
