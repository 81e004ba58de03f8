// Package listen receives notifications: one PostgreSQL connection that LISTENs,
// pings, and reads at the pace at which NATS takes the events.
package listen

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	pingInterval = 9 * time.Second // with the time-out, a frozen link is noticed within 15 s

	startingPause = 50 * time.Millisecond // before PostgreSQL is asked again whether it is up
	retryBurst    = 5                     // short lives in a row, before a wait
	restartWindow = 30 * time.Second      // in which a server that was there is asked so often
)

var (
	errConnectionEnded = errors.New("the connection ended")
	errElsewhere       = errors.New("the connection settings lead to another server now")
	errSilent          = errors.New("no marker came back on this connection")
)

// Listener keeps a connection that LISTENs, and hands what it delivers to the
// sequencer.
//
// Each connection is a pq.Listener of its own that is never left to reconnect:
// what an old connection delivered is drained to the last notification before
// a new one begins, back-off can be interrupted, and a rotated password counts
// from the next attempt on.
type Listener struct {
	Settings    *postgres.Settings
	Application string // unique, to find the backend in pg_stat_activity
	Seq         *sequence.Sequencer
	QueueUsage  func() (float64, bool)
	PauseLimit  time.Duration // for a full queue
	PingEvery   time.Duration // zero: 9 s
	Log         *zap.Logger
	Marker      string

	Changed  wait.Signal // raised when channels were replaced
	Doubt    wait.Signal // raised when another session failed: this one pings at once
	Failed   func()      // called when a connection ended; must neither block nor call back
	Moved    func()      // called when the server of a connection is known; likewise
	Problem  *problem.Problem
	connects atomic.Int64
	paused   atomic.Bool // reading stands still for a full queue
	present  atomic.Pointer[connection]

	mu       sync.Mutex // guards what follows
	channels []string
}

// SetRoutes replaces the channels to listen on, here before in the sequencer:
// a channel that the sequencer knows must not be given up again by commands
// that lag behind.
func (l *Listener) SetRoutes(routes map[string]*event.Route, stats func(channel string) *event.Counters) {
	names := append([]string{l.Marker}, slices.Sorted(maps.Keys(routes))...)
	l.mu.Lock()
	l.channels = names
	l.mu.Unlock()
	l.Seq.SetChannels(routes, stats)
	l.Changed.Raise()
}

// Connects is how often it has connected.
func (l *Listener) Connects() int64 { return l.connects.Load() }

// Paused reports whether reading stands still for a full queue.
func (l *Listener) Paused() bool { return l.paused.Load() }

// Elsewhere returns which server the present connection is to, empty for none,
// and closes it unless that is the one given, empty for any.
func (l *Listener) Elsewhere(instance string) string {
	c := l.present.Load()
	if c == nil || c.instance.Load() == nil {
		return ""
	}
	at := *c.instance.Load()
	if instance != "" && at != instance {
		c.leave(errElsewhere)
	}
	return at
}

// Received counts what the present connection received; ok is false when there
// is none, or when it does not read.
func (l *Listener) Received() (n uint64, ok bool) {
	c := l.present.Load()
	if c == nil || l.paused.Load() {
		return 0, false
	}
	return c.signs.Load(), true
}

// Leave closes the present connection, on which nothing comes.
func (l *Listener) Leave() {
	if c := l.present.Load(); c != nil {
		c.leave(errSilent)
	}
}

// leave closes the connection for a reason.
func (c *connection) leave(why error) {
	c.left.CompareAndSwap(nil, &why)
	c.dialer.Close()
}

// WantedChannels are the channels to listen on, the marker channel first.
func (l *Listener) WantedChannels() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.channels
}
