package schema_test

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/bridge/internal/schema"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// database returns the URL of a new one with the schema.
func database(t *testing.T) string {
	t.Helper()
	url := testenv.Postgres(t).NewDatabase(t)
	migrate(t, url, 0)
	return url
}

func migrate(t *testing.T, url string, limit int) {
	t.Helper()
	if err := schema.Migrate(t.Context(), connect(t, url), limit); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// sent runs SQL and returns what a slot has of it, prefix and content.
func sent(t *testing.T, url, sql string) [][2]string {
	t.Helper()
	slot := testenv.Value[string](t, url, "SELECT 'schema_' || current_database()")
	testenv.Exec(t, url, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot)
	testenv.Exec(t, url, sql)
	conn := connect(t, url)
	rows, err := conn.Query(t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'pgbridge', 'messages', 'true')`, slot)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, url, "SELECT pg_drop_replication_slot($1)", slot)
	var messages [][2]string
	for _, b := range changes {
		if b[0] == 'M' {
			prefix, rest, _ := strings.Cut(string(b[10:]), "\x00")
			messages = append(messages, [2]string{prefix, rest[4:]})
		}
	}
	return messages
}

func TestNotifySendsWhatWasAsked(t *testing.T) {
	t.Parallel()
	url := database(t)
	got := sent(t, url, `SELECT pgbridge.notify('a', 'text');
		SELECT pgbridge.notify('a', NULL);
		SELECT pgbridge.notify('a', ''); SELECT pgbridge.notify('a', '');
		SELECT pgbridge.notify('a', '\x00ff'::bytea);
		SELECT pgbridge.notify('größe', '{"ü": 1}'::json::text);
		SELECT pgbridge.notify('a', 'p', '{"traceparent": "00-1"}');
		SELECT pgbridge.notify('a', '\x7071'::bytea, '{}');
		SELECT pgbridge.notify('a', repeat('x', pgbridge.payload_limit()));`)
	want := [][2]string{
		{"pgbridge.a", "text"}, {"pgbridge.a", ""}, {"pgbridge.a", ""}, {"pgbridge.a", ""}, {"pgbridge.a", "\x00\xff"},
		{"pgbridge.größe", `{"ü": 1}`},
		{"pgbridge:a", "\x00\x00\x00\x17" + `{"traceparent": "00-1"}` + "p"},
		{"pgbridge:a", "\x00\x00\x00\x02{}pq"},
		{"pgbridge.a", strings.Repeat("x", schema.DefaultLimit)},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %.300q, want %.300q", got, want)
	}
}

// A call costs the writer no function but PostgreSQL's own, and a payload that has an
// effect has it once.
func TestNotifyIsAnExpression(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE TABLE t (payload text); INSERT INTO t VALUES ('1'), ('2'); CREATE SEQUENCE s`)
	for _, sql := range []string{
		`SELECT pgbridge.notify('a', payload) FROM t`,
		`UPDATE t SET payload = 'x' RETURNING pgbridge.notify('a', json_build_object('now', now(), 'payload', payload)::text)`,
	} {
		plan, err := connect(t, url).Query(t.Context(), "EXPLAIN (VERBOSE, COSTS OFF) "+sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(plan, pgx.RowTo[string])
		if err != nil || !strings.Contains(strings.Join(lines, "\n"), "pg_logical_emit_message") {
			t.Errorf("the plan of %s: %q, %v", sql, lines, err)
		}
	}
	got := sent(t, url, `SELECT pgbridge.notify('a', payload) FROM t; SELECT pgbridge.notify('a', nextval('s')::text) FROM t`)
	want := [][2]string{{"pgbridge.a", "1"}, {"pgbridge.a", "2"}, {"pgbridge.a", "1"}, {"pgbridge.a", "2"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}

// What is refused is not up to how the writer's session reads backslashes.
func TestNotifyIgnoresHowStringsAreWritten(t *testing.T) {
	t.Parallel()
	conn := connect(t, database(t))
	if _, err := conn.Exec(t.Context(), "SET standard_conforming_strings = off"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT pgbridge.notify('größe', 'x'), pgbridge.notify('a', 'x', '{"a": "b"}')`); err != nil {
		t.Error(err)
	}
	for sql, want := range map[string]string{`SELECT pgbridge.notify('a' || chr(1), 'x')`: "42602", `SELECT pgbridge.notify('a', 'x', jsonb_build_object('a', chr(10)))`: "22023"} {
		_, err := conn.Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%s: %v, want SQLSTATE %s", sql, err, want)
		}
	}
}

func TestNotifyRefusesInTheWritersStatement(t *testing.T) {
	t.Parallel()
	url := database(t)
	for sql, want := range map[string]string{
		`SELECT pgbridge.notify(NULL, 'x')`:                                            "22004",
		`SELECT pgbridge.notify('', 'x')`:                                              "22004",
		`SELECT pgbridge.notify(repeat('x', 64), 'x')`:                                 "42622",
		`SELECT pgbridge.notify(E'a\nb', 'x')`:                                         "42602",
		`SELECT pgbridge.notify(U&'a\0085', 'x')`:                                      "42602",
		`SELECT pgbridge.notify('a', repeat('x', pgbridge.payload_limit() + 1))`:       "54000",
		`SELECT pgbridge.notify('a', repeat('ü', pgbridge.payload_limit()/2 + 1))`:     "54000",
		`SELECT pgbridge.notify('a', repeat('x', pgbridge.payload_limit() - 1), '{}')`: "54000",
		`SELECT pgbridge.notify('a', 'x', '[]')`:                                       "22023",
		`SELECT pgbridge.notify('a', 'x', '{"": "x"}')`:                                "22023",
		`SELECT pgbridge.notify('a', 'x', '{"a b": "x"}')`:                             "22023",
		`SELECT pgbridge.notify('a', 'x', '{"a:": "x"}')`:                              "22023",
		`SELECT pgbridge.notify('a', 'x', '{"a": 1}')`:                                 "22023",
		`SELECT pgbridge.notify('a', 'x', '{"a": "x\r\nNats-Msg-Id: y"}')`:             "22023",
		`SELECT pgbridge.notify('a', 'x', '{"NATS-Msg-Id": "x"}')`:                     "42939",
		`SELECT pgbridge.notify('a', 'x', '{"pgbridge-id": "x"}')`:                     "42939",
		`SELECT pgbridge.notify('a', 'x', '{"Status": "503"}')`:                        "42939",
	} {
		_, err := connect(t, url).Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%s: %v, want SQLSTATE %s", sql, err, want)
		}
	}
}

func TestNotifyNeedsLogicalWAL(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"wal_level": "replica"}})
	migrate(t, pg.URL(), 0)
	_, err := connect(t, pg.URL()).Exec(t.Context(), "SELECT pgbridge.notify('a', 'x')")
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "55000" || refused.Hint == "" {
		t.Errorf("notify under wal_level = replica: %v, want SQLSTATE 55000 with a hint", err)
	}
}

// In another encoding than UTF8 the payload is UTF-8 all the same.
func TestNotifyConverts(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	name := strings.ToLower(t.Name())
	testenv.Exec(t, pg.URL(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
	t.Cleanup(func() { testenv.Exec(t, pg.URL(), "DROP DATABASE "+name+" WITH (FORCE)") })
	url := pg.Server().URL(name)
	migrate(t, url, 0)
	if got, want := sent(t, url, `SELECT pgbridge.notify('a', chr(252))`), [][2]string{{"pgbridge.a", "ü"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if _, err := connect(t, url).Exec(t.Context(), "SELECT pgbridge.notify(chr(252), 'x')"); err == nil {
		t.Error("a channel was taken whose name would arrive as another")
	}
}

// What UTF-8 lacks arrives with the bytes it has, and no write fails for it.
func TestNotifyTakesWhatHasNoEquivalent(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	for encoding, odd := range map[string]string{"SQL_ASCII": `\xff`, "WIN1252": `\x81`} {
		name := strings.ToLower(t.Name() + encoding)[:40]
		testenv.Exec(t, pg.URL(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING '"+encoding+"' LOCALE 'C'")
		t.Cleanup(func() { testenv.Exec(t, pg.URL(), "DROP DATABASE "+name+" WITH (FORCE)") })
		url := pg.Server().URL(name)
		migrate(t, url, 0)
		testenv.Exec(t, url, "CREATE TABLE t (v text); SELECT pgbridge.watch('t', 'rows')")
		value := "convert_from('" + odd + "', current_setting('server_encoding'))"
		got := sent(t, url, "SELECT pgbridge.notify('a', "+value+"); INSERT INTO t VALUES ("+value+"), ('plain')")
		b := string([]byte{map[string]byte{"SQL_ASCII": 0xff, "WIN1252": 0x81}[encoding]})
		if len(got) != 3 || got[0] != [2]string{"pgbridge.a", b} || !strings.Contains(got[1][1], `"v":"`+b+`"`) || !strings.Contains(got[2][1], `"v":"plain"`) {
			t.Errorf("in %s it sent %q", encoding, got)
		}
	}
}

// The SQL of a migration holds no letter that a database could lack.
func TestMigrationIsASCII(t *testing.T) {
	t.Parallel()
	if i := strings.IndexFunc(schema.SQL(0), func(r rune) bool { return r >= 0x80 }); i >= 0 {
		t.Errorf("it has another letter behind %q", schema.SQL(0)[max(0, i-40):i])
	}
}

// Whoever may create operators where a writer's search path looks must not have
// them run inside notify.
func TestNotifyIgnoresTheSearchPath(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE SCHEMA trap;
		CREATE FUNCTION trap.fall(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE FUNCTION trap.fall2(text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE FUNCTION trap.fall(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE FUNCTION trap.fall2(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE OPERATOR trap.~ (FUNCTION = trap.fall, LEFTARG = text, RIGHTARG = text);
		CREATE OPERATOR trap.<> (FUNCTION = trap.fall, LEFTARG = text, RIGHTARG = text);
		CREATE OPERATOR trap.= (FUNCTION = trap.fall, LEFTARG = text, RIGHTARG = text);
		CREATE OPERATOR trap.|| (FUNCTION = trap.fall2, LEFTARG = text, RIGHTARG = text);
		CREATE OPERATOR trap.> (FUNCTION = trap.fall, LEFTARG = int, RIGHTARG = int);
		CREATE OPERATOR trap.+ (FUNCTION = trap.fall2, LEFTARG = int, RIGHTARG = int);
		CREATE OPERATOR trap.<= (FUNCTION = trap.fall, LEFTARG = int, RIGHTARG = int);
		CREATE FUNCTION trap.fall(jsonb, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE FUNCTION trap.fall2(jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE OPERATOR trap.? (FUNCTION = trap.fall, LEFTARG = jsonb, RIGHTARG = text);
		CREATE OPERATOR trap.|| (FUNCTION = trap.fall2, LEFTARG = jsonb, RIGHTARG = jsonb);
		CREATE FUNCTION trap.octet_length(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''a trap''; END';
		CREATE TABLE t (i int PRIMARY KEY);
		SET search_path = trap, pg_catalog, public;
		SELECT pgbridge.notify('a', 'x'), pgbridge.notify('a', '\x00'::bytea), pgbridge.notify('a', 'x', '{"a": "b"}'), pgbridge.watch('t', 'a');
		INSERT INTO t VALUES (1);
		SET pgbridge.traceparent = '`+trace+`';
		SELECT pgbridge.notify('a', 'x'), pgbridge.notify('a', '\x00'::bytea), pgbridge.notify('a', 'x', '{"a": "b"}');
		SET pgbridge.tracestate = 'a=1';
		SELECT pgbridge.notify('a', 'x'), pgbridge.notify('a', '\x00'::bytea), pgbridge.notify('a', 'x', '{"a": "b"}')`)
}

const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestNotifyBelongsToTheTrace looks at the headers of events in a transaction that says
// which trace it is in.
func TestNotifyBelongsToTheTrace(t *testing.T) {
	t.Parallel()
	got := sent(t, database(t), `SET pgbridge.traceparent = '`+trace+`';
		SELECT pgbridge.notify('a', 'text');
		SELECT pgbridge.notify('a', 'p', '{"a": "b"}');
		SELECT pgbridge.notify('a', 'p', '{"traceparent": "00-1"}');
		SELECT pgbridge.notify('a', repeat('x', pgbridge.payload_limit()));
		SET pgbridge.tracestate = 'a=1,b="2';
		SELECT pgbridge.notify('a', 'text');
		SELECT pgbridge.notify('a', 'p', '{"tracestate": "c=3"}');
		SELECT pgbridge.notify('a', 'p', '{"traceparent": "00-1"}');
		SELECT pgbridge.notify('a', repeat('x', pgbridge.payload_limit() - 1000));
		SET pgbridge.tracestate = E'a=1\r\nNats-Msg-Id: 7';
		SELECT pgbridge.notify('a', 'text');
		SET pgbridge.tracestate = 'a=1';
		SET pgbridge.traceparent = E'00-1\r\nNats-Msg-Id: 7';
		SELECT pgbridge.notify('a', 'text');
		SET pgbridge.traceparent = '';
		SELECT pgbridge.notify('a', 'text');`)
	own := `{"traceparent": "` + trace + `"}`
	both := `{"a": "b", "traceparent": "` + trace + `"}`
	want := [][2]string{
		headed(own, "text"), headed(both, "p"), headed(`{"traceparent": "00-1"}`, "p"),
		{"pgbridge.a", strings.Repeat("x", schema.DefaultLimit)}, // no room for it is no reason to refuse
		headed(`{"tracestate": "a=1,b=\"2", "traceparent": "`+trace+`"}`, "text"),
		headed(`{"tracestate": "c=3", "traceparent": "`+trace+`"}`, "p"),
		headed(`{"traceparent": "00-1"}`, "p"),
		headed(own, strings.Repeat("x", schema.DefaultLimit-1000)),
		headed(own, "text"),
		{"pgbridge.a", "text"}, {"pgbridge.a", "text"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sent %.300q, want %.300q", got, want)
	}
}

// headed is what the log gets of an event on the channel a with headers of less than 128
// bytes.
func headed(headers, payload string) [2]string {
	return [2]string{"pgbridge:a", "\x00\x00\x00" + string(rune(len(headers))) + headers + payload}
}

func TestWatchSendsChanges(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE TABLE t (id int PRIMARY KEY, v text);
		CREATE TABLE parted (id int, v text) PARTITION BY LIST (id);
		CREATE TABLE p1 PARTITION OF parted FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF parted FOR VALUES IN (2);
		SELECT pgbridge.watch('t', 'rows'), pgbridge.watch('t', 'rows'), pgbridge.watch('parted', 'rows');`)
	got := sent(t, url, `BEGIN; INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; DELETE FROM t; TRUNCATE t;
		INSERT INTO p1 VALUES (1, 'x'); UPDATE parted SET id = 2; TRUNCATE parted;
		INSERT INTO t VALUES (7, repeat('x', pgbridge.payload_limit()));
		SAVEPOINT s; INSERT INTO t VALUES (9, 'undone'); ROLLBACK TO s;
		SELECT pgbridge.unwatch('t', 'rows'); INSERT INTO t VALUES (8, 'unseen'); COMMIT;`)
	want := []string{
		`{"op":"insert","schema":"public","table":"t","new":{"id":1,"v":"a"},"old":null}`,
		`{"op":"update","schema":"public","table":"t","new":{"id":1,"v":"b"},"old":{"id":1,"v":"a"}}`,
		`{"op":"delete","schema":"public","table":"t","new":null,"old":{"id":1,"v":"b"}}`,
		`{"op":"truncate","schema":"public","table":"t","new":null,"old":null}`,
		`{"op":"insert","schema":"public","table":"parted","new":{"id":1,"v":"x"},"old":null}`,
		`{"op":"delete","schema":"public","table":"parted","new":null,"old":{"id":1,"v":"x"}}`,
		`{"op":"insert","schema":"public","table":"parted","new":{"id":2,"v":"x"},"old":null}`,
		`{"op":"truncate","schema":"public","table":"parted","new":null,"old":null}`,
		`{"op":"insert","schema":"public","table":"t","new":{"id":7},"old":null,"truncated":true}`,
	}
	wantEvents(t, got, want)
}

func wantEvents(t *testing.T, got [][2]string, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		var g, w any
		if i < len(got) && got[i][0] == "pgbridge.rows" {
			json.Unmarshal([]byte(got[i][1]), &g)
		}
		if i < len(want) {
			json.Unmarshal([]byte(want[i]), &w)
		}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("change %d is %v, want %v", i, g, w)
		}
	}
}

// What an event says of a row is up to nobody's settings, and no row fails its writer for
// what jsonb cannot hold.
func TestWatchedRowsAreTheRowsThatThereAre(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE TABLE t (id int, v text, f float8, b bytea, i interval, r tstzrange, PRIMARY KEY (id) INCLUDE (f));
		CREATE TABLE j (j json, v text); SELECT pgbridge.watch('t', 'rows'), pgbridge.watch('j', 'rows')`)
	const values = `0.1::float8 + 0.2, '\x00ff', '1 day 2 hours', '[2026-02-01 00:00+00, 2026-02-03 00:00+00)'`
	events := []string{
		`{"op":"insert","schema":"public","table":"t","new":{"id":1,"v":"a","f":0.30000000000000004,"b":"\\x00ff","i":"1 day 02:00:00","r":"[\"2026-02-01 00:00:00+00\",\"2026-02-03 00:00:00+00\")"},"old":null}`,
		`{"op":"insert","schema":"public","table":"t","new":{"id":2},"old":null,"truncated":true}`,
		`{"op":"insert","schema":"public","table":"j","new":{"j":"\u0000","v":null},"old":null}`,
		`{"op":"update","schema":"public","table":"j","new":null,"old":null,"truncated":true}`,
	}
	sql := `INSERT INTO t VALUES (1, 'a', ` + values + `); INSERT INTO t VALUES (2, repeat('x', pgbridge.payload_limit()), ` + values + `);
		INSERT INTO j VALUES ('"\u0000"'); UPDATE j SET j = '["\u0000", 1e999999]', v = repeat('x', pgbridge.payload_limit())`
	if testenv.Value[int](t, url, "SELECT current_setting('server_version_num')::int") >= 180000 {
		testenv.Exec(t, url, `CREATE TABLE made (id int, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL, j json, kept int GENERATED ALWAYS AS (id * 3) STORED);
			SELECT pgbridge.watch('made', 'rows')`)
		sql += `; INSERT INTO made VALUES (1, DEFAULT, '"\u0000"')`
		events = append(events, `{"op":"insert","schema":"public","table":"made","new":{"id":1,"j":"\u0000","kept":3},"old":null}`)
	}
	for _, settings := range []string{"", "SET datestyle = 'SQL, DMY'; SET extra_float_digits = -15; SET bytea_output = 'escape'; SET intervalstyle = 'sql_standard'; "} {
		wantEvents(t, sent(t, url, "SET timezone = 'UTC'; TRUNCATE t; "+settings+sql+"; DELETE FROM j")[1:], append(events, `{"op":"delete","schema":"public","table":"j","new":null,"old":null,"truncated":true}`))
		testenv.Exec(t, url, "DELETE FROM t")
	}
}

func TestWatchRefusesWhatItWouldMiss(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE TABLE parent (i int); CREATE TABLE child () INHERITS (parent); CREATE VIEW v AS SELECT 1`)
	for sql, want := range map[string]string{
		"SELECT pgbridge.watch('parent', 'a')": "42809",
		"SELECT pgbridge.watch('v', 'a')":      "42809",
		"SELECT pgbridge.watch('child', NULL)": "22004",
	} {
		_, err := connect(t, url).Exec(t.Context(), sql)
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != want {
			t.Errorf("%s: %v, want SQLSTATE %s", sql, err, want)
		}
	}
}

// A type's owner can have to_json call a function of theirs, with the rights of whoever
// writes to the watched table. Those of the table's owner are no strangers'.
func TestWatchRefusesTypesOfStrangers(t *testing.T) {
	t.Parallel()
	url := database(t)
	mallory := testenv.Value[string](t, url, "SELECT 'mallory_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+mallory+"; CREATE SCHEMA theirs AUTHORIZATION "+mallory)
	t.Cleanup(func() { testenv.Exec(t, url, "DROP OWNED BY "+mallory+" CASCADE; DROP ROLE "+mallory) })
	testenv.Exec(t, url, `SET ROLE `+mallory+`; CREATE TYPE theirs.mood AS ENUM ('ok');
		RESET ROLE; CREATE TYPE pair AS (n int, mood theirs.mood); CREATE TYPE mine AS ENUM ('ok');
		CREATE TABLE plain (mood theirs.mood); CREATE TABLE list (mood theirs.mood[]); CREATE TABLE nested (pair pair);
		CREATE TABLE my (mine mine, at timestamptz, tags text[]);
		CREATE TABLE all_theirs (mood theirs.mood); GRANT ALL ON SCHEMA public TO `+mallory+`; ALTER TABLE all_theirs OWNER TO `+mallory)
	for _, table := range []string{"plain", "list", "nested"} {
		_, err := connect(t, url).Exec(t.Context(), "SELECT pgbridge.watch('"+table+"', 'a')")
		var refused *pgconn.PgError
		if !errors.As(err, &refused) || refused.Code != "42501" {
			t.Errorf("watch(%s) = %v, want SQLSTATE 42501", table, err)
		}
	}
	testenv.Exec(t, url, "SELECT pgbridge.watch('my', 'a'), pgbridge.watch('all_theirs', 'a')")
}

func TestMigrateAgainChangesNothing(t *testing.T) {
	t.Parallel()
	url := database(t)
	before := testenv.Value[string](t, url, "SELECT oid || ' ' || xmin FROM pg_publication WHERE pubname = 'pgbridge'")
	testenv.Exec(t, url, schema.SQL(0)) // as from --print
	migrate(t, url, 0)
	if after := testenv.Value[string](t, url, "SELECT oid || ' ' || xmin FROM pg_publication WHERE pubname = 'pgbridge'"); after != before {
		t.Errorf("the publication was %s and is %s: a slot would lose it", before, after)
	}
	migrate(t, url, 5000)
	migrate(t, url, 0)
	if got := testenv.Value[int](t, url, "SELECT pgbridge.payload_limit()"); got != 5000 {
		t.Errorf("payload_limit() = %d, want 5000", got)
	}
	testenv.Exec(t, url, "CREATE OR REPLACE FUNCTION pgbridge.durable_version() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 99'")
	if err := schema.Migrate(t.Context(), connect(t, url), 0); !errors.Is(err, schema.ErrNewer) {
		t.Errorf("Migrate() of a later schema = %v, want %v", err, schema.ErrNewer)
	}
}

// What an earlier pgbridge made is brought up to date, and keeps its rows.
func TestMigrateBringsAnOlderSchemaUpToDate(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `ALTER TABLE pgbridge.position DROP COLUMN terms;
		INSERT INTO pgbridge.position (prefix, stream_created, last_sequence, id, committed_at, channels) VALUES ('p', 'then', 1, 'id', now(), '{a}');
		CREATE OR REPLACE FUNCTION pgbridge.durable_version() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT 1'`)
	migrate(t, url, 0)
	if got := testenv.Value[string](t, url, "SELECT prefix || ' ' || terms::text || ' ' || pgbridge.durable_version() FROM pgbridge.position"); got != "p {} 11" {
		t.Errorf("after migrate there is %q", got)
	}
}

// Everybody may send, and write to a table that is watched, also where functions are
// nobody's by default. What the owner has given to some role is left at that.
func TestFunctionsAreEverybodys(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	role := testenv.Value[string](t, url, "SELECT 'writer_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+role+"; ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	t.Cleanup(func() { testenv.Exec(t, url, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	migrate(t, url, 0)
	const write = "INSERT INTO watched VALUES (1, repeat('x', 2000000)); SELECT pgbridge.notify('a', 'p', '{\"h\": \"1\"}'), pgbridge.notify('a', '\\x00'::bytea); RESET ROLE"
	testenv.Exec(t, url, "CREATE TABLE watched (id int PRIMARY KEY, t text); GRANT ALL ON watched TO "+role+"; SELECT pgbridge.watch('watched', 'a'); SET ROLE "+role+"; "+write)
	testenv.Exec(t, url, "REVOKE EXECUTE ON FUNCTION pgbridge.watch FROM PUBLIC; GRANT EXECUTE ON FUNCTION pgbridge.watch TO "+role)
	migrate(t, url, 5000)
	if testenv.Value[bool](t, url, "SELECT has_function_privilege('pg_monitor', 'pgbridge.watch(regclass, text)', 'EXECUTE')") {
		t.Error("what was one role's is everybody's again")
	}
}

func TestMigrateRefusesWhatSomebodyElseMade(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	role := testenv.Value[string](t, url, "SELECT 'mallory_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+role+"; CREATE SCHEMA pgbridge; GRANT ALL ON SCHEMA pgbridge TO "+role+
		"; SET ROLE "+role+"; CREATE FUNCTION pgbridge.payload_limit() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
	t.Cleanup(func() { testenv.Exec(t, url, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	if err := schema.Migrate(t.Context(), connect(t, url), 0); err == nil {
		t.Error("a function of somebody else's was taken over with its owner")
	}
}

func TestLimitLeavesRoomForHeaders(t *testing.T) {
	t.Parallel()
	if schema.Limit(1<<20) != schema.DefaultLimit || schema.Limit(8<<20) != 8<<20-8<<10 || schema.Limit(100) != 1024 {
		t.Errorf("limits = %d, %d, %d", schema.Limit(1<<20), schema.Limit(8<<20), schema.Limit(100))
	}
	if !strings.Contains(schema.SQL(77), "'SELECT 77'") {
		t.Error("SQL does not hold the limit")
	}
}

// What a trigger of the table's, or a foreign key to itself, does to a row comes behind
// what it was done for: whoever follows the events ends with what the table has.
func TestWatchTellsOfARowInOrder(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE TABLE t (id int PRIMARY KEY, n int, parent int REFERENCES t ON UPDATE CASCADE);
		CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE t SET n = 1 WHERE id = NEW.id; RETURN NULL; END';
		CREATE TRIGGER "a number" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION number();
		SELECT pgbridge.watch('t', 'rows')`)
	wantEvents(t, sent(t, url, "INSERT INTO t VALUES (1, 0, 1); UPDATE t SET id = 2"), []string{
		`{"op":"insert","schema":"public","table":"t","new":{"id":1,"n":0,"parent":1},"old":null}`,
		`{"op":"update","schema":"public","table":"t","new":{"id":1,"n":1,"parent":1},"old":{"id":1,"n":0,"parent":1}}`,
		`{"op":"update","schema":"public","table":"t","new":{"id":2,"n":1,"parent":1},"old":{"id":1,"n":1,"parent":1}}`,
		`{"op":"update","schema":"public","table":"t","new":{"id":2,"n":1,"parent":2},"old":{"id":2,"n":1,"parent":1}}`,
	})
}

// A table that an older schema has watched is watched once when it is watched again, and
// not at all after unwatch.
func TestWatchReplacesOlderTriggers(t *testing.T) {
	t.Parallel()
	url := database(t)
	testenv.Exec(t, url, `CREATE TABLE t (id int); SELECT pgbridge.watch('t', 'rows');
		DO $$ DECLARE made name; BEGIN FOR made IN SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass LOOP
			EXECUTE format('ALTER TRIGGER %I ON t RENAME TO %I', made, ltrim(made, '!')); END LOOP; END $$`)
	event := func(id string) string {
		return `{"op":"insert","schema":"public","table":"t","new":{"id":` + id + `},"old":null}`
	}
	wantEvents(t, sent(t, url, "INSERT INTO t VALUES (1); SELECT pgbridge.watch('t', 'rows'); INSERT INTO t VALUES (2)"), []string{event("1"), event("2")})
	testenv.Exec(t, url, `DO $$ DECLARE made name; BEGIN FOR made IN SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass LOOP
			EXECUTE format('ALTER TRIGGER %I ON t RENAME TO %I', made, ltrim(made, '!')); END LOOP; END $$`)
	wantEvents(t, sent(t, url, "SELECT pgbridge.unwatch('t', 'rows'); INSERT INTO t VALUES (3)"), nil)
}

// In Turkish the small letter of I is another one than i.
func TestLanguageOfTheDatabaseChangesNoWord(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	locale := "LC_COLLATE 'C' LC_CTYPE 'C'"
	if testenv.Value[int](t, pg.URL(), "SELECT current_setting('server_version_num')::int") >= 150000 {
		locale = "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'"
	}
	const name = "turkish"
	testenv.Exec(t, pg.URL(), "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8' "+locale)
	t.Cleanup(func() { testenv.Exec(t, pg.URL(), "DROP DATABASE "+name+" WITH (FORCE)") })
	url := pg.Server().URL(name)
	migrate(t, url, 0)
	testenv.Exec(t, url, "CREATE TABLE t (id int); SELECT pgbridge.watch('t', 'rows')")
	wantEvents(t, sent(t, url, "INSERT INTO t VALUES (1)"), []string{`{"op":"insert","schema":"public","table":"t","new":{"id":1},"old":null}`})
	_, err := connect(t, url).Exec(t.Context(), `SELECT pgbridge.notify('a', 'x', '{"PGBRIDGE-ID": "forged"}')`)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "42939" {
		t.Errorf("a reserved header is taken: %v", err)
	}
}
