package main

import (
	"slices"
	"strings"
	"testing"

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

func TestCheckOfGoodServers(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	args := []string{"check", "--postgres", url, "--nats", bus.URL(), "--channel", "orders",
		"--set", "channels.audit.delivery=jetstream", "--set", "channels.audit.notify=true",
		"--set", "channels.audit.subject=audit.{payload.region}.{channel}"}
	wantLines(t, call(t, nil, args...), exitOK,
		"ok reachable", "ok version", "ok direct connection", "ok may execute pg_notify", "ok LISTEN and NOTIFY", "ok notification queue",
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
	fixed := append(args, "--set", "streams.events.create=false")
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

func TestCheckOfAPooler(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t)
	bouncer := testenv.PgBouncer(t, pg)
	url := bouncer.Reroute(t, pg.NewDatabase(t))
	r := call(t, nil, "check", "--postgres", url, "--nats", testenv.NATS(t).URL(), "--channel", "orders")
	wantLines(t, r, exitFailed, "warn direct connection", "FAIL LISTEN and NOTIFY")
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
