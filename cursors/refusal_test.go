package cursors_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"

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
	w.SQL("CREATE PROCEDURE nothing() LANGUAGE sql AS ''")
	w.serve()
	for _, c := range []struct{ code, body string }{
		{"invalid_request", `{"count": "many"}`}, {"invalid_request", `{"count": 1.5}`}, {"invalid_request", `{"count": -1}`},
		{"invalid_request", `{"count": 3000000000}`}, {"invalid_request", `{"max_bytes": 0}`}, {"invalid_request", `{"max_bytes": "1"}`},
		{"invalid_request", `{"scroll": 1}`}, {"invalid_request", `{"hold": "yes"}`}, {"invalid_request", `{"name": 1}`},
		{"invalid_request", `{"name": "` + strings.Repeat("n", 64) + `"}`}, {"invalid_request", `{"name": "\u0000"}`},
		{"invalid_request", `{"rows": "table"}`}, {"invalid_request", `{"direction": "next"}`}, {"invalid_request", `{"params": {"x": 1}}`},
		{"invalid_request", `[`},
	} {
		w.Fails(c.code, "cursor.numbers", c.body)
	}
	w.Fails("invalid_request", "cursor.numbers", "", "Nats-Msg-Id", "1")
	w.Fails("not_found", "cursor.nowhere", "")
	w.Fails("invalid_request", "cursor.write", "")
	w.Fails("invalid_request", "cursor.copy", "")
	w.Fails("invalid_request", "cursor.call", "")
	w.Fails("invalid_request", "cursor", `{"sql": "DELETE FROM pg_class"}`)
	bare := w.Works("cursor.bare", `{"count": 2}`)
	harness.Equal(t, "rows without columns", bare.Rows.String()+fmt.Sprint(len(bare.Columns)), "[][]0")
	harness.Equal(t, "the others", w.Works(bare.Tx+".fetch", `{"cursor": "c1"}`).Rows.String(), "[]")

	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.numbers", `{"count": 3}`)
	w.Works(tx+".cursor.numbers", `{"name": "scrolls", "scroll": true, "count": 3}`)
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
		{"invalid_request", "fetch", `{"cursor": "scrolls", "page": -1}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "page": 0}`}, {"invalid_request", "fetch", `{"cursor": "scrolls", "rows": "array"}`},
		{"invalid_request", "move", `{"cursor": "scrolls", "max_bytes": 1}`}, {"invalid_request", "close", `{"cursor": "scrolls", "count": 1}`},
		{"invalid_request", "stream", `{"cursor": "c1", "count": 0}`}, {"invalid_request", "stream", `{"cursor": "c1", "window_bytes": 0}`}, {"invalid_request", "stream", `{"cursor": "c1", "stall_ms": 0}`},
		{"not_found", "fetch.c1", ``},
	} {
		if got := w.Fails(c.code, tx+"."+c.verb, c.body); got.State() != "active" {
			t.Errorf("%s %s left the transaction %s", c.verb, c.body, got.State())
		}
	}
	w.Fails("invalid_request", tx+".fetch", `{"cursor": "c1"}`, "Nats-Msg-Id", "1")
	harness.Equal(t, "the first goes on", w.Works(tx+".fetch", `{"cursor": "c1", "count": 1}`).Rows.String(), "[4]")
	harness.Equal(t, "the second too", w.Works(tx+".fetch", `{"cursor": "scrolls", "count": 0}`).Rows.String(), "[3]")
	w.Works(tx+".close", `{"cursor": "c1"}`)
	twice := w.Fails("not_found", tx+".close", `{"cursor": "c1"}`)
	harness.Equal(t, "closed twice", twice.State(), "active")
	w.Works(tx+".commit", "")
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
	w.Fails("too_large", "cursor.wide", "")
	tx := w.Works("begin", "").Tx
	harness.Equal(t, "state", w.Fails("too_large", tx+".cursor.wide", "").State(), "active")
	w.Works(tx+".rollback", "")
	w.WantIdle() // nobody would know the other transaction
}

// Of the rows that are asked for where nothing is known of them a share stays in memory that
// leaves room for the pages, and those that fit no message take none.
func TestFirstRowsBeyondTheBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"large": "SELECT repeat('x', 900000) FROM generate_series(1, 100)",
		"huge":  "SELECT repeat('x', 2000000) FROM generate_series(1, 100)",
	})
	w.serve()
	for range 2 { // when nothing is known of the rows, and then
		large := w.Works("cursor.large", "")
		for range 3 {
			harness.Equal(t, "rows of a page", len(w.Works(large.Tx+".fetch", `{"cursor": "c1"}`).Rows), 1)
		}
		w.Works(large.Tx+".rollback", "")
		huge := w.Works("cursor.huge", "")
		for row := range int64(3) {
			harness.Equal(t, "the row", w.Fails("too_large", huge.Tx+".fetch", `{"cursor": "c1"}`).Error.Row, row+1)
		}
		w.Works(huge.Tx+".rollback", "")
	}
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
		a := w.Works("cursor.rows", fmt.Sprintf(`{"scroll": %t}`, scroll))
		harness.Equal(t, "before the first large one", len(a.Rows), 2)
		third := w.Fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "page": 1}`)
		harness.Equal(t, "its number and the state", fmt.Sprint(third.Error.Row)+third.State(), "3active")
		harness.Equal(t, "asked again", w.Fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "page": 1}`).Error.Row, 3)
		harness.Equal(t, "the next", len(w.Works(a.Tx+".fetch", `{"cursor": "c1"}`).Rows), 1)
		harness.Equal(t, "the other large one", w.Fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "count": 1}`).Error.Row, 5)
		harness.Equal(t, "moved over", w.Works(a.Tx+".move", `{"cursor": "c1"}`).Moved, 1)
		last := w.Works(a.Tx+".fetch", `{"cursor": "c1"}`)
		harness.Equal(t, "the last", fmt.Sprint(len(last.Rows))+fmt.Sprint(last.Done), "1true")
		if scroll {
			harness.Equal(t, "backward", len(w.Works(a.Tx+".fetch", `{"cursor": "c1", "direction": "backward"}`).Rows), 2)
			harness.Equal(t, "backward at it", w.Fails("too_large", a.Tx+".fetch", `{"cursor": "c1", "direction": "backward"}`).Error.Row, 5)
			harness.Equal(t, "and behind it", string(w.Works(a.Tx+".fetch", `{"cursor": "c1", "direction": "prior"}`).Rows[0][:2]), "[4")
		}
		w.Works(a.Tx+".close", `{"cursor": "c1"}`)
	}
	first := w.Works("cursor.huge", "")
	harness.Equal(t, "the first is too large", fmt.Sprint(len(first.Rows))+fmt.Sprint(first.Done)+first.State(), "0falseactive")
	harness.Equal(t, "then it is the error", w.Fails("too_large", first.Tx+".fetch", `{"cursor": "c1"}`).Error.Row, 1)
	harness.Equal(t, "and the end", w.Works(first.Tx+".fetch", `{"cursor": "c1"}`).State(), "ended")

	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.rows", `{"count": 0}`)
	r := w.streamed(tx, `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.Row != 3 || len(r.rows) != 2 || r.end.Get("Pgbridge-Rows") != "" {
		t.Errorf("the stream brought %d rows and %+v", len(r.rows), r.err)
	}
	r = w.streamed(tx, `{"cursor": "c1"}`, true)
	if r.err == nil || r.err.Row != 5 || len(r.rows) != 1 {
		t.Errorf("the next stream brought %d rows and %+v", len(r.rows), r.err)
	}
	r = w.streamed(tx, `{"cursor": "c1"}`, true)
	harness.Equal(t, "the rest", fmt.Sprint(len(r.rows))+r.end.Get("Pgbridge-Rows"), "22")

	// Rows that grow beyond what can be kept are given up, not the process.
	w.Works(tx+".cursor.grow", `{"name": "grow", "count": 2000, "max_bytes": 60000}`)
	for range 100 {
		a := w.Ask(tx+".fetch", `{"cursor": "grow", "count": 2000}`)
		if a.Error != nil {
			harness.Equal(t, "given up", a.Error.Code+a.State(), "too_largeactive")
			w.Fails("not_found", tx+".fetch", `{"cursor": "grow"}`)
			break
		}
		if a.Done {
			t.Error("90 MB were held")
		}
	}
	// What is only expected of a script's rows is corrected at once.
	w.Works("cursor.vary", `{"params": {"n": 1}, "count": 3000}`)
	large := w.Works("cursor.vary", `{"params": {"n": 50000}, "count": 3000}`)
	harness.Equal(t, "one of the large ones", len(large.Rows), 1)
	harness.Equal(t, "the second of them", string(w.Works(large.Tx+".fetch", `{"cursor": "c1"}`).Rows[0][:2]), "[2")
}

// TestTooManyCursors: each costs memory, and a client could open any number.
func TestTooManyCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"one": "SELECT 1;", "many": "SELECT opened(5);"})
	w.SQL(`CREATE FUNCTION opened(n int) RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor;
		BEGIN FOR i IN 1 .. n LOOP r := NULL; OPEN r FOR SELECT i; RETURN NEXT r; END LOOP; END $$`)
	w.serve()
	tx := w.Works("begin", "").Tx
	for range 64 {
		w.Works(tx+".cursor.one", `{"count": 0}`)
	}
	w.Fails("invalid_request", tx+".cursor.one", "")
	w.Works(tx+".close", `{"cursor": "c1"}`)
	w.Works(tx+".cursor.one", "")
	w.Works(tx+".rollback", "")
	tx = w.Works("begin", "").Tx
	for range 60 {
		w.Works(tx+".cursor.one", `{"count": 0}`)
	}
	w.Fails("invalid_request", tx+".cursor.many", "")
}

// TestPagesThatAreKeptAreBounded keeps pages of many cursors, which any client may
// do, until there is no memory for more.
func TestPagesThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"rows": "SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) g;"})
	w.serve(func(c *txrunner.Config) { c.RequestBytes = 4 << 20 })
	tx := w.Works("begin", "").Tx
	kept, busy := 0, false
	for i := range 60 {
		name := fmt.Sprintf("n%d", i)
		a := w.Ask(tx+".cursor.rows", fmt.Sprintf(`{"name": %q, "count": 0, "scroll": true}`, name))
		if a.Error == nil {
			a = w.Ask(tx+".fetch", fmt.Sprintf(`{"cursor": %q, "page": 1, "max_bytes": 200000}`, name))
		}
		if a.Error != nil {
			busy = true
			harness.Equal(t, "the error and the state", a.Error.Code+" "+a.State(), "busy active")
			break
		}
		kept++
	}
	if !busy || kept < 4 {
		t.Errorf("%d pages of 200 kB were kept in 4 MiB, busy is %t", kept, busy)
	}
	harness.Equal(t, "a page that is kept", w.Works(tx+".fetch", `{"cursor": "n0", "page": 1}`).Done, false)
	w.Works(tx+".rollback", "")
	w.Works("cursor.rows", `{"count": 5000, "max_bytes": 900000}`) // the memory is free again
}

// TestRequestsThatAreKeptAreBounded opens cursors with large parameters, which stay as
// long as the cursors.
func TestRequestsThatAreKeptAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"long": "SELECT length(@text)"})
	w.serve(func(c *txrunner.Config) { c.RequestBytes = 8 << 20 })
	tx := w.Works("begin", "").Tx
	body := `{"count": 0, "params": {"text": "` + strings.Repeat("x", 500_000) + `"}}`
	opened := 0
	for range 60 {
		a := w.Ask(tx+".cursor.long", body)
		if a.Error != nil {
			harness.Equal(t, "the error and the state", a.Error.Code+" "+a.State(), "busy active")
			break
		}
		opened++
	}
	if opened < 4 || opened > 16 {
		t.Errorf("%d cursors with 500 kB each were opened in 8 MiB", opened)
	}
	harness.Equal(t, "a cursor that is kept", w.Works(tx+".fetch", `{"cursor": "c1", "max_bytes": 1000}`).Rows.String(), "[500000]")
	w.Works(tx+".rollback", "")
	w.Works("cursor.long", body) // the memory is free again
}

// TestNamesOfCursorsAreBounded: a script can return any number, of any length.
func TestNamesOfCursorsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.serve()
	w.Fails("invalid_request", "cursor", `{"sql": "SELECT g::text::refcursor FROM generate_series(1, 1000000) g"}`)
	w.Fails("not_found", "cursor", `{"sql": "SELECT repeat('x', 60000)::refcursor"}`)
}

// TestLastPagesGiveTheirMemoryBack has transactions end with pages that may be asked for
// again, which nobody does.
func TestLastPagesGiveTheirMemoryBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"rows": "SELECT g, repeat('x', 1000) FROM generate_series(1, 500) g;"})
	r := w.serve(func(c *txrunner.Config) { c.RequestBytes, c.IdleTimeout = 4<<20, 10*time.Second })
	held := func() float64 { return gathered(t, r)["pgbridge_request_memory_bytes"] }
	for range 4 {
		tx := w.Works("cursor.rows", `{"count": 1}`).Tx
		harness.Equal(t, "the state", w.Works(tx+".fetch", `{"cursor": "c1", "page": 1}`).State(), "ended")
	}
	if held() < 4*500_000 {
		t.Errorf("%v bytes are held for four pages", held())
	}
	testenv.Wait(t, harness.Patience, "the memory to be free", func() bool { return held() == 0 })
}

// TestStreamsOfNulls breaks off a stream of rows that are nothing on their way, and long in
// JSON: as many are under way as can be kept. What the stream holds counts as memory.
func TestStreamsOfNulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"nulls": "SELECT " + strings.Repeat("NULL, ", 1500) + "NULL FROM generate_series(1, 30000);",
		"none":  "SELECT FROM generate_series(1, 2000000);",
	})
	r := w.serve(func(c *txrunner.Config) { c.IdleTimeout = 5 * time.Minute }) // whatever reading takes
	held := func() float64 { return gathered(t, r)["pgbridge_request_memory_bytes"] }
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.nulls", `{"count": 0}`)
	in := w.openStream(tx, `{"cursor": "c1", "count": "all", "window_bytes": 300000, "stall_ms": 300}`)
	in.Next()
	if held() < 1<<20 {
		t.Errorf("%v bytes are held for a chunk", held())
	}
	in.Next()
	harness.Equal(t, "what ends it", in.Next().Error.Code, "timeout")
	harness.Equal(t, "rows of a page", len(w.Works(tx+".fetch", `{"cursor": "c1", "count": 5}`).Rows), 5)
	w.Works(tx+".close", `{"cursor": "c1"}`)
	w.Works(tx+".cursor.none", `{"count": 0, "name": "c2"}`)
	s := w.streamed(tx, `{"cursor": "c2", "count": "all"}`, true)
	harness.Equal(t, "rows", len(s.rows), 2_000_000)
	if s.largest > 1<<16 {
		t.Errorf("a chunk has %d rows", s.largest)
	}
	w.Works(tx+".rollback", "")
	testenv.Wait(t, harness.Patience, "the memory to be free", func() bool { return held() == 0 })
}
