package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// setTraps makes another of each operator, function, aggregate, type and relation
// that PostgreSQL has, with the same arguments, and lets everybody's sessions find
// them first. Whatever falls in sets trap.fell to the OID of what it took for
// PostgreSQL's, and fails.
const setTraps = `
CREATE SCHEMA trap;
CREATE SEQUENCE trap.fell MAXVALUE 4294967295;
CREATE FUNCTION trap.fall(what oid) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS
	$$ BEGIN PERFORM setval('trap.fell', what::int8); RAISE EXCEPTION 'fell into the trap of %', what; END $$;
DO $$
DECLARE
	made record;
	body text;
BEGIN
	FOR made IN
		SELECT o.oid, format('CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS :body:;
			CREATE OPERATOR trap.%s (%s RIGHTARG = %s, FUNCTION = trap.%I)', 'operator ' || o.oid, concat_ws(',', nullif(oprleft, 0)::regtype, oprright::regtype), oprresult::regtype,
			oprname, CASE WHEN oprleft <> 0 THEN 'LEFTARG = ' || oprleft::regtype || ',' END, oprright::regtype, 'operator ' || o.oid) AS sql
		FROM pg_operator o WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprresult <> 0
		UNION ALL
		SELECT p.oid, format('CREATE FUNCTION trap.%I(%s) RETURNS %s%s LANGUAGE plpgsql AS :body:', proname, array_to_string(proargtypes::regtype[], ','),
			CASE WHEN proretset THEN 'SETOF ' END, prorettype::regtype)
		FROM pg_proc p WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind IN ('f', 'a') AND proname !~ '_(in|out|recv|send)$'
		UNION ALL
		SELECT t.oid, format('CREATE DOMAIN trap.%1$I AS pg_catalog.%1$I CHECK (trap.fall(%2$s::pg_catalog.oid))', typname, t.oid)
		FROM pg_type t WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typcategory <> 'A'
		UNION ALL
		SELECT c.oid, format('CREATE TABLE trap.%I ()', relname) FROM pg_class c WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
	LOOP
		body := format('BEGIN PERFORM trap.fall(%s::pg_catalog.oid); END', made.oid);
		BEGIN
			EXECUTE replace(made.sql, ':body:', quote_literal(body));
		EXCEPTION WHEN others THEN NULL; -- PL/pgSQL knows no internal types
		END;
	END LOOP;
END $$;
CREATE FUNCTION trap.count_one(n int8) RETURNS int8 LANGUAGE plpgsql AS $$ BEGIN PERFORM trap.fall(0::pg_catalog.oid); END $$;
DROP FUNCTION trap.count();
CREATE AGGREGATE trap.count(*) (SFUNC = trap.count_one, STYPE = pg_catalog.int8, INITCOND = '0');
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = trap, pg_catalog, public', current_database()); END $$`

// trapScripts name everything with its schema, or use nothing that could be named.
var trapScripts = map[string]string{
	"add":    "INSERT INTO public.thing (n, moods) VALUES (@n, @moods)",
	"read":   "-- read_only: true\nSELECT n, moods, size FROM public.thing",
	"rows":   "SELECT n, moods FROM public.thing",
	"role":   "-- isolation: serializable\n-- timeout: 5s\nINSERT INTO public.thing (n) VALUES (@n); SELECT n FROM public.thing",
	"retry":  "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$",
	"import": "COPY public.thing (n) FROM STDIN (FORMAT csv, QUOTE @quote)",
	"export": "COPY public.thing (n) TO STDOUT",
	"missed": "SELECT n FROM public.thing WHERE pg_catalog.timestamptz_ge(pg_catalog.now(), @since::pg_catalog.timestamptz)",
	"temp":   "CREATE TEMP TABLE scratch (n pg_catalog.int4) ON COMMIT DROP; INSERT INTO scratch VALUES (@n); SELECT n FROM scratch",
}

// TestNothingFallsIntoTraps holds that the SQL of this program means PostgreSQL's
// operators, casts, functions and relations, whatever a database user makes where the
// search path looks.
func TestNothingFallsIntoTraps(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	testenv.Exec(t, url, `CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE DOMAIN size AS int4;
		CREATE TABLE thing (n int4, moods mood[], size size DEFAULT 3)`)
	testenv.Exec(t, url, setTraps)
	if n := testenv.Value[int](t, url, "SELECT pg_catalog.count(*)::integer FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) 'trap'::pg_catalog.regnamespace"); n < 2000 {
		t.Fatalf("%d traps, want thousands", n)
	}
	scripts := t.TempDir()
	for name, sql := range trapScripts {
		if err := os.WriteFile(filepath.Join(scripts, name+".sql"), []byte(sql), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := configFile(t, fmt.Sprintf(`
postgres: {url: %q, run_connections: 2}
nats: {url: %q}
http: 127.0.0.1:0
channels: {core: {notify: true, catch_up: missed}, stored: {delivery: jetstream}, kept: {durable: true}}
scripts: %s
sql: true
jobs: {attempts: 2}
console: true
`, url, bus.URL(), scripts))
	untouched := func(after string) {
		t.Helper()
		if oid := testenv.Value[int64](t, url, "SELECT CASE WHEN is_called THEN last_value ELSE -1 END FROM trap.fell"); oid >= 0 {
			what := testenv.Value[string](t, url, `SELECT pg_catalog.concat_ws(' ', (SELECT oprname FROM pg_catalog.pg_operator WHERE oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid),
				(SELECT proname FROM pg_catalog.pg_proc WHERE oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid), (SELECT typname FROM pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid))`, oid)
			t.Errorf("%s: something fell into the trap of %s, OID %d", after, what, oid)
			testenv.Exec(t, url, "SELECT pg_catalog.setval('trap.fell', 1, false)")
		}
	}
	for _, args := range [][]string{{"migrate", "-c", config, "--nats", bus.URL()}, {"migrate", "-c", config}, {"check", "-c", config}} {
		if r := call(t, nil, args...); r.code != 0 {
			t.Errorf("%s: code %d\n%s%s", args[0], r.code, r.stdout, r.stderr)
		}
		untouched(args[0])
	}
	c := start(t, "serve", "-c", config)
	waitReady(t, httpAddress(t, c))
	untouched("serve")
	nc := bus.Connect(t)
	trapEvents(t, nc, url)
	untouched("events")
	trapRuns(t, nc)
	untouched("runs")
	trapTransactions(t, nc)
	untouched("transactions")
	trapConsole(t, httpAddress(t, c)) // a transaction is open
	untouched("console")
	trapCatchUp(t, nc, url)
	untouched("catch-up")
	trapCopies(t, nc)
	untouched("copies")
	trapJobs(t, nc)
	untouched("jobs")
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != 0 {
		t.Errorf("serve: code %d\n%s", code, &c.stderr)
	}
	again := start(t, "serve", "-c", config) // which looks for old message ids at once, and there are some
	waitReady(t, httpAddress(t, again))
	again.signal(t, syscall.SIGTERM)
	if code := again.code(t); code != 0 {
		t.Errorf("serve again: code %d\n%s", code, &again.stderr)
	}
	untouched("another start")
	if log := c.stderr.String() + again.stderr.String(); strings.Contains(log, "trap") || t.Failed() {
		t.Errorf("the log:\n%s", log)
	}
	if r := call(t, nil, "migrate", "--drop-slot", "-c", config); r.code != 0 {
		t.Errorf("migrate --drop-slot: code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	untouched("the end")
}

// works asks and returns a good answer's body.
func works(t *testing.T, nc *nats.Conn, subject, body string, headers ...string) string {
	t.Helper()
	request := nats.NewMsg("pgbridge." + subject)
	request.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	answer, err := nc.RequestMsg(request, 30*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if answer.Header.Get("Nats-Service-Error-Code") != "" {
		t.Errorf("%s: %s", subject, answer.Data)
	}
	return string(answer.Data)
}

// wants waits for an event that holds a text, and passes over others.
func wants(t *testing.T, events *nats.Subscription, text string) {
	t.Helper()
	for {
		m, err := events.NextMsg(60 * time.Second)
		if err != nil {
			t.Fatalf("the event with %q: %v", text, err)
		}
		if strings.Contains(string(m.Data), text) {
			return
		}
	}
}

func trapEvents(t *testing.T, nc *nats.Conn, url string) {
	t.Helper()
	core, stored, kept := subscribed(t, nc, "pgbridge.event.core"), subscribed(t, nc, "pgbridge.event.stored"), subscribed(t, nc, "pgbridge.event.kept")
	testenv.Exec(t, url, "SELECT pg_catalog.pg_notify('core', 'a'), pg_catalog.pg_notify('stored', 'b')")
	wants(t, core, "a")
	wants(t, stored, "b")
	testenv.Wait(t, 60*time.Second, "durable events", func() bool { // a new slot waits for the transactions of the whole server
		testenv.Exec(t, url, "SELECT pgbridge.notify('kept', 'c'::pg_catalog.text)")
		m, err := kept.NextMsg(time.Second)
		return err == nil && string(m.Data) == "c"
	})
	testenv.Exec(t, url, `SELECT pgbridge.notify('kept', 'd'::pg_catalog.text, '{"a": "b"}'::pg_catalog.jsonb)`)
	wants(t, kept, "d")
	testenv.Exec(t, url, `SELECT pgbridge.watch('public.thing'::pg_catalog.regclass, 'kept'); INSERT INTO public.thing (n) VALUES (0); SELECT pgbridge.unwatch('public.thing'::pg_catalog.regclass, 'kept')`)
	wants(t, kept, "insert")
	works(t, nc, "notify.core", "e")
	wants(t, core, "e")
}

func trapRuns(t *testing.T, nc *nats.Conn) {
	t.Helper()
	for range 3 { // prepared, and prepared already
		works(t, nc, "run.add", `{"params": {"n": 1, "moods": ["glad"]}}`)
		works(t, nc, "as.alice.run.add", `{"params": {"n": 1, "moods": null}}`)
		works(t, nc, "run.read", ``)
		works(t, nc, "as.bob.run.role", `{"params": {"n": 2}}`)
		works(t, nc, "run.temp", `{"params": {"n": 2}}`)
		works(t, nc, "run.add", `{"params": {"n": 3, "moods": []}}`, nats.MsgIdHdr, "one")
		works(t, nc, "run", `{"sql": "SELECT n FROM public.thing LIMIT @n", "params": {"n": 1}}`)
	}
	for _, name := range []string{"", ".add", ".read", ".temp", ".export"} {
		works(t, nc, "describe"+name, ``)
	}
	if _, err := nc.Request("pgbridge.run.retry", nil, 30*time.Second); err != nil {
		t.Error(err)
	}
}

func trapTransactions(t *testing.T, nc *nats.Conn) {
	t.Helper()
	_, tx, _ := strings.Cut(works(t, nc, "begin", `{"isolation": "serializable"}`), `"tx":"pgbridge.`)
	tx, _, _ = strings.Cut(tx, `"`)
	for _, step := range [][2]string{
		{"savepoint", `{"name": "s"}`}, {"run.add", `{"params": {"n": 4, "moods": ["sad"]}}`}, {"rollback_to", `{"name": "s"}`}, {"release", `{"name": "s"}`},
		{"touch", ``}, {"cursor.rows", `{"name": "c", "count": 1, "scroll": true}`}, {"fetch", `{"cursor": "c", "count": 1}`},
		{"move", `{"cursor": "c", "direction": "absolute", "count": 0}`}, {"cursor.rows", `{"name": "h", "count": 1, "hold": true}`}, {"close", `{"cursor": "c"}`},
		{"commit", ``}, {"fetch", `{"cursor": "h", "count": "all"}`},
	} {
		works(t, nc, tx+"."+step[0], step[1])
	}
}

func trapConsole(t *testing.T, address string) {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second}
	for _, view := range []string{"overview", "durable", "transactions", "jobs", "scripts", "script&name=add", "script&name=rows"} {
		answer, err := client.Get("http://" + address + "/console/api/view?view=" + view)
		if err != nil {
			t.Fatal(err)
		}
		if answer.Body.Close(); answer.StatusCode != http.StatusOK {
			t.Errorf("the view %s: %s", view, answer.Status)
		}
	}
}

func trapCatchUp(t *testing.T, nc *nats.Conn, url string) {
	t.Helper()
	gaps := subscribed(t, nc, "pgbridge.gap.core")
	testenv.Exec(t, url, "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pg_catalog.starts_with(application_name, 'pgbridge listener') AND datname OPERATOR(pg_catalog.=) pg_catalog.current_database()")
	wants(t, gaps, `"complete":true`)
}

func trapCopies(t *testing.T, nc *nats.Conn) {
	t.Helper()
	_, to, _ := strings.Cut(works(t, nc, "copy.import", `{"params": {"quote": "'"}}`), `"data":"pgbridge.`)
	to, _, _ = strings.Cut(to, `"`)
	works(t, nc, to, "5\n'6'\n", "Pgbridge-Seq", "1")
	works(t, nc, to, "", "Pgbridge-Seq", "2")
	inbox := nc.NewInbox()
	in := subscribed(t, nc, inbox)
	if err := nc.PublishRequest("pgbridge.copy.export", inbox, nil); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := in.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Reply == "" && len(m.Data) == 0 {
			if m.Header.Get("Pgbridge-Rows") == "" {
				t.Errorf("the end of a copy: %v", m.Header)
			}
			return
		}
	}
}

func trapJobs(t *testing.T, nc *nats.Conn) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	results := subscribed(t, nc, "pgbridge.result.>")
	for script, code := range map[string]string{"add": "", "retry": fmt.Sprint(http.StatusConflict)} {
		m := &nats.Msg{Subject: "pgbridge.job.run." + script, Data: []byte(`{"params": {"n": 7, "moods": null}}`)}
		if script == "retry" {
			m.Data = nil
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		result, err := results.NextMsg(30 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := result.Header.Get("Nats-Service-Error-Code"); got != code {
			t.Errorf("job %s: code %q, want %q: %s", script, got, code, result.Data)
		}
	}
}
