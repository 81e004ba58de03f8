package cursors_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

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
	a := w.works("cursor.numbers", `{"params": {"n": 5}, "count": 2}`)
	equal(t, "first page", a.rows(), "[1][2]")
	equal(t, "cursor", a.Cursor, "c1")
	equal(t, "state", a.state(), "active")
	equal(t, "columns", fmt.Sprint(a.Columns), "[map[name:n type:int4]]")
	equal(t, "second page", w.works(a.Tx+".fetch", `{"cursor": "c1", "count": 2}`).rows(), "[3][4]")
	last := w.works(a.Tx+".fetch", `{"cursor": "c1", "count": 2}`)
	equal(t, "last page", last.rows(), "[5]")
	equal(t, "done", last.Done, true)
	equal(t, "state", last.state(), "ended")
	w.wantIdle()
	closed := w.works(a.Tx+".close", `{"cursor": "c1"}`)
	equal(t, "close after the end", closed.body+closed.state(), "{}ended")
	w.fails("gone", a.Tx+".fetch", `{"cursor": "c1"}`)

	whole := w.works("cursor.numbers", `{"params": {"n": 3}}`)
	equal(t, "all at once", whole.rows()+fmt.Sprint(whole.Done)+whole.state(), "[1][2][3]trueended")
	empty := w.works("cursor.nothing", "")
	equal(t, "over nothing", fmt.Sprint(len(empty.Rows))+fmt.Sprint(empty.Done)+empty.state(), "0trueended")
	unread := w.works("cursor.numbers", `{"params": {"n": 3}, "count": 0}`)
	equal(t, "no first page", fmt.Sprint(len(unread.Rows))+fmt.Sprint(unread.Done)+unread.state(), "0falseactive")
	equal(t, "closed unread", w.works(unread.Tx+".close", `{"cursor": "c1"}`).state(), "ended")
	scrolling := w.works("cursor.numbers", `{"params": {"n": 3}, "scroll": true}`)
	equal(t, "with scroll it goes on", fmt.Sprint(scrolling.Done)+scrolling.state(), "trueactive")
	equal(t, "back", w.works(scrolling.Tx+".fetch", `{"cursor": "c1", "direction": "backward", "count": "all"}`).rows(), "[3][2][1]")
	w.works(scrolling.Tx+".close", `{"cursor": "c1"}`)
	w.wantIdle()
}

func TestHowRowsLook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve()
	equal(t, "arrays", w.works("cursor.big", `{"count": 1}`).rows(), `[1,"row 1",1.5,[1,null]]`)
	a := w.works("cursor.big", `{"count": 1, "rows": "object", "big_numbers": "string"}`)
	equal(t, "objects", a.rows(), `{"id":"1","name":"row 1","amount":"1.5","list":[1,null]}`)
	equal(t, "types", fmt.Sprint(a.Columns[0]["type"], a.Columns[1]["type"], a.Columns[2]["type"], a.Columns[3]["type"]), "int8textnumericint4[]")
	equal(t, "they stay", w.works(a.Tx+".fetch", `{"cursor": "c1", "count": 1}`).rows(), `{"id":"2","name":"row 2","amount":"3.0","list":[2,null]}`)
	r := w.streamed(a.Tx, `{"cursor": "c1"}`, true)
	equal(t, "in a stream", string(r.rows[0]), `{"id":"3","name":"row 3","amount":"4.5","list":[3,null]}`)
	own := w.works("cursor", `{"sql": "VALUES (@a::int + 1)", "params": {"a": 41}}`)
	equal(t, "SQL of the request", own.rows(), "[42]")
}

func TestCursorsInAClientsTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.sql("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'a'), (2, 'b')")
	w.serve()
	tx := w.works("begin", "").Tx
	w.works(tx+".run.insert", `{"params": {"id": 3}}`)
	items := w.works(tx+".cursor.items", `{"name": "my \"walk\"", "count": 1}`)
	equal(t, "first page", items.rows()+items.Cursor+items.state(), `[1,"a"]my "walk"active`)
	temp := w.works(tx+".cursor.temp", `{"params": {"n": 3}, "count": 1}`)
	equal(t, "behind another statement", temp.rows()+temp.Cursor, "[1]c1")
	equal(t, "another name", w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1}`).Cursor, "c2")
	w.fails("invalid_request", tx+".cursor.items", `{"name": "c1"}`)
	rest := w.works(tx+".fetch", `{"cursor": "my \"walk\""}`)
	equal(t, "the rest", rest.rows()+fmt.Sprint(rest.Done)+rest.state(), `[2,"b"][3,"new"]trueactive`)
	equal(t, "another's rest", w.works(tx+".fetch", `{"cursor": "c1"}`).rows(), "[2][3]")
	equal(t, "after the end", w.works(tx+".fetch", `{"cursor": "c1"}`).Done, true)
	w.works(tx+".close", `{"cursor": "c1"}`)
	w.works(tx+".commit", "")
	w.fails("gone", tx+".fetch", `{"cursor": "c2"}`)
	equal(t, "rows", testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM item"), 3)
}

func TestSavepointsTakeCursorsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.write("close", "CLOSE c2; DECLARE c2 CURSOR FOR SELECT 'other'::text AS n;")
	w.serve()
	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1}`)
	w.works(tx+".savepoint", `{"name": "s"}`)
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1, "name": "gone"}`)
	w.works(tx+".rollback_to", `{"name": "s"}`)
	w.fails("not_found", tx+".fetch", `{"cursor": "gone"}`)
	equal(t, "the other one", w.works(tx+".fetch", `{"cursor": "c1", "count": 1}`).rows(), "[2]")
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1}`)
	w.works(tx+".run.close", "")
	w.fails("not_found", tx+".fetch", `{"cursor": "c2"}`)
	equal(t, "state", w.works(tx+".fetch", `{"cursor": "c1", "count": 1}`).state(), "active")
}

func TestHeldCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.sql("CREATE TABLE item (id int PRIMARY KEY, name text)")
	w.serve()
	tx := w.works("begin", "").Tx
	w.works(tx+".run.insert", `{"params": {"id": 1}}`)
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 2, "hold": true, "scroll": true}`)
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 2, "hold": true, "name": "b"}`)
	w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 2, "name": "not held"}`)
	equal(t, "after COMMIT", w.works(tx+".commit", "").state(), "held")
	equal(t, "committed rows", testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM item"), 1)
	w.fails("gone", tx+".run.insert", `{"params": {"id": 2}}`)
	w.fails("gone", tx+".cursor.items", "")
	w.fails("not_found", tx+".fetch", `{"cursor": "not held"}`)
	equal(t, "next", w.works(tx+".fetch", `{"cursor": "c1", "count": 2}`).rows(), "[3][4]")
	equal(t, "back", w.works(tx+".fetch", `{"cursor": "c1", "direction": "backward", "count": 2}`).rows(), "[3][2]")
	equal(t, "move", w.works(tx+".move", `{"cursor": "b", "count": 3}`).Moved, 3)
	r := w.streamed(tx, `{"cursor": "b"}`, true)
	equal(t, "streamed", len(r.rows), 4)
	equal(t, "state", w.works(tx+".touch", "").state(), "held")
	equal(t, "one closed", w.works(tx+".close", `{"cursor": "b"}`).state(), "held")
	w.fails("not_found", tx+".close", `{"cursor": "b"}`)
	equal(t, "all closed", w.works(tx+".close", `{"cursor": "c1"}`).state(), "ended")
	equal(t, "closed after the end", w.works(tx+".close", `{"cursor": "c1"}`).state(), "ended")

	own := w.works("cursor.numbers", `{"params": {"n": 3}, "count": 1, "hold": true}`)
	equal(t, "its own, committed", w.works(own.Tx+".commit", "").state(), "held")
	end := w.works(own.Tx+".fetch", `{"cursor": "c1"}`)
	equal(t, "its end", end.rows()+end.state(), "[2][3]ended")
	tx = w.works("cursor.numbers", `{"params": {"n": 3}, "count": 1, "hold": true}`).Tx
	w.works(tx+".commit", "")
	equal(t, "rolled back", w.works(tx+".rollback", "").state(), "ended")
	testenv.Wait(t, patience, "no cursor to be left", func() bool {
		return testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'DISCARD ALL%'") > 0
	})
}

// TestHeldCursorsThatAreGone commits when what was to be held is there no more.
func TestHeldCursorsThatAreGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.write("close", "CLOSE c1;")
	w.serve()
	for _, c := range []struct{ verb, body string }{{"rollback_to", `{"name": "s"}`}, {"run.close", ""}} {
		tx := w.works("begin", "").Tx
		w.works(tx+".savepoint", `{"name": "s"}`)
		w.works(tx+".cursor.numbers", `{"params": {"n": 9}, "count": 1, "hold": true}`)
		w.works(tx+"."+c.verb, c.body)
		equal(t, "after COMMIT and "+c.verb, w.works(tx+".commit", "").state(), "ended")
	}
}

func TestHoldThatFailsAtCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.write("divide", "SELECT 100 / (50 - g) AS x FROM generate_series(1, 100) g;")
	w.sql("CREATE TABLE item (id int PRIMARY KEY, name text)")
	w.serve()
	tx := w.works("begin", "").Tx
	w.works(tx+".run.insert", `{"params": {"id": 1}}`)
	w.works(tx+".cursor.divide", `{"count": 10, "hold": true}`)
	failed := w.fails("sql_error", tx+".commit", "")
	equal(t, "SQLSTATE", failed.Error.SQLState, "22012")
	equal(t, "state", failed.state(), "ended")
	equal(t, "rows", testenv.Value[int](t, w.pg, "SELECT count(*)::int FROM item"), 0)
}

func TestPagesAreAskedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.serve()
	tx := w.works("cursor.numbers", `{"params": {"n": 5}, "count": 1}`).Tx
	for range 3 {
		equal(t, "page 2", w.works(tx+".fetch", `{"cursor": "c1", "count": 2, "page": 2}`).rows(), "[2][3]")
	}
	w.works(tx+".touch", "")
	w.fails("invalid_request", tx+".fetch", `{"cursor": "c1", "direction": "prior"}`)
	equal(t, "page 2 after a refusal", w.works(tx+".fetch", `{"cursor": "c1", "count": 2, "page": 2}`).rows(), "[2][3]")
	w.fails("invalid_request", tx+".fetch", `{"cursor": "c1", "page": 1}`)
	for range 3 { // the transaction has ended with it
		last := w.works(tx+".fetch", `{"cursor": "c1", "page": 7}`)
		equal(t, "page 7", last.rows()+fmt.Sprint(last.Done)+last.state(), "[4][5]trueended")
	}
	w.fails("gone", tx+".fetch", `{"cursor": "c1", "page": 8}`)

	// Each cursor counts its own pages.
	tx = w.works("cursor.numbers", `{"params": {"n": 3}, "count": 1}`).Tx
	w.works(tx+".cursor.numbers", `{"params": {"n": 5}, "count": 4}`)
	equal(t, "one's page", w.works(tx+".fetch", `{"cursor": "c2", "page": 2}`).rows(), "[5]")
	equal(t, "the other's", w.works(tx+".fetch", `{"cursor": "c1", "page": 2}`).rows(), "[2][3]")
	equal(t, "that again", w.works(tx+".fetch", `{"cursor": "c1", "page": 2}`).rows(), "[2][3]")
	w.fails("gone", tx+".fetch", `{"cursor": "c2", "page": 2}`)
}

func TestWhereCurrentOf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, basics)
	w.sql("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item SELECT g, 'n' || g FROM generate_series(1, 5) g")
	w.write("scrolled", "SELECT id, repeat('x', 100) FROM item WHERE id > 0;")
	w.write("locked", "SELECT id, name FROM item WHERE id > 1 FOR UPDATE;")
	w.serve()
	tx := w.works("begin", "").Tx
	w.works(tx+".cursor.locked", `{"name": "walk", "count": 1}`)
	w.works(tx+".run.update", "")
	w.works(tx+".fetch", `{"cursor": "walk", "count": 1}`)
	w.works(tx+".fetch", `{"cursor": "walk", "direction": "next"}`)
	w.works(tx+".run.update", "")
	w.works(tx+".commit", "")
	equal(t, "names", testenv.Value[string](t, w.pg, "SELECT string_agg(name, ' ' ORDER BY id) FROM item"), "n1 n2! n3 n4! n5")

	// With scroll a page that was cut does not put the next row out of place.
	tx = w.works("begin", "").Tx
	a := w.works(tx+".cursor.scrolled", `{"name": "walk", "scroll": true, "max_bytes": 1}`)
	equal(t, "rows", len(a.Rows), 1)
	row := w.works(tx+".fetch", `{"cursor": "walk", "direction": "next"}`).Rows[0]
	w.works(tx+".run.update", "")
	w.works(tx+".commit", "")
	id := strings.SplitN(strings.Trim(string(row), "["), ",", 2)[0]
	equal(t, "its mark", testenv.Value[int](t, w.pg, "SELECT length(name) - length(replace(name, '!', '')) FROM item WHERE id = "+id),
		map[bool]int{true: 2, false: 1}[id == "2" || id == "4"])
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
	w.sql(`CREATE FUNCTION opened(n int) RETURNS refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor; BEGIN OPEN r FOR SELECT g, 'x' || g AS name FROM generate_series(1, n) g; RETURN r; END $$;
		CREATE FUNCTION two(OUT a refcursor, OUT b refcursor) LANGUAGE plpgsql AS $$
		DECLARE x int; BEGIN a := 'first'; b := 'second';
			OPEN a SCROLL FOR SELECT g FROM generate_series(1, 4) g; OPEN b NO SCROLL FOR SELECT now() AS t;
			FETCH a INTO x; FETCH a INTO x; END $$;
		CREATE FUNCTION several() RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor; BEGIN FOR i IN 1..3 LOOP r := 'cur' || i; OPEN r FOR EXECUTE 'SELECT ' || i || ' AS v'; RETURN NEXT r; END LOOP; END $$;
		CREATE PROCEDURE given(INOUT r refcursor) LANGUAGE plpgsql AS $$ BEGIN r := 'named'; OPEN r FOR VALUES (7); END $$;`)
	w.serve()
	one := w.works("cursor.one", `{"params": {"n": 3}}`)
	equal(t, "cursors", len(one.Cursors), 1)
	equal(t, "columns", fmt.Sprint(one.Cursors[0].Columns), "[map[name:g type:int4] map[name:name type:text]]")
	rest := w.works(one.Tx+".fetch", fmt.Sprintf(`{"cursor": %q}`, one.Cursors[0].Cursor))
	equal(t, "rows", rest.rows()+rest.state(), `[1,"x1"][2,"x2"][3,"x3"]`+map[bool]string{true: "active", false: "ended"}[scrollable(w, one)])

	both := w.works("cursor.both", "")
	equal(t, "names", both.Cursors[0].Cursor+" "+both.Cursors[1].Cursor, "first second")
	equal(t, "where the function left it", w.works(both.Tx+".fetch", `{"cursor": "first", "count": 1}`).rows(), "[3]")
	equal(t, "back", w.works(both.Tx+".fetch", `{"cursor": "first", "direction": "absolute", "count": 1}`).rows(), "[1]")
	w.fails("invalid_request", both.Tx+".fetch", `{"cursor": "second", "direction": "prior"}`)
	equal(t, "the other", len(w.works(both.Tx+".fetch", `{"cursor": "second"}`).Rows), 1)
	equal(t, "one left", w.works(both.Tx+".close", `{"cursor": "second"}`).state(), "active")
	equal(t, "none left", w.works(both.Tx+".close", `{"cursor": "first"}`).state(), "ended")

	tx := w.works("begin", "").Tx
	equal(t, "SETOF", len(w.works(tx+".cursor.many", "").Cursors), 3)
	r := w.streamed(tx, `{"cursor": "cur2"}`, true)
	equal(t, "streamed", string(r.rows[0]), "[2]")
	equal(t, "CALL", w.works(tx+".cursor.inout", "").Cursors[0].Cursor, "named")
	equal(t, "its row", w.works(tx+".fetch", `{"cursor": "named"}`).rows(), "[7]")
	w.fails("not_found", tx+".cursor.liar", "")
	w.fails("invalid_request", tx+".cursor.one", `{"params": {"n": 1}, "scroll": true}`)
	equal(t, "no cursor", len(w.works(tx+".cursor.none", "").Cursors), 0)
	equal(t, "behind a statement", len(w.works(tx+".cursor.before", `{"params": {"n": 1}}`).Cursors), 1)
	w.works(tx+".rollback", "")
	equal(t, "nothing opened", w.works("cursor.none", "").state(), "ended")
	w.works(one.Tx+".rollback", "")
	w.wantIdle()
}

// scrollable tells whether PostgreSQL made a cursor one that scrolls, which is
// its planner's choice.
func scrollable(w *world, a answer) bool {
	return w.ask(a.Tx+".touch", "").Error == nil
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
			a, err := w.try("cursor.numbers", `{"params": {"n": 9}, "count": 1}`)
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
	w.wantIdle()
	w.fails("gone", opened[0]+".fetch", `{"cursor": "c1"}`)
	equal(t, "afterwards", w.works("cursor.numbers", `{"params": {"n": 1}}`).rows(), "[1]")
}
