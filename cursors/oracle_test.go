package cursors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const (
	// A message of the property test holds a few rows, and one row in 13 fits
	// none.
	tinyPayload = 16 << 10
	sizedRows   = `SELECT g AS id, repeat('x', CASE WHEN mod(g, 13) = 0 THEN 20000 ELSE mod(g * 7919, 400) END) AS pad FROM generate_series(1, %s) g ORDER BY g`
)

func tooLargeRow(id int64) bool { return id%13 == 0 }

// oracle is PostgreSQL itself, without limits on pages.
type oracle struct {
	t    *rapid.T
	conn *pgx.Conn
}

func (o *oracle) exec(sql string) int64 {
	tag, err := o.conn.Exec(context.Background(), sql)
	if err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
	return tag.RowsAffected()
}

// ids returns those of the rows that a FETCH returns.
func (o *oracle) ids(direction string) []int64 {
	rows, err := o.conn.Query(context.Background(), "FETCH "+direction+" FROM o", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		o.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (int64, error) {
		var id int64
		var pad string
		err := r.Scan(&id, &pad)
		return id, err
	})
	if err != nil {
		o.t.Fatalf("FETCH %s: %v", direction, err)
	}
	return ids
}

// step is one drawn request, in the protocol's form and in SQL.
type step struct {
	body string // direction and count
	sql  string
	n    int64 // rows asked for, of a run; 0: one row is meant
	back bool
	only bool // it is not a move that goes forward
}

func drawStep(t *rapid.T, pos int64) step {
	n := rapid.Int64Range(-45, 45).Draw(t, "n")
	count := fmt.Sprintf(`"count": %d`, n)
	switch d := rapid.SampledFrom([]string{"forward", "forward", "forward", "backward", "absolute", "relative", "next", "prior", "first", "last", "forward all", "backward all"}).Draw(t, "direction"); d {
	case "next":
		return step{body: `"direction": "next"`, sql: "NEXT", n: 1}
	case "prior":
		return step{body: `"direction": "prior"`, sql: "PRIOR", n: 1, back: true, only: true}
	case "first":
		return step{body: `"direction": "first"`, sql: "FIRST", only: pos >= 1}
	case "last":
		return step{body: `"direction": "last"`, sql: "LAST", only: true}
	case "forward all":
		return step{body: `"count": "all"`, sql: "FORWARD ALL", n: 1 << 40}
	case "backward all":
		return step{body: `"direction": "backward", "count": "all"`, sql: "BACKWARD ALL", n: 1 << 40, back: true, only: true}
	case "forward":
		return step{body: count, sql: fmt.Sprintf("FORWARD %d", n), n: max(n, -n), back: n < 0, only: n < 1}
	case "backward":
		return step{body: `"direction": "backward", ` + count, sql: fmt.Sprintf("BACKWARD %d", n), n: max(n, -n), back: n > 0, only: n > -1}
	case "absolute":
		return step{body: `"direction": "absolute", ` + count, sql: fmt.Sprintf("ABSOLUTE %d", n), only: n <= pos}
	default:
		return step{body: `"direction": "relative", ` + count, sql: fmt.Sprintf("RELATIVE %d", n), only: n < 1}
	}
}

// trial is one cursor beside the oracle's.
type trial struct {
	*rapid.T
	w      *world
	oracle *oracle
	tx     string
	scroll bool
	rows   int64
	pos    int64 // as the oracle has it

	cut       bool // a page was, or a row did not fit
	disturbed bool
}

// TestPagesAreWhatFetchReturns makes the same moves with small pages and on
// PostgreSQL without limits, and compares each row and position.
func TestPagesAreWhatFetchReturns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"sized": fmt.Sprintf(sizedRows, "@n::int"),
		"shift": "MOVE RELATIVE 0 FROM c1; MOVE FORWARD 3 FROM c1;",
		"calm":  "SELECT 1;",
	}, func(o *server.Options) { o.MaxPayload = tinyPayload })
	w.serve()
	conn, err := pgx.Connect(context.Background(), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rapid.Check(t, func(rt *rapid.T) {
		o := &oracle{rt, conn}
		tr := &trial{T: rt, w: w, oracle: o, scroll: rapid.Bool().Draw(rt, "scroll"), rows: rapid.Int64Range(0, 60).Draw(rt, "rows")}
		o.exec("BEGIN")
		defer o.exec("ROLLBACK")
		o.exec("DECLARE o SCROLL CURSOR FOR " + fmt.Sprintf(sizedRows, fmt.Sprint(tr.rows)))
		testenv.Wait(t, harness.Patience, "a transaction", func() bool { // a busy machine makes no connection in time
			began := w.Ask("begin", "")
			tr.tx = began.Tx
			return began.Error == nil || began.Error.Code != "busy"
		})
		harness.Equal(t, "that it has begun", tr.tx != "", true)
		defer w.Ask(tr.tx+".rollback", "")
		tr.open()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			tr.once()
		}
		tr.stream()
	})
}

func (tr *trial) open() {
	count, bytes := rapid.Int64Range(0, 30).Draw(tr.T, "first page"), tr.bytes()
	a := tr.w.Works(tr.tx+".cursor.sized", fmt.Sprintf(`{"params": {"n": %d}, "scroll": %t, "count": %d, "max_bytes": %d}`, tr.rows, tr.scroll, count, bytes))
	if count == 0 {
		if len(a.Rows) > 0 || a.Done {
			tr.Fatalf("a first page of no rows: %s", a.Body)
		}
		return
	}
	tr.compare(a, step{body: "open", sql: fmt.Sprintf("FORWARD %d", count), n: count}, bytes, true)
}

func (tr *trial) bytes() int { return rapid.IntRange(1, 3000).Draw(tr.T, "max_bytes") }

func (tr *trial) once() {
	if rapid.IntRange(0, 5).Draw(tr.T, "disturb") == 0 {
		tr.disturb(rapid.SampledFrom([]string{"shift", "calm"}).Draw(tr.T, "script"))
	}
	s := drawStep(tr.T, tr.pos)
	if !tr.scroll && (s.only || tr.disturbed && (s.sql == "FIRST" || strings.HasPrefix(s.sql, "ABSOLUTE"))) {
		verb := rapid.SampledFrom([]string{"fetch", "move"}).Draw(tr.T, "verb")
		tr.w.Fails("invalid_request", tr.tx+"."+verb, `{"cursor": "c1", `+s.body+`}`)
		return
	}
	if rapid.IntRange(0, 3).Draw(tr.T, "move") == 0 {
		tr.move(s)
		return
	}
	bytes := tr.bytes()
	a := tr.w.Ask(tr.tx+".fetch", fmt.Sprintf(`{"cursor": "c1", %s, "max_bytes": %d}`, s.body, bytes))
	tr.compare(a, s, bytes, false)
}

// disturb runs a script that may move the cursor: from where its client stands, or
// not at all where rows were read ahead that cannot be given back.
func (tr *trial) disturb(script string) {
	a := tr.w.Ask(tr.tx+".run."+script, "")
	if a.Error != nil {
		if tr.scroll || !tr.cut || a.Error.Code != "invalid_request" || a.State() != "active" {
			tr.Fatalf("a script beside a cursor: %+v, %s", *a.Error, a.State())
		}
		return
	}
	tr.disturbed = true
	if script == "shift" {
		tr.oracle.exec("MOVE FORWARD 3 FROM o")
		tr.land(step{sql: "FORWARD 0"}, false)
	}
}

func (tr *trial) move(s step) {
	a := tr.w.Works(tr.tx+".move", `{"cursor": "c1", `+s.body+`}`)
	if moved := tr.oracle.exec("MOVE " + s.sql + " FROM o"); a.Moved != moved {
		tr.Fatalf("move %s from %d: moved %d, PostgreSQL %d", s.sql, tr.pos, a.Moved, moved)
	}
	tr.land(s, a.Done)
}

// compare holds a page against what PostgreSQL returns, and brings the oracle to
// where the page was cut.
func (tr *trial) compare(a harness.Reply, s step, bytes int, opening bool) {
	want := tr.oracle.ids(s.sql)
	if len(want) > 0 && tooLargeRow(want[0]) && !opening {
		if a.Error == nil || a.Error.Code != "too_large" || a.Error.Row != want[0] && (tr.scroll || !tr.disturbed) {
			tr.Fatalf("fetch %s: %.200s, want too_large with row %d", s.sql, a.Body, want[0])
		}
		tr.cut = true
		tr.goTo(want[0])
		return
	}
	if a.Error != nil {
		tr.Fatalf("fetch %s from %d: %+v", s.sql, tr.pos, *a.Error)
	}
	got := ids(tr.T, a.Rows)
	if len(got) > len(want) || fmt.Sprint(got) != fmt.Sprint(want[:len(got)]) {
		tr.Fatalf("%s %s from %d of %d: rows %v, PostgreSQL %v", s.body, s.sql, tr.pos, tr.rows, got, want)
	}
	if len(a.Body) > bytes && len(got) > 1 {
		tr.Fatalf("a page of %d rows has %d bytes, asked were %d", len(got), len(a.Body), bytes)
	}
	// A page that is full with its only row does not look whether there is more.
	full := len(got) == 1 && len(a.Body) > bytes && !a.Done && s.n > 1
	if len(got) < len(want) || full {
		tr.cut = true
		if a.Done || len(got) == 0 && !opening {
			tr.Fatalf("fetch %s from %d: a cut page %.200s", s.sql, tr.pos, a.Body)
		}
		if len(got) == 0 {
			tr.goTo(0)
		} else {
			tr.goTo(got[len(got)-1])
		}
		return
	}
	tr.land(s, a.Done)
}

// goTo moves the oracle to a row.
func (tr *trial) goTo(row int64) {
	tr.oracle.exec(fmt.Sprintf("MOVE ABSOLUTE %d FROM o", row))
	tr.pos = row
}

// land finds out where the oracle is, and whether done was right.
func (tr *trial) land(s step, done bool) {
	onRow := tr.oracle.exec("MOVE RELATIVE 0 FROM o")
	before := tr.oracle.exec("MOVE BACKWARD ALL FROM o")
	pos := before + onRow
	if onRow == 0 && (before > 0 || tr.rows == 0 && !s.back) {
		pos = before + 1
	}
	if onRow == 0 && before > 0 {
		tr.oracle.exec("MOVE FORWARD ALL FROM o")
	} else {
		tr.oracle.exec(fmt.Sprintf("MOVE ABSOLUTE %d FROM o", pos))
	}
	nowhere := strings.HasSuffix(s.sql, " 0") && !strings.HasPrefix(s.sql, "ABS")
	want := !nowhere && onRow == 0
	if s.n > 0 && s.back {
		want = pos == 0
	}
	if done != want && tr.rows > 0 {
		tr.Fatalf("%s from %d to %d of %d: done %t", s.sql, tr.pos, pos, tr.rows, done)
	}
	switch {
	case tr.rows > 0:
		tr.pos = pos
	case s.only: // between both ends PostgreSQL does not tell which
		tr.pos = 0
	default:
		tr.pos = 1
	}
}

// stream takes the rest, or the rows before one that is too large.
func (tr *trial) stream() {
	r := tr.w.streamed(tr.tx, `{"cursor": "c1", "count": 7}`, true)
	want := tr.oracle.ids("FORWARD ALL")
	for i, id := range want {
		if tooLargeRow(id) {
			if r.err == nil || r.err.Row != id && (tr.scroll || !tr.disturbed) {
				tr.Fatalf("a stream ended with %+v, want too_large with row %d", r.err, id)
			}
			want = want[:i]
			break
		}
	}
	if got := ids(tr.T, r.rows); fmt.Sprint(got) != fmt.Sprint(want) {
		tr.Fatalf("streamed %v, PostgreSQL %v", got, want)
	}
}

func ids(t *rapid.T, rows []json.RawMessage) []int64 {
	ids := make([]int64, len(rows))
	for i, row := range rows {
		values := []any{&ids[i], new(string)}
		if err := json.Unmarshal(row, &values); err != nil {
			t.Fatalf("row %.100s: %v", row, err)
		}
	}
	return ids
}
