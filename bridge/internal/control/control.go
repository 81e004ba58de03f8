// Package control owns the session that holds the advisory lock of the
// publishing replica and sends the markers, and finds out why a marker stays
// away.
package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/lease"
	"github.com/pgbridge/pgbridge/bridge/internal/sequence"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	markerInterval = 15 * time.Second
	controlTick    = 500 * time.Millisecond
	dueTick        = 50 * time.Millisecond // of what intents make due
	controlTimeout = 2 * time.Second       // for one query, and for NATS's answer
	usageFreshFor  = 3 * time.Second
	giveUpAfter    = 4 * time.Second // without NATS, where another replica has it

	startingPause = 50 * time.Millisecond // before PostgreSQL is asked again whether it is up
	retryBurst    = 5                     // short lives in a row, before a wait
	restartWindow = 30 * time.Second      // in which a server that was there is asked so often
)

// Control owns one PostgreSQL session, on which it contends for the advisory
// lock and sends markers. Since a marker that says "publishing" leaves on the
// very session that holds the lock, it is true wherever it stands in the order
// of notifications.
type Control struct {
	Settings *postgres.Settings
	Events   *nats.Conn
	Seq      *sequence.Sequencer
	Lease    *lease.Lease
	Log      *zap.Logger
	Channel  string      // of markers
	Listener string      // the listener's application_name
	Key      int64       // of the advisory lock
	Wanted   wait.Signal // raised when a marker is to be sent
	Doubt    wait.Signal // raised when another session failed: this one asks at once
	Failed   func()      // called when a session ended; must neither block nor call back
	Problem  *problem.Problem
	Late     *problem.Problem // a marker stays away
	Foreign  *problem.Problem // the lock is held by something that is no replica
	Apart    *problem.Problem // another replica is on another server
	// Others returns the server that each replica is on, by its id; see the function.
	Others func(ctx context.Context, known []string) map[string]string
	known  atomic.Pointer[[]string] // ids of those who answered last
	// Elsewhere returns which server the listener is connected to, empty for
	// none, and has it leave unless it is the one given, empty for any.
	Elsewhere func(instance string) string
	// Received counts what the listener received; false: it has no connection, or
	// it does not want to receive.
	Received    func() (uint64, bool)
	Silent      func()        // has the listener make a new connection
	SilentAfter time.Duration // without a marker and anything else; zero: 10 s
	Moved       wait.Signal   // raised when the listener or this session connected
	Leave       wait.Signal   // raised when this session is to leave its server
	Astray      wait.Signal   // raised when another replica is on another server
	Relocated   func()        // called when the session is on another server than the one before
	last        string        // the instance that the session before was on
	here        atomic.Pointer[place]
	agreed      string    // the database in which no other replica was elsewhere
	natsLost    time.Time // NATS last failed to answer
	former      backend   // of this replica's session that held the lock last
	deferring   time.Time // since when the lock is left to a replica that misses less; zero: it is not

	// CatchesUp says that it is to be known when transactions began, see Begin.
	CatchesUp atomic.Bool
	ages      ages

	whole   atomic.Bool   // offered, see offers
	rival   atomic.Int64  // unix nanoseconds when another session was seen to hold the lock
	usage   atomic.Uint64 // float64 bits of pg_notification_queue_usage()
	usageAt atomic.Int64  // unix nanoseconds; 0: never
}

// QueueUsage is how full PostgreSQL's notification queue is, 0 to 1, or false
// when it was not seen lately.
func (c *Control) QueueUsage() (float64, bool) {
	fresh := time.Since(time.Unix(0, c.usageAt.Load())) < usageFreshFor
	return math.Float64frombits(c.usage.Load()), fresh
}

// AnotherHolds reports whether another replica held the lock a moment ago.
func (c *Control) AnotherHolds() bool {
	return time.Since(time.Unix(0, c.rival.Load())) < usageFreshFor
}

// sawUsage takes what a server says, who may be none, for a part of the whole alone.
func (c *Control) sawUsage(u float64) {
	if !(u >= 0 && u <= 1) { // no number is neither
		return
	}
	c.usage.Store(math.Float64bits(u))
	c.usageAt.Store(time.Now().UnixNano())
}

// session is the state of one connection.
type session struct {
	*Control
	conn     *pgx.Conn
	holds    bool      // the lock
	offered  offers    // to take it
	marked   time.Time // the last marker was sent
	natsSeen time.Time // NATS answered
	released bool      // the session ends to give the lock back
	watched  watched   // who else has the lock
	server   string    // that it is on
	asked    time.Time // other replicas, which database they are in
	deciding time.Time // since when it is not decided who publishes; zero: it is
	proved   func()    // says that the session works
	backend  backend
	first    uint64 // the first marker that this session sent; 0: none yet
}

// offers are what a session offers: which of the locks it has.
type offers struct{ able, whole, learns bool }

// backend is the process of a session. The zero value is none.
type backend struct {
	pid   int32  // a pooler greets with a PID of its own
	began string // when, since another process may have its PID later; empty: it may not be known
	ours  bool   // no pooler can have given it to somebody else
}

// beganSQL is an expression for it, of a row a of pg_stat_activity.
const beganSQL = postgres.Seconds + `a.backend_start` + postgres.SecondsAsText

// place is where a session is.
type place struct {
	postgres.Place
	backend backend
}

var errElsewhere = errors.New("the connection settings lead to another server now")

// holder is who else holds the lock, as it was seen.
type holder struct {
	pid               int    // 0: it is a prepared transaction
	prepared          string // its name
	user, application string
	replicas          bool   // the role is one that replicas log in as
	began             string // see backend
}

// watched is a holder that this replica keeps an eye on.
type watched struct {
	holder
	since  time.Time // it was first seen
	looked time.Time // it was last seen
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	conn.Close(ctx)
}

func closeAtDeadline(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
}

// connect opens a session that does not outlive a frozen replica, and tells which
// server it is on, except for the database.
func (c *Control) connect(ctx context.Context) (conn *pgx.Conn, at place, err error) {
	config, err := c.Settings.ConnConfig(ctx)
	if err != nil {
		return nil, place{}, err
	}
	// A pooler in transaction mode fails prepared statements, and then says
	// nothing that would tell what it is.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	// On a frozen link a cancel request would only take more time.
	config.BuildContextWatcherHandler = closeAtDeadline
	config.AfterConnect = postgres.SetModes
	conn, err = pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, place{}, err
	}
	limited, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	row := conn.QueryRow(limited, prepareSQL, strconv.FormatInt(lease.LockIdleTimeout.Milliseconds(), 10))
	if err := row.Scan(&at.Instance, &at.backend.pid, &at.backend.began, nil, nil, nil, nil); err != nil {
		closeConn(ctx, conn)
		return nil, place{}, fmt.Errorf("prepare the session: %w", err)
	}
	at.backend.ours = conn.PgConn().PID() == uint32(at.backend.pid)
	return conn, at, nil
}

func (c *Control) databaseOf(ctx context.Context, conn *pgx.Conn) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	return postgres.ReadDatabase(ctx, conn.PgConn())
}

// arrive notes where this session is.
func (c *Control) arrive(here place) {
	select {
	case <-c.Leave: // it was meant for the session before
	default:
	}
	c.here.Store(&here)
	c.Moved.Raise()
	if c.last != "" && c.last != here.Instance {
		c.Relocated()
	}
	c.last = here.Instance
}

// prepareSQL sets a session up, before any statement with an operator or a name
// that somebody else's could hide. The bytes of names are taken as they are, so
// that no user's name can end the session. How long a statement may take is controlTimeout.
const prepareSQL = `SELECT ` + postgres.InstanceSQL + `, pg_catalog.pg_backend_pid(),
	coalesce((SELECT ` + beganSQL + ` FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a), ''), pg_catalog.set_config('idle_session_timeout', $1, false),
	pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false), pg_catalog.set_config('client_encoding', 'SQL_ASCII', false),
	pg_catalog.set_config('statement_timeout', '0', false)`
