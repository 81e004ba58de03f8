package txrunner

import (
	"cmp"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// Config is everything a Runner needs. The zero value of a field means its
// documented default; only ConnString and Requests have none.
type Config struct {
	// ConnString names the PostgreSQL database as libpq does: a postgres://
	// URL or key=value pairs. PG* environment variables, a service file and a
	// passfile fill in what it leaves out.
	ConnString string
	// PasswordFile, if set, is read at every connection attempt and overrides
	// a password from elsewhere.
	PasswordFile string
	// ApplicationName is what pg_stat_activity shows. Default "pgbridge".
	ApplicationName string
	// RunConnections is how many scripts of one owner run at a time outside
	// pinned transactions; see Share. Default 8.
	RunConnections int
	// PinnedConnections is how many pinned transactions one owner can have; see
	// Share. Default 16.
	PinnedConnections int

	// Requests carries the requests and their replies.
	Requests *nats.Conn
	// Transactions carries what goes on for longer than one answer: requests on
	// pinned transactions, streams of chunks, objects, jobs. NATS cuts a connection
	// that more is sent to than it can be read; this one is out of the reach of those
	// who may only begin something. A stream that another request has begun goes
	// there when both connections lead to the same server. Nil means Requests.
	Transactions *nats.Conn
	// JetStream is JetStream on Transactions, where it has a domain or an API prefix of
	// its own. Nil means what the connection has.
	JetStream jetstream.JetStream
	// ReplyPrefixes are the first subject tokens a reply may have; requests
	// that want their answer elsewhere are dropped. Default _INBOX and _R_.
	ReplyPrefixes []string
	// RequestBytes is how much requests may hold in memory altogether, from their
	// receipt to their answer. Default 64 MiB.
	RequestBytes int
	// MaxBodyBytes is how long one request may be; a longer one is answered
	// too_large. Default: as long as a message can be.
	MaxBodyBytes int
	// Share is how much of the memory, of the connections and of the places to
	// wait one caller, or one script without a caller, may have alone, above 0
	// and at most 1. For each nine connections configured there is then a tenth
	// for others. Default 0.9.
	Share float64
	// NoReply has requests served whose sender wants no answer; their errors are
	// logged and counted. JetStream can be made to send such messages for
	// whoever may call its API. Default false: they are dropped and counted.
	NoReply bool
	// Version is what service discovery shows. Default "0.0.0".
	Version string
	// Prefix is the first tokens of every subject. Default "pgbridge".
	Prefix string

	// Scripts is the folder with the .sql files. Empty means no scripts.
	Scripts string
	// ScriptsPoll is how often the folder is looked at for changes. Default
	// 2 s; negative means never, then only [Runner.Reload] does.
	ScriptsPoll time.Duration
	// SQL lets requests carry their own SQL. Nil refuses them.
	SQL *SQL

	// IdleTimeout is how long a pinned transaction may be without a request
	// and the most a client may ask for. Default 30 s.
	IdleTimeout time.Duration
	// Lifetime is how long a pinned transaction may last at all. Default 5 min.
	Lifetime time.Duration
	// MaxTimeout is the time limit of a request that asks for none, and the
	// most a script or a client may ask for. Default 5 min.
	MaxTimeout time.Duration
	// KeepMessageIDs is how long a message id and its reply are kept. Default
	// 24 h.
	KeepMessageIDs time.Duration

	// Jobs, if set, lets JetStream messages run scripts. Nil means that no
	// jobs are taken.
	Jobs *Jobs

	// Extensions are further kinds of requests on scripts: cursors, copies.
	Extensions []Extension

	// StopGrace is how long requests may go on after Run's context ended.
	// Default 25 s.
	StopGrace time.Duration
	// TracerProvider makes spans for requests and jobs, which continue those that
	// the header traceparent names. Nil means none.
	TracerProvider trace.TracerProvider
	// TraceName has a transaction's application_name be the traceparent of the span that
	// it is done for, as long as it lasts. Default false.
	TraceName bool
	// Logger receives the log. Nil means none.
	Logger *zap.Logger
}

// SQL describes how requests that carry their own SQL are run.
type SQL struct {
	// ConnString, if set, is for these requests alone, so that they can have a
	// PostgreSQL user of their own. Pinned transactions then refuse them: they
	// run as the other user. Empty means Config.ConnString.
	ConnString string
	// PasswordFile goes with ConnString as Config.PasswordFile does.
	PasswordFile string
	// Connections of that user. Default 4. Not used without ConnString.
	Connections int
}

const (
	defaultRunConnections    = 8
	defaultPinnedConnections = 16
	defaultSQLConnections    = 4
	defaultRequestBytes      = 64 << 20
	defaultScriptsPoll       = 2 * time.Second
	defaultIdleTimeout       = 30 * time.Second
	defaultLifetime          = 5 * time.Minute
	defaultMaxTimeout        = 5 * time.Minute
	defaultKeepMessageIDs    = 24 * time.Hour
	defaultStopGrace         = 25 * time.Second

	minRequestBytes = 1 << 20
	minKeep         = time.Minute
)

// withDefaults returns the configuration with every zero value replaced.
func (c Config) withDefaults() Config {
	c.ApplicationName = cmp.Or(c.ApplicationName, "pgbridge")
	c.RunConnections = cmp.Or(c.RunConnections, defaultRunConnections)
	c.PinnedConnections = cmp.Or(c.PinnedConnections, defaultPinnedConnections)
	c.Transactions = cmp.Or(c.Transactions, c.Requests)
	if len(c.ReplyPrefixes) == 0 {
		c.ReplyPrefixes = []string{"_INBOX", "_R_"}
	}
	c.RequestBytes = cmp.Or(c.RequestBytes, defaultRequestBytes)
	c.Share = cmp.Or(c.Share, budget.DefaultShare)
	c.Version = cmp.Or(c.Version, "0.0.0")
	c.Prefix = cmp.Or(c.Prefix, "pgbridge")
	c.ScriptsPoll = cmp.Or(c.ScriptsPoll, defaultScriptsPoll)
	if c.SQL != nil {
		own := *c.SQL
		own.Connections = cmp.Or(own.Connections, defaultSQLConnections)
		c.SQL = &own
	}
	if c.Jobs != nil {
		own := c.Jobs.withDefaults(c.Prefix)
		c.Jobs = &own
	}
	c.IdleTimeout = cmp.Or(c.IdleTimeout, defaultIdleTimeout)
	c.Lifetime = cmp.Or(c.Lifetime, defaultLifetime)
	c.MaxTimeout = cmp.Or(c.MaxTimeout, defaultMaxTimeout)
	c.KeepMessageIDs = cmp.Or(c.KeepMessageIDs, defaultKeepMessageIDs)
	c.StopGrace = cmp.Or(c.StopGrace, defaultStopGrace)
	c.Logger = cmp.Or(c.Logger, zap.NewNop())
	return c
}

// Validate reports every fault of the configuration that can be seen without a
// server or the scripts, each a *ConfigError, joined; nil means none. It does
// not look at the connections.
func (c Config) Validate() error {
	c = c.withDefaults()
	var f faults
	if err := subject.CheckPrefix(c.Prefix); err != nil {
		f.add("prefix", "%w", err)
	}
	if c.RequestBytes < minRequestBytes {
		f.add("requests.bytes", "%d: want at least %d", c.RequestBytes, minRequestBytes)
	}
	if c.MaxBodyBytes < 0 || c.MaxBodyBytes > c.RequestBytes {
		f.add("requests.body_bytes", "%d: want at most requests.bytes, %d", c.MaxBodyBytes, c.RequestBytes)
	}
	if c.Share <= 0 || c.Share > 1 {
		f.add("requests.share", "%g: want above 0, at most 1", c.Share)
	}
	f.connections("postgres.run_connections", c.RunConnections)
	f.connections("postgres.pinned_connections", c.PinnedConnections)
	if c.SQL != nil {
		f.connections("sql.connections", c.SQL.Connections)
	}
	if c.Jobs != nil {
		c.Jobs.validate(&f)
	}
	if len(extensionsOf(c)) < len(c.Extensions) {
		f.add("extensions", "want what the packages cursors and copier make")
	}
	f.limit("transactions.idle_timeout", c.IdleTimeout)
	f.limit("transactions.lifetime", c.Lifetime)
	f.limit("transactions.max_timeout", c.MaxTimeout)
	if c.KeepMessageIDs < minKeep {
		f.add("message_ids.keep", "%s: want at least %s", c.KeepMessageIDs, minKeep)
	}
	if c.StopGrace < 0 {
		f.add("stop.grace", "%s: want a positive duration", c.StopGrace)
	}
	return errors.Join(f...)
}

// extensionsOf returns what the extensions of a configuration really are, and
// leaves out those that were not made by this program.
func extensionsOf(c Config) []*pinned.Extension {
	var all []*pinned.Extension
	for _, e := range c.Extensions {
		if known, ok := e.(*pinned.Extension); ok && known != nil {
			all = append(all, known)
		}
	}
	return all
}
