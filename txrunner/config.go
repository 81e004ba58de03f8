package txrunner

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
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
	// RunConnections serve scripts outside pinned transactions. Default 8.
	RunConnections int
	// PinnedConnections is how many pinned transactions there can be. Default
	// 16.
	PinnedConnections int

	// Requests carries the requests and their replies. It must have been
	// opened with PermissionErrOnSubscribe(true).
	Requests *nats.Conn
	// ReplyPrefixes are the first subject tokens a reply may have; requests
	// that want their answer elsewhere are dropped. Default _INBOX and _R_.
	ReplyPrefixes []string
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
	defaultScriptsPoll       = 2 * time.Second
	defaultIdleTimeout       = 30 * time.Second
	defaultLifetime          = 5 * time.Minute
	defaultMaxTimeout        = 5 * time.Minute
	defaultKeepMessageIDs    = 24 * time.Hour
	defaultStopGrace         = 25 * time.Second

	maxConnections  = 10_000
	minKeep         = time.Minute
	maxPrefixBytes  = 64
	maxTimeoutLimit = 24 * time.Hour // PostgreSQL's own limit is 24 days
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// ConfigError is one fault of a configuration.
type ConfigError struct {
	Key string // the setting, as in a configuration file: transactions.lifetime
	Err error
}

func (e *ConfigError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// faults collects every fault of a configuration, so that one look is enough.
type faults []error

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, &ConfigError{Key: key, Err: fmt.Errorf(format, args...)})
}

// withDefaults returns the configuration with every zero value replaced.
func (c Config) withDefaults() Config {
	c.ApplicationName = cmp.Or(c.ApplicationName, "pgbridge")
	c.RunConnections = cmp.Or(c.RunConnections, defaultRunConnections)
	c.PinnedConnections = cmp.Or(c.PinnedConnections, defaultPinnedConnections)
	if len(c.ReplyPrefixes) == 0 {
		c.ReplyPrefixes = []string{"_INBOX", "_R_"}
	}
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
	if !prefixPattern.MatchString(c.Prefix) || len(c.Prefix) > maxPrefixBytes {
		f.add("prefix", "%q: want tokens of A-Z a-z 0-9 _ - joined by dots, at most %d bytes", c.Prefix, maxPrefixBytes)
	}
	f.connections("postgres.run_connections", c.RunConnections)
	f.connections("postgres.pinned_connections", c.PinnedConnections)
	if c.SQL != nil {
		f.connections("sql.connections", c.SQL.Connections)
	}
	if c.Jobs != nil {
		c.Jobs.validate(&f)
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

func (f *faults) connections(key string, n int) {
	if n < 1 || n > maxConnections {
		f.add(key, "%d: want 1 to %d", n, maxConnections)
	}
}

func (f *faults) limit(key string, d time.Duration) {
	if d < time.Millisecond || d > maxTimeoutLimit {
		f.add(key, "%s: want 1ms to %s", d, maxTimeoutLimit)
	}
}
