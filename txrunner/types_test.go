package txrunner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Columns that get other types change no value that is written afterwards.
func TestChangedColumnsChangeNoValues(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{
				"put":  "-- isolation: " + isolation + "\nINSERT INTO addr (zip, price, at, doc) VALUES (@zip, @price, @at, @doc)",
				"note": "INSERT INTO log VALUES ('x'); INSERT INTO addr (zip) VALUES (@zip)",
			})
			w.SQL("CREATE TABLE addr (zip int, price real, at date, doc jsonb); CREATE TABLE log (a text)")
			w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
			w.Ask("run.put", `{"params": {"zip": "1234", "price": 1, "at": "2020-01-02", "doc": "abc"}}`)
			w.SQL("TRUNCATE addr; ALTER TABLE addr ALTER zip TYPE text, ALTER price TYPE numeric, ALTER at TYPE timestamptz, ALTER doc TYPE text")
			for range 2 {
				a := w.Ask("run.put", `{"params": {"zip": "01234", "price": 12345678.91, "at": "2020-01-02 03:04:05", "doc": "abc"}}`)
				harness.Equal(t, "the reply", a.Body, `{"results":[{"command":"INSERT 0 1","rows_affected":1}],"attempts":1}`)
			}
			harness.Equal(t, "what is stored", harness.Value[string](w.World, "SELECT string_agg(DISTINCT concat_ws(' ', zip, price, at AT TIME ZONE 'UTC', doc), ',') FROM addr"),
				"01234 12345678.91 2020-01-02 03:04:05 abc")
			w.Ask("run.note", `{"params": {"zip": "01"}}`)
			w.SQL("ALTER TABLE addr RENAME TO addr_old; CREATE TABLE addr (zip int)")
			w.Ask("run.note", `{"params": {"zip": "02"}}`)
			harness.Equal(t, "what a table of the same name holds", harness.Value[int](w.World, "SELECT sum(zip)::int FROM addr"), 2)
			harness.Equal(t, "what was done once each time", harness.Value[int](w.World, "SELECT count(*)::int FROM log"), 2)
		})
	}
}

// A run that waits for the lock of ALTER TABLE was prepared before, and is
// executed after it.
func TestAlterTableUnderTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"put": "INSERT INTO addr (zip) VALUES (@zip)"})
	w.SQL("CREATE TABLE addr (zip int)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	w.Ask("run.put", `{"params": {"zip": "7"}}`)
	conn, err := pgx.Connect(t.Context(), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "BEGIN; ALTER TABLE addr ALTER zip TYPE text"); err != nil {
		t.Fatal(err)
	}
	var a harness.Reply
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a, err = w.Try("run.put", `{"params": {"zip": "007"}}`)
	}()
	testenv.Wait(t, harness.Patience, "the run to wait for the table", func() bool {
		select {
		case <-ended:
			t.Fatalf("the run did not wait for the table: %v, %s", err, a.Body)
		default:
		}
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND relation = 'addr'::regclass") > 0 // the look at the scripts may wait, too
	})
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if <-ended; err != nil || a.Error != nil {
		t.Fatalf("the run: %v, %s", err, a.Body)
	}
	harness.Equal(t, "what is stored", harness.Value[string](w.World, "SELECT string_agg(zip, ',' ORDER BY zip) FROM addr"), "007,7")
}

// A type that is replaced, and one that gets another name.
func TestTypesAreReplacedAndRenamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"put": "INSERT INTO p VALUES (@m)", "get": "SELECT m FROM p LIMIT 1"})
	w.SQL("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE p (m mood)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	w.Ask("run.put", `{"params": {"m": "glad"}}`)
	w.Ask("run.get", ``)
	w.SQL(`CREATE TYPE mood_new AS ENUM ('glad', 'sad'); ALTER TABLE p ALTER m TYPE mood_new USING m::text::mood_new;
		DROP TYPE mood; ALTER TYPE mood_new RENAME TO mood`)
	for range 2 {
		if a := w.Ask("run.put", `{"params": {"m": "sad"}}`); a.Error != nil {
			t.Errorf("after the type was replaced: %+v", *a.Error)
		}
	}
	harness.Equal(t, "the name", fmt.Sprint(w.Ask("run.get", ``).Results[0].Columns), "[map[name:m type:mood]]")
	w.SQL("ALTER TYPE mood RENAME TO temper")
	harness.Equal(t, "the new name", fmt.Sprint(w.Ask("run.get", ``).Results[0].Columns), "[map[name:m type:temper]]")
}

// Pinned transactions learn of other types at once.
func TestChangedColumnsInPinnedTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"put": "INSERT INTO thing VALUES (@v)", "seen": "SELECT v FROM thing WHERE v = @v"})
	w.SQL("CREATE TABLE thing (v int)")
	w.Serve()
	tx := w.begin(``)
	w.rows(tx+".run.seen", `{"params": {"v": 1}}`)
	w.Ask(tx+".run.put", `{"params": {"v": 1}}`)
	w.Ask(tx+".rollback", ``)
	w.SQL("ALTER TABLE thing ALTER v TYPE bigint")
	tx = w.begin(``)
	if a := w.Ask(tx+".run.put", `{"params": {"v": 3000000000}}`); a.Error != nil {
		t.Errorf("a run: %+v", *a.Error)
	}
	harness.Equal(t, "rows", w.rows(tx+".run.seen", `{"params": {"v": 3000000000}}`), "[[3000000000]]")
	w.Ask(tx+".rollback", ``)
}

// What is learned of one tenant's tables is nothing that is known of another's.
func TestTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"put": "SELECT set_config('search_path', @tenant, true); INSERT INTO doc (data) VALUES (@data)"})
	w.SQL("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.doc (data jsonb); CREATE TABLE b.doc (data text)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	for _, public := range []bool{false, true} {
		for _, tenant := range []string{"a", "b", "a", "b"} {
			if a := w.Ask("run.put", fmt.Sprintf(`{"params": {"tenant": %q, "data": "abc"}}`, tenant)); a.Error != nil {
				t.Errorf("for %s: %+v", tenant, *a.Error)
			}
		}
		if !public {
			w.SQL("CREATE TABLE public.doc (data jsonb)") // now it can be prepared in advance
		}
	}
	for _, tenant := range []string{"a", "b"} {
		tx := w.begin(``)
		if a := w.Ask(tx+".run.put", fmt.Sprintf(`{"params": {"tenant": %q, "data": "abc"}}`, tenant)); a.Error != nil {
			t.Errorf("pinned, for %s: %+v", tenant, *a.Error)
		}
		w.Ask(tx+".commit", ``)
	}
	harness.Equal(t, "what is stored", harness.Value[string](w.World, "SELECT concat_ws(' ', (SELECT string_agg(DISTINCT data::text, ',') FROM a.doc), (SELECT string_agg(DISTINCT data, ',') FROM b.doc))"), `"abc" abc`)
	harness.Equal(t, "rows", harness.Value[int](w.World, "SELECT (SELECT count(*) FROM a.doc)::int + (SELECT count(*) FROM b.doc)::int"), 10)
}

// A script that has its statements find other tables than those that are there
// before it runs, by a search path or a temporary table of the same name: values are
// written as those have them, and no type of the hidden ones is in the way.
func TestTablesThatAScriptHides(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"temporary": "CREATE TEMP TABLE doc (data int) ON COMMIT DROP; INSERT INTO doc VALUES (@data); SELECT data FROM doc",
		"set":       "SELECT set_config('search_path', @tenant, true); INSERT INTO doc VALUES (@data); SELECT data FROM doc",
		"enter":     "SELECT enter(@tenant); INSERT INTO doc VALUES (@data); SELECT data FROM doc",
		"back":      "SET LOCAL search_path TO c; INSERT INTO doc VALUES (@data); SET LOCAL search_path TO public; INSERT INTO doc VALUES (@data); SELECT data FROM c.doc",
	})
	w.SQL(`CREATE TABLE doc (data text); CREATE SCHEMA a CREATE TABLE doc (data int); CREATE SCHEMA b CREATE TABLE doc (data jsonb);
		CREATE SCHEMA c CREATE TABLE doc (data varchar); CREATE FUNCTION enter(t text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', t, true) $$`)
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	last := func(script, params string) string {
		t.Helper()
		a := w.Ask("run."+script, `{"params": `+params+`}`)
		if a.Error != nil {
			t.Errorf("%s: %+v", script, *a.Error)
			return ""
		}
		return a.LastRows()
	}
	for range 2 {
		harness.Equal(t, "temporary", last("temporary", `{"data": "007"}`), "[[7]]")
		for _, script := range []string{"set", "enter"} {
			for _, c := range []struct{ tenant, data, want string }{
				{"a", `"007"`, "[[7]]"}, {"b", `"x"`, `[["x"]]`}, {"c", `"x"`, `[["x"]]`}, {"a", `"007"`, "[[7]]"},
			} {
				harness.Equal(t, script+" "+c.tenant, last(script, fmt.Sprintf(`{"tenant": %q, "data": %s}`, c.tenant, c.data)), c.want)
				w.SQL("TRUNCATE a.doc, b.doc, c.doc")
			}
		}
		w.SQL("ALTER TABLE doc ALTER data TYPE jsonb USING to_jsonb(data)")
		harness.Equal(t, "back", last("back", `{"data": "x"}`), `[["x"]]`)
		w.SQL("TRUNCATE c.doc; ALTER TABLE doc ALTER data TYPE text")
	}
}

// The first run says nothing of the next ones.
func TestTenantAfterNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"put": "SELECT set_config('search_path', @tenant, true); INSERT INTO doc VALUES (@data); SELECT nextval('runs')"})
	w.SQL("CREATE SEQUENCE runs; CREATE TABLE doc (data text); CREATE SCHEMA a CREATE TABLE doc (data jsonb)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	for i, tenant := range []string{"public", "a, public", "a, public", "public"} {
		if a := w.Ask("run.put", fmt.Sprintf(`{"params": {"tenant": %q, "data": "abc"}}`, tenant)); a.Error != nil {
			t.Errorf("for %s: %+v", tenant, *a.Error)
		}
		harness.Equal(t, "executions", harness.Value[int](w.World, "SELECT last_value::int FROM runs"), i+1)
	}
}

// An error that looks like one of types is no reason to do it again.
func TestFailuresAreNotRunTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"raise": "SELECT nextval('runs'), @a::text FROM one; DO $$ BEGIN RAISE invalid_text_representation; END $$",
		"cast":  "SELECT nextval('runs'), count(*) FROM one WHERE a = @a; SELECT (@a || 'x')::int, a FROM one",
	})
	w.SQL("CREATE SEQUENCE runs; CREATE TABLE one (a text); INSERT INTO one VALUES ('1')")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	for i, name := range []string{"raise", "raise", "raise", "cast", "cast"} {
		w.fails("sql_error", "run."+name, `{"params": {"a": "1"}}`)
		harness.Equal(t, "executions", harness.Value[int](w.World, "SELECT last_value::int FROM runs"), i+1)
	}
}

// A FETCH answers with its types right after a start.
func TestFetchKnowsTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"fetch": "DECLARE c CURSOR FOR SELECT moods FROM felt; FETCH ALL FROM c"})
	w.SQL("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE felt (moods mood[]); INSERT INTO felt VALUES ('{glad}')")
	w.Serve()
	tx := w.begin(``)
	for _, subject := range []string{"run.fetch", tx + ".run.fetch"} {
		if a := w.Ask(subject, ``); a.Error != nil || !strings.Contains(a.Body, `"type":"mood[]"}],"rows":[[["glad"]]]`) {
			t.Errorf("%s answered %s", subject, a.Body)
		}
	}
}

// A result on a pinned transaction that has other types than when it was last seen
// has their names and their forms.
func TestReplacedTypesInPinnedTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"get": "SELECT 1 AS before; SELECT moods, m FROM felt; SELECT m FROM felt WHERE false; SELECT 2 AS after"})
	const made = "CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE felt (moods mood[], m mood); INSERT INTO felt VALUES ('{glad,NULL}', 'glad'), (NULL, NULL)"
	w.SQL(made)
	w.Serve(func(c *txrunner.Config) { c.PinnedConnections, c.Share = 1, 1 })
	get := func(body string) string {
		tx := w.begin(``)
		defer w.Ask(tx+".rollback", ``)
		return w.Ask(tx+".run.get", body).Good(t).Body
	}
	want := get(``)
	for _, text := range []string{`"columns":[{"name":"moods","type":"mood[]"},{"name":"m","type":"mood"}],"rows":[[["glad",null],"glad"],[null,null]]`, `"rows":[[2]]`} {
		if !strings.Contains(want, text) {
			t.Errorf("the answer is %s, want %s in it", want, text)
		}
	}
	asObjects := get(`{"rows": "object"}`)
	for _, body := range []string{``, `{"rows": "object"}`} {
		w.SQL("DROP TABLE felt; DROP TYPE mood; " + made)
		got := get(body)
		if body != "" {
			want = asObjects
		}
		harness.Equal(t, "the answer afterwards", got, want)
	}
}

// A result without columns has rows all the same.
func TestNoColumns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"none": "SELECT FROM generate_series(1, @n::int); SELECT WHERE false; CREATE TEMP TABLE scratch ON COMMIT DROP AS SELECT; SELECT FROM scratch"})
	w.Serve()
	want := `{"results":[{"columns":[],"rows":[[],[]],"command":"SELECT 2","rows_affected":2},{"columns":[],"rows":[],"command":"SELECT 0","rows_affected":0},` +
		`{"command":"SELECT 1","rows_affected":1},{"columns":[],"rows":[[]],"command":"SELECT 1","rows_affected":1}],"attempts":1}`
	tx := w.begin(``)
	for range 2 {
		for _, subject := range []string{"run.none", tx + ".run.none"} {
			if subject != "run.none" {
				w.Ask(tx+".savepoint", `{"name": "a"}`)
			}
			harness.Equal(t, subject, w.Ask(subject, `{"params": {"n": 2}}`).Body, want)
			if subject != "run.none" {
				w.Ask(tx+".rollback_to", `{"name": "a"}`)
			}
		}
	}
	harness.Equal(t, "as an object", w.Ask("run.none", `{"params": {"n": 2}, "rows": "object"}`).Body, strings.ReplaceAll(strings.ReplaceAll(want, "[[],[]]", "[{},{}]"), "[[]]", "[{}]"))
}

// A description is that of the moment.
func TestDescribeSeesChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"it": "SELECT * FROM thing WHERE v = @v"})
	w.SQL("CREATE TABLE thing (v int)")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	for _, change := range []string{"SELECT", "ALTER TABLE thing ALTER v TYPE text", "ALTER TABLE thing ADD w int"} {
		w.SQL(change)
		w.Ask("describe.it", ``)
	}
	harness.Equal(t, "the description", w.Ask("describe.it", ``).Body,
		`{"name":"it","kind":"run","cursor":true,"settings":{},"parameters":[{"name":"v","types":["text"]}],"columns":[{"name":"v","type":"text"},{"name":"w","type":"int4"}]}`)
}

// What a type is called is known for as long as it is called so, also by a script that
// could not be prepared in advance.
func TestRenamedTypeOfAStatementThatIsDescribedLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"show": "SELECT m FROM person", "cast": "SELECT 1 AS one; SELECT @m::mood AS v"})
	w.SQL("CREATE TYPE temper AS ENUM ('sad', 'ok'); CREATE TABLE person (m temper); INSERT INTO person VALUES ('ok')")
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	harness.Equal(t, "the type", w.Works("run.show", "").Results[0].Columns[0]["type"], "temper")
	w.Fails("sql_error", "run.cast", `{"params": {"m": "ok"}}`)
	w.SQL("ALTER TYPE temper RENAME TO mood")
	harness.Equal(t, "the type", w.Works("run.cast", `{"params": {"m": "ok"}}`).Results[1].Columns[0]["type"], "mood")
}

// SQL can set another encoding for what PostgreSQL sends, in which a byte of a character is
// that of a backslash. The answer is JSON in UTF-8 all the same, and the next one is right.
func TestAnswersAreUTF8WhateverTheClientEncoding(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"other": "SELECT set_config('client_encoding', @encoding, false); SELECT j, j::text, ARRAY[j], ARRAY[j::text] FROM doc WHERE encoding = @encoding",
		"same":  "SELECT j FROM doc ORDER BY encoding",
	})
	w.SQL(`CREATE TABLE doc (encoding text, j json); INSERT INTO doc VALUES ('LATIN1', '{"é": "é\n"}'), ('SJIS', '{"表": "\\表"}')`)
	w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
	for _, encoding := range []string{"SJIS", "LATIN1"} {
		a := w.Works("run.other", `{"params": {"encoding": "`+encoding+`"}}`)
		if !utf8.ValidString(a.Body) || !json.Valid([]byte(a.Body)) {
			t.Errorf("%s: the answer is %q", encoding, a.Body)
		}
		harness.Equal(t, "the next answer", w.rows("run.same", ""), `[[{"é": "é\n"}],[{"表": "\\表"}]]`)
	}
}
