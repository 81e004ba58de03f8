package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/txrunner"
)

// validate returns every fault that can be seen without a server.
func (c *Config) validate() []Fault {
	var f []Fault
	add := func(key string, err error) {
		for _, err := range Joined(err) {
			f = append(f, Fault{c.OriginOf(key), key, err})
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
	if c.Pprof {
		add("pprof", validatePprof(c.HTTP))
	}
	for _, prefix := range c.ReplyPrefixes {
		add("nats.reply_prefixes", validateReplyPrefix(prefix))
	}
	add("stop.grace", positive(c.StopGrace))
	add("requests.bytes", validateRequestBytes(c.ForRequests.Bytes))
	add("sql.url", c.validateSQL())
	c.validateConsole(add)
	for _, name := range c.ChannelNames() {
		if c.Channels[name].CatchUp != "" && c.Scripts == "" {
			add("channels."+name+".catch_up", errors.New("there are no scripts: set scripts to their folder"))
		}
	}
	return append(f, c.validateParts()...)
}

// minRequestBytes is room for a few requests as large as NATS allows by default.
const minRequestBytes = 8 << 20

func validateRequestBytes(n int) error {
	if n < minRequestBytes {
		return fmt.Errorf("%s: want at least %s", FormatSize(n), FormatSize(minRequestBytes))
	}
	return nil
}

func (c *Config) validatePostgres() error {
	if c.Postgres.URL == "" {
		return errors.New("missing; postgres://user@host/database, or postgres:// to take all of it from PG* variables")
	}
	_, err := postgres.Parse(c.Postgres.URL, c.PostgresOptions())
	return err
}

// validateSQL looks at the user that requests with their own SQL run as.
func (c *Config) validateSQL() error {
	if c.SQL.ConnString == "" {
		if c.SQL.PasswordFile != "" {
			return errors.New("missing, though sql.password_file is set")
		}
		return nil
	}
	_, err := postgres.Parse(c.SQL.ConnString, postgres.Options{PasswordFile: c.SQL.PasswordFile})
	return err
}

func (c *Config) validateEmbedded(add func(string, error)) {
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

// validateParts returns what the parts themselves find wrong with their
// settings, each key once.
func (c *Config) validateParts() []Fault {
	var f []Fault
	for _, err := range Joined(errors.Join(c.Bridge().Validate(), c.Runner().Validate())) {
		var inBridge *bridge.ConfigError
		var inRunner *txrunner.ConfigError
		switch {
		case errors.As(err, &inBridge):
			f = append(f, Fault{c.OriginOf(inBridge.Key), inBridge.Key, inBridge.Err})
		case errors.As(err, &inRunner):
			f = append(f, Fault{c.OriginOf(inRunner.Key), inRunner.Key, inRunner.Err})
		default:
			f = append(f, Fault{Err: err})
		}
	}
	return c.withoutEchoes(f)
}

// withoutEchoes drops what another fault says already.
func (c *Config) withoutEchoes(faults []Fault) []Fault {
	seen := map[string]bool{"stop.grace": true}
	if c.Events.Name == "" {
		seen["streams.events.name"] = true // it derives from a faulty prefix
	}
	if c.Durable.Stream.Name == "" {
		seen["streams.durable.name"] = true
	}
	if c.Jobs.Stream.Name == "" {
		seen["streams.jobs.name"] = true
	}
	if c.Jobs.Results.Name == "" {
		seen["streams.results.name"] = true
	}
	return slices.DeleteFunc(faults, func(f Fault) bool {
		echo := f.Key != "" && seen[f.Key]
		seen[f.Key] = f.Key == "prefix" || seen[f.Key]
		return echo
	})
}

func oneOf(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	names := slices.DeleteFunc(allowed, func(s string) bool { return s == "" })
	return fmt.Errorf("%q: want %s", maskValue(value), strings.Join(names, " or "))
}

// validateConsole finds what the console could not be reached by.
func (c *Config) validateConsole(add func(string, error)) {
	if c.Console.Shown && c.HTTP == HTTPOff {
		add("console", errors.New("it is a page on the HTTP address, and http is off"))
	}
	for _, host := range c.Console.Hosts {
		if strings.ContainsAny(host, ":/*@ \t") {
			add("console.hosts", fmt.Errorf("%q: want the name of a host, without a port", maskValue(host)))
		}
	}
}

func validateHTTP(address string) error {
	if address == HTTPOff {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q: want an address such as 127.0.0.1:8080 or :8080, or off", maskValue(address))
	}
	return nil
}

// validatePprof lets nobody else have profiles: they show what is in memory, and one
// keeps the process busy for as long as its reader likes.
func validatePprof(address string) error {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("profiles are served on a loopback address only, and http is %q: want one such as 127.0.0.1:8080", maskValue(address))
}

func validateReplyPrefix(token string) error {
	if token == "" || strings.ContainsAny(token, ".*> \t\r\n") {
		return fmt.Errorf("%q: want one subject token such as _INBOX", maskValue(token))
	}
	return nil
}

func positive(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s: want a duration above zero", d)
	}
	return nil
}
