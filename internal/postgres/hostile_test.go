package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// What is asked through pgx, which reads values in their binary form.
func TestServerThatBreaksTheProtocol(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	url := pg.NewDatabase(t)
	ask := func(url string) (answered int) {
		settings, err := Parse(url, Options{})
		if err != nil {
			t.Error(err)
			return 0
		}
		conn, err := settings.Connect(t.Context())
		if err != nil {
			return 0
		}
		defer Close(t.Context(), conn)
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
			var (
				yes    bool
				number int64
				short  int32
				usage  float64
				text   *string
				names  []string
				at     time.Time
				maybe  *time.Time
			)
			for range 2 {
				err := conn.QueryRow(t.Context(), `SELECT true, $1::bigint, 7::int4, pg_catalog.pg_notification_queue_usage(), $2::text,
					ARRAY['a', 'b'], clock_timestamp(), NULL::timestamptz`, mode, int64(5), "x").
					Scan(&yes, &number, &short, &usage, &text, &names, &at, &maybe)
				if err == nil {
					answered++
				}
			}
			rows, err := conn.Query(t.Context(), "SELECT g FROM generate_series(1, 3) g", mode)
			if err != nil {
				continue
			}
			if all, err := pgx.CollectRows(rows, pgx.RowTo[int64]); err == nil {
				answered += len(all)
			}
			if _, err := conn.Exec(t.Context(), "SELECT pg_catalog.set_config('application_name', $1, false)", mode, "y"); err == nil {
				answered++
			}
		}
		return answered
	}
	if n := ask(url); n != 12 {
		t.Fatalf("%d answers with a server that keeps to the protocol, want 12", n)
	}
	testenv.Mangle(t, pg, url, 8, func(url string) { ask(url) })
}
