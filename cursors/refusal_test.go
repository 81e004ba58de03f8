package cursors_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// TestRefusals asks for what PostgreSQL, or nobody, would do. The transaction
// stays as it is.
func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"numbers": "SELECT g AS n FROM generate_series(1, 9) g ORDER BY g;",
		"write":   "CREATE TABLE made (id int);",
		"copy":    "COPY (SELECT 1) TO STDOUT;",
		"call":    "CALL nothing();",
		"bare":    "SELECT FROM generate_series(1, 3);",
	})
	w.sql("CREATE PROCEDURE nothing() LANGUAGE sql AS ''")
	w.serve()
	for _, c := range []struct{ code, body string }{
		{"invalid_request", `{"count": "many"}`}, {"invalid_request", `{"count": 1.5}`}, {"invalid_request", `{"count": -1}`},
		{"invalid_request", `{"count": 3000000000}`}, {"invalid_request", `{"max_bytes": 0}`}, {"invalid_request", `{"max_bytes": "1"}`},
		{"invalid_request", `{"scroll": 1}`}, {"invalid_request", `{"hold": "yes"}`}, {"invalid_request", `{"name": 1}`},
		{"invalid_request", `{"name": "` + strings.Repeat("n", 64) + `"}`}, {"invalid_request", `{"name": "\u0000"}`},
		{"invalid_request", `{"rows": "table"}`}, {"invalid_request", `{"direction": "next"}`}, {"invalid_request", `{"params": {"x": 1}}`},
		{"invalid_request", `[`},
	} {
		w.fails(c.code, "cursor.numbers", c.body)
	}
	w.fails("invalid_request", "cursor.numbers", "", "Nats-Msg-Id", "1")
	w.fails("not_found", "cursor.nowhere", "")
	w.fails("invalid_request", "cursor.write", "")
	w.fails("invalid_request", "cursor.copy", "")
	w.fails("invalid_request", "cursor.call", "")
	w.fails("invalid_request", "cursor", `{"sql": "DELETE FROM pg_class"}`)
	bare := w.works("cursor.bare", `{"count": 2}`)
	equal(t, "rows without columns", bare.rows()+fmt.Sprint(len(bare.Columns)), "[][]0")
	equal(t, "the others", w.works(bare.Tx+".fetch", `{"cursor": "c1"}`).rows(), "[]")

	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.numbers", `{"count": 3}`)
	w.works(tx+".cursor.numbers", `{"name": "scrolls", "scroll": true, "count": 3}`)
	for _, c := range []struct{ code, verb, body string }{
		{"not_found", "fetch", `{"cursor": "x"}`}, {"not_found", "move", `{"cursor": "x"}`}, {"not_found", "close", `{"cursor": "x"}`}, {"not_found", "stream", `{"cursor": "x"}`},
		{"invalid_request", "fetch", ``}, {"invalid_request", "fetch", `{"cursor": 1}`},
		{"invalid_request", "fetch", `{"cursor": "c1", "direction": "backward"}`}, {"invalid_request", "fetch", `{"cursor": "c1", "direction": "prior"}`},
		{"invalid_request", "fetch", `{"cursor": "c1", "direction": "last"}`}, {"invalid_request", "fetch", `{"cursor": "c1", "direction": "first"}`},
		{"invalid_request", "fetch", `{"cursor": "c1", "count": 0}`}, {"invalid_request", "fetch", `{"cursor": "c1", "count": -1}`},
		{"invalid_request", "fetch", `{"cursor": "c1", "direction": "absolute", "count": 3}`}, {"invalid_request", "fetch", `{"cursor": "c1", "direction": "relative", "count": 0}`},
		{"invalid_request", "move", `{"cursor": "c1", "direction": "backward"}`}, {"invalid_request", "move", `{"cursor": "c1", "direction": "absolute", "count": -1}`},
		{"invalid_request", "fetch", `{"cursor": "scrolls", "count": "ten"}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "count": 1e9999}`},
		{"invalid_request", "fetch", `{"cursor": "scrolls", "count": 1, "direction": "next"}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "direction": "sideways"}`},
		{"invalid_request", "fetch", `{"cursor": "scrolls", "direction": "absolute"}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "direction": "relative", "count": null}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "direction": "relative", "count": "all"}`},
		{"invalid_request", "fetch", `{"cursor": "scrolls", "page": -1}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "rows": "array"}`},
		{"invalid_request", "move", `{"cursor": "scrolls", "max_bytes": 1}`}, {"invalid_request", "close", `{"cursor": "scrolls", "count": 1}`},
		{"invalid_request", "stream", `{"cursor": "c1", "count": 0}`}, {"invalid_request", "stream", `{"cursor": "c1", "window_bytes": 0}`}, {"invalid_request", "stream", `{"cursor": "c1", "stall_ms": 0}`},
		{"not_found", "fetch.c1", ``},
	} {
		if got := w.fails(c.code, tx+"."+c.verb, c.body); got.state() != "active" {
			t.Errorf("%s %s left the transaction %s", c.verb, c.body, got.state())
		}
	}
	w.fails("invalid_request", tx+".fetch", `{"cursor": "c1"}`, "Nats-Msg-Id", "1")
	equal(t, "the first goes on", w.works(tx+".fetch", `{"cursor": "c1", "count": 1}`).rows(), "[4]")
	equal(t, "the second too", w.works(tx+".fetch", `{"cursor": "scrolls", "count": 0}`).rows(), "[3]")
	w.works(tx+".close", `{"cursor": "c1"}`)
	twice := w.fails("not_found", tx+".close", `{"cursor": "c1"}`)
	equal(t, "closed twice", twice.state(), "active")
	w.works(tx+".commit", "")
}

// TestTitlesBeyondAMessage opens a cursor of which not even the columns' names
// fit.
func TestTitlesBeyondAMessage(t *testing.T) {
	t.Parallel()
	titles := make([]string, 1200)
	for i := range titles {
		titles[i] = fmt.Sprintf("1 AS a_rather_long_name_of_a_column_that_is_there_%04d", i)
	}
	w := newWorld(t, map[string]string{"wide": "SELECT " + strings.Join(titles, ", ") + ";"},
		func(o *server.Options) { o.MaxPayload = 64 << 10 })
	w.serve()
	w.fails("too_large", "cursor.wide", "")
	tx := w.works("begin", "").Tx
	equal(t, "state", w.fails("too_large", tx+".cursor.wide", "").state(), "active")
	w.works(tx+".rollback", "")
	w.wantIdle() // nobody would know the other transaction
}

// TestLargeRows reads rows beyond a message, over and over, in all ways.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	const payload = 64 << 10
	w := newWorld(t, map[string]string{
		"rows": `SELECT g, repeat('x', CASE WHEN g = 3 THEN 70000 WHEN g = 5 THEN 200000 ELSE g * 1000 END) FROM generate_series(1, 7) g ORDER BY g;`,
		"huge": `SELECT repeat('x', 100000);`,
		"grow": `SELECT g, repeat('x', CASE WHEN g <= 2000 THEN 1 ELSE 60000 END) FROM generate_series(1, 3500) g ORDER BY g;`,
		"vary": `SELECT g, repeat('x', @n::int) FROM generate_series(1, 3000) g ORDER BY g;`,
	}, func(o *server.Options) { o.MaxPayload = payload })
	w.serve()
	for _, scroll := range []bool{false, true} {
		a := w.works("cursor.rows", fmt.Sprintf(`{"scroll": %t}`, scroll))
		equal(t, "before the first large one", len(a.Rows), 2)
		third := w.fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "page": 1}`)
		equal(t, "its number and the state", fmt.Sprint(third.Error.Row)+third.state(), "3active")
		equal(t, "asked again", w.fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "page": 1}`).Error.Row, 3)
		equal(t, "the next", len(w.works(a.Tx+".fetch", `{"cursor": "c1"}`).Rows), 1)
		equal(t, "the other large one", w.fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "count": 1}`).Error.Row, 5)
		equal(t, "moved over", w.works(a.Tx+".move", `{"cursor": "c1"}`).Moved, 1)
		last := w.works(a.Tx+".fetch", `{"cursor": "c1"}`)
		equal(t, "the last", fmt.Sprint(len(last.Rows))+fmt.Sprint(last.Done), "1true")
		if scroll {
			equal(t, "backward", len(w.works(a.Tx+".fetch", `{"cursor": "c1", "direction": "backward"}`).Rows), 2)
			equal(t, "backward at it", w.fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "direction": "backward"}`).Error.Row, 5)
			equal(t, "and behind it", string(w.works(a.Tx+".fetch", `{"cursor": "c1", "direction": "prior"}`).Rows[0][:2]), "[4")
		}
		w.works(a.Tx+".close", `{"cursor": "c1"}`)
	}
	first := w.works("cursor.huge", "")
	equal(t, "the first is too large", fmt.Sprint(len(first.Rows))+fmt.Sprint(first.Done)+first.state(), "0falseactive")
	equal(t, "then it is the error", w.fails("too_large", first.Tx+".fetch", `{"cursor": "c1"}`).Error.Row, 1)
	equal(t, "and the end", w.works(first.Tx+".fetch", `{"cursor": "c1"}`).state(), "ended")

	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.rows", `{"count": 0}`)
	r := w.streamed(tx, `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.Row != 3 || len(r.rows) != 2 || r.end.Get("Pgbridge-Rows") != "" {
		t.Errorf("the stream brought %d rows and %+v", len(r.rows), r.err)
	}
	r = w.streamed(tx, `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.Row != 5 || len(r.rows) != 1 {
		t.Errorf("the next stream brought %d rows and %+v", len(r.rows), r.err)
	}
	r = w.streamed(tx, `{"cursor": "c1"}`, true)
	equal(t, "the rest", fmt.Sprint(len(r.rows))+r.end.Get("Pgbridge-Rows"), "22")

	// Rows that grow beyond what can be kept are given up, not the process.
	w.works(tx+".cursor.grow", `{"name": "grow", "count": 2000, "max_bytes": 60000}`)
	for range 100 {
		a := w.ask(tx+".fetch", `{"cursor": "grow", "count": 2000}`)
		if a.Error != nil {
			equal(t, "given up", a.Error.Code+a.state(), "too_largeactive")
			w.fails("not_found", tx+".fetch", `{"cursor": "grow"}`)
			break
		}
		if a.Done {
			t.Error("90 MB were held")
		}
	}
	// What is only expected of a script's rows is corrected at once.
	w.works("cursor.vary", `{"params": {"n": 1}, "count": 3000}`)
	large := w.works("cursor.vary", `{"params": {"n": 50000}, "count": 3000}`)
	equal(t, "one of the large ones", len(large.Rows), 1)
	equal(t, "the second of them", string(w.works(large.Tx+".fetch", `{"cursor": "c1"}`).Rows[0][:2]), "[2")
}

// TestTooManyCursors: each costs memory, and a client could open any number.
func TestTooManyCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"one": "SELECT 1;", "many": "SELECT opened(5);"})
	w.sql(`CREATE FUNCTION opened(n int) RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor;
		BEGIN FOR i IN 1 .. n LOOP r := NULL; OPEN r FOR SELECT i; RETURN NEXT r; END LOOP; END $$`)
	w.serve()
	tx := w.works("begin", "").Tx
	for range 64 {
		w.works(tx+".cursor.one", `{"count": 0}`)
	}
	w.fails("invalid_request", tx+".cursor.one", "")
	w.works(tx+".close", `{"cursor": "c1"}`)
	w.works(tx+".cursor.one", "")
	w.works(tx+".rollback", "")
	tx = w.works("begin", "").Tx
	for range 60 {
		w.works(tx+".cursor.one", `{"count": 0}`)
	}
	w.fails("invalid_request", tx+".cursor.many", "")
}
