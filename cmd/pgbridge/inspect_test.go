package main

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestNotify(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t, "--set", "channels.orders.notify=true", "--channel", "audit")
	sub := start(t, "sub", "orders", "audit", "--nats", s.bus.URL(), "--count", "4")
	says(t, &sub.stderr, "subscribed to pgbridge.event.orders pgbridge.gap.orders pgbridge.event.audit pgbridge.gap.audit")
	notify := func(code int, stderr string, args ...string) {
		t.Helper()
		wantResult(t, call(t, nil, append([]string{"notify"}, args...)...), code, "", stderr)
	}
	notify(exitOK, "", "orders", `{"id": 7}`, "--nats", s.bus.URL())
	notify(exitOK, "", "orders", "--nats", s.bus.URL())
	notify(exitOK, "", "orders", "-", "--nats", s.bus.URL()) // stdin is empty
	notify(exitFailed, "denied", "audit", "x", "--nats", s.bus.URL())
	notify(exitFailed, "not_found", "nothing", "x", "--nats", s.bus.URL())
	notify(exitOK, "", "audit", "from PostgreSQL", "--postgres", s.url)
	notify(exitFailed, "notify: ", strings.Repeat("x", 64), "--postgres", s.url)
	notify(exitUsage, "--durable goes with --postgres", "audit", "--durable", "--nats", s.bus.URL())
	if code := sub.code(t); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	want := "pgbridge.event.orders  {\"id\": 7}\npgbridge.event.orders\npgbridge.event.orders\npgbridge.event.audit  from PostgreSQL\n"
	if got := strings.ReplaceAll(sub.stdout.String(), "  \n", "\n"); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.write(t, "odd", "-- Shows \x1b[2J what\n-- it is.\n-- timeout: 2s\nSELECT @a::int AS n, @b::text AS t;")
	s.serve(t, "--set", "channels.audit.delivery=jetstream", "--set", "channels.plain.subject=at.{payload.place}.{channel}")
	ask := func(args ...string) result {
		t.Helper()
		return call(t, nil, append(args, "--nats", s.bus.URL())...)
	}
	wantResult(t, ask("describe", "odd"), exitOK, `odd  (run, cursor)
  Shows \x1b[2J what
  it is.
  timeout: 2s

takes
  a  int4
  b  text

returns
  n  int4
  t  text

  pgbridge run odd a=… b=…
`, "")
	wantResult(t, ask("describe", "odd", "--json"), exitOK, `"parameters":[{"name":"a","types":["int4"]},{"name":"b","types":["text"]}],"columns":[{"name":"n","type":"int4"}`, "")
	wantResult(t, ask("describe", "transfr"), exitFailed, "", "transfer")
	wantResult(t, ask("describe"), exitOK, "\ntransfer ", "")
	wantResult(t, ask("ls"), exitOK, "SCRIPT ", "")
	wantResult(t, ask("ls"), exitOK, "\nCHANNEL  EVENTS                DELIVERY\naudit    pgbridge.event.audit  jetstream\nplain    at.*.plain            core\n", "")
	wantResult(t, ask("ls", "--json"), exitOK, `"channels":[{"name":"audit","subject":"pgbridge.event.audit","delivery":"jetstream"}`, "")
}

// Whoever may not ask for the channels sees those of the file.
func TestChannelsOfTheFile(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "pgbridge", Password: "p"}, {Username: "ada", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"pgbridge.channels"}},
		}}}
		o.NoAuthUser = "pgbridge"
	})
	s.serve(t, "--channel", "served")
	path := configFile(t, "nats: {url: '"+s.bus.URL()+"', user: ada, password: secret}\nchannels: {audit: {delivery: jetstream}, billing: {durable: true}, plain: {}}\n")
	wantResult(t, call(t, nil, "ls", "-c", path), exitOK, "\nCHANNEL  EVENTS                  DELIVERY\naudit    pgbridge.event.audit    jetstream\nbilling  pgbridge.event.billing  durable\nplain    pgbridge.event.plain    core\n", "")
	sub := start(t, "sub", "served", "-c", path, "--count", "1")
	says(t, &sub.stderr, "subscribed to pgbridge.event.served pgbridge.gap.served")
	testenv.Exec(t, s.url, "NOTIFY served, 'x'")
	if code := sub.code(t); code != exitOK || strings.Contains(sub.stderr.String(), "ermission") {
		t.Errorf("exit code %d, %s", code, &sub.stderr)
	}
}

// A channel with a subject of its own is found where it is, and one that does not
// exist is named.
func TestSubAsksForTheChannels(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t, "--set", "channels.orders.subject=shop.{payload.region}.{channel}")
	for _, names := range [][]string{{"orders"}, nil} {
		sub := start(t, append([]string{"sub", "--nats", s.bus.URL(), "--count", "1"}, names...)...)
		says(t, &sub.stderr, "shop.*.orders")
		testenv.Exec(t, s.url, `NOTIFY orders, '{"region": "north"}'`)
		if code := sub.code(t); code != exitOK || !strings.Contains(sub.stdout.String(), "shop.north.orders") {
			t.Errorf("exit code %d, printed %s", code, &sub.stdout)
		}
	}
	sub := start(t, "sub", "--nats", s.bus.URL(), "ordres")
	says(t, &sub.stderr, "pgbridge listens to no channel ordres; is orders meant?")
}

// What a stream holds is read from where the flags say.
func TestSubFromTheStream(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.serve(t, "--set", "channels.audit.delivery=jetstream", "--set", "channels.other.delivery=jetstream")
	for _, payload := range []string{"one", "two", "three"} {
		testenv.Exec(t, s.url, "SELECT pg_notify('audit', $1)", payload)
	}
	testenv.Exec(t, s.url, "SELECT pg_notify('other', x::text) FROM generate_series(1, 100) x")
	read := func(want string, args ...string) {
		t.Helper()
		r := call(t, nil, append(append([]string{"sub"}, args...), "--nats", s.bus.URL(), "--json")...)
		var got []string
		for line := range strings.Lines(r.stdout) {
			_, payload, _ := strings.Cut(line, `"payload":`)
			got = append(got, strings.Trim(payload, "\"}\n"))
		}
		if r.code != exitOK || strings.Join(got, " ") != want {
			t.Errorf("sub %s: code %d, %s (%s); want %s", strings.Join(args, " "), r.code, got, r.stderr, want)
		}
	}
	wantResult(t, call(t, nil, "sub", "pgbridge.event.other", "--from-seq", "1", "--count", "100", "--nats", s.bus.URL()), exitOK, "  100\n", "")
	read("two three", "audit", "--last", "2", "--count", "2")
	read("one two", "pgbridge.event.audit", "--since", "1h", "--count", "2")
	read("one", "pgbridge.event.audit", "--from-seq", "1", "--count", "1")
	read("one two", "pgbridge.event.audit", "--durable", "printer", "--last", "3", "--count", "2")
	read("three", "pgbridge.event.audit", "--durable", "printer", "--count", "1")
	wantResult(t, call(t, nil, "sub", "--last", "2", "--since", "1h"), exitUsage, "", "one of --since, --last and --from-seq")
	wantResult(t, call(t, nil, "sub", "--stream", "X"), exitUsage, "", "--stream goes with")
	wantResult(t, call(t, nil, "sub", "x", "--last", "1", "--stream", "NOWHERE", "--nats", s.bus.URL()), exitFailed, "", "NOWHERE")
}
