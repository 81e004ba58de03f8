package session_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/inlet"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// work does everything on a session that is sent to PostgreSQL, up to an error that ends
// the connection. It reads each row as far as it was described.
func work(t *testing.T, known *session.Script, url string) (rows int) {
	ctx := t.Context()
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		t.Error(err)
		return 0
	}
	pool, err := session.Open(ctx, "hostile", session.NewHome(settings), 1, 1, session.Limits{Statement: time.Minute, Idle: time.Minute}, budget.New(1<<20, 0.9))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer pool.Close()
	s, err := pool.Acquire(ctx, "owner", "alice")
	if err != nil {
		return 0
	}
	defer s.GiveBack(false)
	take := func(step session.Step, result any) error {
		if r, ok := result.(*session.Result); ok {
			for r.NextRow() {
				for i := range r.FieldDescriptions() {
					_ = slices.Clone(r.Values()[i])
				}
				rows++
			}
		}
		return nil
	}
	run := func() {
		all, fresh, err := s.Prepare(ctx, known)
		if err != nil {
			return
		}
		p := session.Pipeline{Session: s}
		p.Open(ctx)
		p.Own(session.StepOwn, "BEGIN")
		for i, d := range all.Statements {
			values := make([][]byte, len(d.Params))
			for j := range values {
				values[j] = []byte("1")
			}
			p.Execute(i, d, known.Statements[i].SQL, values, false)
			if all.Checked(i, fresh) {
				p.Check(all)
			}
		}
		p.Own(session.StepCommit, "COMMIT")
		_ = p.Finish(take)
		p.Close()
	}
	run()
	run()
	_ = s.Moved(ctx, known)
	_, _ = s.NotNull(ctx, []pgconn.FieldDescription{{TableOID: 1259, TableAttributeNumber: 1}})
	_, _ = s.Isolation(ctx)
	_, _ = s.AskRow(ctx, 2, "SELECT 1, 'b'", nil)
	cursor(ctx, s, take)
	s.Rollback(ctx)
	s.PassTo(ctx, "bob")
	s.Reset(ctx)
	return rows
}

// cursor reads one without FETCH.
func cursor(ctx context.Context, s *session.Session, take session.Reader) {
	p := session.Pipeline{Session: s}
	p.Open(ctx)
	p.Own(session.StepOwn, "BEGIN")
	p.Query(&session.Query{SQL: "DECLARE c CURSOR FOR SELECT g, 'x' FROM pg_catalog.generate_series(1, 4) g"})
	columns := 0
	handler := session.RowHandler{
		Fields: func(fields []pgproto3.FieldDescription) error { columns = len(fields); return nil },
		Row: func(values [][]byte) {
			for i := range columns {
				_ = values[i]
			}
		},
	}
	if p.Ask("c", 3) == nil {
		_, _ = p.Take(ctx, take, handler)
	}
	if !s.Lost() && p.Ask("c", 3) == nil {
		_, _ = p.Take(ctx, take, handler)
	}
	p.Drain(ctx, take)
	p.Close()
}

// Whatever a server answers, no row is handed out that is not as it was described, and
// no panic ends the process.
func TestServerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url := pg.NewDatabase(t)
	testenv.Exec(t, url, "CREATE TYPE mood AS ENUM ('1'); CREATE TABLE felt (m mood, n int); CREATE TABLE seen AS SELECT '1'::mood AS m, g AS n FROM generate_series(1, 3) g")
	parsed, err := script.Parse("a", "a.sql", []byte("INSERT INTO felt VALUES (@m, @n); SELECT m, n, @n::int, '{a}'::text[] FROM seen; SELECT FROM seen LIMIT 1"))
	if err != nil {
		t.Fatal(err)
	}
	if n := work(t, session.NewScript(parsed), url); n < 5 {
		t.Fatalf("%d rows of a server that keeps to the protocol", n)
	}
	testenv.Mangle(t, pg, url, 8, func(url string) { work(t, session.NewScript(parsed), url) })
}

// No row is handed out before anything says what it has.
func TestRowBeforeItsDescription(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	m := testenv.NewMangler(t, pg.Addr())
	var before atomic.Int32 // the kind of message that it comes before; 0: none
	m.Change(func(_ int, kind byte, body []byte) ([]byte, bool) {
		message := testenv.Message(kind, body)
		if int32(kind) == before.Load() {
			return slices.Concat(testenv.Message('D', []byte{0, 0}), message), true
		}
		return message, false
	})
	settings, err := postgres.Parse(m.Reroute(t, pg.NewDatabase(t)), postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	connect := func() *session.Session {
		before.Store(0)
		s, err := session.Connect(t.Context(), settings, session.Limits{Statement: time.Minute, Idle: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	s := connect()
	before.Store('2')
	err = s.Ask(t.Context(), 2, "SELECT 1, 'b'", nil, func(r *session.Result) error {
		for r.NextRow() {
			t.Errorf("the row %q is handed out", r.Values())
		}
		return nil
	})
	if !errors.Is(err, inlet.ErrForm) {
		t.Errorf("Ask() = %v, want the error %v", err, inlet.ErrForm)
	}
	s = connect()
	p := session.Pipeline{Session: s}
	p.Open(t.Context())
	p.Own(session.StepOwn, "BEGIN")
	p.Query(&session.Query{SQL: "DECLARE c CURSOR FOR SELECT 1"})
	if err := p.Ask("c", 3); err != nil {
		t.Fatal(err)
	}
	before.Store('T')
	none := session.RowHandler{
		Fields: func([]pgproto3.FieldDescription) error { return nil },
		Row:    func(values [][]byte) { t.Errorf("the row %q is handed out", values) },
	}
	if _, err := p.Take(t.Context(), func(session.Step, any) error { return nil }, none); !errors.Is(err, inlet.ErrForm) {
		t.Errorf("Take() = %v, want the error %v", err, inlet.ErrForm)
	}
	p.Close()
}
