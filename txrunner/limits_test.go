package txrunner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestLargeRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"length": "SELECT length(@text)", "echo": "SELECT @text::text"})
	w.nats = testenv.NATS(t, func(o *server.Options) { o.MaxPayload, o.MaxPending = 16<<20, 64<<20 })
	w.client = w.nats.Connect(t)
	w.serve()
	body := `{"params": {"text": "` + strings.Repeat("x", 10<<20) + `"}}`
	equal(t, "the length", w.rows("run.length", body), "[[10485760]]")
	equal(t, "the echo's length", len(w.rows("run.echo", body)), 10<<20+6)
	w.fails("invalid_request", "run.length", body[:len(body)-1])
}

func TestOldMessageIDsArePurged(t *testing.T) {
	t.Parallel()
	w := newIDWorld(t)
	w.migrate()
	w.sql(`INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request, reply, created_at)
		SELECT prefix, '', 'run', 'add', n::text, '', '{}', now() - age FROM generate_series(1, 2500) n,
			(VALUES ('pgbridge', interval '25 hours'), ('pgbridge.young', interval '1 hour'), ('other', interval '25 hours')) AS p (prefix, age)`)
	w.serve()
	testenv.Wait(t, patience, "the old ids to go", func() bool {
		return value[int](w, "SELECT count(*)::int FROM pgbridge.message_id WHERE prefix = 'pgbridge'") == 0
	})
	equal(t, "other ids", value[int](w, "SELECT count(*)::int FROM pgbridge.message_id"), 5000)
	w.rows("run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "7")
	equal(t, "the balance", value[string](w, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

func TestManyNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"talk": "DO $$ BEGIN FOR i IN 1..10000 LOOP RAISE NOTICE '%', repeat('\"', 100); END LOOP; END $$",
	})
	w.serve()
	for range 2 {
		a := w.ask("run.talk", ``)
		if n := len(a.Notices); a.Error != nil || n < 100 || n == 10_000 || len(a.body) > 100_000 {
			t.Errorf("%d notices in %d bytes, want some of them", n, len(a.body))
		}
	}
}

func TestManyScriptsOnOneConnection(t *testing.T) {
	t.Parallel()
	const n = 600 // more than a connection keeps prepared
	w := newWorld(t, nil)
	for i := range n {
		w.write(fmt.Sprintf("s%d", i), fmt.Sprintf("SELECT %d + @a::int; SELECT 1", i))
	}
	w.write("kept", "SELECT count(*) BETWEEN 500 AND 560 FROM pg_prepared_statements")
	w.serve(func(c *txrunner.Config) { c.RunConnections = 1 })
	for range 2 {
		for i := range n {
			if a := w.ask(fmt.Sprintf("run.s%d", i), `{"params": {"a": 1}}`); a.Error != nil || string(a.Results[0].Rows) != fmt.Sprintf("[[%d]]", i+1) {
				t.Fatalf("s%d: %s", i, a.body)
			}
		}
	}
	equal(t, "what is kept prepared is bounded", w.rows("run.kept", ``), "[[true]]")
}
