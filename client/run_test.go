package client_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func transfer(amount string) client.Script {
	return client.Script{Name: "transfer", Params: client.Params{"source": 1, "target": 2, "amount": amount}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{scripts: map[string]string{
		"who":    "SELECT current_setting('pgbridge.caller') AS caller, @big::int8 AS big, @doc::jsonb AS doc, @nothing::text AS nothing;",
		"notice": "DO $$ BEGIN RAISE WARNING 'look out' USING HINT = 'there'; END $$;",
	}})
	c := w.client(client.Options{})
	reply, err := c.Run(w.ctx(), transfer("10.50"))
	w.ok(err)
	harness.Equal(t, "statements", len(reply.Results), 3)
	harness.Equal(t, "command", reply.Results[1].Command, "UPDATE 1")
	harness.Equal(t, "rows", reply.Results[1].RowsAffected, 1)
	harness.Equal(t, "no columns", reply.Results[1].Columns == nil, true)

	alice := w.client(client.Options{Caller: "al.ice"})
	reply, err = alice.Run(w.ctx(), client.Script{
		Name: "who", BigNumbersAsText: true,
		Params: client.Params{"big": int64(1) << 60, "doc": map[string]any{"a": []int{1}}, "nothing": nil},
	})
	w.ok(err)
	var caller, big string
	var doc struct{ A []int }
	var nothing *string
	w.ok(reply.Results[0].Rows[0].Scan(&caller, &big, &doc, &nothing))
	if caller != "al.ice" || big != "1152921504606846976" || len(doc.A) != 1 || nothing != nil {
		t.Errorf("the row is %q %q %v %v", caller, big, doc, nothing)
	}
	harness.Equal(t, "type", reply.Results[0].Columns[2], client.Column{Name: "doc", Type: "jsonb"})
	if err := reply.Results[0].Rows[0].Scan(&caller); err == nil {
		t.Error("four columns went into one variable")
	}

	reply, err = c.Run(w.ctx(), client.Script{Name: "notice"})
	w.ok(err)
	harness.Equal(t, "notice", reply.Notices[0], client.Notice{Severity: "WARNING", SQLState: "01000", Message: "look out", Hint: "there"})

	_, err = c.Run(w.ctx(), client.Script{SQL: "SELECT 1;\nSELECT nothing_there"})
	e := w.failure(err, client.CodeSQLError)
	if e.SQLState != "42703" || e.Statement != 2 || e.Line != 2 || e.Position != 8 || e.Severity != "ERROR" || e.Retryable {
		t.Errorf("the error is %+v", e)
	}
	_, err = c.Run(w.ctx(), transfer("100000"))
	if e := w.failure(err, client.CodeSQLError); e.Table != "account" || e.Constraint == "" || e.Detail == "" {
		t.Errorf("the error is %+v", e)
	}
	_, err = c.Run(w.ctx(), client.Script{Name: "nowhere"})
	w.failure(err, client.CodeNotFound)
	for _, s := range []client.Script{{}, {Name: "a", SQL: "SELECT 1"}, {Name: "a", Params: client.Params{"x": func() {}}}} {
		if _, err := c.Run(w.ctx(), s); err == nil {
			t.Errorf("%+v was run", s)
		}
	}
}

// TestRepliesOverMaxPayload wants an error, and nothing done.
func TestRepliesOverMaxPayload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{hook: func(o *server.Options) { o.MaxPayload = 64 << 10 }, scripts: map[string]string{
		"large": "INSERT INTO orders (customer, total) VALUES ('x', 1) RETURNING repeat('x', 100000);",
	}})
	c := w.client(client.Options{})
	_, err := c.Run(w.ctx(), client.Script{Name: "large"})
	w.failure(err, client.CodeTooLarge)
	harness.Equal(t, "orders", w.count("orders"), 0)
	_, err = c.Run(w.ctx(), client.Script{SQL: "SELECT @a::text", Params: client.Params{"a": strings.Repeat("x", 100000)}})
	if !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("a request over max payload: %v", err)
	}
	// A copy and a cursor cut it to pieces.
	w.SQL("INSERT INTO orders (customer, total) SELECT repeat('x', 1000), g FROM generate_series(1, 1000) g")
	var out strings.Builder
	n, err := c.CopyOut(w.ctx(), client.Script{Name: "export_orders", Params: client.Params{"customer": nil}}, &out, client.CopyOptions{})
	w.ok(err)
	harness.Equal(t, "bytes", n.Bytes, int64(out.Len()))
	cursor, err := c.Cursor(w.ctx(), client.Script{Name: "orders.all"}, client.CursorOptions{})
	w.ok(err)
	rows := 0
	for _, err := range cursor.Rows(w.ctx()) {
		w.ok(err)
		rows++
	}
	harness.Equal(t, "rows", rows, 1000)
	in := "customer,total\n" + strings.Repeat(strings.Repeat("y", 1000)+",1\n", 500)
	if _, err := c.CopyIn(w.ctx(), client.Script{Name: "import_orders"}, strings.NewReader(in), client.CopyOptions{}); err != nil {
		t.Errorf("copy in: %v", err)
	}
	harness.Equal(t, "orders", w.count("orders"), 1500)
}

// TestRetries drops the first replies of a run that has a message id: it is sent
// again and done once.
func TestRetries(t *testing.T) {
	t.Parallel()
	var lossy *testenv.Proxy
	w := newWorld(t, options{})
	lossy = testenv.NewProxy(t, w.NATS.Addr())
	nc := harness.Requests(w, lossy.Reroute(t, w.NATS.URL()))
	c := w.clientOn(nc, client.Options{Patience: time.Second})
	s := transfer("10")
	s.MessageID = "once"
	lossy.Freeze()
	done := make(chan error, 1)
	ctx := w.ctx()
	go func() { _, err := c.Run(ctx, s); done <- err }()
	lossy.Cut() // what was under way is lost, and the next connection works
	lossy.Thaw()
	w.ok(<-done)
	reply, err := c.Run(w.ctx(), s)
	w.ok(err)
	harness.Equal(t, "replayed", reply.Replayed, true)
	harness.Equal(t, "transfers", w.count("transfer"), 1)
}

// TestRunWithoutAnswer tells what is known from what is not.
func TestRunWithoutAnswer(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	c, err := client.New(nc, client.Options{Patience: 50 * time.Millisecond, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Run(t.Context(), client.Script{Name: "s"})
	if !errors.Is(err, nats.ErrNoResponders) || errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("with nobody there: %v", err)
	}
	if _, err := nc.Subscribe("pgbridge.run.s", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.Run(t.Context(), client.Script{Name: "s"}); !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("without an answer: %v", err)
	}
	c, err = client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("somebody has pressed a key")
	cancel(why)
	if _, err = c.Run(ctx, client.Script{Name: "s"}); !errors.Is(err, client.ErrOutcomeUnknown) || !errors.Is(err, why) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestRetryable sends again what pgbridge says may succeed, and nothing else.
func TestRetryable(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	for _, tt := range []struct {
		name, code, body, id string
		want                 int // times that it is asked
	}{
		{"busy", "429", `{"error":{"code":"busy","retryable":true}}`, "", 3},
		{"conflict", "409", `{"error":{"code":"conflict","retryable":true}}`, "", 3},
		{"refused", "422", `{"error":{"code":"sql_error","retryable":false}}`, "id", 1},
		{"unknown", "504", `{"error":{"code":"unknown","retryable":false}}`, "", 1},
		{"unknown_with_id", "504", `{"error":{"code":"unknown","retryable":false}}`, "id", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan struct{}, 10)
			_, err := nc.Subscribe("pgbridge.run."+tt.name, func(m *nats.Msg) {
				asked <- struct{}{}
				_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {tt.code}}, Data: []byte(tt.body)})
			})
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.New(nc, client.Options{Retries: 2})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Run(t.Context(), client.Script{Name: tt.name, MessageID: tt.id})
			var e *client.Error
			if !errors.As(err, &e) || len(asked) != tt.want {
				t.Errorf("asked %d times, want %d: %v", len(asked), tt.want, err)
			}
			if errors.Is(err, client.ErrOutcomeUnknown) != strings.HasPrefix(tt.name, "unknown") {
				t.Errorf("%v: whether the outcome is unknown is wrong", err)
			}
		})
	}
}

// TestInboxPrefix is for users that may subscribe inboxes of their own only.
func TestInboxPrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		hook: func(o *server.Options) {
			o.Users = []*server.User{
				{Username: "pgbridge", Password: "p"},
				{Username: "u", Password: "p", Permissions: &server.Permissions{
					Publish:   &server.SubjectPermission{Allow: []string{"pgbridge.>"}},
					Subscribe: &server.SubjectPermission{Allow: []string{"mine.u.>"}},
				}},
			}
			o.NoAuthUser = "pgbridge"
		},
		runner: func(c *txrunner.Config) { c.ReplyPrefixes = []string{"_INBOX", "mine"} },
	})
	nc := harness.Requests(w, strings.Replace(w.NATS.URL(), "nats://", "nats://u:p@", 1))
	c := w.clientOn(nc, client.Options{InboxPrefix: "mine.u"})
	_, err := c.Run(w.ctx(), transfer("1"))
	w.ok(err)
	var out strings.Builder
	_, err = c.CopyOut(w.ctx(), client.Script{Name: "export_orders", Params: client.Params{"customer": nil}}, &out, client.CopyOptions{})
	w.ok(err)
	for _, o := range []client.Options{{InboxPrefix: "a.*"}, {InboxPrefix: "a."}, {Prefix: "a b"}, {Prefix: ">"}} {
		if _, err := client.New(nc, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func TestDescribeAndNotify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{scripts: map[string]string{"heard": "-- Listens.\n-- timeout: 1s\nSELECT 1 AS one;"}})
	c := w.client(client.Options{})
	all, err := c.Scripts(w.ctx())
	w.ok(err)
	kinds := map[string]client.ScriptInfo{}
	for _, s := range all {
		kinds[s.Name] = s
	}
	harness.Equal(t, "kind", kinds["import_orders"].Kind, client.KindCopyIn)
	harness.Equal(t, "kind", kinds["export_orders"].Kind, client.KindCopyOut)
	harness.Equal(t, "info", kinds["heard"], client.ScriptInfo{Name: "heard", Kind: client.KindRun, Cursor: true, Description: "Listens."})
	d, err := c.Describe(w.ctx(), "heard")
	w.ok(err)
	harness.Equal(t, "column", d.Columns[0], client.Column{Name: "one", Type: "int4"})
	harness.Equal(t, "timeout", d.Settings.Timeout, time.Second)
	d, err = c.Describe(w.ctx(), "account")
	w.ok(err)
	harness.Equal(t, "parameter", d.Parameters[0].Name+" "+d.Parameters[0].Types[0], "id int8")
	_, err = c.Describe(w.ctx(), "nowhere")
	w.failure(err, client.CodeNotFound)
	if err := c.Notify(w.ctx(), "orders", []byte("x")); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("notify without a bridge: %v", err) // tested with events
	}
}

// A stream that takes requests in answers them, before pgbridge does: that is no reply.
func TestStreamThatTakesRequests(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t).Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SPY", Subjects: []string{"pgbridge.run.>", "pgbridge.begin", "pgbridge.copy.out", "pgbridge.tx.>"}}); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(nc, client.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, ran := c.Run(t.Context(), client.Script{Name: "one"})
	_, begun := c.Begin(t.Context(), client.TxOptions{})
	_, out := c.CopyOut(t.Context(), client.Script{Name: "out"}, io.Discard, client.CopyOptions{})
	if _, err := nc.Subscribe("pgbridge.copy.in", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id": "c", "tx": "pgbridge.tx.r.i", "data": "pgbridge.tx.r.i.data.c", "chunk_bytes": 10, "window_bytes": 100, "stall_ms": 1000}`))
	}); err != nil {
		t.Fatal(err)
	}
	_, in := c.CopyIn(t.Context(), client.Script{Name: "in"}, strings.NewReader("x"), client.CopyOptions{})
	for _, err := range []error{ran, begun, out, in} {
		if !errors.Is(err, client.ErrOutcomeUnknown) || !strings.Contains(err.Error(), "the stream \"SPY\"") {
			t.Errorf("%v, want that the stream has taken the request and nobody knows more", err)
		}
	}
}

// TestForgedAnswers has something else than pgbridge answer: it cannot have the client
// publish, with the client's permissions, where no transaction is, or ask for ever.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	nc := testenv.NATS(t).Connect(t)
	forged := make(chan string, 16)
	for subject, body := range map[string]string{
		"pgbridge.begin":    `{"tx": %q}`,
		"pgbridge.cursor.s": `{"tx": %q, "cursor": "c1", "columns": [], "rows": [], "done": false}`,
		"pgbridge.copy.out": `{"id": "c", "tx": %q}`,
		"pgbridge.copy.in":  `{"id": "c", "tx": "pgbridge.tx.r.i", "data": %q, "chunk_bytes": 1, "window_bytes": 1}`,
		"pgbridge.describe": `{"scripts": [{"name": "a"}], "next": "a"}`,

		"pgbridge.cursor.endless": `{"tx": "pgbridge.tx.r.endless", "cursor": "c1", "columns": [], "rows": [], "done": false}`,
		"pgbridge.tx.r.endless.>": `{"rows": [], "done": false}`,
	} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			if strings.Contains(body, "%q") {
				body := strings.Replace(body, "%q", strconv.Quote(<-forged), 1)
				_ = m.Respond([]byte(body))
				return
			}
			_ = m.Respond([]byte(body))
		}); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere, err := nc.SubscribeSync("$JS.API.>")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(nc, client.Options{Retries: -1, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"", "$JS.API.STREAM.DELETE", "$JS.tx.STREAM.DELETE", "pgbridge.run.transfer", "pgbridge.tx.r", "pgbridge.tx.*.i", "pgbridge.tx.r.i\r\nPUB x"} {
		for name, ask := range map[string]func() error{
			"begin": func() error { _, err := c.Begin(ctx, client.TxOptions{}); return err },
			"cursor": func() error {
				_, err := c.Cursor(ctx, client.Script{Name: "s"}, client.CursorOptions{})
				return err
			},
			"copy out": func() error {
				_, err := c.CopyOut(ctx, client.Script{Name: "out"}, io.Discard, client.CopyOptions{})
				return err
			},
			"copy in": func() error {
				_, err := c.CopyIn(ctx, client.Script{Name: "in"}, strings.NewReader("x"), client.CopyOptions{})
				return err
			},
		} {
			forged <- to
			if err := ask(); err == nil {
				t.Errorf("%s takes %q for a transaction", name, to)
			}
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := elsewhere.Pending(); n > 0 || err != nil {
		t.Errorf("%d messages went to JetStream's API, %v", n, err)
	}
	endless, err := c.Cursor(ctx, client.Script{Name: "endless"}, client.CursorOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err = range endless.Rows(ctx) {
	}
	if err == nil || ctx.Err() != nil {
		t.Errorf("a cursor without rows or end: %v", err)
	}
	if scripts, err := c.Scripts(ctx); err == nil {
		t.Errorf("a list that never ends is %v", scripts)
	}
}
