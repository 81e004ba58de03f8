package txrunner_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Jobs whose ids or scripts' names the database cannot hold come to an end: too many that
// wait for ever would keep all others from being taken.
func TestJobsThatTheDatabaseCannotName(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	testenv.Exec(t, pg.URL(), "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
	w := newWorld(t, map[string]string{"add": add, "wait": "SELECT pg_advisory_xact_lock_shared(7)"})
	w.Postgres = pg.Server().URL("latin")
	w.Migrate()
	w.SQL(accounts)
	var err error
	if w.js, err = jetstream.New(w.Client); err != nil {
		t.Fatal(err)
	}
	lock := w.serveLock(t)
	lock.take()
	r := w.Serve(withJobs)

	w.submit("add", `{"params": {"n": 1}}`, "☃") // is not in LATIN1
	w.submit("☃", "{}", "")
	for _, name := range []string{"☃", unsqueezable(3500)} {
		w.submit(name, "{}", w.submit("wait", "{}", "")) // has the name of one that is not over, and is delivered again
	}
	testenv.Wait(t, harness.Patience, "all to be delivered", func() bool { return w.undelivered() == 0 })
	lock.leave()
	w.settled()
	testenv.Wait(t, harness.Patience, "the last to be counted", func() bool { return counted(t, r, "failed") == 4 })
	harness.Equal(t, "what becomes of an id", code(w.result("add", "☃")), "sql_error")
	harness.Equal(t, "another job", code(w.result("add", w.submit("add", `{"params": {"n": 1}}`, "é"))), "ok")
}

// undelivered is how many jobs nobody has taken yet.
func (w *world) undelivered() uint64 {
	w.T.Helper()
	c, err := w.js.Consumer(w.T.Context(), "PGBRIDGE_JOBS", "pgbridge_jobs")
	if err != nil {
		w.T.Fatal(err)
	}
	return c.CachedInfo().NumPending
}

// unsqueezable is a name that PostgreSQL cannot compress until it fits an index.
func unsqueezable(bytes int) string {
	var name strings.Builder
	for range bytes {
		name.WriteByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"[rand.IntN(64)])
	}
	return name.String()
}
