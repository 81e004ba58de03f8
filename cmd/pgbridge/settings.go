package main

import (
	"fmt"
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
func (c *config) settings() []setting {
	n, r := &c.NATS, &c.Requests
	return []setting{
		text("postgres.url", &c.Postgres.URL).masked(maskConnString),
		text("postgres.application_name", &c.Postgres.ApplicationName),
		path("postgres.password_file", &c.Postgres.PasswordFile),
		number("postgres.run_connections", &c.Postgres.RunConnections),
		number("postgres.pinned_connections", &c.Postgres.PinnedConnections),
		commas("nats.url", &n.URLs).masked(maskURLs),
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
		text("sql.url", &c.SQL.ConnString).masked(maskConnString).enabling(&c.TakeSQL),
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
		duration("stop.grace", &c.StopGrace),
		text("log.form", &c.Log.Form),
		text("log.level", &c.Log.Level),
		text("http", &c.HTTP),
	}
}

// channelSettings lists the keys of one channel.
func channelSettings(name string, ch *bridge.Channel) []setting {
	key := "channels." + name + "."
	return []setting{
		text(key+"subject", &ch.Subject),
		text(key+"envelope", &ch.Envelope),
		text(key+"delivery", &ch.Delivery),
		boolean(key+"notify", &ch.Notify),
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
	return false, fmt.Errorf("%q: want true or false", t)
}

func number(key string, p *int) setting {
	return newSetting(key,
		func(t string) error {
			n, err := strconv.Atoi(t)
			if err != nil {
				return fmt.Errorf("%q: want a whole number", t)
			}
			*p = n
			return nil
		},
		func() string { return strconv.Itoa(*p) },
	)
}

func duration(key string, p *time.Duration) setting {
	return newSetting(key,
		func(t string) error {
			d, err := time.ParseDuration(t)
			if err != nil {
				return fmt.Errorf("%q: want a duration such as 500ms, 30s, 2m or 72h", t)
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
		func() string { return formatSize(*p) },
	)
}

type unit struct {
	suffix string
	bytes  int64
}

// units are those of sizes; a suffix comes before its own endings.
func units() []unit {
	return []unit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}
}

func parseSize(t string) (int, error) {
	for _, u := range units() {
		digits, ok := strings.CutSuffix(t, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<40)/u.bytes {
			break
		}
		return int(n * u.bytes), nil
	}
	return 0, fmt.Errorf("%q: want a size such as 32MiB, 64KiB or 1048576", t)
}

func formatSize(n int) string {
	for _, u := range units() {
		if u.bytes > 1 && n >= int(u.bytes) && int64(n)%u.bytes == 0 {
			return strconv.FormatInt(int64(n)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.Itoa(n)
}

// nearest returns the candidate that a mistyped word most likely means.
func nearest(word string, candidates []string) string {
	return slices.MinFunc(candidates, func(a, b string) int {
		return distance(word, a) - distance(word, b)
	})
}

// distance is the number of single-byte edits between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
