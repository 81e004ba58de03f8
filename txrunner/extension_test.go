package txrunner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// counts is an extension: it runs all but the last statement of a script, tells
// how many rows the last one has, and commits a transaction of its own.
func counts() txrunner.Extension {
	return &pinned.Extension{
		Name: "count",
		Accepts: func(s *script.Script) *service.Error {
			if s.Cursorable() {
				return nil
			}
			return service.Errorf(service.CodeInvalidRequest, "its last statement returns no rows")
		},
		Open: func(ctx context.Context, t *pinned.Task) {
			reply, err := countRows(ctx, t)
			t.Request.Answer(reply, err)
		},
		Job: func(ctx context.Context, t *pinned.Task) ([]byte, error) {
			reply, err := countRows(ctx, t)
			return reply.Data, err
		},
		Verbs: map[string]pinned.Verb{
			"hold": {Held: true, Serve: func(ctx context.Context, t *pinned.Transaction, r *service.Request) {
				t.Hold(len(r.Data))
				r.Answer(service.Reply{}, nil)
			}},
			"listen": {Serve: func(ctx context.Context, t *pinned.Transaction, r *service.Request) {
				r.Answer(service.Reply{Data: []byte("{}")}, listen(t, string(r.Data)))
			}},
			"now": {Receives: true, Missing: "nobody listens"},
			"late": {Late: func(_ *service.Request, reason string) (service.Reply, bool) {
				return service.Reply{Data: fmt.Appendf(nil, `{"reason": %q}`, reason)}, reason == "it was committed"
			}},
		},
	}
}

// listen answers requests to <tx>.now.<id>, in another way once the transaction has
// ended.
func listen(t *pinned.Transaction, id string) error {
	saying := func(what string) pinned.Receiver {
		return func(r *service.Request) bool {
			r.Answer(service.Reply{Data: fmt.Appendf(nil, `{"now": %q}`, what)}, nil)
			return true
		}
	}
	retire, err := t.AddReceiver("now", id, saying("open"))
	if err == nil {
		t.OnEnd(func() { retire(saying(string(t.State()))) }) // would wait for a lock that is held
	}
	return err
}

func countRows(ctx context.Context, t *pinned.Task) (service.Reply, error) {
	if err := t.Fields.End(); err != nil {
		return service.Reply{}, err
	}
	replayed, err := t.Begin(ctx)
	if err != nil || replayed != nil {
		return deref(replayed), err
	}
	var body []byte
	err = t.Do(ctx, func(ctx context.Context, w *execution.Execution) error {
		last := len(t.Script().Statements) - 1
		if err := w.Statements(ctx, 0, last, true); err != nil {
			return err
		}
		d, err := w.Describe(ctx, last)
		if err != nil {
			return err
		}
		const before = "SELECT count(*)::text FROM ("
		if err := w.Send(ctx, session.Query{
			SQL: before + t.Script().Statements[last].SQL + ") q", Params: d.Params, Statement: last,
			Locate: func(p int) script.Place { return t.Script().Statements[last].Locate(p - len(before)) },
			Read: func(r *session.Result) error {
				for r.NextRow() {
					body = fmt.Appendf(nil, `{"tx": %q, "attempts": %s}`, t.Transaction().Subject(), r.Values()[0])
				}
				return nil
			},
		}); err != nil {
			return err
		}
		if err := w.Sync(ctx); err != nil || !t.Own() {
			return err
		}
		return w.Commit(ctx, body)
	})
	return service.Reply{Header: t.Transaction().Header(), Data: body}, err
}

func deref(r *service.Reply) service.Reply {
	if r == nil {
		return service.Reply{}
	}
	return *r
}

var countScripts = map[string]string{
	"series":  "INSERT INTO account VALUES (@id, 0); SELECT g FROM generate_series(1, @n::int) g",
	"refused": "INSERT INTO account VALUES (9, 0);\nSELECT g\n  FROM generate_series(1, 2) g WHERE 1 / @n::int > 0",
	"writes":  "DELETE FROM account",
	"declare": "DO $$ BEGIN EXECUTE 'DECLARE a CURSOR WITH HOLD FOR SELECT 1'; EXECUTE 'DECLARE b CURSOR WITH HOLD FOR SELECT 2'; END $$",
}

func withCounts(c *txrunner.Config) { c.Extensions = append(c.Extensions, counts()) }

func newCountWorld(t *testing.T) *world {
	t.Helper()
	w := newJobWorld(t, countScripts)
	w.SQL(accounts)
	return w
}

func TestExtensionInATransactionOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newCountWorld(t)
	w.Serve(withCounts, withJobs)
	for i, subject := range []string{"count.series", "as.alice.count.series"} {
		a := w.Ask(subject, fmt.Sprintf(`{"params": {"id": %d, "n": 3}}`, 10+i))
		harness.Equal(t, "rows counted", a.Attempts, 3)
		harness.Equal(t, "state", a.Header.Get("Pgbridge-Transaction"), "ended")
		late := w.Ask(a.Tx+".late", ``)
		harness.Equal(t, "a late answer", late.Body, `{"reason": "it was committed"}`)
		w.fails("gone", a.Tx+".hold", ``)
	}
	const once = `{"params": {"id": 20, "n": 4}}`
	first := w.Ask("count.series", once, "Nats-Msg-Id", "a")
	again := w.Ask("count.series", once, "Nats-Msg-Id", "a")
	harness.Equal(t, "the stored reply", again.Body, first.Body)
	harness.Equal(t, "replayed", again.Header.Get("Pgbridge-Replayed"), "true")
	harness.Equal(t, "accounts", harness.Value[int](w.World, "SELECT count(*)::int FROM account WHERE id >= 10"), 3)

	e := w.fails("sql_error", "count.refused", `{"params": {"n": 0}}`)
	harness.Equal(t, "the failing statement and its line", [2]int{e.Statement, e.Line}, [2]int{2, 2})
	harness.Equal(t, "accounts after an error", harness.Value[int](w.World, "SELECT count(*)::int FROM account WHERE id = 9"), 0)
	w.fails("not_found", "count.nothing", ``)
	w.fails("invalid_request", "count.series", `{"params": {"id": 1, "n": 1}, "more": 1}`)
	if e := w.fails("invalid_request", "count.writes", ``); !strings.Contains(e.Message, "writes") {
		t.Errorf("message %q names no script", e.Message)
	}
	w.fails("denied", "count", `{"sql": "SELECT 1"}`)

	if _, err := w.js.Publish(t.Context(), "pgbridge.job.count.series", []byte(`{"params": {"id": 30, "n": 5}}`)); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the job to be done", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM account WHERE id = 30") == 1
	})
	w.settled()
}

func TestExtensionInAClientsTransaction(t *testing.T) {
	t.Parallel()
	w := newCountWorld(t)
	w.Serve(withCounts)
	tx := w.begin(``)
	w.state("active", tx+".savepoint", `{"name": "before"}`)
	harness.Equal(t, "rows counted", w.state("active", tx+".count.series", `{"params": {"id": 10, "n": 3}}`).Attempts, 3)
	w.fails("invalid_request", tx+".count.series", `{"params": {"id": 10, "n": 3}}`, "Nats-Msg-Id", "x")
	w.state("active", tx+".listen", "a")
	harness.Equal(t, "a direct answer", w.Ask(tx+".now.a", ``).Body, `{"now": "open"}`)
	w.fails("invalid_request", tx+".listen", "a")
	w.fails("gone", tx+".now.b", ``)
	w.fails("not_found", tx+".now", ``)
	w.failsIn("failed", "sql_error", tx+".count.refused", `{"params": {"n": 0}}`)
	w.failsIn("failed", "sql_error", tx+".count.series", `{"params": {"id": 11, "n": 3}}`)
	w.state("active", tx+".rollback_to", `{"name": "before"}`)
	w.state("active", tx+".count.series", `{"params": {"id": 12, "n": 1}}`)

	w.state("active", tx+".run.declare", ``)
	if _, err := w.Client.Request(tx+".hold", []byte("xx"), harness.Patience); err != nil { // two cursors
		t.Fatal(err)
	}
	w.state("held", tx+".commit", ``)
	harness.Equal(t, "accounts", harness.Value[int](w.World, "SELECT count(*)::int FROM account WHERE id >= 10"), 1)
	w.failsIn("held", "gone", tx+".run.series", `{"params": {"id": 13, "n": 1}}`)
	w.failsIn("held", "gone", tx+".commit", ``)
	w.state("held", tx+".touch", ``)
	w.state("ended", tx+".rollback", ``)
	harness.Equal(t, "a direct harness.Reply after the end", w.Ask(tx+".now.a", ``).Body, `{"now": "ended"}`)
	w.fails("gone", tx+".now.b", ``)
}

// breaks is an extension whose work panics.
func breaks(c *txrunner.Config) {
	c.Extensions = append(c.Extensions, &pinned.Extension{
		Name: "break", Accepts: func(*script.Script) *service.Error { return nil },
		Open: func(ctx context.Context, t *pinned.Task) {
			if _, err := t.Begin(ctx); err != nil {
				t.Request.Answer(service.Reply{}, err)
				return
			}
			_ = t.Do(ctx, func(ctx context.Context, w *execution.Execution) error {
				if err := w.Statements(ctx, 0, len(t.Script().Statements), true); err != nil {
					return err
				}
				panic("a defect")
			})
		},
	})
}

// TestPanicOfAnExtension would wait for a connection, and at the end for the
// runner, if the panic kept the transaction.
func TestPanicOfAnExtension(t *testing.T) {
	t.Parallel()
	w := newCountWorld(t)
	r := w.Serve(breaks, func(c *txrunner.Config) { c.PinnedConnections = 1 })
	w.fails("internal", "break.series", `{"params": {"id": 10, "n": 3}}`)
	tx := w.begin(``)
	w.fails("internal", tx+".break.series", `{"params": {"id": 10, "n": 3}}`)
	if e := w.failsIn("ended", "gone", tx+".run.series", ``); !strings.Contains(e.Message, "defect") {
		t.Errorf("the reason is %q", e.Message)
	}
	w.state("ended", w.begin(``)+".rollback", ``)
	harness.Equal(t, "accounts", harness.Value[int](w.World, "SELECT count(*)::int FROM account WHERE id = 10"), 0)
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestPanicOfAJob has one panic with what it was asked with: the log has its type.
func TestPanicOfAJob(t *testing.T) {
	t.Parallel()
	const secret = "5ecret-value"
	w := newCountWorld(t)
	r := w.Serve(withJobs, func(c *txrunner.Config) {
		c.Extensions = append(c.Extensions, &pinned.Extension{
			Name: "break", Accepts: func(*script.Script) *service.Error { return nil },
			Open: func(_ context.Context, t *pinned.Task) { t.Request.Answer(service.Reply{}, nil) },
			Job:  func(_ context.Context, t *pinned.Task) ([]byte, error) { panic(string(t.Request.Data)) },
		})
	})
	testenv.Wait(t, harness.Patience, "the job to be taken", func() bool {
		_, err := w.js.Publish(t.Context(), "pgbridge.job.break.series", []byte(`{"params": {"id": 10, "n": "`+secret+`"}}`), jetstream.WithMsgID("j1"))
		return err == nil
	})
	harness.Equal(t, "the result", code(w.result("series", "j1")), "internal")
	panics := r.Logs.FilterMessage("a job panicked").All()
	if len(panics) != 1 || !strings.Contains(fmt.Sprint(panics[0].ContextMap()["error"]), "panic with a string") {
		t.Errorf("logged %v, want one panic with a string", panics)
	}
	if line := leaks(r, secret); line != "" {
		t.Errorf("logged %q", line)
	}
}

func TestExtensionThatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newCountWorld(t)
	r := w.Serve(withCounts)
	for _, s := range w.Config().Subjects() {
		if strings.Contains(s, "count") {
			t.Errorf("subject %s without the extension", s)
		}
	}
	config := w.Config()
	withCounts(&config)
	if all := strings.Join(config.Subjects(), " "); !strings.Contains(all, "pgbridge.count pgbridge.count.>") {
		t.Errorf("subjects %s without the extension's", all)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}
