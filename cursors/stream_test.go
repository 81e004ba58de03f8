package cursors_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

var streams = map[string]string{
	"rows":   "SELECT g AS id, repeat('x', 100) AS pad FROM generate_series(1, @n::int) g ORDER BY g;",
	"breaks": "SELECT 1000 / (5000 - g) AS x FROM generate_series(1, 10000) g;",
}

// wantNumbered checks that rows hold the numbers from first on.
func wantNumbered(t *testing.T, r received, first, n int) {
	t.Helper()
	if len(r.rows) != n {
		t.Errorf("%d rows, want %d (%+v)", len(r.rows), n, r.err)
		return
	}
	for i, row := range r.rows {
		if want := fmt.Sprintf("[%d,", first+i); !strings.HasPrefix(string(row), want) {
			t.Fatalf("row %d is %.20s, want %s…", i, row, want)
		}
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	a := w.Works("cursor.rows", `{"params": {"n": 25000}, "count": 10}`)
	r := w.streamed(a.Tx, `{"cursor": "c1", "count": 500, "window_bytes": 200000}`, true)
	wantNumbered(t, r, 11, 24990)
	harness.Equal(t, "rows in a chunk", r.largest, 500)
	harness.Equal(t, "rows told", r.end.Get("Pgbridge-Rows"), "24990")
	harness.Equal(t, "state", r.end.Get("Pgbridge-Transaction"), "ended")
	harness.Equal(t, "first message", r.first.Cursor+r.first.Tx, "c1"+a.Tx)
	if !strings.Contains(r.first.Body, `"window_bytes":200000,"stall_ms":30000`) {
		t.Errorf("first message %s", r.first.Body)
	}
	w.WantIdle()

	// Below the window no acknowledgement is needed; with scroll the cursor is
	// still there, at its end.
	a = w.Works("cursor.rows", `{"params": {"n": 300}, "count": 0, "scroll": true}`)
	r = w.streamed(a.Tx, `{"cursor": "c1"}`, false)
	wantNumbered(t, r, 1, 300)
	harness.Equal(t, "state", r.end.Get("Pgbridge-Transaction"), "active")
	harness.Equal(t, "the last row", string(w.Works(a.Tx+".fetch", `{"cursor": "c1", "direction": "prior"}`).Rows[0][:4]), "[300")
	r = w.streamed(a.Tx, `{"cursor": "c1"}`, false)
	wantNumbered(t, r, 0, 0)
	w.Works(a.Tx+".close", `{"cursor": "c1"}`)

	// What a page had no room for comes first.
	a = w.Works("cursor.rows", `{"params": {"n": 3000}, "count": 1000, "max_bytes": 5000}`)
	held := len(a.Rows)
	wantNumbered(t, w.streamed(a.Tx, `{"cursor": "c1"}`, true), held+1, 3000-held)
}

func TestDigestOfAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	tx := w.Works("cursor.rows", `{"params": {"n": 2500}, "count": 0}`).Tx
	in := w.openStream(tx, `{"cursor": "c1"}`)
	sum := sha256.New()
	for {
		msg := in.Next()
		if msg.Header.Get("Pgbridge-Seq") != "" {
			sum.Write([]byte(msg.Body))
		} else if msg.Body == "" {
			harness.Equal(t, "digest", msg.Header.Get("Pgbridge-Digest"), "SHA-256="+base64.URLEncoding.EncodeToString(sum.Sum(nil)))
			return
		}
	}
}

func TestQueryThatFailsOnItsWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	a := w.Works("cursor.breaks", `{"count": 4990}`)
	harness.Equal(t, "rows", len(a.Rows), 4990)
	failed := w.Fails("sql_error", a.Tx+".fetch", `{"cursor": "c1"}`)
	harness.Equal(t, "error", failed.Error.SQLState+fmt.Sprint(failed.Error.Statement)+failed.State(), "220121failed")
	harness.Equal(t, "then", w.Fails("sql_error", a.Tx+".fetch", `{"cursor": "c1"}`).Error.SQLState, "25P02")
	harness.Equal(t, "closed", w.Works(a.Tx+".close", `{"cursor": "c1"}`).State(), "ended")
	w.WantIdle()

	tx := w.Works("begin", "").Tx
	w.Works(tx+".savepoint", `{"name": "s"}`)
	w.Works(tx+".cursor.breaks", `{"count": 0}`)
	r := w.streamed(tx, `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.SQLState != "22012" || r.end.Get("Pgbridge-Digest") != "" {
		t.Errorf("the stream ended with %+v", r.err)
	}
	harness.Equal(t, "state", r.end.Get("Pgbridge-Transaction"), "failed")
	w.Works(tx+".rollback_to", `{"name": "s"}`)
	w.Fails("not_found", tx+".fetch", `{"cursor": "c1"}`)
	w.Works(tx+".cursor.breaks", `{"count": 10, "name": "outer"}`)
	w.Works(tx+".savepoint", `{"name": "inner"}`)
	w.Fails("sql_error", tx+".fetch", `{"cursor": "outer", "count": 6000}`)
	w.Works(tx+".rollback_to", `{"name": "inner"}`)
	left := w.Fails("not_found", tx+".fetch", `{"cursor": "outer"}`)
	harness.Equal(t, "a cursor that has failed is not read on", left.State(), "active")
	w.Works(tx+".close", `{"cursor": "outer"}`)
	w.Works(tx+".commit", "")
	w.Fails("sql_error", "cursor.breaks", `{"count": 6000}`)
	w.WantIdle()
}

func TestClientGoesAwayDuringAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	for _, own := range []bool{true, false} {
		var tx string
		if own {
			tx = w.Works("cursor.rows", `{"params": {"n": 500000}, "count": 1}`).Tx
		} else {
			tx = w.Works("begin", "").Tx
			w.Works(tx+".cursor.rows", `{"params": {"n": 500000}, "count": 1}`)
		}
		in := w.openStream(tx, `{"cursor": "c1", "window_bytes": 2000000}`)
		for range 3 {
			in.Next()
		}
		if err := in.Sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if own {
			w.wantGone(tx)
			continue
		}
		w.wantStreamable(tx)
		w.Works(tx+".rollback", "")
	}
	w.WantIdle()
}

// wantGone waits for the end of a transaction.
func (w *world) wantGone(tx string) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "the transaction to end", func() bool {
		a := w.Ask(tx+".touch", "")
		return a.Error != nil && a.Error.Code == "gone"
	})
}

// wantStreamable reads on with a cursor whose stream was broken off.
func (w *world) wantStreamable(tx string) {
	w.T.Helper()
	a := w.Works(tx+".fetch", `{"cursor": "c1", "count": 10}`)
	harness.Equal(w.T, "rows after a broken stream", len(a.Rows), 10)
}

func TestStreamThatNobodyAcknowledges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.rows", `{"params": {"n": 20000}, "count": 0}`)
	r := w.streamed(tx, `{"cursor": "c1", "window_bytes": 300000, "stall_ms": 200}`, false)
	if r.err == nil || r.err.Code != "timeout" {
		t.Fatalf("the stream ended with %+v, want timeout", r.err)
	}
	harness.Equal(t, "state", r.end.Get("Pgbridge-Transaction"), "active")
	// Nothing that was not sent is lost.
	rest := w.streamed(tx, `{"cursor": "c1"}`, true)
	wantNumbered(t, rest, len(r.rows)+1, 20000-len(r.rows))

	tx = w.Works("cursor.rows", `{"params": {"n": 20000}, "count": 0, "scroll": true}`).Tx
	r = w.streamed(tx, `{"cursor": "c1", "window_bytes": 300000, "stall_ms": 200}`, false)
	if r.err == nil || r.err.Code != "timeout" {
		t.Fatalf("the stream ended with %+v, want timeout", r.err)
	}
	w.wantGone(tx)
}

// TestSlowStreamIsNotIdle asks PostgreSQL how long it may wait: a client that
// takes one chunk after the other, each within stall_ms, is not to be cut off.
func TestSlowStreamIsNotIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"idle": "SELECT current_setting('idle_in_transaction_session_timeout') FROM generate_series(1, 3);"})
	w.serve(func(c *txrunner.Config) { c.IdleTimeout, c.Lifetime = 10*time.Second, time.Hour })
	tx := w.Works("begin", "").Tx
	harness.Equal(t, "in a page", w.Works(tx+".cursor.idle", `{"count": 1, "scroll": true}`).Rows.String(), `["15s"]`)
	r := w.streamed(tx, `{"cursor": "c1"}`, true)
	if len(r.rows) != 2 || string(r.rows[0]) == `["15s"]` {
		t.Errorf("in a stream %s, want more than a page's", r.rows)
	}
	harness.Equal(t, "in a page again", w.Works(tx+".fetch", `{"cursor": "c1", "direction": "prior"}`).Rows.String(), `["15s"]`)
	w.Works(tx+".rollback", "")
}

func TestLeaseRunsOutDuringAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve(func(c *txrunner.Config) { c.Lifetime = 2 * time.Second; c.IdleTimeout = 2 * time.Second })
	tx := w.Works("cursor.rows", `{"params": {"n": 5000000}, "count": 0}`).Tx
	in := w.openStream(tx, `{"cursor": "c1", "window_bytes": 300000, "stall_ms": 60000}`)
	var r received
	for done := false; !done; {
		done = r.take(in, r.chunks < 20)
	}
	if r.err == nil || r.err.Code != "gone" {
		t.Errorf("the stream ended with %+v, want gone", r.err)
	}
	w.Fails("gone", tx+".fetch", `{"cursor": "c1"}`)
	w.WantIdle()
}

func TestRollbackOvertakesAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	tx := w.Works("cursor.rows", `{"params": {"n": 5000000}, "count": 0}`).Tx
	in := w.openStream(tx, `{"cursor": "c1", "window_bytes": 300000}`)
	in.Next()
	harness.Equal(t, "touched meanwhile", w.Works(tx+".touch", "").State(), "active")
	harness.Equal(t, "rolled back", w.Works(tx+".rollback", "").State(), "ended")
	w.WantIdle()
	for {
		msg := in.Next()
		if msg.Header.Get("Nats-Service-Error-Code") == "410" {
			return
		}
	}
}

// TestClientGoesAwayMidPage stops listening before the page comes.
func TestClientGoesAwayMidPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"slow": "SELECT g, pg_sleep(0.001) FROM generate_series(1, 100) g;"})
	r := w.serve(func(c *txrunner.Config) { c.IdleTimeout = 500 * time.Millisecond })
	if err := w.Client.PublishRequest("pgbridge.cursor.slow", nats.NewInbox(), nil); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the cursor to be opened", func() bool { return gathered(t, r)["pgbridge_cursors_opened_total"] == 1 })
	w.WantIdle() // nobody knows its subject
}

// TestNotices reads what the queries of cursors say besides.
func TestNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"said":  "SELECT said(g) FROM generate_series(1, 9) g;",
		"large": "SELECT said(1), repeat('x', 16000) FROM generate_series(1, 3) g;",
	}, func(o *server.Options) { o.MaxPayload = 20 << 10 })
	w.SQL(`CREATE FUNCTION said(n int) RETURNS int LANGUAGE plpgsql AS
		$$BEGIN RAISE WARNING 'row % %', n, repeat('😀', 300) USING HINT = 'ü'; RETURN n; END$$`)
	w.serve()
	a := w.Works("cursor.said", `{"count": 2, "scroll": true}`)
	wantNotices(t, a.Notices, 2)
	harness.Equal(t, "rows", a.Rows.String(), "[1][2]")
	wantNotices(t, w.Works(a.Tx+".fetch", `{"cursor": "c1", "count": 1, "page": 1}`).Notices, 1)
	wantNotices(t, w.Works(a.Tx+".fetch", `{"cursor": "c1", "count": 1, "page": 1}`).Notices, 1)
	wantNotices(t, w.Works(a.Tx+".move", `{"cursor": "c1", "count": 2}`).Notices, 2)
	r := w.streamed(a.Tx, `{"cursor": "c1"}`, true)
	var told []map[string]string
	if err := json.Unmarshal([]byte(r.end.Get("Pgbridge-Notices")), &told); err != nil {
		t.Fatalf("header %q: %v", r.end.Get("Pgbridge-Notices"), err)
	}
	if len(told) == 0 || told[0]["hint"] != "ü" || !strings.Contains(told[0]["message"], "\U0001F600") {
		t.Errorf("notices at the end of a stream: %v", told)
	}
	w.Works(a.Tx+".rollback", "")

	// What does not fit beside the rows is told by the next reply.
	a = w.Works("cursor.large", `{"count": 3}`)
	tx, n := a.Tx, len(a.Notices)
	for !a.Done {
		a = w.Works(tx+".fetch", `{"cursor": "c1"}`)
		n += len(a.Notices)
	}
	harness.Equal(t, "notices of three rows", n, 3)
}

func wantNotices(t *testing.T, notices []map[string]string, n int) {
	t.Helper()
	if len(notices) != n {
		t.Errorf("%d notices, want %d: %.300v", len(notices), n, notices)
	}
}
