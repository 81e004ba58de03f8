package session

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/script"
)

// What no sentinel shows is believed for so long.
func TestWhatIsKnownGrowsOld(t *testing.T) {
	t.Parallel()
	s, ctx := connect(t), t.Context()
	if err := s.Execute(ctx, "CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE felt (m mood); CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'"); err != nil {
		t.Fatal(err)
	}
	parsed, err := script.Parse("a", "a.sql", []byte("SELECT f(@a), m FROM felt"))
	if err != nil {
		t.Fatal(err)
	}
	known := NewScript(parsed)
	names := func() (param, column string, fresh bool) {
		p, fresh, err := s.Prepare(ctx, known)
		if err != nil {
			t.Fatal(err)
		}
		return p.Statements[0].Params[0].Name(), string(p.Statements[0].Columns.AppendHeader(nil)), fresh
	}
	const before, after = `[{"name":"f","type":"int4"},{"name":"m","type":"mood"}]`, `[{"name":"f","type":"int4"},{"name":"m","type":"temper"}]`
	if param, column, fresh := names(); param != "int4" || column != before || !fresh {
		t.Errorf("at first: %s, %s, fresh %t", param, column, fresh)
	}
	// An overload that suits the parameter better leaves the prepared statement as
	// it is.
	if err := s.Execute(ctx, "CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 2'; ALTER TYPE mood RENAME TO temper"); err != nil {
		t.Fatal(err)
	}
	if _, _, fresh := names(); fresh {
		t.Error("prepared anew at once")
	}
	age := func() {
		s.prepared[known].Value.(*Prepared).made = time.Now().Add(-maxAge)
		s.flushed = time.Now().Add(-maxAge)
	}
	age()
	if param, column, fresh := names(); param != "text" || column != after || !fresh {
		t.Errorf("after maxAge: %s, %s, fresh %t", param, column, fresh)
	}
	learned := &Description{made: time.Now()}
	known.Learn(0, learned)
	if known.Learned(0) != learned {
		t.Error("what was learned is not known")
	}
	learned = &Description{made: time.Now().Add(-maxAge)}
	known.Learn(0, learned)
	if known.Learned(0) != nil {
		t.Error("what was learned long ago is still believed")
	}
}

// Where PostgreSQL does not let a sentinel look, nothing is kept.
func TestWhatCannotBeWatchedIsNotKept(t *testing.T) {
	t.Parallel()
	s, ctx := connect(t), t.Context()
	parsed, err := script.Parse("a", "a.sql", []byte("INSERT INTO thing VALUES (@v)"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Execute(ctx, "CREATE TABLE thing (v int)"); err != nil {
		t.Fatal(err)
	}
	all := &Prepared{script: NewScript(parsed)}
	described, tables, err := s.describe(ctx, all, 1)
	if err != nil || len(tables) != 1 || tables[0].kind != "public.thing" {
		t.Fatalf("describe() = %v, %v", tables, err)
	}
	tables[0].kind = "public.nothing"
	if err := s.depend(ctx, &all.schema, tables, described); err != nil || !all.schema.unwatched || all.schema.last != -1 || s.Conn.TxStatus() != 'I' {
		t.Errorf("depend() = %v with %+v, status %c", err, all.schema, s.Conn.TxStatus())
	}
}
