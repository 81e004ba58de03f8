package bridge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

const (
	markerInterval  = 15 * time.Second
	controlTick     = 500 * time.Millisecond
	controlTimeout  = 2 * time.Second // for one query, and for NATS's answer
	usageFreshFor   = 3 * time.Second
	markerLateAfter = 5 * time.Second
	giveUpAfter     = 4 * time.Second // without NATS, where another replica has it
)

const contendSQL = `SELECT CASE WHEN $1 THEN pg_try_advisory_lock($2) ELSE false END, pg_notification_queue_usage()`

// A replica that NATS answers holds the candidates' lock shared, so whoever
// can have it exclusively for a moment is alone.
const candidatesSQL = `SELECT CASE WHEN pg_try_advisory_lock($1) THEN NOT pg_advisory_unlock($1) ELSE true END`

// control owns one PostgreSQL session, on which it contends for the advisory
// lock and sends markers. Since a marker that says "publishing" leaves on the
// very session that holds the lock, it is true wherever it stands in the order
// of notifications.
type control struct {
	settings *postgres.Settings
	events   *nats.Conn
	seq      *sequencer
	lease    *lease
	log      *zap.Logger
	channel  string // of markers
	listener string // the listener's application_name
	key      int64  // of the advisory lock
	wanted   chan struct{}
	trouble  *trouble
	late     *trouble  // a marker stays away
	natsLost time.Time // NATS last failed to answer

	rival   atomic.Int64  // unix nanoseconds when another session was seen to hold the lock
	usage   atomic.Uint64 // float64 bits of pg_notification_queue_usage()
	usageAt atomic.Int64  // unix nanoseconds; 0: never
}

func lockKey(prefix string) int64 {
	h := fnv.New64a()
	h.Write([]byte("pgbridge publishes " + prefix))
	return int64(h.Sum64())
}

// queueUsage is how full PostgreSQL's notification queue is, 0 to 1, or false
// when it was not seen lately.
func (c *control) queueUsage() (float64, bool) {
	fresh := time.Since(time.Unix(0, c.usageAt.Load())) < usageFreshFor
	return math.Float64frombits(c.usage.Load()), fresh
}

// rivaled reports whether another replica held the lock a moment ago.
func (c *control) rivaled() bool {
	return time.Since(time.Unix(0, c.rival.Load())) < usageFreshFor
}

func (c *control) sawUsage(u float64) {
	c.usage.Store(math.Float64bits(u))
	c.usageAt.Store(time.Now().UnixNano())
}

// run keeps a session until ctx ends. Closing the session gives the lock back.
func (c *control) run(ctx context.Context) error {
	var retry backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := c.session(ctx)
		c.seq.unlocked()
		if ctx.Err() != nil {
			return nil
		}
		c.trouble.set(c.log, err)
		if time.Since(began) > time.Minute {
			retry.reset()
		}
		sleep(ctx, retry.next(), nil)
	}
	return nil
}

// session connects, then serves until the connection breaks, NATS is away or
// ctx ends; only the first returns an error.
func (c *control) session(ctx context.Context) error {
	conn, _, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	defer c.lease.end() // before the lock is given back
	s := controlSession{control: c, conn: conn}
	tick := time.NewTicker(controlTick)
	defer tick.Stop()
	for err = s.tick(ctx); err == nil && !s.released; {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wanted:
			err = s.sendMarker(ctx)
		case <-tick.C:
			err = s.tick(ctx)
		}
	}
	return err
}

// connect opens a session that does not outlive a frozen replica. It also
// reports whether a pooler answered instead of the backend itself.
func (c *control) connect(ctx context.Context) (conn *pgx.Conn, pooled bool, err error) {
	config, err := c.settings.ConnConfig(ctx)
	if err != nil {
		return nil, false, err
	}
	// A pooler in transaction mode fails prepared statements, and then says
	// nothing that would tell what it is.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	// On a frozen link a cancel request would only take more time.
	config.BuildContextWatcherHandler = closeAtDeadline
	conn, err = pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, false, err
	}
	limited, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var pid uint32
	row := conn.QueryRow(limited, "SELECT pg_backend_pid(), set_config('idle_session_timeout', $1, false)",
		strconv.FormatInt(lockIdleTimeout.Milliseconds(), 10))
	if err := row.Scan(&pid, nil); err != nil {
		closeConn(ctx, conn)
		return nil, false, fmt.Errorf("set idle_session_timeout: %w", err)
	}
	return conn, pid != conn.PgConn().PID(), nil
}

func closeAtDeadline(conn *pgconn.PgConn) ctxwatch.Handler {
	return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
}

func closeConn(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	conn.Close(ctx)
}

// controlSession is the state of one connection.
type controlSession struct {
	*control
	conn     *pgx.Conn
	holds    bool      // the lock
	offered  bool      // to take it: holds the candidates' lock
	marked   time.Time // the last marker was sent
	natsSeen time.Time // NATS answered
	released bool      // the session ends to give the lock back
}

// tick keeps the session alive, contends for the lock while NATS answers, and
// gives it back when NATS does not but answers another replica. While none
// has it the lock stays: a full queue keeps the listener from reading, so the
// marker that confirms a new lock could not arrive.
func (s *controlSession) tick(ctx context.Context) error {
	answers := s.natsAnswers()
	if answers {
		s.natsSeen = time.Now()
	} else {
		s.natsLost = time.Now()
	}
	if err := s.offer(ctx, answers); err != nil {
		return err
	}
	if s.holds && time.Since(s.natsSeen) > giveUpAfter {
		if err := s.giveUp(ctx); err != nil || s.released {
			return err
		}
	}
	if err := s.contend(ctx); err != nil {
		return err
	}
	if time.Since(s.marked) >= markerInterval {
		return s.sendMarker(ctx)
	}
	return nil
}

// offer tells a holder of the lock that cannot publish that this replica can.
func (s *controlSession) offer(ctx context.Context, able bool) error {
	if able == s.offered {
		return nil
	}
	sql := "SELECT pg_advisory_unlock_shared($1)"
	if able {
		sql = "SELECT pg_advisory_lock_shared($1)"
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	if _, err := s.conn.Exec(ctx, sql, s.key+1); err != nil {
		return fmt.Errorf("offer to publish: %w", err)
	}
	s.offered = able
	return nil
}

// giveUp gives the lock to another replica, if one offers to publish.
func (s *controlSession) giveUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	if err := s.conn.QueryRow(ctx, candidatesSQL, s.key+1).Scan(&s.released); err != nil {
		return fmt.Errorf("look for another replica: %w", err)
	}
	if s.released {
		s.log.Warn("gave up publishing, NATS does not answer")
	}
	return nil
}

// mayContend leaves the lock to a replica that still has events queued when
// NATS comes back to all of them at once.
func (s *controlSession) mayContend() bool {
	return !s.holds && s.natsSeen.After(s.natsLost) && (s.seq.active() || time.Since(s.natsLost) > controlTimeout)
}

// natsAnswers asks the server itself: a frozen link looks connected.
func (s *controlSession) natsAnswers() bool {
	return s.events.IsConnected() && s.events.FlushTimeout(controlTimeout) == nil
}

func (s *controlSession) contend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	sent := time.Now()
	var locked bool
	var usage float64
	try := s.mayContend()
	err := s.conn.QueryRow(ctx, contendSQL, try, s.key).Scan(&locked, &usage)
	if err != nil {
		return fmt.Errorf("contend for the publishing lock: %w", err)
	}
	s.sawUsage(usage)
	if s.holds || locked {
		s.lease.renew(sent)
	}
	if try && !locked {
		s.rival.Store(sent.UnixNano())
	}
	if locked {
		s.holds = true
		s.log.Info("holds the publishing lock")
		s.seq.locked()
	}
	return nil
}

func (s *controlSession) sendMarker(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	m := s.seq.sending(s.holds)
	var usage float64
	sent := time.Now()
	if err := s.conn.QueryRow(ctx, markerSQL, s.channel, m.head()).Scan(nil, &usage); err != nil {
		signal(s.wanted)
		return fmt.Errorf("send marker: %w", err)
	}
	s.marked = sent
	s.sawUsage(usage)
	s.trouble.clear(s.log) // not earlier: the role may lack a privilege
	if s.holds {
		s.lease.renew(sent)
	}
	return nil
}

// watchMarkers reports a marker that stays away, once, with the likely cause.
func (c *control) watchMarkers(ctx context.Context, paused func() bool) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch away := c.seq.outstanding(); {
		case away == 0:
			c.late.clear(c.log)
		case away > markerLateAfter && !paused() && c.late.problem() == "":
			c.late.set(c.log, errors.New("no notification comes back: "+c.diagnose(ctx)))
		}
	}
}
