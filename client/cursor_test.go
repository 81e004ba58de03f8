package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func numbers(n int) client.Script {
	return client.Script{SQL: "SELECT g FROM generate_series(1, @n::int) g", Params: client.Params{"n": n}}
}

// sum reads a cursor's only column, which has to count from one number on.
func (w *world) counts(rows func(func(client.Row, error) bool), from int) int {
	w.Helper()
	next := from
	for row, err := range rows {
		w.ok(err)
		var n int
		w.ok(row.Scan(&n))
		if n != next {
			w.Fatalf("row %d came after %d", n, next-1)
		}
		next++
	}
	return next - 1
}

func TestCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	for name, read := range map[string]func(*client.Cursor) func(func(client.Row, error) bool){
		"pages":  func(k *client.Cursor) func(func(client.Row, error) bool) { return k.Rows(w.ctx()) },
		"stream": func(k *client.Cursor) func(func(client.Row, error) bool) { return k.Stream(w.ctx()) },
	} {
		for _, n := range []int{0, 1, 99, 100, 101, 5000} {
			cursor, err := c.Cursor(w.ctx(), numbers(n), client.CursorOptions{PageRows: 100})
			w.ok(err)
			harness.Equal(t, "column", cursor.Columns[0], client.Column{Name: "g", Type: "int4"})
			harness.Equal(t, name, w.counts(read(cursor), 1), n)
			harness.Equal(t, name+" again", w.counts(read(cursor), n+1), n)
			w.ok(cursor.Close(w.ctx()))
		}
	}
	w.WantIdle()
}

func TestCursorMoves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	cursor, err := c.Cursor(w.ctx(), numbers(100), client.CursorOptions{PageRows: 10, Scroll: true, Name: "walk"})
	w.ok(err)
	harness.Equal(t, "name", cursor.Name, "walk")
	first := func(p *client.Page, err error) int {
		t.Helper()
		w.ok(err)
		var n int
		w.ok(p.Rows[0].Scan(&n))
		return n
	}
	harness.Equal(t, "first page", first(cursor.Next(w.ctx())), 1)
	harness.Equal(t, "second page", first(cursor.Next(w.ctx())), 11)
	harness.Equal(t, "backward", first(cursor.Fetch(w.ctx(), client.Backward, 5)), 19)
	harness.Equal(t, "absolute", first(cursor.Fetch(w.ctx(), client.Absolute, -1)), 100)
	moved, err := cursor.Move(w.ctx(), client.Absolute, 50)
	w.ok(err)
	harness.Equal(t, "moved", moved, 1)
	harness.Equal(t, "after the move", first(cursor.Next(w.ctx())), 51)
	w.ok(cursor.Close(w.ctx()))
	w.ok(cursor.Close(w.ctx()))
	w.WantIdle()
}

// TestCursorWhosePageIsLost drops the link while pages are asked for.
func TestCursorWhosePageIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	proxy := testenv.NewProxy(t, w.NATS.Addr())
	c := w.clientOn(harness.Requests(w, proxy.Reroute(t, w.NATS.URL())), client.Options{})
	c.SetSilence(200 * time.Millisecond)
	cursor, err := c.Cursor(w.ctx(), numbers(5000), client.CursorOptions{PageRows: 100})
	w.ok(err)
	next := 1
	for page, err := range cursor.Pages(w.ctx()) {
		w.ok(err)
		for _, row := range page.Rows {
			var n int
			w.ok(row.Scan(&n))
			if n != next {
				t.Fatalf("row %d came after %d", n, next-1)
			}
			next++
		}
		if next%1000 == 1 {
			proxy.Cut()
		}
	}
	harness.Equal(t, "rows", next-1, 5000)
	w.WantIdle()
}

func TestCursorErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{scripts: map[string]string{
		"large":  "SELECT g, repeat('x', CASE WHEN g = 3 THEN 2000000 ELSE 1 END) FROM generate_series(1, 5) g;",
		"breaks": "SELECT 10 / (3000 - g) AS x FROM generate_series(1, 9000) g;",
	}})
	c := w.client(client.Options{})
	for name, read := range map[string]func(*client.Cursor) func(func(client.Row, error) bool){
		"pages":  func(k *client.Cursor) func(func(client.Row, error) bool) { return k.Rows(w.ctx()) },
		"stream": func(k *client.Cursor) func(func(client.Row, error) bool) { return k.Stream(w.ctx()) },
	} {
		cursor, err := c.Cursor(w.ctx(), client.Script{Name: "large"}, client.CursorOptions{})
		w.ok(err)
		var seen []string
		for row, err := range read(cursor) {
			if err != nil {
				harness.Equal(t, name+": row", w.failure(err, client.CodeTooLarge).Row, 3)
				seen = append(seen, "large")
			} else {
				seen = append(seen, string(row[0]))
			}
		}
		harness.Equal(t, name, strings.Join(seen, " "), "1 2 large")
		if name == "pages" { // the cursor goes on behind it
			page, err := cursor.Next(w.ctx())
			w.ok(err)
			harness.Equal(t, "behind the large row", string(page.Rows[0][0]), "4")
		}
		w.ok(cursor.Close(w.ctx()))

		cursor, err = c.Cursor(w.ctx(), client.Script{Name: "breaks"}, client.CursorOptions{})
		w.ok(err)
		for _, err = range read(cursor) {
			if err != nil {
				harness.Equal(t, "SQLSTATE", w.failure(err, client.CodeSQLError).SQLState, "22012")
			}
		}
		if err == nil {
			t.Errorf("%s: a division by zero went unnoticed", name)
		}
		w.ok(cursor.Close(w.ctx()))
	}
	w.WantIdle()
}

func TestCursorLeftEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	cursor, err := c.Cursor(w.ctx(), numbers(100000), client.CursorOptions{PageRows: 10})
	w.ok(err)
	for range cursor.Rows(w.ctx()) {
		break
	}
	w.ok(cursor.Close(w.ctx()))
	cursor, err = c.Cursor(w.ctx(), numbers(10000000), client.CursorOptions{PageRows: 10})
	w.ok(err)
	n := 0
	for range cursor.Stream(w.ctx()) {
		if n++; n == 20 {
			break
		}
	}
	w.WantIdle()
}

// TestCursorsOfAScript opens what the script returns.
func TestCursorsOfAScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.SQL(`CREATE FUNCTION opened(n int) RETURNS SETOF refcursor LANGUAGE plpgsql AS $$
		DECLARE r refcursor;
		BEGIN FOR i IN 1 .. n LOOP r := NULL; OPEN r FOR SELECT generate_series(1, i); RETURN NEXT r; END LOOP; END $$`)
	c := w.client(client.Options{})
	script := client.Script{SQL: "SELECT opened(@n)", Params: client.Params{"n": 3}}
	all, err := c.Cursors(w.ctx(), script, client.CursorOptions{})
	w.ok(err)
	harness.Equal(t, "cursors", len(all), 3)
	for i, cursor := range all {
		harness.Equal(t, "rows", w.counts(cursor.Rows(w.ctx()), 1), i+1)
		w.ok(cursor.Close(w.ctx()))
	}
	if _, err := c.Cursor(w.ctx(), script, client.CursorOptions{}); err == nil {
		t.Error("one of three cursors was chosen")
	}
	w.WantIdle()
}

func TestCursorInATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	tx, err := c.Begin(w.ctx(), client.TxOptions{})
	w.ok(err)
	cursor, err := tx.Cursor(w.ctx(), numbers(300), client.CursorOptions{PageRows: 100, Hold: true})
	w.ok(err)
	_, err = cursor.Next(w.ctx())
	w.ok(err)
	w.ok(tx.Commit(w.ctx()))
	harness.Equal(t, "after the commit", w.counts(cursor.Rows(w.ctx()), 101), 300)
	w.ok(cursor.Close(w.ctx()))
	w.WantIdle()
}

func TestCursorOfALostReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	cursor, err := c.Cursor(w.ctx(), numbers(100000), client.CursorOptions{PageRows: 10})
	w.ok(err)
	_, err = cursor.Next(w.ctx())
	w.ok(err)
	w.ok(w.stop())
	_, err = cursor.Next(w.ctx())
	if !errors.Is(err, client.ErrReplicaGone) || errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("Next() = %v", err)
	}
	w.ok(cursor.Close(w.ctx()))
}
