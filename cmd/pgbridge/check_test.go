package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// wantLines wants, for each text, a line that begins with its verdict and
// holds the rest.
func wantLines(t *testing.T, r result, code int, want ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, text := range want {
		verdict, rest, _ := strings.Cut(text, " ")
		found := slices.ContainsFunc(strings.Split(r.stdout, "\n"), func(line string) bool {
			return strings.HasPrefix(strings.TrimSpace(line), verdict+" ") && strings.Contains(line, rest)
		})
		if !found {
			t.Errorf("no line %q", text)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr: %s", r.stdout, r.stderr)
	}
}

func TestCheckOffline(t *testing.T) {
	t.Parallel()
	path := configFile(t, "postgres: {url: 'postgres://app:hunter2@db/app'}\nnats: {url: 'nats://u:hunter3@nats', token: hunter4}\nchannels: {a: {delivery: jetstream}}\n")
	r := call(t, nil, "check", "--offline", "-c", path)
	wantLines(t, r, exitOK, "Configuration: ok", "postgres.url postgres://app:***@db/app", "nats.token ***", "channels.a pgbridge.event.a")
	if strings.Contains(r.stdout+r.stderr, "hunter") {
		t.Error("a secret is printed")
	}
	if r := call(t, nil, "check", "--offline", "-c", configFile(t, "prefix: 'a b'\n")); r.code != exitUsage {
		t.Errorf("exit code %d for a faulty file, want 2", r.code)
	}
}

// The scripts that channels catch up with are there, and can be that.
func TestCheckOfCatchUps(t *testing.T) {
	t.Parallel()
	url, bus, scripts := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t), t.TempDir()
	for name, text := range map[string]string{
		"good": "SELECT 'x' WHERE now() >= @since AND now() <= @until", "writes": "DELETE FROM pg_description WHERE now() < @since RETURNING 1",
		"other": "SELECT @since::timestamptz, @id::int", "blind": "SELECT 1",
	} {
		rewrite(t, filepath.Join(scripts, name+".sql"), text)
	}
	args := []string{"check", "--postgres", url, "--nats", bus.URL(), "--set", "scripts=" + scripts, "--set", "channels.orders.catch_up=good"}
	wantLines(t, call(t, nil, args...), exitOK, "ok catch_up of orders", "ok catch_up: transactions")
	wantLines(t, call(t, nil, append(args, "--offline")...), exitOK, "ok catch_up of orders")
	for name, want := range map[string]string{
		"writes": "line 1: it is run in a transaction that cannot write", "other": "and not @id", "blind": "it has to use @since", "missing": "there is no script missing",
	} {
		for _, more := range []string{"--offline", ""} {
			faulty := append(slices.Clone(args), "--set", "channels.audit.catch_up="+name)
			if more != "" {
				faulty = append(faulty, more)
			}
			wantLines(t, call(t, nil, faulty...), exitFailed, "FAIL "+want)
		}
	}
	role := testenv.Value[string](t, url, "SELECT 'catches_up_' || txid_current()")
	testenv.Exec(t, url, "CREATE ROLE "+role+" LOGIN PASSWORD 'x'")
	t.Cleanup(func() { testenv.Exec(t, url, "DROP ROLE "+role) })
	_, server, _ := strings.Cut(url, "@")
	args[2] = "postgres://" + role + ":x@" + server
	wantLines(t, call(t, nil, args...), exitOK, "warn GRANT pg_read_all_stats TO "+role)
}

func TestCheckOfGoodServers(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	args := []string{"check", "--postgres", url, "--nats", bus.URL(), "--channel", "orders",
		"--set", "channels.audit.delivery=jetstream", "--set", "channels.audit.notify=true",
		"--set", "channels.audit.subject=audit.{payload.region}.{channel}"}
	wantLines(t, call(t, nil, args...), exitOK,
		"ok reachable", "ok version", "ok encoding", "ok direct connection", "ok may execute pg_notify", "ok LISTEN and NOTIFY", "ok notification queue",
		"ok max_payload", "ok pgbridge.event.orders", "ok pgbridge.gap.orders", "ok audit.*.audit", "ok JetStream",
		"ok serve will create it", "ok pgbridge.notify.>")

	js, err := jetstream.New(bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	events := jetstream.StreamConfig{Name: "PGBRIDGE_EVENTS", Subjects: []string{"audit.*.audit"}}
	if _, err := js.CreateStream(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	wantLines(t, call(t, nil, args...), exitOK, "ok serve will add pgbridge.gap.audit")
	fixed := slices.Concat(args, []string{"--set", "streams.events.create=false"})
	wantLines(t, call(t, nil, fixed...), exitFailed, "FAIL pgbridge.gap.audit")
	events.Subjects = append(events.Subjects, "pgbridge.gap.>")
	if _, err := js.UpdateStream(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	wantLines(t, call(t, nil, fixed...), exitOK, "ok holds every subject")
	wantLines(t, call(t, nil, append(args, "--set", "streams.events.name=OTHER")...), exitFailed, "FAIL stream PGBRIDGE_EVENTS holds")
	if info, err := js.Stream(t.Context(), "PGBRIDGE_EVENTS"); err != nil || info.CachedInfo().State.Msgs != 0 {
		t.Error("the check published something")
	}
}

// Default privileges of a database hold for the table of message ids, too, and so for the
// replies in it.
func TestCheckOfWhoReadsReplies(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	role := testenv.Value[string](t, url, "SELECT 'reader_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+role+"; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO "+role)
	t.Cleanup(func() { testenv.Exec(t, url, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	if r := call(t, nil, "migrate", "--postgres", url); r.code != exitOK {
		t.Fatalf("migrate: %s%s", r.stdout, r.stderr)
	}
	check := func() result {
		return call(t, nil, "check", "--postgres", url, "--nats", testenv.NATS(t).URL(), "--set", "sql=true")
	}
	wantLines(t, check(), exitOK, "warn it holds replies of all callers, and is granted to "+role)
	testenv.Exec(t, url, "REVOKE ALL ON pgbridge.message_id FROM "+role)
	if r := check(); strings.Contains(r.stdout, role) {
		t.Errorf("it is granted to nobody else: %s", r.stdout)
	}
}

// What pgbridge.notify takes has to fit the NATS server that is there, whatever
// migrate was told; and the slot is looked at.
func TestCheckOfDurableChannels(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	if r := call(t, nil, "migrate", "--postgres", url); r.code != exitOK {
		t.Fatalf("migrate: %s%s", r.stdout, r.stderr)
	}
	check := func(bus *testenv.NATSServer) result {
		return call(t, nil, "check", "--postgres", url, "--nats", bus.URL(), "--set", "channels.billing.durable=true")
	}
	wantLines(t, check(testenv.NATS(t)), exitOK, "ok durable: schema", "ok serve makes it", "warn durable: failover", "ok durable: watched tables")
	testenv.Exec(t, url, `CREATE TABLE invoice (id int); CREATE TABLE off (id int); CREATE TABLE parent (id int); CREATE TABLE fine (id int) PARTITION BY LIST (id); CREATE TABLE "größe" (id int);
		CREATE TABLE part PARTITION OF fine DEFAULT; CREATE TABLE bulk PARTITION OF fine FOR VALUES IN (1);
		SELECT pgbridge.watch(name::regclass, 'billing') FROM unnest('{invoice,off,parent,fine,größe}'::text[]) name; SELECT pgbridge.watch('fine', 'nobody');
		ALTER TABLE invoice RENAME TO bill; ALTER TABLE off DISABLE TRIGGER ALL; ALTER TABLE bulk DISABLE TRIGGER ALL; CREATE TABLE child () INHERITS (parent)`)
	lines := []string{
		`warn "public"."bill" is called "public"."invoice" in its events on "billing"; watch it again`, `warn "public"."off" is watched on "billing", and the trigger is disabled`,
		`warn "public"."bulk" is watched on "billing", and the trigger is disabled`,
		`warn "public"."parent" has child tables`, `warn "public"."fine" is watched on "nobody", which is no durable channel here`,
	}
	if testenv.Value[int](t, url, "SELECT current_setting('server_version_num')::int") >= 180000 {
		testenv.Exec(t, url, `ALTER TABLE "größe" ADD COLUMN twice int GENERATED ALWAYS AS (id * 2) VIRTUAL`)
		lines = append(lines, `warn "public"."größe" has virtual columns, which are null in its events on "billing"; watch it again`)
	}
	r := check(testenv.NATS(t))
	wantLines(t, r, exitOK, lines...)
	if n := strings.Count(r.stdout, "durable: watched tables"); n != len(lines) {
		t.Errorf("%d lines of watched tables, want %d: %s", n, len(lines), r.stdout)
	}
	role := testenv.Value[string](t, url, "SELECT 'plain_' || current_database()")
	testenv.Exec(t, url, "CREATE ROLE "+role+" LOGIN REPLICATION PASSWORD 'x'; GRANT SELECT ON pgbridge.position TO "+role)
	t.Cleanup(func() { testenv.Exec(t, url, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	owner := url
	_, at, _ := strings.Cut(url, "@")
	url = "postgres://" + role + ":x@" + at
	wantLines(t, check(testenv.NATS(t)), exitFailed, "FAIL durable: schema", "FAIL the role may not read and write pgbridge.position")
	testenv.Exec(t, owner, "GRANT INSERT, UPDATE ON pgbridge.position TO "+role)
	wantLines(t, check(testenv.NATS(t)), exitOK, "ok durable: schema")
	url = owner
	small := testenv.NATS(t, func(o *server.Options) { o.MaxPayload = 64 << 10 })
	wantLines(t, check(small), exitFailed, "FAIL pgbridge.notify takes events of")
}

// TestCheckOfStreamsThatNeverWork names what is wrong with them, whatever they are
// for.
func TestCheckOfStreamsThatNeverWork(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	events := []string{"--set", "channels.orders.delivery=jetstream"}
	durable := []string{"--set", "channels.orders.durable=true"}
	jobs := []string{"--set", "jobs=true", "--set", "scripts=" + s.folder}
	for name, tt := range map[string]struct {
		kind   string
		args   []string
		change func(*jetstream.StreamConfig)
		want   string
	}{
		"no_ack":   {"EVENTS", events, func(c *jetstream.StreamConfig) { c.NoAck = true }, "no_ack"},
		"mirrored": {"EVENTS", events, func(c *jetstream.StreamConfig) { c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "OTHER"} }, "mirror"},
		"sealed":   {"EVENTS", events, func(c *jetstream.StreamConfig) { c.Sealed = true }, "sealed"},
		"small":    {"EVENTS", events, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }, "max_msg_size"},
		"fleeting": {"DURABLE", durable, func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "one copy in memory"},
		"limits":   {"JOBS", jobs, func(*jetstream.StreamConfig) {}, "jobs need a work queue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bus := testenv.NATS(t)
			js, err := jetstream.New(bus.Connect(t))
			if err != nil {
				t.Fatal(err)
			}
			config := jetstream.StreamConfig{Name: "PGBRIDGE_" + tt.kind, Subjects: []string{"pgbridge.event.orders", "pgbridge.gap.orders", "pgbridge.job.>"}}
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER"}); err != nil {
				t.Fatal(err)
			}
			if name == "sealed" { // only an update may
				if _, err := js.CreateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			tt.change(&config)
			if _, err := js.CreateOrUpdateStream(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			r := call(t, nil, append([]string{"check", "--postgres", s.url, "--nats", bus.URL()}, tt.args...)...)
			wantLines(t, r, exitFailed, "FAIL  stream "+config.Name)
			if !strings.Contains(r.stdout, tt.want) {
				t.Errorf("no word of %s in\n%s", tt.want, r.stdout)
			}
		})
	}
}

// TestCheckNamesASettingThatTheServerDoesNotKnow, and every script.
func TestCheckNamesASettingThatTheServerDoesNotKnow(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "foreign", "-- name: Foreign :one\n-- noqa: disable=L016\n-- vim: set sw=4:\n-- Says one.\nSELECT @a::int;")
	args := []string{"check", "--nats", s.bus.URL(), "--set", "scripts=" + s.folder, "--postgres"}
	r := call(t, nil, append(args, s.url)...)
	wantLines(t, r, exitOK, "ok    scripts", "foreign", "transfer")
	for _, want := range []string{
		"run; parameters source int8, target int8, amount numeric", "run; can be opened as a cursor; parameters a int4; columns int4 int4", "passed over: noqa",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
	r = call(t, nil, append(args, s.url+"&schema=public")...)
	if r.code != exitFailed || !strings.Contains(r.stdout, `"schema"`) {
		t.Errorf("code %d,\n%s", r.code, r.stdout)
	}
}

func TestCheckOfAPooler(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	bouncer := testenv.PgBouncer(t, pg)
	url := bouncer.Reroute(t, pg.NewDatabase(t))
	r := call(t, nil, "check", "--postgres", url, "--nats", testenv.NATS(t).URL(), "--channel", "orders")
	wantLines(t, r, exitFailed, "warn direct connection", "FAIL LISTEN and NOTIFY")
}

// A pooler in session mode refuses startup parameters that it does not know.
func TestPoolerInSessionMode(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "values", "SELECT 1.5::float8 AS f, '\\xff'::bytea AS b, interval '1 day' AS i")
	url := testenv.SessionPgBouncer(t, testenv.Postgres(t)).Reroute(t, s.url)
	flags := []string{"--postgres", url, "--nats", s.bus.URL(), "--channel", "orders", "--set", "scripts=" + s.folder, "--set", "sql=true", "--set", "postgres.run_connections=1", "--set", "requests.share=1"}
	r := call(t, nil, append([]string{"check"}, flags...)...)
	wantLines(t, r, exitOK, "warn direct connection", "ok LISTEN and NOTIFY", "ok sessions for events", "ok sessions for requests", "ok scripts")

	c := start(t, append([]string{"serve", "--set", "http=127.0.0.1:0"}, flags...)...)
	waitReady(t, httpAddress(t, c))
	nc := s.bus.Connect(t)
	events := subscribed(t, nc, "pgbridge.event.orders")
	for range 20 { // the session is reset in between
		for subject, body := range map[string]string{
			"pgbridge.run.values": `{}`,
			"pgbridge.run":        `{"sql": "DO $$ BEGIN SET bytea_output TO escape; SET intervalstyle TO postgres; END $$; SELECT 1"}`,
		} {
			m, err := nc.Request(subject, []byte(body), 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if subject == "pgbridge.run.values" && !strings.Contains(string(m.Data), `[[1.5,"\\xff","P1D"]]`) {
				t.Errorf("answered %s %v", m.Data, m.Header)
			}
		}
	}
	testenv.Exec(t, s.url, "SELECT pg_notify('orders', 'hello')")
	if m, err := events.NextMsg(10 * time.Second); err != nil || string(m.Data) != "hello" {
		t.Errorf("event %v, %v", m, err)
	}
}

// What reads the write-ahead log is a connection of another kind.
func TestCheckOpensTheReplicationConnection(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	url := pg.NewDatabase(t)
	testenv.Exec(t, url, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
	plain := strings.Replace(url, pg.Server().Superuser()+":"+pg.Server().Password()+"@", "plain:plain@", 1)
	args := []string{"check", "--nats", testenv.NATS(t).URL(), "--set", "channels.orders.durable=true", "--postgres"}
	wantLines(t, call(t, nil, append(args, url)...), exitFailed, "ok sessions for events", "FAIL durable: schema")
	wantLines(t, call(t, nil, append(args, plain)...), exitFailed, "FAIL sessions for events", "FAIL durable: REPLICATION")
}

func TestCheckOfAStandby(t *testing.T) {
	t.Parallel()
	standby := testenv.Standby(t, testenv.DedicatedPostgres(t, testenv.PGOptions{}))
	r := call(t, nil, "check", "--postgres", standby.URL(), "--nats", testenv.NATS(t).URL())
	wantLines(t, r, exitFailed, "FAIL standby")
}

func TestCheckOfServersThatRefuse(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	url := pg.NewDatabase(t)
	testenv.Exec(t, url, "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
	testenv.Exec(t, url, "CREATE ROLE plain LOGIN PASSWORD 'plain'")
	plain := strings.Replace(url, pg.Server().Superuser()+":"+pg.Server().Password()+"@", "plain:plain@", 1)
	bus := testenv.NATS(t, func(o *server.Options) {
		o.JetStream = false
		o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"pgbridge.event.>", "$JS.API.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}}
	})
	r := call(t, nil, "check", "--postgres", plain, "--nats", bus.URL(), "--set", "nats.user=u", "--set", "nats.password=p",
		"--channel", "a", "--set", "channels.b.delivery=jetstream", "--set", "channels.b.notify=true")
	wantLines(t, r, exitFailed, "FAIL GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify", "ok pgbridge.event.a", "FAIL pgbridge.gap.a", "ok pgbridge.event.b", "FAIL JetStream", "FAIL pgbridge.notify.>")
}

func TestCheckOfServersThatAreAway(t *testing.T) {
	t.Parallel()
	r := call(t, nil, "check", "--postgres", "postgres://app:hunter2@127.0.0.1:1/app", "--nats", "nats://u:hunter2@127.0.0.1:1")
	wantLines(t, r, exitFailed, "FAIL app@127.0.0.1:1/app", "FAIL nats://u:***@127.0.0.1:1")
	if strings.Contains(r.stdout+r.stderr, "hunter") {
		t.Error("a secret is printed")
	}
}

func TestCheckOfAnEmbeddedServer(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t).NewDatabase(t)
	args := []string{"check", "--postgres", url, "--set", "nats.embedded=true", "--nats"}
	wantLines(t, call(t, nil, append(args, "nats://127.0.0.1:0")...), exitOK, "ok embedded server")
	wantLines(t, call(t, nil, append(args, "nats://"+bound(t))...), exitFailed, "FAIL embedded server")
}

// A standby to which the slot does not follow is told before it is promoted.
func TestCheckOfAStandbyForSlots(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	url, bus := pg.NewDatabase(t), testenv.NATS(t)
	if r := call(t, nil, "migrate", "--postgres", url); r.code != exitOK {
		t.Fatalf("migrate: %s%s", r.stdout, r.stderr)
	}
	check := func(standby *testenv.PG) result {
		return call(t, nil, "check", "--postgres", url, "--nats", bus.URL(), "--set", "channels.billing.durable=true", "--standby", standby.URL())
	}
	if testenv.Value[int](t, url, "SELECT current_setting('server_version_num')::int") < 170000 {
		wantLines(t, check(pg), exitOK, "warn a promotion is a gap slot_lost")
		return
	}
	wantLines(t, check(pg), exitFailed, "FAIL it is no standby")
	wantLines(t, check(testenv.Standby(t, pg)), exitFailed, "FAIL sync_replication_slots", "FAIL hot_standby_feedback", "FAIL primary_slot_name")
	testenv.Exec(t, url, "SELECT pg_create_physical_replication_slot('standby')")
	good := testenv.Standby(t, pg, map[string]string{"sync_replication_slots": "on", "hot_standby_feedback": "on", "primary_slot_name": "standby"})
	wantLines(t, check(good), exitOK, "warn synchronized_standby_slots is empty", "ok the slot follows")
}
