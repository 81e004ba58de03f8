package txrunner

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// acquireTimeout is how long a request waits for a connection.
	acquireTimeout = 5 * time.Second
	// probePause is how often an idle server is asked whether it still answers.
	probePause = 5 * time.Second
)

// connections are the PostgreSQL connections of one user for one purpose.
type connections struct {
	name    string
	pool    *pgxpool.Pool
	problem atomic.Pointer[string] // why the last connection was not made
}

// openConnections makes a pool that connects when it is needed. The idle limit
// is PostgreSQL's own for an open transaction in which nothing happens.
func openConnections(ctx context.Context, name string, settings *postgres.Settings, n int, maxTimeout, idle time.Duration) (*connections, error) {
	config, err := settings.PoolConfig(int32(n))
	if err != nil {
		return nil, err
	}
	params := config.ConnConfig.RuntimeParams
	for setting, value := range sessionSettings(maxTimeout, idle) {
		params[setting] = value
	}
	config.ConnConfig.OnNotice = onNotice
	config.AfterConnect = attachSession(rows.NewCatalog())
	config.PrepareConn = alive
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open connections for %s: %w", name, err)
	}
	c := &connections{name: name, pool: pool}
	waiting := "not connected yet"
	c.problem.Store(&waiting)
	return c, nil
}

// sessionSettings are what every session begins with, and what RESET ALL and
// DISCARD ALL go back to. They make PostgreSQL print values as clients expect
// them. https://www.postgresql.org/docs/current/runtime-config-client.html
func sessionSettings(maxTimeout, idle time.Duration) map[string]string {
	return map[string]string{
		"datestyle":                           "ISO, YMD",
		"timezone":                            "UTC",
		"intervalstyle":                       "iso_8601",
		"bytea_output":                        "hex",
		"extra_float_digits":                  "1",
		"standard_conforming_strings":         "on", // scripts are split by it
		"pgbridge.caller":                     "",
		"statement_timeout":                   string(milliseconds(maxTimeout + serverMargin)),
		"idle_in_transaction_session_timeout": string(milliseconds(idle + serverMargin)),
	}
}

// arrival is what a look at an idle connection shows.
type arrival uint8

const (
	arrivedNothing arrival = iota
	arrivedUnknown         // something, or there is no looking
	arrivedEnd             // it is closed
)

// alive keeps the pool from handing out a connection that the server has closed
// meanwhile: a run on it could only be answered unknown.
func alive(ctx context.Context, conn *pgx.Conn) (bool, error) {
	switch peek(conn.PgConn().Conn()) {
	case arrivedNothing:
		return true, nil
	case arrivedUnknown:
		ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
		defer cancel()
		return conn.Ping(ctx) == nil, nil
	}
	return false, nil
}

// acquire returns a free connection. The error is for the client: busy, or
// unavailable.
func (c *connections) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	conn, err := c.pool.Acquire(limited)
	if err == nil {
		c.problem.Store(nil)
		return conn, nil
	}
	var connect *pgconn.ConnectError
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &connect) {
		return nil, service.Errorf(service.CodeBusy, "no PostgreSQL connection is free").WithCause(err)
	}
	c.failed(err)
	return nil, service.FromPostgres(err, false)
}

func (c *connections) failed(err error) {
	text := postgres.Explain(err).String()
	c.problem.Store(&text)
}

// probe asks the server whether it answers, unless all connections are at work,
// which is answer enough.
func (c *connections) probe(ctx context.Context) error {
	if stat := c.pool.Stat(); stat.AcquiredConns() == stat.MaxConns() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, acquireTimeout)
	defer cancel()
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		c.failed(err)
		return err
	}
	defer conn.Release()
	if err := conn.Ping(ctx); err != nil {
		c.failed(err)
		return err
	}
	c.problem.Store(nil)
	return nil
}

// watch probes until ctx ends.
func (c *connections) watch(ctx context.Context) error {
	for {
		err := c.probe(ctx)
		pause := probePause
		if err != nil {
			pause = time.Second
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}
