package cursors_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

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
	a := w.works("cursor.rows", `{"params": {"n": 25000}, "count": 10}`)
	r := w.streamed(a.Tx, `{"cursor": "c1", "count": 500, "window_bytes": 200000}`, true)
	wantNumbered(t, r, 11, 24990)
	equal(t, "rows in a chunk", r.largest, 500)
	equal(t, "rows told", r.end.Get("Pgbridge-Rows"), "24990")
	equal(t, "state", r.end.Get("Pgbridge-Transaction"), "ended")
	equal(t, "first message", r.first.Cursor+r.first.Tx, "c1"+a.Tx)
	if !strings.Contains(r.first.body, `"window_bytes":200000,"stall_ms":30000`) {
		t.Errorf("first message %s", r.first.body)
	}
	w.wantIdle()

	// Below the window no acknowledgement is needed; with scroll the cursor is
	// still there, at its end.
	a = w.works("cursor.rows", `{"params": {"n": 300}, "count": 0, "scroll": true}`)
	r = w.streamed(a.Tx, `{"cursor": "c1"}`, false)
	wantNumbered(t, r, 1, 300)
	equal(t, "state", r.end.Get("Pgbridge-Transaction"), "active")
	equal(t, "the last row", string(w.works(a.Tx+".fetch", `{"cursor": "c1", "direction": "prior"}`).Rows[0][:4]), "[300")
	r = w.streamed(a.Tx, `{"cursor": "c1"}`, false)
	wantNumbered(t, r, 0, 0)
	w.works(a.Tx+".close", `{"cursor": "c1"}`)

	// What a page had no room for comes first.
	a = w.works("cursor.rows", `{"params": {"n": 3000}, "count": 1000, "max_bytes": 5000}`)
	held := len(a.Rows)
	wantNumbered(t, w.streamed(a.Tx, `{"cursor": "c1"}`, true), held+1, 3000-held)
}

func TestDigestOfAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	tx := w.works("cursor.rows", `{"params": {"n": 2500}, "count": 0}`).Tx
	sub := w.openStream(tx, `{"cursor": "c1"}`)
	sum := sha256.New()
	for {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get("Pgbridge-Seq") != "" {
			sum.Write(msg.Data)
		} else if len(msg.Data) == 0 {
			equal(t, "digest", msg.Header.Get("Pgbridge-Digest"), "SHA-256="+base64.URLEncoding.EncodeToString(sum.Sum(nil)))
			return
		}
	}
}

func TestQueryThatFailsOnItsWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	a := w.works("cursor.breaks", `{"count": 4990}`)
	equal(t, "rows", len(a.Rows), 4990)
	failed := w.fails("sql_error", a.Tx+".fetch", `{"cursor": "c1"}`)
	equal(t, "error", failed.Error.SQLState+fmt.Sprint(failed.Error.Statement)+failed.state(), "220121failed")
	equal(t, "then", w.fails("sql_error", a.Tx+".fetch", `{"cursor": "c1"}`).Error.SQLState, "25P02")
	equal(t, "closed", w.works(a.Tx+".close", `{"cursor": "c1"}`).state(), "ended")
	w.wantIdle()

	tx := w.works("begin", "").Tx
	w.works(tx+".savepoint", `{"name": "s"}`)
	w.works(tx+".cursor.breaks", `{"count": 0}`)
	r := w.streamed(tx, `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.SQLState != "22012" || r.end.Get("Pgbridge-Digest") != "" {
		t.Errorf("the stream ended with %+v", r.err)
	}
	equal(t, "state", r.end.Get("Pgbridge-Transaction"), "failed")
	w.works(tx+".rollback_to", `{"name": "s"}`)
	w.fails("not_found", tx+".fetch", `{"cursor": "c1"}`)
	w.works(tx+".cursor.breaks", `{"count": 10, "name": "outer"}`)
	w.works(tx+".savepoint", `{"name": "inner"}`)
	w.fails("sql_error", tx+".fetch", `{"cursor": "outer", "count": 6000}`)
	w.works(tx+".rollback_to", `{"name": "inner"}`)
	left := w.fails("not_found", tx+".fetch", `{"cursor": "outer"}`)
	equal(t, "a cursor that has failed is not read on", left.state(), "active")
	w.works(tx+".close", `{"cursor": "outer"}`)
	w.works(tx+".commit", "")
	w.fails("sql_error", "cursor.breaks", `{"count": 6000}`)
	w.wantIdle()
}

func TestClientGoesAwayDuringAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	for _, own := range []bool{true, false} {
		tx := ""
		if own {
			tx = w.works("cursor.rows", `{"params": {"n": 500000}, "count": 1}`).Tx
		} else {
			tx = w.works("begin", "").Tx
			w.works(tx+".cursor.rows", `{"params": {"n": 500000}, "count": 1}`)
		}
		sub := w.openStream(tx, `{"cursor": "c1", "window_bytes": 2000000}`)
		for range 3 {
			if _, err := sub.NextMsg(patience); err != nil {
				t.Fatal(err)
			}
		}
		if err := sub.Unsubscribe(); err != nil {
			t.Fatal(err)
		}
		if own {
			w.wantGone(tx)
			continue
		}
		w.wantStreamable(tx)
		w.works(tx+".rollback", "")
	}
	w.wantIdle()
}

// wantGone waits for the end of a transaction.
func (w *world) wantGone(tx string) {
	w.t.Helper()
	testenv.Wait(w.t, patience, "the transaction to end", func() bool {
		a := w.ask(tx+".touch", "")
		return a.Error != nil && a.Error.Code == "gone"
	})
}

// wantStreamable reads on with a cursor whose stream was broken off.
func (w *world) wantStreamable(tx string) {
	w.t.Helper()
	a := w.works(tx+".fetch", `{"cursor": "c1", "count": 10}`)
	equal(w.t, "rows after a broken stream", len(a.Rows), 10)
}

func TestStreamThatNobodyAcknowledges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.rows", `{"params": {"n": 20000}, "count": 0}`)
	r := w.streamed(tx, `{"cursor": "c1", "window_bytes": 300000, "stall_ms": 200}`, false)
	if r.err == nil || r.err.Code != "timeout" {
		t.Fatalf("the stream ended with %+v, want timeout", r.err)
	}
	equal(t, "state", r.end.Get("Pgbridge-Transaction"), "active")
	// Nothing that was not sent is lost.
	rest := w.streamed(tx, `{"cursor": "c1"}`, true)
	wantNumbered(t, rest, len(r.rows)+1, 20000-len(r.rows))

	tx = w.works("cursor.rows", `{"params": {"n": 20000}, "count": 0, "scroll": true}`).Tx
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
	tx := w.works("begin", "").Tx
	equal(t, "in a page", w.works(tx+".cursor.idle", `{"count": 1, "scroll": true}`).rows(), `["15s"]`)
	r := w.streamed(tx, `{"cursor": "c1"}`, true)
	if len(r.rows) != 2 || string(r.rows[0]) == `["15s"]` {
		t.Errorf("in a stream %s, want more than a page's", r.rows)
	}
	equal(t, "in a page again", w.works(tx+".fetch", `{"cursor": "c1", "direction": "prior"}`).rows(), `["15s"]`)
	w.works(tx+".rollback", "")
}

func TestLeaseRunsOutDuringAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve(func(c *txrunner.Config) { c.Lifetime = 2 * time.Second; c.IdleTimeout = 2 * time.Second })
	tx := w.works("cursor.rows", `{"params": {"n": 5000000}, "count": 0}`).Tx
	sub := w.openStream(tx, `{"cursor": "c1", "window_bytes": 300000, "stall_ms": 60000}`)
	var r received
	for done := false; !done; {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		done = r.take(w, msg, r.chunks < 20)
	}
	if r.err == nil || r.err.Code != "gone" {
		t.Errorf("the stream ended with %+v, want gone", r.err)
	}
	w.fails("gone", tx+".fetch", `{"cursor": "c1"}`)
	w.wantIdle()
}

func TestRollbackOvertakesAStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, streams)
	w.serve()
	tx := w.works("cursor.rows", `{"params": {"n": 5000000}, "count": 0}`).Tx
	sub := w.openStream(tx, `{"cursor": "c1", "window_bytes": 300000}`)
	if _, err := sub.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	equal(t, "touched meanwhile", w.works(tx+".touch", "").state(), "active")
	equal(t, "rolled back", w.works(tx+".rollback", "").state(), "ended")
	w.wantIdle()
	for {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Header.Get("Nats-Service-Error-Code") == "410" {
			return
		}
	}
}

// TestClientGoesAwayMidPage stops listening before the page comes.
func TestClientGoesAwayMidPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"slow": "SELECT g, pg_sleep(0.001) FROM generate_series(1, 100) g;"})
	w.serve(func(c *txrunner.Config) { c.IdleTimeout = 500 * time.Millisecond })
	if err := w.client.PublishRequest("pgbridge.cursor.slow", nats.NewInbox(), nil); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, patience, "the cursor to be open", func() bool { return w.inTransaction() == 1 })
	w.wantIdle() // nobody knows its subject
}
