package bridge

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Config is everything a Bridge needs. The zero value of a field means its
// documented default; only ConnString and Events have none.
type Config struct {
	// ConnString names the PostgreSQL database as libpq does: a postgres://
	// URL or key=value pairs. PG* environment variables, a service file and a
	// passfile fill in what it leaves out.
	ConnString string
	// PasswordFile, if set, is read at every connection attempt, so a rotated
	// password needs no restart. It overrides a password from elsewhere.
	PasswordFile string
	// ApplicationName is what pg_stat_activity shows. Default "pgbridge".
	ApplicationName string

	// Events carries what the bridge publishes. It should have been opened
	// with MaxReconnects(-1) and ReconnectBufSize(-1): the bridge keeps its
	// own queue, and has to know what was lost when a connection broke.
	Events *nats.Conn
	// JetStream is JetStream on Events, where it has a domain or an API prefix of
	// its own. Nil means what the connection has.
	JetStream jetstream.JetStream
	// Requests carries the requests that the bridge answers. Nil means Events.
	Requests *nats.Conn
	// ReplyPrefixes are the first subject tokens a reply may have; requests
	// that want their answer elsewhere are dropped. Default _INBOX and _R_.
	ReplyPrefixes []string
	// Refuse says why requests are refused now, where they are. It must not
	// block. Nil means that they never are.
	Refuse func() error
	// Report is what operators are told who ask for the status of this replica: a
	// JSON object of at most limit bytes. It must not block. Nil means that nobody
	// is told.
	Report func(limit int) ([]byte, error)
	// RequestBytes is how much requests to notify may hold in memory altogether.
	// Default 8 MiB.
	RequestBytes int
	// Share is how much of that, and of the places to wait, one channel may have
	// alone, above 0 and at most 1. Default 0.9.
	Share float64

	// Version is what service discovery shows. Default "0.0.0".
	Version string

	// Prefix is the first tokens of every subject. The marker channel and the
	// advisory lock derive from it too, so bridges with different prefixes
	// live side by side in one database. Default "pgbridge".
	Prefix string
	// Group is what the marker channel and the advisory lock derive from in the prefix's
	// stead: bridges of one group take turns, and one of another is on its own although it
	// has the same prefix. It is for a NATS that nobody else uses. Default: the prefix.
	Group string
	// Channels are the PostgreSQL channels to listen on, by name.
	Channels map[string]Channel
	// Stream holds the events of channels with JetStream delivery.
	Stream Stream

	// CatchUp runs the scripts of channels that have one. Nil means that none may.
	CatchUp CatchUp

	// Durable is about the events of durable channels.
	Durable Durable

	// QueueBytes bounds what waits for NATS, for each kind of delivery.
	// Default 32 MiB.
	QueueBytes int
	// StopGrace is how long Run goes on publishing what it has received after
	// its context ended. Default 25 s.
	StopGrace time.Duration
	// TracerProvider makes spans for requests to notify and for events of durable
	// channels, which continue those that the header traceparent names. Nil means none.
	TracerProvider trace.TracerProvider
	// Logger receives the log. Nil means none.
	Logger *zap.Logger
}

const (
	defaultQueueBytes = 32 << 20
	// ringBytes is what a replica that does not publish keeps beyond the queue of
	// the one that does: 12 s of 20,000 events of 200 bytes a second, for one that
	// freezes.
	ringBytes = 80 << 20
	// keptBytes is what the publishing replica keeps of what the stream acknowledged.
	keptBytes           = 16 << 20
	defaultRequestBytes = 8 << 20
	defaultStopGrace    = 25 * time.Second
)

// limits are those of a queue that keeps so much of what is published.
func (c Config) limits(kept int64) queue.Limits {
	n := int64(c.QueueBytes)
	return queue.Limits{Queue: n, Ring: n + ringBytes, Kept: min(kept, n)}
}

// mayCatchUp refuses channels with scripts where nothing runs them.
func (c Config) mayCatchUp(channels map[string]Channel) error {
	if c.CatchUp != nil {
		return nil
	}
	var f faults
	for _, name := range slices.Sorted(maps.Keys(channels)) {
		if channels[name].CatchUp != "" {
			f.add("channels."+name+".catch_up", "there are no scripts")
		}
	}
	return errors.Join(f...)
}

// withDefaults returns the configuration with every zero value replaced.
func (c Config) withDefaults() Config {
	if c.ApplicationName == "" {
		c.ApplicationName = "pgbridge"
	}
	if c.Version == "" {
		c.Version = "0.0.0"
	}
	if c.Prefix == "" {
		c.Prefix = "pgbridge"
	}
	c.Group = cmp.Or(c.Group, c.Prefix)
	if len(c.ReplyPrefixes) == 0 {
		c.ReplyPrefixes = []string{"_INBOX", "_R_"}
	}
	if c.Requests == nil {
		c.Requests = c.Events
	}
	if c.RequestBytes == 0 {
		c.RequestBytes = defaultRequestBytes
	}
	if c.Share == 0 {
		c.Share = budget.DefaultShare
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = defaultQueueBytes
	}
	if c.StopGrace == 0 {
		c.StopGrace = defaultStopGrace
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.Stream = c.Stream.withDefaults(c.Prefix)
	c.Durable = c.Durable.withDefaults(c.Prefix)
	return c
}

// Validate reports every fault of the configuration that can be seen without
// a server, each a *ConfigError, joined; nil means none. It does not look at
// the connections.
func (c Config) Validate() error {
	given := c
	c = c.withDefaults()
	var f faults
	if err := subject.CheckPrefix(c.Prefix); err != nil {
		f.add("prefix", "%w", err)
		c.Stream.Name = cmp.Or(given.Stream.Name, "EVENTS") // a name made from the prefix is not a fault of its own
		c.Durable.Stream.Name = cmp.Or(given.Durable.Stream.Name, "DURABLE")
	} else if err := subject.CheckPrefix(c.Group); err != nil {
		f.add("group", "%w", err)
	}
	if c.QueueBytes < 1<<20 {
		f.add("queue.bytes", "%d: want at least 1 MiB", c.QueueBytes)
	}
	if c.StopGrace < 0 {
		f.add("stop.grace", "%s: want a positive duration", c.StopGrace)
	}
	c.Stream.validate("streams.events", &f)
	c.Durable.Stream.validate("streams.durable", &f)
	c.Durable.validate(&f)
	for _, name := range slices.Sorted(maps.Keys(c.Channels)) {
		if _, err := c.Channels[name].route(name, c.Prefix); err != nil {
			f = append(f, err)
		}
	}
	return errors.Join(f...)
}
