package session

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func connect(t *testing.T) *Session {
	t.Helper()
	settings, err := postgres.Parse(testenv.Postgres(t).NewDatabase(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Connect(t.Context(), settings, Limits{Statement: time.Minute, Idle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

const sleeping = "SELECT pg_catalog.pg_sleep(60)"

// canceled are the ways in which PostgreSQL is asked to cancel.
var canceled = map[string]func(context.Context, *Session) error{
	"a simple query": func(ctx context.Context, s *Session) error { return s.Execute(ctx, sleeping) },
	"a pipeline": func(ctx context.Context, s *Session) error {
		p := Pipeline{Session: s}
		p.Open(ctx)
		defer p.Close()
		p.Plain(StepOwn, sleeping)
		return p.Sync(func(Step, any) error { return nil })
	},
	"a portal": func(ctx context.Context, s *Session) error {
		if err := s.Execute(ctx, "BEGIN; DECLARE c CURSOR FOR "+sleeping); err != nil {
			return err
		}
		p := Pipeline{Session: s}
		if err := p.Ask("c", 1); err != nil {
			return err
		}
		_, err := p.Take(ctx, nil, RowHandler{
			Fields: func([]pgproto3.FieldDescription) error { return nil },
			Row:    func([][]byte) {},
		})
		return err
	},
}

// TestCanceledSessionIsSettled holds that whatever is cancelled, and whatever is
// sent next, a statement that does nothing stands between.
func TestCanceledSessionIsSettled(t *testing.T) {
	t.Parallel()
	next := map[string]func(*Session) error{
		"Execute":  func(s *Session) error { return s.Execute(t.Context(), "SELECT 1") },
		"Rollback": func(s *Session) error { s.Rollback(t.Context()); return nil },
		"Ask": func(s *Session) error {
			return s.Ask(t.Context(), 1, "SELECT 1", nil, func(*Result) error { return nil })
		},
	}
	for way, cancel := range canceled {
		for then, send := range next {
			t.Run(way+", then "+then, func(t *testing.T) {
				t.Parallel()
				s := connect(t)
				ctx, end := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer end()
				err := cancel(ctx, s)
				var report *pgconn.PgError
				if err == nil || errors.As(err, &report) && report.Code != "57014" || s.Lost() {
					t.Fatalf("%v, connection lost: %t, want it to be cancelled", err, s.Lost())
				}
				if !s.canceled.Load() {
					t.Fatal("the cancel request was not noted")
				}
				if err := send(s); err != nil && !s.Failed() {
					t.Fatal(err)
				}
				if s.canceled.Load() {
					t.Error("nothing was put in the way of a late cancel request")
				}
			})
		}
	}
}

func TestSettleCostsNothingWithoutACancel(t *testing.T) {
	t.Parallel()
	s := connect(t)
	s.Conn.Conn().Close() // a statement would fail
	s.Settle(t.Context())
	if s.Lost() {
		t.Error("Settle has sent something")
	}
}
