//go:build oracle

package oracle

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var long = flag.Duration("oracle.time", 15*time.Second, "how long to compare scripts with PostgreSQL")

// histories is how many are drawn with one seed, if rapid's own flag says nothing.
const histories = "20"

// world is pgbridge with its database, and the other database.
type world struct {
	*harness.World
	config txrunner.Config
	ours   *plain // what became of pgbridge's database
	other  *plain // the oracle

	// Of one history:
	scripts []script
	changes int            // of the schema so far
	seen    map[string]int // by script and way: how many there were when it last ran to its end
}

// TestScriptsAnswerAsPostgreSQLDoes draws runs of scripts and changes of the
// schema in any order. rapid prints the shortest way to a difference that it
// finds, and a flag to repeat it: each history begins with a runner that knows
// nothing, and with the same schema.
func TestScriptsAnswerAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(histories); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t)
	n := 0
	for deadline := time.Now().Add(*long); time.Now().Before(deadline) && !t.Failed(); {
		t.Run("", func(t *testing.T) {
			rapid.Check(t, func(history *rapid.T) {
				n++
				w.compare(t, history)
			})
		})
	}
	t.Logf("%d histories", n)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	h := harness.New(t, nil)
	w := &world{World: h, ours: dial(t, h.Postgres), other: dial(t, testenv.Postgres(t).NewDatabase(t))}
	w.config = h.Config()
	w.config.RunConnections, w.config.PinnedConnections, w.config.Share = 1, 1, 1 // so that each has run everything before long
	return w
}

// compare is one history, from the first schema on. What is logged is kept no longer
// than one runs.
func (w *world) compare(one testing.TB, t *rapid.T) {
	w.both(t, setup)
	w.changes, w.seen = 0, map[string]int{}
	config := w.config
	config.Extensions = []txrunner.Extension{cursors.New()}
	w.scripts = drawScripts(t)
	w.clear()
	for _, s := range w.scripts {
		w.Write(s.name, s.text())
	}
	runner := harness.Serve(one, config)
	defer func() { _ = runner.Stop() }()
	for range rapid.IntRange(10, 60).Draw(t, "steps") {
		if rapid.IntRange(0, 4).Draw(t, "is a change") == 0 {
			sql := drawChange(t)
			if ours, other := w.ours.change(sql), w.other.change(sql); ours != other {
				t.Fatalf("%s: SQLSTATE %q here and %q there", sql, ours, other)
			}
			w.changes++
			continue
		}
		w.runBoth(t)
		w.sameTables(t)
	}
}

// clear removes the scripts of the last history.
func (w *world) clear() {
	files, err := filepath.Glob(filepath.Join(w.Folder, "*.sql"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) both(t *rapid.T, sql string) {
	for _, p := range []*plain{w.ours, w.other} {
		if state := p.exec("BEGIN; " + sql + "; COMMIT"); state != "" {
			t.Fatalf("%s: SQLSTATE %s", sql, state)
		}
	}
}

// runBoth runs one script here and there.
func (w *world) runBoth(t *rapid.T) {
	s := rapid.SampledFrom(w.scripts).Draw(t, "script")
	values, sent := w.drawValues(t, s)
	statements := make([]string, len(s.statements))
	for i, statement := range s.statements {
		statements[i] = s.written(statement, values)
	}
	ways := []func(script, string) answer{w.asRun, w.asTransaction}
	if s.reads {
		ways = append(ways, w.asCursor)
	}
	way := rapid.IntRange(0, len(ways)-1).Draw(t, "way")
	early := w.other.unprepared(w.T, statements)
	oursBefore, otherBefore := w.turns(w.ours), w.turns(w.other)
	got := ways[way](s, sent)
	refused := got.state != "" && got.state == w.refused(values)
	want := w.other.run(w.T, statements, refused)
	w.sameTurns(t, fmt.Sprint(s.name, way), got.state != "", w.turns(w.ours)-oursBefore, w.turns(w.other)-otherBefore)
	if way == 2 && want.state == "" { // a cursor answers with its own rows only
		want.results = want.results[len(want.results)-1:]
		want.results[0].command = ""
	}
	if way > 0 || strings.Contains(s.text(), "FETCH") { // where the new name of a type may come later
		got.rename("temper", "mood")
		want.rename("temper", "mood")
	}
	if refused || got.state != "" && got.state == early && want.state != "" {
		return
	}
	if got.state != want.state && w.misfits(s, values, got.state) && w.misfits(s, values, want.state) {
		return // which of two values it complains of is a matter of who looks first
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("way %d of\n%s\nwith %s answered\n%+v, want\n%+v", way, s.text(), sent, got, want)
	}
}

// misfits reports whether one of the values, alone, is refused with an SQLSTATE where it
// is written.
func (w *world) misfits(s script, values map[string]value, state string) bool {
	for name, v := range values {
		alone := map[string]value{}
		for other := range values {
			alone[other] = value{SQL: "NULL"}
		}
		alone[name] = v
		statements := make([]string, len(s.statements))
		for i, statement := range s.statements {
			statements[i] = s.written(statement, alone)
		}
		if state != "" && w.other.unprepared(w.T, statements) == state {
			return true
		}
	}
	return false
}

// refused returns the SQLSTATE with which a domain refuses the value of a parameter,
// which as a parameter it does even where no row gets the value.
func (w *world) refused(values map[string]value) string {
	for _, v := range values {
		if v.kind == "positive" {
			if state := w.other.exec("SELECT " + v.SQL + "::positive"); state != "" {
				return state
			}
		}
	}
	return ""
}

// turns is what a sequence, which no rollback takes back, has come to.
func (w *world) turns(p *plain) int {
	n, err := strconv.Atoi(p.value(w.T, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM turns"))
	if err != nil {
		w.T.Fatal(err)
	}
	return n
}

// sameTurns refuses a script that was executed more often than PostgreSQL was asked
// to, unless the schema has changed since it last ran to its end: behind a statement
// that failed, one can return other types by now. What is refused before anything is
// executed may be executed less often.
func (w *world) sameTurns(t *rapid.T, what string, failed bool, ours, other int) {
	last, known := w.seen[what]
	if !failed {
		w.seen[what] = w.changes
	}
	most, least := other, other
	if known && last != w.changes || !known {
		most *= 4
	}
	if failed {
		least = 0
	}
	if ours < least || ours > most {
		t.Fatalf("%s has taken %d numbers from a sequence, want %d to %d", what, ours, least, most)
	}
	if ours != other {
		w.ours.must(w.T, fmt.Sprintf("SELECT setval('turns', %d, %t)", max(1, w.turns(w.other)), w.turns(w.other) > 0))
	}
}

// drawValues draws one value for each parameter, for the type that its place has
// now.
func (w *world) drawValues(t *rapid.T, s script) (values map[string]value, sent string) {
	values = map[string]value{}
	var pairs []string
	for i := range len(s.places) + 1 {
		name := fmt.Sprintf("p%d", i)
		if s.name == "tenant" {
			name = []string{"path", "data", ""}[i]
		}
		place, used := s.places[name]
		if !used {
			continue
		}
		v := w.drawValue(t, name, place, values)
		values[name] = v
		pairs = append(pairs, fmt.Sprintf("%q: %s", name, v.JSON))
	}
	return values, `{"params": {` + strings.Join(pairs, ", ") + `}}`
}

func (w *world) drawValue(t *rapid.T, name, place string, so map[string]value) value {
	if name == "path" {
		return text(rapid.SampledFrom([]string{"north", "south"}).Draw(t, name))
	}
	table, column, isColumn := strings.Cut(place, ".")
	if !isColumn {
		return valueOf(t, place, name, so)
	}
	if path, tenant := so["path"]; tenant {
		table = strings.Trim(path.SQL, "'") + "." + table
	}
	kind := w.other.value(w.T, fmt.Sprintf("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s AND NOT attisdropped",
		quote(table), quote(column)))
	if kind == "" {
		return null
	}
	return valueOf(t, kind, name, so)
}

func (w *world) sameTables(t *rapid.T) {
	const all = `SELECT concat((SELECT json_agg(t::text ORDER BY t::text) FROM t0 t), (SELECT json_agg(t::text ORDER BY t::text) FROM t1 t),
		(SELECT json_agg(t::text ORDER BY t::text) FROM north.doc t), (SELECT json_agg(t::text ORDER BY t::text) FROM south.doc t))`
	if ours, other := w.ours.value(w.T, all), w.other.value(w.T, all); ours != other {
		t.Fatalf("the tables have become\n%s, want\n%s", ours, other)
	}
}

// asRun runs a script as a request of its own.
func (w *world) asRun(s script, body string) answer { return read(w.T, w.Ask("run."+s.name, body)) }

// asTransaction runs it on a pinned transaction.
func (w *world) asTransaction(s script, body string) answer {
	tx := w.Works("begin", "").Tx
	a := read(w.T, w.Ask(tx+".run."+s.name, body))
	if a.state != "" {
		w.Works(tx+".rollback", "")
		return a
	}
	if end := w.Ask(tx+".commit", ""); end.Error != nil {
		return answer{state: end.Error.SQLState}
	}
	return a
}

// asCursor runs it as a cursor, page by page. Its transaction was begun for it
// and is committed when its last row was read.
func (w *world) asCursor(s script, body string) answer {
	page := w.Ask("cursor."+s.name, strings.TrimSuffix(body, "}")+`, "count": 2}`)
	if page.Error != nil {
		return failed(page)
	}
	tx, a := page.Tx, answer{results: []result{{columns: columnsOf(page.Columns)}}}
	for {
		for _, row := range page.Rows {
			a.results[0].rows = append(a.results[0].rows, parse(w.T, string(row)))
		}
		if page.Done {
			if page.State() != "ended" {
				return answer{state: "the transaction is " + page.State()}
			}
			return a
		}
		if page = w.Ask(tx+".fetch", `{"cursor": "c1", "count": 3}`); page.Error != nil {
			w.Ask(tx+".rollback", "")
			return failed(page)
		}
	}
}

func failed(r harness.Reply) answer {
	if r.Error.SQLState == "" {
		return answer{state: r.Error.Code + ": " + r.Error.Message}
	}
	return answer{state: r.Error.SQLState}
}

func read(t testing.TB, r harness.Reply) answer {
	t.Helper()
	if r.Error != nil {
		return failed(r)
	}
	var a answer
	for _, one := range r.Results {
		into := result{command: one.Command, columns: columnsOf(one.Columns)}
		var rows []json.RawMessage
		if len(one.Rows) > 0 {
			if err := json.Unmarshal(one.Rows, &rows); err != nil {
				t.Fatal(err)
			}
		}
		for _, row := range rows {
			into.rows = append(into.rows, parse(t, string(row)))
		}
		a.results = append(a.results, into)
	}
	return a
}

func columnsOf(described []map[string]string) []string {
	return slices.Collect(func(yield func(string) bool) {
		for _, c := range described {
			if !yield(c["name"] + " " + c["type"]) {
				return
			}
		}
	})
}
