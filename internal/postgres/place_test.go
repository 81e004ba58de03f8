package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A database has defaults for its sessions, and some of pgbridge's set them otherwise: all
// of them are on one server none the less.
func TestInstanceIsAlikeInAllSessions(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(deadline(t), testenv.Postgres(t).URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(deadline(t))
	want, err := ReadInstance(deadline(t), conn.PgConn())
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"extra_float_digits TO 0", "extra_float_digits TO -15", "datestyle TO 'SQL, DMY'", "timezone TO 'Asia/Kolkata'", "lc_numeric TO 'C'"} {
		if _, err := conn.Exec(deadline(t), "SET "+set); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadInstance(deadline(t), conn.PgConn()); err != nil || got != want {
			t.Errorf("with %s the server is %q (%v), want %q", set, got, err, want)
		}
	}
}
