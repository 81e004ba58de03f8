package durable

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/tracing"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	leasePoll = 20 * time.Millisecond
	// givenUpAfter is how often the server may fail in the same way at the same
	// place before the slot counts as lost.
	givenUpAfter = 3
	// A server that has no memory for something may have it again soon, and what is lost
	// with the slot does not come back. One that is too small for it never has.
	outOfMemory       = "53200"
	outOfMemoryAtMost = 10 * time.Minute
	// A server that writes out one message of another's, of up to 1 GB, answers nothing
	// meanwhile. Where it was silent for too long it is given twice the time, so that a
	// slow one comes beyond such a message at last.
	firstSilence = 15 * time.Second
	maxSilence   = 4 * time.Minute
)

// histogram takes measurements.
type histogram interface{ Observe(float64) }

// Feed carries a database's durable channels to NATS, while it has the lease.
type Feed struct {
	Settings  *postgres.Settings
	NC        *nats.Conn
	JetStream jetstream.JetStream // on NC
	Prefix    string
	Stream    StreamOptions
	Encoder   *event.Encoder
	Counters  func(channel string) *event.Counters
	Latency   histogram
	Tracer    *tracing.Tracer // of events that belong to a trace; nil: none
	// Lease reports whether this replica is the one to publish.
	Lease   func() bool
	Problem *problem.Problem
	// Late tells of a slot that lags too far behind, or for which PostgreSQL waits.
	Late *problem.Problem
	Log  *zap.Logger
	// Changed is raised when the channels were replaced.
	Changed wait.Signal
	// Accept goes on where the stream is ahead of this database's history.
	Accept bool
	// Limits are of the lag.
	Limits Limits
	// ConfirmDelay is how long an event is stored before the slot lets go of it.
	ConfirmDelay time.Duration

	routes    atomic.Pointer[routes]
	kept      atomic.Pointer[map[string]bool] // channels whose events are kept; nil: nobody knows
	lag       atomic.Int64                    // bytes
	behind    atomic.Int64                    // the same in nanoseconds
	oldest    atomic.Int64                    // when the oldest event in flight committed, in microseconds since 1970; zero: none
	clock     walClock
	comparing bool      // the next session
	leased    time.Time // since when this replica is the one to publish
	failure   failure
	stuck     stuck
	silence   time.Duration // how long the server may be silent, in the next session; zero: firstSilence
}

// routes are the durable channels.
type routes struct {
	channels []string // sorted
	byPrefix map[string]*event.Route
	subjects []string
}

// failure counts how often the server failed in the same way at one place.
type failure struct {
	state     string
	at        wal.LSN
	confirmed wal.LSN // by the slot, when it failed last
	times     int
	since     time.Time // the first one of them
}

// of reports whether the failures are for ever, and this slot's: another replica may
// have replaced the one that they were of.
func (f failure) of(s slot) bool {
	lasts := f.state != outOfMemory || time.Since(f.since) >= outOfMemoryAtMost
	return lasts && f.times >= givenUpAfter && f.confirmed == s.confirmed
}

// stuck is where a server could not go on, by its own word. It may fail there in each
// session again: until one has come beyond that place it has proved nothing, and readiness
// goes on saying what is wrong. The zero value is nowhere.
type stuck struct {
	system   string
	timeline uint32
	at       wal.LSN // up to there it came
	any      bool
}

// in reports whether it is in this history.
func (k stuck) in(s *wal.System) bool { return k.any && k.system == s.ID && k.timeline == s.Timeline }

// SetRoutes replaces the channels. It is safe for concurrent use.
func (f *Feed) SetRoutes(all map[string]*event.Route) {
	r := &routes{channels: slices.Sorted(maps.Keys(all)), byPrefix: map[string]*event.Route{}}
	for name, route := range all {
		r.byPrefix[plainPrefix+name], r.byPrefix[headerPrefix+name] = route, route
		r.subjects = append(r.subjects, route.Subjects()...)
	}
	f.routes.Store(r)
	f.Changed.Raise()
}

const keepTimeout = 5 * time.Second // to keep where the stream is

// session is one holding of the slot.
type session struct {
	*Feed
	conn   *pgx.Conn
	log    *log
	chosen *routes
	slot   string
	system wal.System
	// confirmed is where the slot was when it was free.
	confirmed wal.LSN
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	conn.Close(ctx)
}

// connect opens the session for everything but the log itself.
func (f *Feed) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := f.Settings.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		// Not startup parameters, which a pooler refuses that does not know them.
		if err := postgres.SetModes(ctx, conn); err != nil {
			return err
		}
		return postgres.Execute(ctx, conn, "SET search_path TO pg_catalog, pg_temp; "+postgres.LastingSQL)
	}
	return pgx.ConnectConfig(ctx, config)
}
