package txrunner

import (
	"fmt"
	"regexp"
	"time"
)

const (
	maxConnections    = 10_000
	maxTimeoutLimit   = 24 * time.Hour // PostgreSQL's own limit is 24 days
	maxStreamReplicas = 5
)

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

func (f *faults) stream(key, name string, replicas int) {
	if !streamPattern.MatchString(name) {
		f.add(key+".name", "%q: want A-Z a-z 0-9 _ -, at most 255", name)
	}
	if replicas < 1 || replicas > maxStreamReplicas {
		f.add(key+".replicas", "%d: want 1 to %d", replicas, maxStreamReplicas)
	}
}

// streamPattern is what stream names are made of: they are subject tokens and
// file names. https://docs.nats.io/nats-concepts/jetstream/streams
var streamPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
