//go:build node

package examples_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/examples"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// javascript copies the example with the packages it needs, which are in the
// folder that PGBRIDGE_TEST_NODE names: make check-node sees to them.
func javascript(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("javascript")); err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs(filepath.Join(os.Getenv("PGBRIDGE_TEST_NODE"), "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func node(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("node", args...)
	cmd.Dir = javascript(t)
	return cmd
}

func TestJavaScriptTypes(t *testing.T) {
	t.Parallel()
	if out, err := node(t, "node_modules/typescript/bin/tsc", "-p", ".").CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}

// Both a listener and a subscriber that lose their connection are told of, before
// what came after that.
func TestJavaScriptSubscribe(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	proxy := testenv.NewProxy(t, bus.Addr())
	e := runAt(t, proxy.Reroute(t, bus.URL()), node(t, "subscribe.js"))
	e.awaits(t, "listening")
	database := startBridge(t, bus)
	e.awaits(t, `(?m)^gap \(started\): read again what was committed from the beginning to \d{4}-`)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'one')")
	e.awaits(t, `(?m)^event one$`)
	links := proxy.Accepted()
	proxy.Cut()
	testenv.Wait(t, harness.Patience, "the link to be back", func() bool { return proxy.Accepted() > links })
	e.awaits(t, `(?m)^gap \(client_disconnected\)`)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'two')")
	e.awaits(t, `event one\ngap \(client_disconnected\).*\nevent two\n$`)
}

// Whatever is published while the connection comes back stands behind the gap.
func TestJavaScriptHoldsBack(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	proxy := testenv.NewProxy(t, bus.Addr())
	e := runAt(t, proxy.Reroute(t, bus.URL()), node(t, "subscribe.js"))
	e.awaits(t, "listening")
	nc := bus.Connect(t)
	proxy.Cut()
	testenv.Wait(t, harness.Patience, "an event after the cut", func() bool {
		if err := nc.Publish("pgbridge.event.orders", []byte("after")); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(e.String(), "event after\n")
	})
	e.awaits(t, `^listening\ngap \(client_disconnected\).*\n(event after\n)+$`)
}

// A gap stands in the stream, between the events it is between, and a program
// that was killed goes on behind what it has dealt with.
func TestJavaScriptConsume(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	database := startBridge(t, bus)
	e := run(t, bus, node(t, "consume.js"))
	e.awaits(t, `(?m)^gap [0-9a-f]{16}\.orders\.gap\.[0-9]+ started$`)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'one')")
	e.awaits(t, `(?m)^event [0-9a-f]{16}\.orders\.\d+\.[0-9a-f]{16} one$`)
	testenv.TerminateBackend(t, database, "%")
	e.awaits(t, `(?m)one\ngap [^ ]+ reconnected$`)
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'two')")
	again := run(t, bus, node(t, "consume.js"))
	again.awaits(t, `(?m)^event [^ ]+ two$`)
	if strings.Contains(again.String(), "one") || strings.Contains(again.String(), "started") {
		t.Errorf("what had been dealt with came again:\n%s", again)
	}
}

// jsWorld serves the example's scripts, with cursors, copies and jobs.
func jsWorld(t *testing.T) (*harness.World, *harness.Running) {
	t.Helper()
	w := harness.New(t, nil)
	if err := os.CopyFS(w.Folder, examples.Scripts()); err != nil {
		t.Fatal(err)
	}
	w.SQL(examples.Schema())
	w.Migrate()
	return w, w.Serve(func(c *txrunner.Config) {
		copies, err := copier.New(copier.Config{Requests: c.Requests})
		if err != nil {
			t.Fatal(err)
		}
		c.StopGrace, c.IdleTimeout = time.Second, 5*time.Minute // what is forgotten stays
		c.Extensions = []txrunner.Extension{cursors.New(), copies.Extension()}
		c.Jobs = &txrunner.Jobs{Concurrency: 2, Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
	})
}

func TestJavaScriptExamples(t *testing.T) {
	t.Parallel()
	w, r := jsWorld(t)
	dir := javascript(t)
	says := func(pattern string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "node", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "NATS_URL="+w.NATS.URL())
		out, err := cmd.CombinedOutput()
		if !regexp.MustCompile(pattern).Match(out) {
			t.Fatalf("node %s: %v\n%s\nwant %s", strings.Join(args, " "), err, out, pattern)
		}
	}
	w.Write("export_within", "COPY (SELECT customer FROM orders WHERE customer = 'within') TO STDOUT")
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	w.SQL("INSERT INTO orders (customer, total) SELECT 'somebody', g FROM generate_series(1, 3000) g")
	says(`(?m)^3000 orders, 4501500\.00 in all$`, "cursor.js")
	says(`(?m)^all rows were copied: 3000, SHA-256=`, "copy.js", "out", "orders.csv")
	w.SQL("TRUNCATE orders")
	exported, err := os.ReadFile(filepath.Join(dir, "orders.csv"))
	if err != nil || strings.Count(string(exported), "\n") != 3001 {
		t.Fatalf("the file has %d lines, %v", strings.Count(string(exported), "\n"), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "new.csv"), []byte("customer,total\nAda,5\nGrace,200\nEdsger,300\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(`(?m)^all rows were copied: 3, SHA-256=`, "copy.js", "in", "new.csv")
	if err := os.WriteFile(filepath.Join(dir, "bad.csv"), []byte("customer,total\nAda,5\nGrace,much\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	says(`(?m)^nothing was copied: PgbridgeError: sql_error: invalid input syntax`, "copy.js", "in", "bad.csv")
	says(`(?m)^nothing was copied: PgbridgeError: direction`, "test/direction.js")
	says(`(?m)^committed: 2 orders are cheaper$`, "transaction.js", "0.1", "100")
	says(`(?m)^nothing was changed: PgbridgeError: sql_error: `, "transaction.js", "many", "100")
	if got := harness.Value[string](w, "SELECT string_agg(total::text, ' ' ORDER BY id) FROM orders"); got != "5.00 180.00 270.00" {
		t.Errorf("the orders' totals are %s", got)
	}
	says(`(?m)^it is safe\ndone: 3 statements, 1 attempts$`, "job.js", "transfer-order-78")
	says(`(?m)^it was left before\ndone: 3 statements, 1 attempts$`, "job.js", "transfer-order-78")
	if got := harness.Value[int](w, "SELECT count(*)::int FROM transfer"); got != 1 {
		t.Errorf("there are %d transfers", got)
	}
	says(`(?m)^all of it is as it should be$`, "test/all.js")
	w.WantIdle()
}

// TestJavaScriptCopyIsLost ends pgbridge, PostgreSQL's session and NATS in the
// middle of both directions: all rows or an error and none, and nothing left open.
func TestJavaScriptCopyIsLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*testing.T, *harness.World, *harness.Running){
		"replica": func(t *testing.T, _ *harness.World, r *harness.Running) {
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
		},
		"session": func(t *testing.T, w *harness.World, _ *harness.Running) { testenv.TerminateBackend(t, w.Postgres, "%") },
		"NATS": func(t *testing.T, w *harness.World, _ *harness.Running) {
			w.NATS.Stop(t)
			w.NATS.Start(t)
		},
	} {
		for _, way := range []string{"in", "out"} {
			t.Run(way+" "+name, func(t *testing.T) {
				t.Parallel()
				w, r := jsWorld(t)
				w.SQL("INSERT INTO orders (customer, total) SELECT repeat('x', 500), g FROM generate_series(1, 20000) g")
				cmd := node(t, "test/copy.js", way)
				goOn, err := cmd.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				e := run(t, w.NATS, cmd)
				e.awaits(t, `(?m)^halfway$`)
				lose(t, w, r)
				if _, err := io.WriteString(goOn, "go on\n"); err != nil {
					t.Fatal(err)
				}
				e.awaits(t, `(?m)^ended.*\n`)
				w.WantIdle()
				want := 20000
				if well := strings.Contains(e.String(), "well"); well && name != "NATS" {
					t.Errorf("the copy: %s", e)
				} else if well && way == "in" { // NATS was away while nothing was under way
					want = 70000
				}
				if got := harness.Value[int](w, "SELECT count(*)::int FROM orders"); got != want {
					t.Errorf("there are %d orders, want %d: %s", got, want, e)
				}
			})
		}
	}
}

// TestJavaScriptKnowsScripts compiles the types that pgbridge describe writes, and
// compares their schema with what scripts take and return.
func TestJavaScriptKnowsScripts(t *testing.T) {
	t.Parallel()
	w, r := jsWorld(t)
	w.Write("kinds", `SELECT @b::bool AS b, @s::int2 AS s, @l::int8 AS l, @n::numeric AS n, @f::float8 AS f, @t::text AS t, @j::jsonb AS j,
		@d::date AS d, @ts::text[] AS ts, 'x'::text AS "odd, ""name", 1 AS twice, 'a'::text AS twice`)
	w.Write("both", "SELECT @x::int4 AS n; SELECT @x::text AS t")
	w.Write("later", "-- Not known before */ it runs.\nCREATE TEMP TABLE scratch (id int) ON COMMIT DROP; SELECT id FROM scratch WHERE id = @id")
	w.Write("outer", "SELECT a.id, b.id AS other FROM account a LEFT JOIN account b ON b.id > a.id ORDER BY 1, 2")
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	dir, program := javascript(t), filepath.Join(t.TempDir(), "pgbridge")
	runs := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "NATS_URL=" + w.NATS.URL()} // pgbridge knows each PGBRIDGE_
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
		}
		return string(out)
	}
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/pgbridge").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for file, language := range map[string]string{"test/scripts.ts": "typescript", "scripts.json": "jsonschema"} {
		written := runs(program, "describe", "--types", language, "--nats", w.NATS.URL())
		if err := os.WriteFile(filepath.Join(dir, file), []byte(written), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(dir, "test", "typed.ts.txt"), filepath.Join(dir, "test", "typed.ts")); err != nil {
		t.Fatal(err)
	}
	runs("node", "node_modules/typescript/bin/tsc", "-p", ".")
	if out := runs("node", "test/schema.js", "scripts.json"); out != "everything is as the schema says\n" {
		t.Error(out)
	}
}

// A copy that is not interrupted ends well in the same program.
func TestJavaScriptCopyGoesOn(t *testing.T) {
	t.Parallel()
	w, _ := jsWorld(t)
	for _, way := range []struct{ name, says string }{{"in", "50000 rows, "}, {"out", "50000 rows, "}} {
		cmd := node(t, "test/copy.js", way.name)
		cmd.Stdin = strings.NewReader("go on\n")
		run(t, w.NATS, cmd).awaits(t, "(?m)^ended well: "+way.says)
	}
}

// TestJavaScriptForgedAnswers has a stream answer, and something else that is not pgbridge.
func TestJavaScriptForgedAnswers(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	taken := []string{"taken.run.>", "taken.begin", "taken.copy.out", "taken.tx.>"}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SPY", Subjects: taken}); err != nil {
		t.Fatal(err)
	}
	for subject, body := range map[string]string{
		"taken.copy.in":       `{"id": "c", "tx": "taken.tx.r.i", "data": "taken.tx.r.i.data.c", "chunk_bytes": 10, "window_bytes": 100, "stall_ms": 1000}`,
		"forged.cursor.pages": `{"tx": "forged.tx.r.pages", "cursor": "c1", "columns": [], "rows": [], "done": false}`,
		"forged.tx.r.pages.>": `{"rows": [], "done": false}`,
		"forged.copy.data":    `{"id": "c", "tx": "forged.tx.r.i", "data": "$JS.API.STREAM.DELETE.SPY", "chunk_bytes": 1, "window_bytes": 1}`,
	} {
		answer(t, nc, subject, func(m *nats.Msg) { _ = m.Respond([]byte(body)) })
	}
	// The request itself says which key it is answered with.
	answer(t, nc, "forged.begin", func(m *nats.Msg) {
		var asked struct{ Isolation string }
		_ = json.Unmarshal(m.Data, &asked)
		_ = m.Respond(fmt.Appendf(nil, `{"tx": %q}`, asked.Isolation))
	})
	answer(t, nc, "forged.tx.r.i.rollback", func(m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	answer(t, nc, "forged.copy.ack", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id": "c", "tx": "forged.tx.r.i", "chunk_bytes": 10, "window_bytes": 100, "stall_ms": 1000}`))
		for range 2 {
			_ = nc.PublishMsg(&nats.Msg{
				Subject: m.Reply, Reply: "$JS.API.STREAM.DELETE.SPY", Header: nats.Header{"Pgbridge-Seq": {"1"}}, Data: []byte("x"),
			})
		}
	})
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"forged.job.>"}}); err != nil {
		t.Fatal(err)
	}
	answer(t, nc, "forged.said", func(m *nats.Msg) {
		const result = "forged.result.slow.one"
		_ = nc.PublishMsg(&nats.Msg{Subject: result, Header: nats.Header{"Pgbridge-Job": {"one"}}, Data: []byte(`{"results": [], "attempts": 7}`)})
		_ = nc.Publish(result, []byte(`{"stream": "JOBS", "seq": 2}`))
		_ = m.Respond(nil)
	})
	run(t, bus, node(t, "test/forged.js")).awaits(t, `(?m)^none of it was believed$`)
	if _, err := js.Stream(t.Context(), "SPY"); err != nil {
		t.Errorf("the stream: %v", err)
	}
}

// TestJavaScriptConsumesAnew takes streams and consumers away from those who wait for events.
func TestJavaScriptConsumesAnew(t *testing.T) {
	t.Parallel()
	run(t, testenv.NATS(t), node(t, "test/anew.js")).awaits(t, `(?m)^nothing was passed over$`)
}

// rightDigest is that of "ab\nab\n".
const rightDigest = "SHA-256=nGD5lqJsbqZHQLcGf3oSf4G2x0PKrp75m-eTvL0XxhM="

// TestJavaScriptSeesWhatIsMissing answers a copy in pgbridge's place, and not well.
func TestJavaScriptSeesWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, numbers, digest, want string }{
		{"a chunk is missing", "13", rightDigest, "ended: lost, unknown: false"},
		{"a chunk comes twice", "11", rightDigest, "ended: lost, unknown: false"},
		{"a chunk less", "1", rightDigest, "ended: lost, unknown: false"},
		{"another digest", "12", "SHA-256=AAAA", "ended: lost, unknown: false"},
		{"no end", "12", "", "ended: replica_gone, unknown: true"},
		{"the right one", "12", rightDigest, "ended well: 2 rows, 6 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bus := testenv.NATS(t)
			nc := bus.Connect(t)
			serveBadly(t, nc, c.numbers, c.digest)
			run(t, bus, node(t, "test/copy.js", "out")).awaits(t, "(?m)^"+c.want)
		})
	}
}

// serveBadly sends chunks with these numbers, each "ab\n", and the end, if there is a
// digest. Nobody serves the transaction but for its end.
func serveBadly(t *testing.T, nc *nats.Conn, numbers, digest string) {
	t.Helper()
	answer(t, nc, "pgbridge.tx.r.i.rollback", func(m *nats.Msg) { _ = m.Respond([]byte("{}")) })
	answer(t, nc, "pgbridge.copy.*", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id": "x", "tx": "pgbridge.tx.r.i", "chunk_bytes": 10, "window_bytes": 100, "stall_ms": 1000}`))
		for _, number := range numbers {
			_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Reply: "pgbridge.tx.r.i.ack.x.1", Header: nats.Header{"Pgbridge-Seq": {string(number)}}, Data: []byte("ab\n")})
		}
		if digest == "" {
			return
		}
		_ = nc.PublishMsg(&nats.Msg{Subject: m.Reply, Header: nats.Header{
			"Pgbridge-Rows": {"2"}, "Pgbridge-Bytes": {"6"}, "Pgbridge-Digest": {digest},
		}})
	})
}

// TestJavaScriptKnowsWhatIsUnknown loses the answer to the end of an upload.
func TestJavaScriptKnowsWhatIsUnknown(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]string{
		"":     "ended: replica_gone, unknown: true",
		"gone": "ended: gone, unknown: true",
		"busy": "ended: busy, unknown: false",
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			bus := testenv.NATS(t)
			nc := bus.Connect(t)
			answer(t, nc, "pgbridge.copy.*", func(m *nats.Msg) {
				_ = m.Respond([]byte(`{"id": "x", "tx": "pgbridge.tx.r.i", "data": "pgbridge.tx.r.i.data.x", "chunk_bytes": 10000, "window_bytes": 30000, "stall_ms": 1000}`))
			})
			answer(t, nc, "pgbridge.tx.r.i.data.x", func(m *nats.Msg) {
				switch {
				case len(m.Data) > 0:
					_ = m.Respond(nil)
				case end != "":
					_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"400"}}, Data: []byte(`{"error": {"code": "` + end + `", "message": ""}}`)})
				}
			})
			cmd := node(t, "test/copy.js", "in")
			cmd.Stdin = strings.NewReader("go on\n")
			run(t, bus, cmd).awaits(t, "(?m)^"+want)
		})
	}
}

// TestJavaScriptKeepsToTheWindow answers no chunk until the client, which waits,
// asks whether the transaction is still there.
func TestJavaScriptKeepsToTheWindow(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	answer(t, nc, "pgbridge.copy.*", func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id": "x", "tx": "pgbridge.tx.r.i", "data": "pgbridge.tx.r.i.data.x", "chunk_bytes": 10000, "window_bytes": 30000, "stall_ms": 60000}`))
	})
	chunks, waited := 0, false // one subscription: one callback at a time
	var unanswered []*nats.Msg
	answer(t, nc, "pgbridge.tx.r.i.>", func(m *nats.Msg) {
		if m.Subject == "pgbridge.tx.r.i.touch" {
			waited = true
			_ = m.Respond([]byte("{}"))
			for _, chunk := range unanswered {
				_ = chunk.Respond(nil)
			}
			unanswered = nil
			return
		}
		chunks++
		switch {
		case !waited && chunks > 3:
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"400"}}, Data: []byte(`{"error": {"code": "overrun", "message": ""}}`)})
		case !waited:
			unanswered = append(unanswered, m)
		case len(m.Data) > 0:
			_ = m.Respond(nil)
		default:
			_ = m.Respond([]byte(`{"id": "x", "rows": 50000, "bytes": 1}`))
		}
	})
	cmd := node(t, "test/copy.js", "in")
	cmd.Stdin = strings.NewReader("go on\n")
	run(t, bus, cmd).awaits(t, "(?m)^ended well: 50000 rows")
}

// A subscriber gets its own gap in its place.
func TestJavaScriptOrder(t *testing.T) {
	t.Parallel()
	out, err := node(t, "test/order.js").CombinedOutput()
	if err != nil || string(out) != "the gap stands before what came after it\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

func answer(t *testing.T, nc *nats.Conn, subject string, serve func(*nats.Msg)) {
	t.Helper()
	_, err := nc.Subscribe(subject, serve)
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}
