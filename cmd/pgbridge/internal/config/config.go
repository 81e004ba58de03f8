package config

import (
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Config is the whole configuration, as the file's keys name it. It is not to be
// changed while it is used.
type Config struct {
	Postgres struct {
		URL, ApplicationName, PasswordFile string
		RunConnections, PinnedConnections  int
		TraceName                          bool // application_name says whose trace a transaction is in
	}

	NATS          natsconn.Settings
	Requests      natsconn.Settings // other credentials for requests, if any
	NATSName      string
	Embedded      bool
	StoreDir      string
	ReplyPrefixes []string

	Events     bridge.Stream
	Durable    bridge.Durable
	Prefix     string
	Channels   map[string]bridge.Channel
	QueueBytes int
	// What requests may hold, all of them and one, and what one owner may have.
	ForRequests struct {
		Bytes, BodyBytes int
		Share            float64
		NoReply          bool // whether those are served that want no answer
	}

	Scripts        string       // a folder; empty: none
	TakeSQL        bool         // from requests
	SQL            txrunner.SQL // their user, if TakeSQL
	Transactions   struct{ IdleTimeout, Lifetime, MaxTimeout time.Duration }
	KeepMessageIDs time.Duration
	TakeJobs       bool
	Jobs           txrunner.Jobs // if TakeJobs

	StopGrace time.Duration
	Log       struct{ Form, Level string }
	HTTP      string // an address, or "off"
	Pprof     bool   // profiles there, too
	Console   struct {
		Shown    bool // on the HTTP address
		Payloads bool
		Hosts    []string
	}

	origins map[string]string // key → the file, variable or flag it came from
}

// HTTPOff is the value of http that asks for no server.
const HTTPOff = "off"

// newConfig returns the defaults.
func newConfig() *Config {
	c := &Config{
		NATS:          natsconn.Settings{URLs: []string{"nats://127.0.0.1:4222"}},
		NATSName:      "pgbridge",
		StoreDir:      "pgbridge-nats",
		ReplyPrefixes: []string{"_INBOX", "_R_"},
		Prefix:        "pgbridge",
		Channels:      map[string]bridge.Channel{},
		QueueBytes:    32 << 20,
		StopGrace:     25 * time.Second,
		HTTP:          "127.0.0.1:8080",
		origins:       map[string]string{},
	}
	c.ForRequests.Bytes, c.ForRequests.Share = 64<<20, 0.9
	c.Postgres.ApplicationName = "pgbridge"
	c.Postgres.RunConnections, c.Postgres.PinnedConnections = 8, 16
	c.SQL.Connections = 4
	c.Transactions.IdleTimeout, c.Transactions.Lifetime, c.Transactions.MaxTimeout = 30*time.Second, 5*time.Minute, 5*time.Minute
	c.KeepMessageIDs = 24 * time.Hour
	c.Jobs = txrunner.Jobs{
		Concurrency: 8, Attempts: 5,
		Stream:  txrunner.JobStream{Replicas: 1, Create: true},
		Results: txrunner.ResultStream{Replicas: 1, Create: true, MaxAge: 24 * time.Hour},
	}
	c.Durable.Stream = bridge.Stream{MaxAge: 7 * 24 * time.Hour, Replicas: 1, Create: true}
	c.Events = bridge.Stream{MaxAge: 72 * time.Hour, DuplicateWindow: 2 * time.Minute, Replicas: 1, Create: true}
	c.Log.Level = "info"
	return c
}

// Bridge returns the part of the configuration that the bridge wants,
// without connections and logger.
func (c *Config) Bridge() bridge.Config {
	return bridge.Config{
		ConnString:      c.Postgres.URL,
		PasswordFile:    c.Postgres.PasswordFile,
		ApplicationName: c.Postgres.ApplicationName,
		ReplyPrefixes:   c.ReplyPrefixes,
		Prefix:          c.Prefix,
		Channels:        c.Channels,
		Stream:          c.Events,
		Durable:         c.Durable,
		QueueBytes:      c.QueueBytes,
		RequestBytes:    c.notifyBytes(),
		Share:           c.ForRequests.Share,
		StopGrace:       c.StopGrace,
	}
}

// Runner returns the part of the configuration that the runner of scripts and
// transactions wants, without connection and logger. Its extensions are only the
// shapes of those that serve.
func (c *Config) Runner() txrunner.Config {
	r := txrunner.Config{
		ConnString:        c.Postgres.URL,
		PasswordFile:      c.Postgres.PasswordFile,
		ApplicationName:   c.Postgres.ApplicationName,
		RunConnections:    c.Postgres.RunConnections,
		PinnedConnections: c.Postgres.PinnedConnections,
		TraceName:         c.Postgres.TraceName,
		ReplyPrefixes:     c.ReplyPrefixes,
		RequestBytes:      c.ForRequests.Bytes - c.notifyBytes(),
		MaxBodyBytes:      c.ForRequests.BodyBytes,
		Share:             c.ForRequests.Share,
		NoReply:           c.ForRequests.NoReply,
		Prefix:            c.Prefix,
		Scripts:           c.Scripts,
		IdleTimeout:       c.Transactions.IdleTimeout,
		Lifetime:          c.Transactions.Lifetime,
		MaxTimeout:        c.Transactions.MaxTimeout,
		KeepMessageIDs:    c.KeepMessageIDs,
		StopGrace:         c.StopGrace,
		Extensions:        []txrunner.Extension{cursors.New(), copier.Shape()},
	}
	if c.TakeSQL {
		r.SQL = &c.SQL
	}
	if c.TakeJobs {
		r.Jobs = &c.Jobs
	}
	return r
}

// notifyBytes is how much of the memory for requests those to notify have, whose
// bodies are short.
func (c *Config) notifyBytes() int { return min(8<<20, c.ForRequests.Bytes/8) }

// Runs reports whether requests can run anything.
func (c *Config) Runs() bool { return c.Scripts != "" || c.TakeSQL || c.TakeJobs }

// CatchesUp reports whether a channel has a catch-up script.
func (c *Config) CatchesUp() bool {
	for _, ch := range c.Channels {
		if ch.CatchUp != "" {
			return true
		}
	}
	return false
}

// PostgresOptions go with postgres.url.
func (c *Config) PostgresOptions() postgres.Options {
	return postgres.Options{PasswordFile: c.Postgres.PasswordFile, ApplicationName: c.Postgres.ApplicationName}
}

// OriginOf names where a key's value came from; a key below a channel without
// an origin of its own came from where the channel did.
func (c *Config) OriginOf(key string) string {
	for key != "" {
		if o, ok := c.origins[key]; ok {
			return o
		}
		key = key[:max(0, strings.LastIndexByte(key, '.'))]
	}
	return ""
}
