package session_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func connect(t *testing.T) *session.Session {
	t.Helper()
	settings, err := postgres.Parse(testenv.Postgres(t).NewDatabase(t), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.Connect(t.Context(), settings, session.Limits{Statement: time.Minute, Idle: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func ignore(session.Step, any) error { return nil }

// PostgreSQL answers the first statements of a large request while the last ones
// are still on their way: who writes all of it before he reads waits for ever.
func TestRequestAndAnswersLargerThanAnyBuffer(t *testing.T) {
	t.Parallel()
	s := connect(t)
	large := bytes.Repeat([]byte{'x'}, 4<<20)
	var got []int
	p := session.Pipeline{Session: s}
	p.Open(t.Context())
	defer p.Close()
	for range 8 {
		p.Query(&session.Query{SQL: "SELECT $1::text", Params: [][]byte{large}, Read: nil})
	}
	err := p.Sync(func(_ session.Step, result any) error {
		r := result.(*session.Result)
		for r.NextRow() {
			got = append(got, len(r.Values()[0]))
		}
		return nil
	})
	if err != nil || len(got) != 8 || got[7] != len(large) {
		t.Fatalf("got rows of %v bytes, %v", got, err)
	}
}

// A connection that is lost while a large request is being written ends the pipeline.
func TestConnectionLostWithinLargeRequest(t *testing.T) {
	t.Parallel()
	s := connect(t)
	p := session.Pipeline{Session: s}
	p.Open(t.Context())
	defer p.Close()
	p.Query(&session.Query{SQL: "SELECT pg_terminate_backend(pg_backend_pid())"})
	for range 8 {
		p.Query(&session.Query{SQL: "SELECT $1::text", Params: [][]byte{bytes.Repeat([]byte{'x'}, 4<<20)}})
	}
	if err := p.Sync(ignore); err == nil || !s.Lost() {
		t.Fatalf("Sync() = %v, lost %t", err, s.Lost())
	}
}

// After each kind of end of a pipeline the next one gets its own answers.
func TestPipelineInStep(t *testing.T) {
	t.Parallel()
	s := connect(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	refusedByReader := errors.New("not wanted")
	for _, c := range []struct {
		what string
		late bool // the context has ended
		send func(p *session.Pipeline) error
		want string
	}{
		{"a syntax error in the middle", false, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "SELECT 1")
			p.Plain(session.StepOwn, "SELEC 1")
			p.Own(session.StepShow, "SELECT 2")
			return p.Sync(ignore)
		}, "syntax error"},
		{"an error after rows", false, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "SELECT 1 / (3 - i) FROM generate_series(1, 3) i")
			p.Own(session.StepShow, "SELECT 2")
			return p.Sync(ignore)
		}, "division by zero"},
		{"an error at the end of the round trip", false, func(p *session.Pipeline) error {
			p.Plain(session.StepOwn, "CREATE TEMP TABLE IF NOT EXISTS late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
			p.Plain(session.StepOwn, "INSERT INTO late VALUES (1), (1)")
			return p.Sync(ignore)
		}, "duplicate key"},
		{"rows that the reader leaves", false, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "SELECT i FROM generate_series(1, 1000) i")
			p.Own(session.StepShow, "SELECT 2")
			return p.Sync(func(session.Step, any) error { return refusedByReader })
		}, "not wanted"},
		{"what nobody waits for", false, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "SELECT 1")
			return nil
		}, ""},
		{"a context that had ended", true, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "SELECT 1")
			err := p.Sync(ignore)
			if !pgconn.SafeToRetry(err) {
				t.Errorf("nothing was sent, and the error is %v", err)
			}
			return err
		}, "canceled"},
		{"an empty statement", false, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "")
			return p.Sync(ignore)
		}, ""},
		{"columns of which there are none", false, func(p *session.Pipeline) error {
			p.Own(session.StepShow, "SELECT FROM generate_series(1, 3)")
			return p.Sync(ignore)
		}, ""},
	} {
		p := session.Pipeline{Session: s}
		for range 2 { // what is prepared by then takes another way
			if c.late {
				p.Open(ended)
			} else {
				p.Open(t.Context())
			}
			err := c.send(&p)
			p.Close()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s: %v, want %q", c.what, err, c.want)
			}
			row, err := s.AskRow(t.Context(), 1, "SELECT $1", [][]byte{[]byte(c.what)})
			if err != nil || len(row) != 1 || string(row[0]) != c.what {
				t.Fatalf("after %s: %s, %v", c.what, row, err)
			}
		}
	}
}

// What was sent is not to be sent again only because no answer came.
func TestLostAnswerIsNotSafeToRetry(t *testing.T) {
	t.Parallel()
	s := connect(t)
	p := session.Pipeline{Session: s}
	p.Open(t.Context())
	p.Plain(session.StepOwn, "SELECT pg_terminate_backend(pg_backend_pid())")
	err := p.Sync(ignore)
	p.Close()
	if err == nil || pgconn.SafeToRetry(err) {
		t.Errorf("an execution without an answer: %v, safe to retry %t", err, pgconn.SafeToRetry(err))
	}
	p.Open(t.Context())
	p.Plain(session.StepOwn, "SELECT 1")
	err = p.Sync(ignore)
	p.Close()
	if !pgconn.SafeToRetry(err) {
		t.Errorf("on a closed connection: %v, which is not safe to retry", err)
	}
}
