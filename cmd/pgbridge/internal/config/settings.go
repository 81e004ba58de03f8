package config

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
)

// setting is one scalar key of the configuration. The file, the environment
// and the flags all give it text, so it means the same in each.
type setting struct {
	key  string
	set  func(text string) error
	raw  func() string // the value as it is
	get  func() string // as shown to people, secrets masked
	list bool          // the file may give a list instead of text with commas
	path bool          // a relative path in the file counts from the file
}

// settings lists every scalar key, in the order of the documentation.
func (c *Config) settings() []setting { //nolint:funlen // a table
	n, r := &c.NATS, &c.Requests
	return []setting{
		text("postgres.url", &c.Postgres.URL).masked(MaskConnString),
		text("postgres.application_name", &c.Postgres.ApplicationName),
		boolean("postgres.trace_name", &c.Postgres.TraceName),
		path("postgres.password_file", &c.Postgres.PasswordFile),
		number("postgres.run_connections", &c.Postgres.RunConnections),
		number("postgres.pinned_connections", &c.Postgres.PinnedConnections),
		commas("nats.url", &n.URLs).masked(MaskURLs),
		boolean("nats.embedded", &c.Embedded),
		path("nats.store_dir", &c.StoreDir),
		text("nats.name", &c.NATSName),
		path("nats.creds", &n.Creds),
		path("nats.nkey", &n.NKey),
		text("nats.user", &n.User),
		text("nats.password", &n.Password).masked(maskAll),
		path("nats.password_file", &n.PasswordFile),
		text("nats.token", &n.Token).masked(maskAll),
		path("nats.tls.ca", &n.CA),
		path("nats.tls.cert", &n.Cert),
		path("nats.tls.key", &n.Key),
		boolean("nats.tls.first", &n.TLSFirst),
		text("nats.inbox_prefix", &n.InboxPrefix),
		text("nats.jetstream.domain", &n.JSDomain),
		text("nats.jetstream.api_prefix", &n.JSPrefix),
		path("nats.requests.creds", &r.Creds),
		path("nats.requests.nkey", &r.NKey),
		text("nats.requests.user", &r.User),
		text("nats.requests.password", &r.Password).masked(maskAll),
		text("nats.requests.token", &r.Token).masked(maskAll),
		commas("nats.reply_prefixes", &c.ReplyPrefixes),
		text("streams.events.name", &c.Events.Name),
		duration("streams.events.max_age", &c.Events.MaxAge),
		duration("streams.events.duplicate_window", &c.Events.DuplicateWindow),
		number("streams.events.replicas", &c.Events.Replicas),
		boolean("streams.events.create", &c.Events.Create),
		text("streams.durable.name", &c.Durable.Stream.Name),
		duration("streams.durable.max_age", &c.Durable.Stream.MaxAge),
		number("streams.durable.replicas", &c.Durable.Stream.Replicas),
		boolean("streams.durable.create", &c.Durable.Stream.Create),
		boolean("durable.accept_history", &c.Durable.AcceptHistory),
		duration("durable.confirm_delay", &c.Durable.ConfirmDelay),
		size("durable.max_lag_bytes", &c.Durable.MaxLagBytes),
		duration("durable.max_lag_time", &c.Durable.MaxLagTime),
		text("streams.jobs.name", &c.Jobs.Stream.Name),
		number("streams.jobs.replicas", &c.Jobs.Stream.Replicas),
		boolean("streams.jobs.create", &c.Jobs.Stream.Create),
		text("streams.results.name", &c.Jobs.Results.Name),
		duration("streams.results.max_age", &c.Jobs.Results.MaxAge),
		number("streams.results.replicas", &c.Jobs.Results.Replicas),
		boolean("streams.results.create", &c.Jobs.Results.Create),
		text("prefix", &c.Prefix),
		path("scripts", &c.Scripts),
		boolean("sql", &c.TakeSQL),
		text("sql.url", &c.SQL.ConnString).masked(MaskConnString).enabling(&c.TakeSQL),
		path("sql.password_file", &c.SQL.PasswordFile),
		number("sql.connections", &c.SQL.Connections),
		duration("transactions.idle_timeout", &c.Transactions.IdleTimeout),
		duration("transactions.lifetime", &c.Transactions.Lifetime),
		duration("transactions.max_timeout", &c.Transactions.MaxTimeout),
		duration("message_ids.keep", &c.KeepMessageIDs),
		boolean("jobs", &c.TakeJobs),
		number("jobs.concurrency", &c.Jobs.Concurrency).enabling(&c.TakeJobs),
		number("jobs.attempts", &c.Jobs.Attempts).enabling(&c.TakeJobs),
		size("queue.bytes", &c.QueueBytes),
		size("requests.bytes", &c.ForRequests.Bytes),
		size("requests.body_bytes", &c.ForRequests.BodyBytes),
		fraction("requests.share", &c.ForRequests.Share),
		boolean("requests.no_reply", &c.ForRequests.NoReply),
		duration("stop.grace", &c.StopGrace),
		text("log.form", &c.Log.Form),
		text("log.level", &c.Log.Level),
		text("http", &c.HTTP),
		boolean("pprof", &c.Pprof),
		boolean("console", &c.Console.Shown),
		boolean("console.payloads", &c.Console.Payloads).enabling(&c.Console.Shown),
		commas("console.hosts", &c.Console.Hosts).enabling(&c.Console.Shown),
	}
}

// Given is a setting that was given, as it is shown to people.
type Given struct {
	Key, Value string // secrets masked
	Origin     string
}

// Given lists the settings that are not defaults, in the order of the
// documentation and without those of channels.
func (c *Config) Given() []Given {
	var given []Given
	for _, s := range c.settings() {
		if origin := c.origins[s.key]; origin != "" {
			given = append(given, Given{s.key, s.get(), origin})
		}
	}
	return given
}

// Sets reports whether a key that begins with prefix was given.
func (c *Config) Sets(prefix string) bool {
	return slices.ContainsFunc(c.Given(), func(g Given) bool { return strings.HasPrefix(g.Key, prefix) })
}

// channelSettings lists the keys of one channel.
func channelSettings(name string, ch *bridge.Channel) []setting {
	key := "channels." + name + "."
	return []setting{
		text(key+"subject", &ch.Subject),
		text(key+"envelope", &ch.Envelope),
		text(key+"delivery", &ch.Delivery),
		boolean(key+"notify", &ch.Notify),
		boolean(key+"notify_publish", &ch.NotifyPublish),
		boolean(key+"durable", &ch.Durable),
		text(key+"catch_up", &ch.CatchUp),
	}
}

func (s setting) masked(hide func(string) string) setting {
	raw := s.raw
	s.get = func() string { return hide(raw()) }
	return s
}

// enabling is the setting of a part that setting it also turns on.
func (s setting) enabling(on *bool) setting {
	set := s.set
	s.set = func(t string) error {
		*on = *on || t != ""
		return set(t)
	}
	return s
}

// fromFile is the setting with relative paths counted from a folder.
func (s setting) fromFile(folder string) setting {
	if !s.path {
		return s
	}
	set := s.set
	s.set = func(t string) error {
		if t != "" && !filepath.IsAbs(t) {
			t = filepath.Join(folder, t)
		}
		return set(t)
	}
	return s
}

func newSetting(key string, set func(string) error, raw func() string) setting {
	return setting{key: key, set: set, raw: raw, get: raw}
}

func text[T ~string](key string, p *T) setting {
	return newSetting(key,
		func(t string) error { *p = T(t); return nil },
		func() string { return string(*p) },
	)
}

func path(key string, p *string) setting {
	s := text(key, p)
	s.path = true
	return s
}

func commas(key string, p *[]string) setting {
	s := newSetting(key,
		func(t string) error { *p = splitCommas(t); return nil },
		func() string { return strings.Join(*p, ",") },
	)
	s.list = true
	return s
}

func splitCommas(t string) []string {
	var items []string
	for item := range strings.SplitSeq(t, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func boolean(key string, p *bool) setting {
	return newSetting(key,
		func(t string) (err error) { *p, err = parseBool(t); return err },
		func() string { return strconv.FormatBool(*p) },
	)
}

func parseBool(t string) (bool, error) {
	switch strings.ToLower(t) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q: want true or false", maskValue(t))
}

func number(key string, p *int) setting {
	return newSetting(key,
		func(t string) error {
			n, err := strconv.Atoi(t)
			if err != nil {
				return fmt.Errorf("%q: want a whole number", maskValue(t))
			}
			*p = n
			return nil
		},
		func() string { return strconv.Itoa(*p) },
	)
}

func fraction(key string, p *float64) setting {
	return newSetting(key,
		func(t string) error {
			f, err := strconv.ParseFloat(t, 64)
			if err != nil || math.IsNaN(f) {
				return fmt.Errorf("%q: want a number such as 0.9", maskValue(t))
			}
			*p = f
			return nil
		},
		func() string { return strconv.FormatFloat(*p, 'g', -1, 64) },
	)
}

func duration(key string, p *time.Duration) setting {
	return newSetting(key,
		func(t string) error {
			d, err := time.ParseDuration(t)
			if err != nil {
				return fmt.Errorf("%q: want a duration such as 500ms, 30s, 2m or 72h", maskValue(t))
			}
			*p = d
			return nil
		},
		func() string { return p.String() },
	)
}

func size(key string, p *int) setting {
	return newSetting(key,
		func(t string) (err error) { *p, err = parseSize(t); return err },
		func() string { return FormatSize(*p) },
	)
}
