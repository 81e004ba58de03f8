package cursors_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

var basics = map[string]string{
	"numbers": "SELECT g AS n FROM generate_series(1, @n::int) g ORDER BY g;",
	"big":     "SELECT g::int8 AS id, 'row ' || g AS name, g * 1.5 AS amount, ARRAY[g, NULL] AS list FROM generate_series(1, 3) g ORDER BY g;",
	"temp":    "CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT g FROM generate_series(1, @n::int) g; SELECT g FROM scratch ORDER BY g;",
	"nothing": "SELECT 1 AS x WHERE false;",
	"insert":  "INSERT INTO item VALUES (@id::int, 'new');",
	"items":   "SELECT id, name FROM item ORDER BY id;",
	"update":  "UPDATE item SET name = name || '!' WHERE CURRENT OF walk;",
}

func TestACursorOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve()
	a := w.Works("cursor.numbers", `{"params": {"n": 5}, "count": 2}`)
	harness.Equal(t, "first page", a.Rows.String(), "[1][2]")
	harness.Equal(t, "cursor", a.Cursor, "c1")
	harness.Equal(t, "state", a.State(), "active")
	harness.Equal(t, "columns", fmt.Sprint(a.Columns), "[map[name:n type:int4]]")
	harness.Equal(t, "second page", w.Works(a.Tx+".fetch", `{"cursor": "c1", "count": 2}`).Rows.String(), "[3][4]")
	last := w.Works(a.Tx+".fetch", `{"cursor": "c1", "count": 2}`)
	harness.Equal(t, "last page", last.Rows.String(), "[5]")
	harness.Equal(t, "done", last.Done, true)
	harness.Equal(t, "state", last.State(), "ended")
	w.WantIdle()
	closed := w.Works(a.Tx+".close", `{"cursor": "c1"}`)
	harness.Equal(t, "close after the end", closed.Body+closed.State(), "{}ended")
	w.Fails("gone", a.Tx+".fetch", `{"cursor": "c1"}`)

	whole := w.Works("cursor.numbers", `{"params": {"n": 3}}`)
	harness.Equal(t, "all at once", whole.Rows.String()+fmt.Sprint(whole.Done)+whole.State(), "[1][2][3]trueended")
	empty := w.Works("cursor.nothing", "")
	harness.Equal(t, "over nothing", fmt.Sprint(len(empty.Rows))+fmt.Sprint(empty.Done)+empty.State(), "0trueended")
	unread := w.Works("cursor.numbers", `{"params": {"n": 3}, "count": 0}`)
	harness.Equal(t, "no first page", fmt.Sprint(len(unread.Rows))+fmt.Sprint(unread.Done)+unread.State(), "0falseactive")
	harness.Equal(t, "closed unread", w.Works(unread.Tx+".close", `{"cursor": "c1"}`).State(), "ended")
	scrolling := w.Works("cursor.numbers", `{"params": {"n": 3}, "scroll": true}`)
	harness.Equal(t, "with scroll it goes on", fmt.Sprint(scrolling.Done)+scrolling.State(), "trueactive")
	harness.Equal(t, "back", w.Works(scrolling.Tx+".fetch", `{"cursor": "c1", "direction": "backward", "count": "all"}`).Rows.String(), "[3][2][1]")
	w.Works(scrolling.Tx+".close", `{"cursor": "c1"}`)
	w.WantIdle()
}

func TestHowRowsLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve()
	harness.Equal(t, "arrays", w.Works("cursor.big", `{"count": 1}`).Rows.String(), `[1,"row 1",1.5,[1,null]]`)
	a := w.Works("cursor.big", `{"count": 1, "rows": "object", "big_numbers": "string"}`)
	harness.Equal(t, "objects", a.Rows.String(), `{"id":"1","name":"row 1","amount":"1.5","list":[1,null]}`)
	harness.Equal(t, "types", fmt.Sprint(a.Columns[0]["type"], a.Columns[1]["type"], a.Columns[2]["type"], a.Columns[3]["type"]), "int8textnumericint4[]")
	harness.Equal(t, "they stay", w.Works(a.Tx+".fetch", `{"cursor": "c1", "count": 1}`).Rows.String(), `{"id":"2","name":"row 2","amount":"3.0","list":[2,null]}`)
	r := w.streamed(a.Tx, `{"cursor": "c1"}`, true)
	harness.Equal(t, "in a stream", string(r.rows[0]), `{"id":"3","name":"row 3","amount":"4.5","list":[3,null]}`)
	own := w.Works("cursor", `{"sql": "VALUES (@a::int + 1)", "params": {"a": 41}}`)
	harness.Equal(t, "SQL of the request", own.Rows.String(), "[42]")
}

func TestCursorsInAClientsTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.SQL("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'a'), (2, 'b')")
	w.serve()
	tx := w.Works("begin", "").Tx
	w.Works(tx+".run.insert", `{"params": {"id": 3}}`)
	items := w.Works(tx+".cursor.items", `{"name": "my \"walk\"", "count": 1}`)
	harness.Equal(t, "first page", items.Rows.String()+items.Cursor+items.State(), `[1,"a"]my "walk"active`)
	temp := w.Works(tx+".cursor.temp", `{"params": {"n": 3}, "count": 1}`)
	harness.Equal(t, "behind another statement", temp.Rows.String()+temp.Cursor, "[1]c1")
	harness.Equal(t, "another name", w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1}`).Cursor, "c2")
	w.Fails("invalid_request", tx+".cursor.items", `{"name": "c1"}`)
	rest := w.Works(tx+".fetch", `{"cursor": "my \"walk\""}`)
	harness.Equal(t, "the rest", rest.Rows.String()+fmt.Sprint(rest.Done)+rest.State(), `[2,"b"][3,"new"]trueactive`)
	harness.Equal(t, "another's rest", w.Works(tx+".fetch", `{"cursor": "c1"}`).Rows.String(), "[2][3]")
	harness.Equal(t, "after the end", w.Works(tx+".fetch", `{"cursor": "c1"}`).Done, true)
	w.Works(tx+".close", `{"cursor": "c1"}`)
	w.Works(tx+".commit", "")
	w.Fails("gone", tx+".fetch", `{"cursor": "c2"}`)
	harness.Equal(t, "rows", testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM item"), 3)
}

func TestSavepointsTakeCursorsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.Write("close", "CLOSE c2; DECLARE c2 CURSOR FOR SELECT 'other'::text AS n;")
	w.serve()
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1}`)
	w.Works(tx+".savepoint", `{"name": "s"}`)
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1, "name": "gone"}`)
	w.Works(tx+".rollback_to", `{"name": "s"}`)
	w.Fails("not_found", tx+".fetch", `{"cursor": "gone"}`)
	harness.Equal(t, "the other one", w.Works(tx+".fetch", `{"cursor": "c1", "count": 1}`).Rows.String(), "[2]")
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1}`)
	w.Works(tx+".run.close", "")
	w.Fails("not_found", tx+".fetch", `{"cursor": "c2"}`)
	harness.Equal(t, "state", w.Works(tx+".fetch", `{"cursor": "c1", "count": 1}`).State(), "active")
}

func TestHeldCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.SQL("CREATE TABLE item (id int PRIMARY KEY, name text)")
	w.serve()
	tx := w.Works("begin", "").Tx
	w.Works(tx+".run.insert", `{"params": {"id": 1}}`)
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 2, "hold": true, "scroll": true}`)
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 2, "hold": true, "name": "b"}`)
	w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 2, "name": "not held"}`)
	harness.Equal(t, "after COMMIT", w.Works(tx+".commit", "").State(), "held")
	harness.Equal(t, "committed rows", testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM item"), 1)
	w.Fails("gone", tx+".run.insert", `{"params": {"id": 2}}`)
	w.Fails("gone", tx+".cursor.items", "")
	w.Fails("not_found", tx+".fetch", `{"cursor": "not held"}`)
	harness.Equal(t, "next", w.Works(tx+".fetch", `{"cursor": "c1", "count": 2}`).Rows.String(), "[3][4]")
	harness.Equal(t, "back", w.Works(tx+".fetch", `{"cursor": "c1", "direction": "backward", "count": 2}`).Rows.String(), "[3][2]")
	harness.Equal(t, "move", w.Works(tx+".move", `{"cursor": "b", "count": 3}`).Moved, 3)
	r := w.streamed(tx, `{"cursor": "b"}`, true)
	harness.Equal(t, "streamed", len(r.rows), 4)
	harness.Equal(t, "state", w.Works(tx+".touch", "").State(), "held")
	harness.Equal(t, "one closed", w.Works(tx+".close", `{"cursor": "b"}`).State(), "held")
	w.Fails("not_found", tx+".close", `{"cursor": "b"}`)
	harness.Equal(t, "all closed", w.Works(tx+".close", `{"cursor": "c1"}`).State(), "ended")
	harness.Equal(t, "closed after the end", w.Works(tx+".close", `{"cursor": "c1"}`).State(), "ended")

	own := w.Works("cursor.numbers", `{"params": {"n": 3}, "count": 1, "hold": true}`)
	harness.Equal(t, "its own, committed", w.Works(own.Tx+".commit", "").State(), "held")
	end := w.Works(own.Tx+".fetch", `{"cursor": "c1"}`)
	harness.Equal(t, "its end", end.Rows.String()+end.State(), "[2][3]ended")
	tx = w.Works("cursor.numbers", `{"params": {"n": 3}, "count": 1, "hold": true}`).Tx
	w.Works(tx+".commit", "")
	harness.Equal(t, "rolled back", w.Works(tx+".rollback", "").State(), "ended")
	testenv.Wait(t, harness.Patience, "no cursor to be left", func() bool {
		return testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DISCARD ALL%'") > 0
	})
}

// TestHeldCursorsThatAreGone commits when what was to be held is there no more.
func TestHeldCursorsThatAreGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.Write("close", "CLOSE c1;")
	w.serve()
	for _, c := range []struct{ verb, body string }{{"rollback_to", `{"name": "s"}`}, {"run.close", ""}} {
		tx := w.Works("begin", "").Tx
		w.Works(tx+".savepoint", `{"name": "s"}`)
		w.Works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1, "hold": true}`)
		w.Works(tx+"."+c.verb, c.body)
		harness.Equal(t, "after COMMIT and "+c.verb, w.Works(tx+".commit", "").State(), "ended")
	}
}

func TestHoldThatFailsAtCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.Write("divide", "SELECT 100 / (50 - g) AS x FROM generate_series(1, 100) g;")
	w.SQL("CREATE TABLE item (id int PRIMARY KEY, name text)")
	w.serve()
	tx := w.Works("begin", "").Tx
	w.Works(tx+".run.insert", `{"params": {"id": 1}}`)
	w.Works(tx+".cursor.divide", `{"count": 10, "hold": true}`)
	failed := w.Fails("sql_error", tx+".commit", "")
	harness.Equal(t, "SQLSTATE", failed.Error.SQLState, "22012")
	harness.Equal(t, "state", failed.State(), "ended")
	harness.Equal(t, "rows", testenv.Value[int](t, w.Postgres, "SELECT count(*)::int FROM item"), 0)
}

func TestPagesAreAskedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve()
	tx := w.Works("cursor.numbers", `{"params": {"n": 5}, "count": 1}`).Tx
	for range 3 {
		harness.Equal(t, "page 2", w.Works(tx+".fetch", `{"cursor": "c1", "count": 2, "page": 2}`).Rows.String(), "[2][3]")
	}
	w.Works(tx+".touch", "")
	w.Fails("invalid_request", tx+".fetch", `{"cursor": "c1", "direction": "prior"}`)
	harness.Equal(t, "page 2 after a refusal", w.Works(tx+".fetch", `{"cursor": "c1", "count": 2, "page": 2}`).Rows.String(), "[2][3]")
	w.Fails("invalid_request", tx+".fetch", `{"cursor": "c1", "page": 1}`)
	for range 3 { // the transaction has ended with it
		last := w.Works(tx+".fetch", `{"cursor": "c1", "page": 7}`)
		harness.Equal(t, "page 7", last.Rows.String()+fmt.Sprint(last.Done)+last.State(), "[4][5]trueended")
	}
	w.Fails("gone", tx+".fetch", `{"cursor": "c1", "page": 8}`)

	// Each cursor counts its own pages.
	tx = w.Works("cursor.numbers", `{"params": {"n": 3}, "count": 1}`).Tx
	w.Works(tx+".cursor.numbers", `{"params": {"n": 5}, "count": 4}`)
	harness.Equal(t, "one's page", w.Works(tx+".fetch", `{"cursor": "c2", "page": 2}`).Rows.String(), "[5]")
	harness.Equal(t, "the other's", w.Works(tx+".fetch", `{"cursor": "c1", "page": 2}`).Rows.String(), "[2][3]")
	harness.Equal(t, "that again", w.Works(tx+".fetch", `{"cursor": "c1", "page": 2}`).Rows.String(), "[2][3]")
	w.Fails("gone", tx+".fetch", `{"cursor": "c2", "page": 2}`)
}

func TestWhereCurrentOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.SQL("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item SELECT g, 'n' || g FROM generate_series(1, 5) g")
	w.Write("scrolled", "SELECT id, repeat('x', 100) FROM item WHERE id > 0;")
	w.Write("locked", "SELECT id, name FROM item WHERE id > 1 FOR UPDATE;")
	w.serve()
	tx := w.Works("begin", "").Tx
	w.Works(tx+".cursor.locked", `{"name": "walk", "count": 1}`)
	w.Works(tx+".run.update", "")
	w.Works(tx+".fetch", `{"cursor": "walk", "count": 1}`)
	w.Works(tx+".fetch", `{"cursor": "walk", "direction": "next"}`)
	w.Works(tx+".run.update", "")
	w.Works(tx+".commit", "")
	harness.Equal(t, "names", testenv.Value[string](t, w.Postgres, "SELECT string_agg(name, ' ' ORDER BY id) FROM item"), "n1 n2! n3 n4! n5")

	// With scroll a page that was cut does not put the next row out of place.
	tx = w.Works("begin", "").Tx
	a := w.Works(tx+".cursor.scrolled", `{"name": "walk", "scroll": true, "max_bytes": 1}`)
	harness.Equal(t, "rows", len(a.Rows), 1)
	row := w.Works(tx+".fetch", `{"cursor": "walk", "direction": "next"}`).Rows[0]
	w.Works(tx+".run.update", "")
	w.Works(tx+".commit", "")
	id := strings.SplitN(strings.Trim(string(row), "["), ",", 2)[0]
	harness.Equal(t, "its mark", testenv.Value[int](t, w.Postgres, "SELECT length(name) - length(replace(name, '!', '')) FROM item WHERE id = "+id),
		map[bool]int{true: 2, false: 1}[id == "2" || id == "4"])
}

// TestScriptsThatUseACursor has scripts work on the row that their client has got
// last, and go on from there, as it is in psql.
func TestScriptsThatUseACursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.SQL(`CREATE TABLE item (id int PRIMARY KEY, name text, pad text);
		INSERT INTO item SELECT g, 'n' || g, repeat('x', 1000) FROM generate_series(1, 50) g;
		CREATE FUNCTION step(c refcursor, n int) RETURNS int LANGUAGE plpgsql AS
			$$DECLARE r record; BEGIN FOR i IN 1 .. n LOOP FETCH c INTO r; END LOOP; RETURN r.id; END$$`)
	w.Write("items", "SELECT id, name, pad FROM item;")
	w.Write("step", "SELECT step('walk', @n);")
	w.Write("begun", "INSERT INTO item VALUES (1000 + @n, 'later', ''); SELECT @n;")
	w.serve()
	const cut = `"count": 50, "max_bytes": 3500`
	for _, scroll := range []bool{true, false} {
		tx := w.Works("begin", "").Tx
		a := w.Works(tx+".cursor.items", fmt.Sprintf(`{"name": "walk", "scroll": %t, "count": 3}`, scroll))
		harness.Equal(t, "rows", len(a.Rows), 3)
		harness.Equal(t, "the row that a function reads", w.Works(tx+".run.step", `{"params": {"n": 2}}`).LastRows(), "[[5]]")
		harness.Equal(t, "the next", firstID(w.Works(tx+".fetch", `{"cursor": "walk", "count": 2}`)), "6")
		w.Works(tx+".run.update", "") // row 7
		harness.Equal(t, "changed", w.Works(tx+".run", `{"sql": "SELECT id FROM item WHERE name LIKE '%!'"}`).LastRows(), "[[7]]")
		absolute := w.Ask(tx+".fetch", `{"cursor": "walk", "direction": "absolute", "count": 10}`)
		if scroll {
			harness.Equal(t, "row 10", firstID(absolute), "10")
			harness.Equal(t, "back", firstID(w.Works(tx+".fetch", `{"cursor": "walk", "direction": "prior"}`)), "9")
		} else {
			absolute.Wants(t, "invalid_request")
			harness.Equal(t, "moved", w.Works(tx+".move", `{"cursor": "walk", "count": 2}`).Moved, 2)
		}
		page := w.Works(tx+".fetch", `{"cursor": "walk", `+cut+`}`) // from row 10 on
		harness.Equal(t, "rows of a page that was cut", fmt.Sprintf("%d from %s", len(page.Rows), firstID(page)), "3 from 10")
		if scroll {
			harness.Equal(t, "the row behind it", w.Works(tx+".run.step", `{"params": {"n": 1}}`).LastRows(), "[[13]]")
			harness.Equal(t, "the next", firstID(w.Works(tx+".fetch", `{"cursor": "walk", "count": 1}`)), "14")
		} else {
			for _, verb := range []string{"run.update", "run.step", "cursor.begun"} {
				harness.Equal(t, "state", w.Fails("invalid_request", tx+"."+verb, bodyOf(verb)).State(), "active")
			}
			w.Works(tx+".cursor.numbers", `{"params": {"n": 1}}`) // only a query
			for held := true; held; {
				held = w.Ask(tx+".run.update", "").Error != nil
				if held {
					page = w.Works(tx+".fetch", `{"cursor": "walk", "count": 1}`)
				}
			}
			harness.Equal(t, "the row that was read last", w.Works(tx+".run", fmt.Sprintf(`{"sql": "SELECT name FROM item WHERE id = %s"}`, firstID(page))).LastRows(), fmt.Sprintf(`[["n%s!"]]`, firstID(page)))
		}
		w.Works(tx+".rollback", "")
	}
}

func bodyOf(verb string) string {
	if verb == "run.update" {
		return ""
	}
	return `{"params": {"n": 1}}`
}

// firstID is the first value of a page's first row.
func firstID(a harness.Reply) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(a.Rows.String(), "["), ",")
	return id
}

func TestRefcursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"one":    "SELECT opened(@n::int) AS r;",
		"both":   "SELECT * FROM two();",
		"many":   "SELECT * FROM several();",
		"inout":  "CALL given(NULL);",
		"liar":   "SELECT 'nobody'::refcursor;",
		"none":   "SELECT NULL::refcursor;",
		"before": "CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT 1; SELECT opened(@n::int);",
	})
	w.SQL(`CREATE FUNCTION opened(n int) RETURNS refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor; BEGIN OPEN r FOR SELECT g, 'x' || g AS name FROM generate_series(1, n) g; RETURN r; END $$;
		CREATE FUNCTION two(OUT a refcursor, OUT b refcursor) LANGUAGE plpgsql AS $$
		DECLARE x int; BEGIN a := 'first'; b := 'second';
			OPEN a SCROLL FOR SELECT g FROM generate_series(1, 4) g; OPEN b NO SCROLL FOR SELECT now() AS t;
			FETCH a INTO x; FETCH a INTO x; END $$;
		CREATE FUNCTION several() RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor; BEGIN FOR i IN 1..3 LOOP r := 'cur' || i; OPEN r FOR EXECUTE 'SELECT ' || i || ' AS v'; RETURN NEXT r; END LOOP; END $$;
		CREATE PROCEDURE given(INOUT r refcursor) LANGUAGE plpgsql AS $$ BEGIN r := 'named'; OPEN r FOR VALUES (7); END $$;`)
	w.serve()
	one := w.Works("cursor.one", `{"params": {"n": 3}}`)
	harness.Equal(t, "cursors", len(one.Cursors), 1)
	harness.Equal(t, "columns", fmt.Sprint(one.Cursors[0].Columns), "[map[name:g type:int4] map[name:name type:text]]")
	rest := w.Works(one.Tx+".fetch", fmt.Sprintf(`{"cursor": %q}`, one.Cursors[0].Cursor))
	harness.Equal(t, "rows", rest.Rows.String()+rest.State(), `[1,"x1"][2,"x2"][3,"x3"]`+map[bool]string{true: "active", false: "ended"}[scrollable(w, one)])

	both := w.Works("cursor.both", "")
	harness.Equal(t, "names", both.Cursors[0].Cursor+" "+both.Cursors[1].Cursor, "first second")
	harness.Equal(t, "where the function left it", w.Works(both.Tx+".fetch", `{"cursor": "first", "count": 1}`).Rows.String(), "[3]")
	harness.Equal(t, "back", w.Works(both.Tx+".fetch", `{"cursor": "first", "direction": "absolute", "count": 1}`).Rows.String(), "[1]")
	w.Fails("invalid_request", both.Tx+".fetch", `{"cursor": "second", "direction": "prior"}`)
	harness.Equal(t, "the other", len(w.Works(both.Tx+".fetch", `{"cursor": "second"}`).Rows), 1)
	harness.Equal(t, "one left", w.Works(both.Tx+".close", `{"cursor": "second"}`).State(), "active")
	harness.Equal(t, "none left", w.Works(both.Tx+".close", `{"cursor": "first"}`).State(), "ended")

	tx := w.Works("begin", "").Tx
	harness.Equal(t, "SETOF", len(w.Works(tx+".cursor.many", "").Cursors), 3)
	r := w.streamed(tx, `{"cursor": "cur2"}`, true)
	harness.Equal(t, "streamed", string(r.rows[0]), "[2]")
	harness.Equal(t, "CALL", w.Works(tx+".cursor.inout", "").Cursors[0].Cursor, "named")
	harness.Equal(t, "its row", w.Works(tx+".fetch", `{"cursor": "named"}`).Rows.String(), "[7]")
	w.Fails("not_found", tx+".cursor.liar", "")
	w.Fails("invalid_request", tx+".cursor.one", `{"params": {"n": 1}, "scroll": true}`)
	harness.Equal(t, "no cursor", len(w.Works(tx+".cursor.none", "").Cursors), 0)
	harness.Equal(t, "behind a statement", len(w.Works(tx+".cursor.before", `{"params": {"n": 1}}`).Cursors), 1)
	w.Works(tx+".rollback", "")
	harness.Equal(t, "nothing opened", w.Works("cursor.none", "").State(), "ended")
	w.Works(one.Tx+".rollback", "")
	w.WantIdle()
}

// scrollable tells whether PostgreSQL made a cursor one that scrolls, which is
// its planner's choice.
func scrollable(w *world, a harness.Reply) bool {
	return w.Ask(a.Tx+".touch", "").Error == nil
}

// TestManyAtOnce opens far more cursors than there are connections.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve(func(c *txrunner.Config) { c.IdleTimeout = 2 * time.Second })
	var mu sync.Mutex
	var opened []string
	outcomes := map[string]int{}
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			a, err := w.Try("cursor.numbers", `{"params": {"n": 9}, "count": 1}`)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case a.Error == nil:
				outcomes["opened"]++
				opened = append(opened, a.Tx)
			default:
				outcomes[a.Error.Code]++
				if a.Error.Message == "" {
					t.Error("busy without a message")
				}
			}
		})
	}
	all.Wait()
	// Nobody closes anything: the leases run out, and their connections serve
	// some of those who wait.
	if outcomes["opened"] < 16 || outcomes["opened"]+outcomes["busy"] != 500 {
		t.Errorf("outcomes %v, want some opened and the others busy", outcomes)
	}
	w.WantIdle()
	w.Fails("gone", opened[0]+".fetch", `{"cursor": "c1"}`)
	harness.Equal(t, "afterwards", w.Works("cursor.numbers", `{"params": {"n": 1}}`).Rows.String(), "[1]")
}
