package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

// config is the whole configuration, as the file's keys name it.
type config struct {
	Postgres struct {
		URL, ApplicationName, PasswordFile string
		RunConnections, PinnedConnections  int
	}

	NATS          natsconn.Settings
	Requests      natsconn.Settings // other credentials for requests, if any
	NATSName      string
	Embedded      bool
	StoreDir      string
	ReplyPrefixes []string

	Events     bridge.Stream
	Prefix     string
	Channels   map[string]bridge.Channel
	QueueBytes int

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

	origins map[string]string // key → the file, variable or flag it came from
}

const httpOff = "off"

// newConfig returns the defaults.
func newConfig() *config {
	c := &config{
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
	c.Events = bridge.Stream{MaxAge: 72 * time.Hour, DuplicateWindow: 2 * time.Minute, Replicas: 1, Create: true}
	c.Log.Level = "info"
	return c
}

// fault is one thing wrong with the configuration.
type fault struct {
	origin string // file, variable or flag; empty for a default
	key    string // may be empty
	err    error
}

func (f fault) Error() string {
	parts := []string{f.origin, f.key, f.err.Error()}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// configError holds every fault of a configuration.
type configError struct{ faults []fault }

func (e *configError) Error() string {
	lines := make([]string, len(e.faults))
	for i, f := range e.faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// bridge returns the part of the configuration that the bridge wants,
// without connections and logger.
func (c *config) bridge() bridge.Config {
	return bridge.Config{
		ConnString:      c.Postgres.URL,
		PasswordFile:    c.Postgres.PasswordFile,
		ApplicationName: c.Postgres.ApplicationName,
		ReplyPrefixes:   c.ReplyPrefixes,
		Prefix:          c.Prefix,
		Channels:        c.Channels,
		Stream:          c.Events,
		QueueBytes:      c.QueueBytes,
		StopGrace:       c.StopGrace,
	}
}

// runner returns the part of the configuration that the runner of scripts and
// transactions wants, without connection and logger.
func (c *config) runner() txrunner.Config {
	r := txrunner.Config{
		ConnString:        c.Postgres.URL,
		PasswordFile:      c.Postgres.PasswordFile,
		ApplicationName:   c.Postgres.ApplicationName,
		RunConnections:    c.Postgres.RunConnections,
		PinnedConnections: c.Postgres.PinnedConnections,
		ReplyPrefixes:     c.ReplyPrefixes,
		Prefix:            c.Prefix,
		Scripts:           c.Scripts,
		IdleTimeout:       c.Transactions.IdleTimeout,
		Lifetime:          c.Transactions.Lifetime,
		MaxTimeout:        c.Transactions.MaxTimeout,
		KeepMessageIDs:    c.KeepMessageIDs,
		StopGrace:         c.StopGrace,
		Extensions:        extensions(copier.Shape()),
	}
	if c.TakeSQL {
		r.SQL = &c.SQL
	}
	if c.TakeJobs {
		r.Jobs = &c.Jobs
	}
	return r
}

// runs reports whether requests can run anything.
func (c *config) runs() bool { return c.Scripts != "" || c.TakeSQL || c.TakeJobs }

// validate returns every fault that can be seen without a server.
func (c *config) validate() []fault {
	var f []fault
	add := func(key string, err error) {
		for _, err := range joined(err) {
			f = append(f, fault{c.originOf(key), key, err})
		}
	}
	add("postgres.url", c.validatePostgres())
	for _, n := range c.NATS.Validate() {
		add("nats."+n.Key, n.Err)
	}
	for _, n := range c.Requests.Validate() {
		add("nats.requests."+n.Key, n.Err)
	}
	if c.Embedded {
		c.validateEmbedded(add)
	}
	add("log.form", oneOf(c.Log.Form, "", "json", "console"))
	_, err := zapcore.ParseLevel(c.Log.Level)
	add("log.level", err)
	add("http", validateHTTP(c.HTTP))
	for _, prefix := range c.ReplyPrefixes {
		add("nats.reply_prefixes", validateReplyPrefix(prefix))
	}
	add("stop.grace", positive(c.StopGrace))
	add("sql.url", c.validateSQL())
	return append(f, c.validateParts()...)
}

func (c *config) validatePostgres() error {
	if c.Postgres.URL == "" {
		return errors.New("missing; postgres://user@host/database, or postgres:// to take all of it from PG* variables")
	}
	_, err := postgres.Parse(c.Postgres.URL, c.postgresOptions())
	return err
}

func (c *config) postgresOptions() postgres.Options {
	return postgres.Options{PasswordFile: c.Postgres.PasswordFile, ApplicationName: c.Postgres.ApplicationName}
}

// validateSQL looks at the user that requests with their own SQL run as.
func (c *config) validateSQL() error {
	if c.SQL.ConnString == "" {
		if c.SQL.PasswordFile != "" {
			return errors.New("missing, though sql.password_file is set")
		}
		return nil
	}
	_, err := postgres.Parse(c.SQL.ConnString, postgres.Options{PasswordFile: c.SQL.PasswordFile})
	return err
}

// validateParts returns what the parts themselves find wrong with their
// settings, each key once.
func (c *config) validateParts() []fault {
	var f []fault
	for _, err := range joined(errors.Join(c.bridge().Validate(), c.runner().Validate())) {
		var inBridge *bridge.ConfigError
		var inRunner *txrunner.ConfigError
		switch {
		case errors.As(err, &inBridge):
			f = append(f, fault{c.originOf(inBridge.Key), inBridge.Key, inBridge.Err})
		case errors.As(err, &inRunner):
			f = append(f, fault{c.originOf(inRunner.Key), inRunner.Key, inRunner.Err})
		default:
			f = append(f, fault{err: err})
		}
	}
	return c.withoutEchoes(f)
}

// withoutEchoes drops what another fault says already.
func (c *config) withoutEchoes(faults []fault) []fault {
	seen := map[string]bool{"stop.grace": true}
	if c.Events.Name == "" {
		seen["streams.events.name"] = true // it derives from a faulty prefix
	}
	if c.Jobs.Stream.Name == "" {
		seen["streams.jobs.name"] = true
	}
	if c.Jobs.Results.Name == "" {
		seen["streams.results.name"] = true
	}
	return slices.DeleteFunc(faults, func(f fault) bool {
		echo := f.key != "" && seen[f.key]
		seen[f.key] = f.key == "prefix" || seen[f.key]
		return echo
	})
}

// joined takes the result of errors.Join apart.
func joined(err error) []error {
	if err == nil {
		return nil
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, err := range several.Unwrap() {
			all = append(all, joined(err)...)
		}
		return all
	}
	return []error{err}
}

func (c *config) validateEmbedded(add func(string, error)) {
	_, err := natsconn.EmbeddedAt(c.NATS.URLs)
	add("nats.url", err)
	refused := map[string]string{
		"nats.creds": c.NATS.Creds, "nats.nkey": c.NATS.NKey, "nats.password_file": c.NATS.PasswordFile,
		"nats.tls.ca": c.NATS.CA, "nats.tls.cert": c.NATS.Cert,
		"nats.requests.creds": c.Requests.Creds, "nats.requests.nkey": c.Requests.NKey,
		"nats.requests.user": c.Requests.User, "nats.requests.token": c.Requests.Token,
	}
	for _, key := range slices.Sorted(maps.Keys(refused)) {
		if refused[key] != "" {
			add(key, errors.New("not with nats.embedded: the embedded server knows one user with a password, or a token"))
		}
	}
}

// originOf names where a key's value came from; a key below a channel without
// an origin of its own came from where the channel did.
func (c *config) originOf(key string) string {
	for key != "" {
		if o, ok := c.origins[key]; ok {
			return o
		}
		key = key[:max(0, strings.LastIndexByte(key, '.'))]
	}
	return ""
}

func oneOf(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	names := slices.DeleteFunc(allowed, func(s string) bool { return s == "" })
	return fmt.Errorf("%q: want %s", value, strings.Join(names, " or "))
}

func validateHTTP(address string) error {
	if address == httpOff {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q: want an address such as 127.0.0.1:8080 or :8080, or off", address)
	}
	return nil
}

func validateReplyPrefix(token string) error {
	if token == "" || strings.ContainsAny(token, ".*> \t\r\n") {
		return fmt.Errorf("%q: want one subject token such as _INBOX", token)
	}
	return nil
}

func positive(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s: want a duration above zero", d)
	}
	return nil
}

// logger writes to stderr in the form that was asked for.
func (c *config) logger(w io.Writer) *zap.Logger {
	form := c.Log.Form
	if form == "" && isTerminal(w) {
		form = "console"
	}
	level, err := zapcore.ParseLevel(c.Log.Level)
	if err != nil {
		level = zapcore.InfoLevel // validate has reported it
	}
	return newLogger(w, form, level)
}
