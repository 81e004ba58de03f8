// Package stage is what a run takes place on: PostgreSQL and nats-servers in
// processes of their own, replicas of pgbridge as their users run them, and a proxy on
// each of a replica's links.
//
//	replica a ── proxy ──┬─► PostgreSQL ◄── writers, oracle
//	    └── proxies ──┐  │
//	replica b ── proxy ──┘
//	    └── proxies ──┴─► nats-servers ◄── what is compared
package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	readyLimit = 2 * time.Minute
	askLimit   = 10 * time.Second
)

// Config says how large a stage is. All of it is asked for.
type Config struct {
	Programs []string // of pgbridge, the first of which is started; a rolling update takes the next
	Replicas int
	Servers  int // nats-servers: 1, or 3 that form a cluster
	Channels map[string]Channel
	Optional map[string]Channel // those that only some replicas have, now and then
	CatchUp  map[string]string  // of a channel the script that tells what it missed
	Scripts  map[string]string
	Jobs     bool
	Standby  bool // of PostgreSQL, which can be promoted
	Synced   bool // the standby has the slots of durable channels, and is waited for
	Dice     *rand.Rand
}

// Channel is how a channel is fed and delivered.
type Channel string

// The kinds of channels.
const (
	Core    Channel = "delivery: core"
	Stream  Channel = "delivery: jetstream"
	Durable Channel = "durable: true"
)

// Stage is the servers and the replicas. Its methods are for one goroutine, except
// PG and URL.
type Stage struct {
	config   Config
	primary  atomic.Pointer[testenv.PG]
	standby  *testenv.PG
	NATS     []*testenv.NATSChild
	Replicas []*Replica
	Conn     *nats.Conn // not through a proxy
	JS       jetstream.JetStream
	monitors []int // ports of the nats-servers' monitors
}

// Open starts everything, and waits until the replicas are ready. It ends with t.
func Open(t testing.TB, c Config) (*Stage, error) {
	s := &Stage{config: c}
	s.primary.Store(testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{
		"max_wal_size": "1GB", "checkpoint_timeout": "30s", "log_checkpoints": "off", "track_commit_timestamp": "on",
		"max_prepared_transactions": "20",
	}}))
	if err := s.startNATS(t); err != nil {
		return nil, err
	}
	for i := range c.Replicas {
		r, err := s.newReplica(t, string(rune('a'+i)))
		if err != nil {
			return nil, err
		}
		s.Replicas = append(s.Replicas, r)
	}
	if err := s.migrate(); err != nil {
		return nil, err
	}
	for _, r := range s.Replicas {
		if err := r.Start(); err != nil {
			return nil, err
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		return nil, err
	}
	return s, s.attach(t)
}

// PG is the primary.
func (s *Stage) PG() *testenv.PG { return s.primary.Load() }

// URL is PostgreSQL's, for who does not go through a proxy.
func (s *Stage) URL() string { return s.PG().URL() }

// NATSURL names all nats-servers, for who does not go through a proxy.
func (s *Stage) NATSURL() string {
	var urls []string
	for _, n := range s.NATS {
		urls = append(urls, n.URL())
	}
	return strings.Join(urls, ",")
}

func (s *Stage) connectNATS(t testing.TB) (err error) {
	s.Conn, err = nats.Connect(s.NATSURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.Name(connectionName), nats.RetryOnFailedConnect(true), nats.PingInterval(5*time.Second))
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	t.Cleanup(s.Conn.Close)
	if s.JS, err = jetstream.New(s.Conn); err != nil {
		return err
	}
	return s.led(t.Context())
}

// led waits until JetStream has a leader.
func (s *Stage) led(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		one, end := context.WithTimeout(ctx, time.Second)
		_, err := s.JS.AccountInfo(one)
		end()
		if err == nil {
			return nil
		}
		if !wait.For(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait for JetStream: %w", err)
		}
	}
}

func (s *Stage) migrate() error {
	r := s.Replicas[0]
	// In the environment that a replica has, too: what the tests are told there is no setting of pgbridge's.
	out, err := pgserver.Account{}.Command(r.dir, s.config.Programs[0], "migrate", "-c", r.configFile(), "--nats", s.NATS[0].URL()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgbridge migrate: %w\n%s", err, out)
	}
	return nil
}

// steady is how long readiness has to last: a replica whose session was ended says
// that it is ready until it notices.
const steady = time.Second

// Ready waits until every replica that runs is ready and one of them publishes, for a
// while.
func (s *Stage) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for since := time.Now(); ; {
		publishing, waiting := 0, ""
		for _, r := range s.Replicas {
			state, problem := r.State(ctx)
			if state == "publishing" {
				publishing++
			}
			if problem != "" {
				waiting += fmt.Sprintf(" replica %s: %s.", r.Name, problem)
			}
		}
		switch {
		case waiting != "" || publishing != 1:
			since = time.Now()
		case time.Since(since) > steady:
			return nil
		}
		if !wait.For(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait for the replicas to be ready, %d publish:%s %w", publishing, waiting, context.Cause(ctx))
		}
	}
}

// Holder is the replica whose session holds the publishing lock, nil where there is
// none or PostgreSQL does not answer.
func (s *Stage) Holder(ctx context.Context) *Replica {
	var name string
	_ = s.Query(ctx, `SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND objsubid = 1 AND application_name LIKE 'chaos-%' LIMIT 1`, &name)
	for _, r := range s.Replicas {
		if strings.HasPrefix(name, r.application()) {
			return r
		}
	}
	return nil
}

// Query asks PostgreSQL for one row on a connection of its own.
func (s *Stage) Query(ctx context.Context, sql string, into ...any) error {
	return s.onConnection(ctx, func(ctx context.Context, conn *pgx.Conn) error { return conn.QueryRow(ctx, sql).Scan(into...) })
}

// Exec runs statements on a connection of its own.
func (s *Stage) Exec(ctx context.Context, sql string) error {
	return s.onConnection(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	})
}

func (s *Stage) onConnection(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, conn), conn.Close(ctx))
}

// Logs are the files that replicas write their logs to.
func (s *Stage) Logs() []string {
	var files []string
	for _, r := range s.Replicas {
		files = append(files, filepath.Join(r.dir, r.Name+".log"))
	}
	return files
}
