package txrunner_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// caughtUp runs a script as a channel does, and returns its rows.
func caughtUp(r *txrunner.Runner, script string, since time.Time) (rows []string, err error) {
	err = r.CatchUp(context.Background(), script, since, since.Add(time.Hour), func(_ context.Context, payload []byte) error {
		rows = append(rows, string(payload))
		return nil
	})
	return rows, err
}

func TestCatchUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"one":     "SELECT body FROM news WHERE at >= @since AND at <= @until ORDER BY id",
		"several": "SELECT id, body FROM news WHERE at >= @since ORDER BY id",
		"null":    "SELECT CASE WHEN @since::timestamptz IS NULL THEN 'all' END",
		"before":  "SELECT set_config('my.n', '3', true); SELECT g FROM generate_series(1, current_setting('my.n')::int) g WHERE now() >= @since",
		"many":    "SELECT g FROM generate_series(1, 5000) g WHERE now() >= @since",
		"none":    "SELECT FROM news WHERE at >= @since LIMIT 1",
	})
	w.SQL(`CREATE TABLE news (id int PRIMARY KEY, body text, at timestamptz NOT NULL);
		INSERT INTO news VALUES (1, 'old', '2026-01-01Z'), (2, 'zwei ☃', '2026-02-01Z'), (3, NULL, '2026-02-01 00:30Z'), (4, 'new', '2026-03-01Z')`)
	r := w.Serve()
	since := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	for script, want := range map[string][]string{
		"one":     {"zwei ☃", ""},
		"several": {`{"id":2,"body":"zwei ☃"}`, `{"id":3,"body":null}`, `{"id":4,"body":"new"}`},
		"null":    {""},
		"before":  {"1", "2", "3"},
		"none":    {"{}"},
	} {
		if got, err := caughtUp(r.Runner, script, since); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", script, got, err, want)
		}
	}
	if got, err := caughtUp(r.Runner, "many", since); err != nil || len(got) != 5000 || got[4999] != "5000" {
		t.Errorf("many: %d rows, %v; want 5000", len(got), err)
	}
	if got, err := caughtUp(r.Runner, "null", time.Time{}); err != nil || !slices.Equal(got, []string{"all"}) {
		t.Errorf("without since: %q, %v; want that it is NULL", got, err)
	}
}

// A row that no message holds takes little more memory than one that it does.
func TestCatchUpOfALargeRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"one": "SELECT repeat('x', 20 << 20) WHERE now() >= @since", "several": "SELECT repeat('x', 20 << 20) AS a, 1 AS b WHERE now() >= @since",
	})
	r := w.Serve()
	most := int(w.Client.MaxPayload())
	for _, script := range []string{"one", "several"} {
		rows, err := caughtUp(r.Runner, script, time.Unix(0, 0))
		if err != nil || len(rows) != 1 || len(rows[0]) <= most || len(rows[0]) > 2*most {
			t.Errorf("%s: %d rows, %v; want one that is too large for %d bytes, and not much more", script, len(rows), err, most)
		}
	}
}

func TestCatchUpFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"writes":    "SELECT sneak() WHERE now() >= @since",
		"says":      "-- read_only: false\nSELECT sneak() WHERE now() >= @since",
		"inserts":   "INSERT INTO news VALUES (1); SELECT 1 WHERE now() >= @since",
		"other":     "SELECT @since::timestamptz, @id::int",
		"blind":     "SELECT 1",
		"copies":    "COPY (SELECT 1) TO STDOUT",
		"slow":      "-- timeout: 3s\nSELECT pg_sleep(60) WHERE now() >= @since",
		"halfway":   "SELECT 10 / (3 - g) FROM generate_series(1, 3) g WHERE now() >= @since",
		"untouched": "SELECT 1 WHERE now() >= @since",
	})
	w.SQL("CREATE TABLE news (id int); CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS 'INSERT INTO news VALUES (1) RETURNING id'")
	r := w.Serve()
	for script, want := range map[string]struct{ code, state string }{
		"writes": {"sql_error", "25006"}, "says": {"sql_error", "25006"}, "halfway": {"sql_error", "22012"},
		"inserts": {"invalid_request", ""}, "other": {"invalid_request", ""}, "blind": {"invalid_request", ""}, "copies": {"invalid_request", ""},
		"missing": {"not_found", ""}, "slow": {"timeout", ""},
	} {
		_, err := caughtUp(r.Runner, script, time.Unix(0, 0))
		var failure *service.Error
		if !errors.As(err, &failure) || string(failure.Code) != want.code || want.state != "" && failure.SQLState != want.state {
			t.Errorf("%s: %v, want %+v", script, err, want)
		}
	}
	if n := harness.Value[int](w.World, "SELECT count(*) FROM news"); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	stop := errors.New("no more")
	err := r.CatchUp(context.Background(), "untouched", time.Unix(0, 0), time.Now(), func(context.Context, []byte) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("CatchUp = %v, want what the row was answered", err)
	}
}

// A row that nobody takes ends with the script's time, and frees its connection.
func TestCatchUpThatNobodyTakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"rows": "-- timeout: 2s\nSELECT g FROM generate_series(1, 3) g WHERE now() >= @since"})
	r := w.Serve(func(c *txrunner.Config) { c.RunConnections = 1 })
	for range 3 {
		err := r.CatchUp(context.Background(), "rows", time.Unix(0, 0), time.Now(), func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			return ctx.Err()
		})
		var failure *service.Error
		if !errors.As(err, &failure) || failure.Code != service.CodeTimeout {
			t.Fatalf("CatchUp = %v, want timeout", err)
		}
	}
	if got, err := caughtUp(r.Runner, "rows", time.Unix(0, 0)); err != nil || len(got) != 3 {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

// A script whose session ends is run again, and so is one that PostgreSQL gave up for
// another transaction.
func TestCatchUpIsRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"rows": "SELECT g FROM generate_series(1, 1000) g WHERE now() >= @since"})
	r := w.Serve()
	n, ended := 0, false
	err := r.CatchUp(context.Background(), "rows", time.Unix(0, 0), time.Now(), func(context.Context, []byte) error {
		if n++; n == 100 && !ended {
			ended = true
			testenv.Exec(t, w.Postgres, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE datname = current_database() AND query LIKE '%generate_series(1, 1000)%' AND pid <> pg_backend_pid()`)
		}
		return nil
	})
	if err != nil || n <= 1000 {
		t.Errorf("CatchUp = %v with %d rows, want all of them again", err, n)
	}
}

// A script that names no time has half a minute, and none has more than a request may.
func TestTimeOfCatchUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"none": "SELECT 1 WHERE now() >= @since", "long": "-- timeout: 1h\nSELECT 1 WHERE now() >= @since"})
	r := w.Serve(func(c *txrunner.Config) { c.MaxTimeout = 2 * time.Minute })
	for script, want := range map[string]time.Duration{"none": 30 * time.Second, "long": 2 * time.Minute} {
		began, rows := time.Now(), 0
		err := r.CatchUp(context.Background(), script, time.Unix(0, 0), time.Now(), func(ctx context.Context, _ []byte) error {
			rows++
			end, limited := ctx.Deadline()
			if got := end.Sub(began); !limited || got < want || got > want+time.Since(began) {
				t.Errorf("%s: it has %s, want %s", script, got, want)
			}
			return nil
		})
		if err != nil || rows != 1 {
			t.Errorf("%s: CatchUp = %v with %d rows, want one", script, err, rows)
		}
	}
}
