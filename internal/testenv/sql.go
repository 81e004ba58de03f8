package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const sqlLimit = 30 * time.Second

// NewDatabase makes an empty database and returns the superuser's URL of it.
// On the shared server it is dropped when the test ends, with its replication
// slots and whoever is still connected.
func (p *PG) NewDatabase(t testing.TB) string {
	t.Helper()
	name := "t_" + strings.ToLower(rand.Text())[:12]
	// Not template1: only one session at a time may copy that.
	Exec(t, p.URL(), "CREATE DATABASE "+name+" TEMPLATE template0")
	if p.shared {
		t.Cleanup(func() { p.dropDatabase(t, name) })
	}
	return p.server.URL(name)
}

func (p *PG) dropDatabase(t testing.TB, name string) {
	var err error
	dropped := poll(sqlLimit, func() bool {
		err = errors.Join(
			execute(p.URL(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name),
			execute(p.URL(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = $1 AND NOT active", name),
			execute(p.URL(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"))
		return err == nil
	})
	if !dropped {
		t.Errorf("drop the test's database: %v", err)
	}
}

// Exec runs SQL on a connection of its own: one statement with arguments, or
// any number without, which are one transaction then.
func Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	if err := execute(url, sql, args...); err != nil {
		t.Fatal(err)
	}
}

func execute(url, sql string, args ...any) error {
	return onConnection(url, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		if len(args) > 0 {
			_, err = conn.Exec(ctx, sql, args...)
		} else {
			_, err = conn.PgConn().Exec(ctx, sql).ReadAll()
		}
		if err != nil {
			return fmt.Errorf("execute %q: %w", sql, err)
		}
		return nil
	})
}

// Value runs a query on a connection of its own and returns the only value of
// its only row.
func Value[T any](t testing.TB, url, sql string, args ...any) T {
	t.Helper()
	var value T
	err := onConnection(url, func(ctx context.Context, conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, sql, args...).Scan(&value); err != nil {
			return fmt.Errorf("query %q: %w", sql, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// TerminateBackend ends the sessions of the URL's database whose
// application_name is LIKE the pattern, and returns how many there were. None
// fails the test. It does not wait for their ends.
func TerminateBackend(t testing.TB, url, pattern string) int {
	t.Helper()
	n := Value[int](t, url, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))::int FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE $1`, pattern)
	if n == 0 {
		t.Fatalf("terminate the backends of %q: there are none", pattern)
	}
	return n
}

func onConnection(url string, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), sqlLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return errors.Join(do(ctx, conn), conn.Close(ctx))
}
