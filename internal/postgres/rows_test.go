package postgres

import (
	"errors"
	"testing"

	"github.com/pgbridge/pgbridge/internal/inlet"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestReadRows(t *testing.T) {
	t.Parallel()
	settings, err := Parse(testenv.Postgres(t).NewDatabase(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sql     string
		columns int
		rows    int // -1: it is not believed
	}{
		{"SELECT 1, 'a'", 2, 1},
		{"SELECT FROM generate_series(1, 3)", 0, 3},
		{"SELECT 1 WHERE false", 1, 0},
		{"SELECT 1, 'a'", 1, -1},
		{"SELECT 1, 'a'", 3, -1},
		{"SELECT 1 WHERE false", 2, -1},
		{"SELECT FROM generate_series(1, 3)", 1, -1},
		{"SELECT NULL", 1, -1},
		{"SELECT repeat('x', 1 << 20) FROM generate_series(1, 20)", 1, -1},
		{"SELECT FROM generate_series(1, 1000000)", 0, -1},
	} {
		conn, err := settings.Connect(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		rows, err := ReadRows(deadline(t), conn.PgConn(), c.sql, c.columns)
		if believed := err == nil && len(rows) == c.rows; believed != (c.rows >= 0) || err != nil && !errors.Is(err, inlet.ErrForm) || conn.IsClosed() != (err != nil) {
			t.Errorf("%s, %d columns: %d rows, %v, closed %t", c.sql, c.columns, len(rows), err, conn.IsClosed())
		}
		if !conn.IsClosed() {
			rows, err = ReadRowsWith(deadline(t), conn.PgConn(), "SELECT $1", 1, []byte("a"))
			if err != nil || len(rows) != 1 || string(rows[0][0]) != "a" {
				t.Errorf("with a parameter: %q, %v", rows, err)
			}
		}
		Close(deadline(t), conn)
	}
}
