package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// poolPingTimeout bounds the check of an idle connection before it is used, so
// that a dead one costs no more than this.
const poolPingTimeout = 5 * time.Second

// ConnConfig returns the settings for one pgx connection, the caller's to
// change, with password and certificates as they are now. A connection is
// given up after connect_timeout (5 s when that is 0 or not set), accepted from
// a primary only, probed with TCP keepalive, and asked to cancel its query when
// a context ends. It reads files and connects to nothing. The error is a
// [*ConfigError] for a file that cannot be read, or ctx's when that has ended.
func (s *Settings) ConnConfig(ctx context.Context) (*pgx.ConnConfig, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cc, err := s.read()
	if err != nil || s.options.PasswordFile == "" {
		return cc, err
	}
	if cc.Password, err = readPassword(s.options.PasswordFile); err != nil {
		return nil, err
	}
	return cc, nil
}

// PoolConfig returns the settings for a pgx pool of at most maxConns
// connections that opens none before it is needed. Every connection is made
// with what [Settings.ConnConfig] returns at that moment.
func (s *Settings) PoolConfig(maxConns int32) (*pgxpool.Config, error) {
	if maxConns < 1 {
		return nil, fmt.Errorf("pool for %s: %d connections, want at least 1", s.Describe(), maxConns)
	}
	cc, err := s.read()
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.ParseConfig(s.connString)
	if err != nil {
		return nil, parseFault(s.connString, err)
	}
	pool.ConnConfig = cc
	pool.MaxConns, pool.MinConns = maxConns, 0
	pool.PingTimeout = poolPingTimeout
	pool.BeforeConnect = s.refresh
	return pool, nil
}

// refresh replaces what may have been rotated, and nothing that the pool's
// owner may have set.
func (s *Settings) refresh(ctx context.Context, cc *pgx.ConnConfig) error {
	now, err := s.ConnConfig(ctx)
	if err != nil {
		return err
	}
	cc.Password = now.Password
	cc.Host, cc.Port, cc.TLSConfig, cc.Fallbacks = now.Host, now.Port, now.TLSConfig, now.Fallbacks
	return nil
}

// Connect opens one connection, as [Settings.ConnConfig] says. It blocks until
// that is done, failed or ctx has ended; the connection is the caller's to
// [Close].
func (s *Settings) Connect(ctx context.Context) (*pgx.Conn, error) {
	cc, err := s.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cc)
}

// Close closes a connection. It blocks for 2 s at most, also where ctx has
// ended.
func Close(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	_ = conn.Close(ctx) // it is closed on this side in any case
}
