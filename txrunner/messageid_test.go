package txrunner_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

var idScripts = map[string]string{
	"add":     "UPDATE account SET balance = balance + @n WHERE id = 1 RETURNING balance",
	"limited": "-- role: idclerk\nUPDATE account SET balance = balance + @n WHERE id = 1",
	"read":    "-- read_only: true\n-- isolation: serializable\nSELECT nextval('calls')",
	"look":    "-- read_only: true\nSELECT count(*) FROM account",
	"fail":    "INSERT INTO account VALUES (@id, -1)",
	"notice":  "DO $$ BEGIN RAISE NOTICE 'hello'; END $$",
}

func newIDWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, idScripts)
	w.SQL(accounts + `; CREATE SEQUENCE calls;
		DO $$ BEGIN CREATE ROLE idclerk; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
		GRANT ALL ON account TO idclerk`)
	return w
}

func TestMessageIDsAreRunOnce(t *testing.T) {
	t.Parallel()
	w := newIDWorld(t)
	w.Migrate()
	w.Serve()
	for _, name := range []string{"add", "limited", "notice", "look"} {
		body := `{"params": {"n": 5}}`
		if name == "notice" || name == "look" {
			body = ``
		}
		first := w.Ask("run."+name, body, "Nats-Msg-Id", "a.1")
		if first.Error != nil || first.Header.Get("Pgbridge-Replayed") != "" {
			t.Fatalf("%s: %s %v", name, first.Body, first.Header)
		}
		for range 3 {
			again := w.Ask("run."+name, body, "Nats-Msg-Id", "a.1")
			harness.Equal(t, name+" again", again.Body, first.Body)
			harness.Equal(t, "Pgbridge-Replayed", again.Header.Get("Pgbridge-Replayed"), "true")
		}
	}
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "110")

	e := w.fails("conflict", "run.add", `{"params": {"n": 6}}`, "Nats-Msg-Id", "a.1")
	harness.Equal(t, "retryable", e.Retryable, false)
	w.rows("as.alice.run.add", `{"params": {"n": 5}}`, "Nats-Msg-Id", "a.1") // her own id
	harness.Equal(t, "another caller's", w.Ask("as.mallory.run.add", `{"params": {"n": 0}}`, "Nats-Msg-Id", "a.1").Header.Get("Pgbridge-Replayed"), "")
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "115")

	for range 2 { // errors are not stored
		w.fails("sql_error", "run.fail", `{"params": {"id": 3}}`, "Nats-Msg-Id", "b")
	}
	w.fails("sql_error", "run.read", ``, "Nats-Msg-Id", "c") // nextval writes
	w.fails("invalid_request", "run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", strings.Repeat("x", 257))
	harness.Equal(t, "ids stored", harness.Value[int](w.World, "SELECT count(*)::int FROM pgbridge.message_id"), 6)
}

func TestSameMessageIDAtOnce(t *testing.T) {
	t.Parallel()
	w := newIDWorld(t)
	w.Migrate()
	w.Serve()
	w.Serve() // another replica
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			a, err := w.Try("run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "once")
			if err != nil || a.Error != nil || string(a.Results[0].Rows) != "[[101]]" {
				t.Errorf("%v %s", err, a.Body)
			}
		})
	}
	wg.Wait()
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

func TestMessageIDsNeedTheirTable(t *testing.T) {
	t.Parallel()
	w := newIDWorld(t)
	w.Serve()
	e := w.fails("denied", "run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "a")
	if !strings.Contains(e.Message, "pgbridge migrate") {
		t.Errorf("message %q does not name pgbridge migrate", e.Message)
	}
	w.rows("run.add", `{"params": {"n": 1}}`)
	w.SQL(txrunner.MigrationSQL())
	w.rows("run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "a")
}
