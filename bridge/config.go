package bridge

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
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
	// own queue and has to know what a broken link swallowed.
	Events *nats.Conn
	// Requests carries the requests that the bridge answers. Nil means Events.
	// It must have been opened with PermissionErrOnSubscribe(true), so that a
	// refused subscription is seen.
	Requests *nats.Conn
	// ReplyPrefixes are the first subject tokens a reply may have; requests
	// that want their answer elsewhere are dropped. Default _INBOX and _R_.
	ReplyPrefixes []string

	// Version is what service discovery shows. Default "0.0.0".
	Version string

	// Prefix is the first tokens of every subject. The marker channel and the
	// advisory lock derive from it too, so bridges with different prefixes
	// live side by side in one database. Default "pgbridge".
	Prefix string
	// Channels are the PostgreSQL channels to listen on, by name.
	Channels map[string]Channel
	// Stream holds the events of channels with JetStream delivery.
	Stream Stream

	// QueueBytes bounds what waits for NATS, for each kind of delivery.
	// Default 32 MiB.
	QueueBytes int
	// StopGrace is how long Run goes on publishing what it has received after
	// its context ended. Default 25 s.
	StopGrace time.Duration
	// Logger receives the log. Nil means none.
	Logger *zap.Logger
}

// Channel says what happens to one PostgreSQL channel's notifications.
type Channel struct {
	// Subject is the subject template; empty means <prefix>.event.{channel}.
	// A token may be {channel} or {payload.a.b}, a field of a JSON payload.
	Subject string
	// Envelope is how the payload travels. Default EnvelopeRaw.
	Envelope Envelope
	// Delivery is how an event reaches its subscribers. Default DeliveryCore.
	Delivery Delivery
	// Notify lets clients send notifications on this channel through NATS.
	Notify bool
}

// Envelope is the form of an event's body.
type Envelope string

const (
	// EnvelopeRaw sends exactly the payload's bytes.
	EnvelopeRaw Envelope = "raw"
	// EnvelopeJSON sends a JSON object that holds the payload.
	EnvelopeJSON Envelope = "json"
	// EnvelopeCloudEvents sends a CloudEvents 1.0 object in structured mode.
	EnvelopeCloudEvents Envelope = "cloudevents"
)

// Delivery is the way an event takes through NATS.
type Delivery string

const (
	// DeliveryCore publishes to whoever subscribes at that moment.
	DeliveryCore Delivery = "core"
	// DeliveryJetStream stores the event in the bridge's stream first.
	DeliveryJetStream Delivery = "jetstream"
)

// Stream describes the JetStream stream that holds the events.
type Stream struct {
	// Name defaults to the prefix in upper case, dots as underscores, with
	// _EVENTS appended: PGBRIDGE_EVENTS.
	Name string
	// MaxAge is how long events are kept. Default 72 h.
	MaxAge time.Duration
	// DuplicateWindow is how long JetStream remembers message ids. Default 2 min.
	DuplicateWindow time.Duration
	// Replicas of the stream in a NATS cluster. Default 1.
	Replicas int
	// Create lets the bridge create the stream and add missing subjects.
	// Without it a missing stream or subject is a readiness problem.
	Create bool
}

const (
	defaultQueueBytes = 32 << 20
	defaultStopGrace  = 25 * time.Second
	maxChannelBytes   = 63 // NAMEDATALEN-1: LISTEN cuts longer names silently
	maxSubjectBytes   = 2048
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

// ConfigError is one fault of a configuration.
type ConfigError struct {
	Key string // the setting, as in a configuration file: channels.orders.subject
	Err error
}

func (e *ConfigError) Error() string { return e.Key + ": " + e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

// faults collects every fault of a configuration, so that one look is enough.
type faults []error

func joinFaults(f faults) error { return errors.Join(f...) }

func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, &ConfigError{Key: key, Err: fmt.Errorf(format, args...)})
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
	if len(c.ReplyPrefixes) == 0 {
		c.ReplyPrefixes = []string{"_INBOX", "_R_"}
	}
	if c.Requests == nil {
		c.Requests = c.Events
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
	return c
}

// NameFor returns the stream's name: its own, or the default for a prefix.
func (s Stream) NameFor(prefix string) string {
	if s.Name != "" {
		return s.Name
	}
	return strings.ToUpper(strings.ReplaceAll(prefix, ".", "_")) + "_EVENTS"
}

func (s Stream) withDefaults(prefix string) Stream {
	s.Name = s.NameFor(prefix)
	if s.MaxAge == 0 {
		s.MaxAge = 72 * time.Hour
	}
	if s.DuplicateWindow == 0 {
		s.DuplicateWindow = 2 * time.Minute
	}
	if s.Replicas == 0 {
		s.Replicas = 1
	}
	return s
}

// Validate reports every fault of the configuration that can be seen without
// a server, each a *ConfigError, joined; nil means none. It does not look at
// the connections.
func (c Config) Validate() error {
	c = c.withDefaults()
	var f faults
	if !prefixPattern.MatchString(c.Prefix) || len(c.Prefix) > 64 {
		f.add("prefix", "%q: want tokens of A-Z a-z 0-9 _ - joined by dots, at most 64 bytes", c.Prefix)
	}
	if c.QueueBytes < 1<<20 {
		f.add("queue.bytes", "%d: want at least 1 MiB", c.QueueBytes)
	}
	if c.StopGrace < 0 {
		f.add("stop.grace", "%s: want a positive duration", c.StopGrace)
	}
	c.Stream.validate(&f)
	for _, name := range slices.Sorted(maps.Keys(c.Channels)) {
		if _, err := newRoute(name, c.Channels[name], c.Prefix); err != nil {
			f = append(f, err)
		}
	}
	return errors.Join(f...)
}

func (s Stream) validate(f *faults) {
	if strings.ContainsAny(s.Name, " \t\r\n.*>/\\") || s.Name == "" {
		f.add("streams.events.name", "%q: a stream's name has no spaces, dots, slashes or wildcards", s.Name)
	}
	if s.MaxAge < 0 {
		f.add("streams.events.max_age", "%s: want a positive duration", s.MaxAge)
	}
	if s.DuplicateWindow < 100*time.Millisecond || s.DuplicateWindow > s.MaxAge {
		f.add("streams.events.duplicate_window", "%s: want 100ms up to max_age (%s)", s.DuplicateWindow, s.MaxAge)
	}
	if s.Replicas < 1 || s.Replicas > 5 {
		f.add("streams.events.replicas", "%d: want 1 to 5", s.Replicas)
	}
}

// validateChannel checks what PostgreSQL itself would cut short or refuse.
func validateChannel(name string) error {
	switch {
	case name == "":
		return errors.New("a channel needs a name")
	case len(name) > maxChannelBytes:
		return fmt.Errorf("the name has %d bytes, PostgreSQL allows %d", len(name), maxChannelBytes)
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("the name holds a control character, which no header could carry")
	}
	return nil
}
