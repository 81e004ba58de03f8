package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
)

// configFile writes a configuration and returns its path.
func configFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pgbridge.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loaded reads a file that has to be without fault.
func loaded(t *testing.T, content string, change ...func(*Sources)) *Config {
	t.Helper()
	s := Sources{File: configFile(t, content)}
	for _, c := range change {
		c(&s)
	}
	c, err := s.Load()
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return c
}

const everyKey = `
postgres: {url: "postgres://app@db/app", application_name: a, password_file: pw, run_connections: 3, pinned_connections: 5}
nats:
  url: [nats://one:4222, nats://two:4222]
  embedded: no
  store_dir: store
  name: me
  creds: ""
  user: u
  password: 0123
  tls: {ca: ca.pem, cert: /c.pem, key: k.pem}
  requests: {creds: r.creds}
  reply_prefixes: [_INBOX, mine]
streams:
  events: {name: EV, max_age: 1h, duplicate_window: 1m, replicas: 3, create: false}
  jobs: {name: JO, replicas: 3, create: false}
  results: {name: RE, max_age: 2h, replicas: 3, create: false}
prefix: my.bus
scripts: sql/scripts
sql: {url: "postgres://reader@db/app", password_file: rpw, connections: 2}
transactions: {idle_timeout: 10s, lifetime: 1m, max_timeout: 20s}
message_ids: {keep: 48h}
jobs: {concurrency: 4, attempts: 2}
channels:
  orders:
  "on": {}
  off: {envelope: json}
  Größe 1.x: {subject: "audit.{payload.region}.{channel}", envelope: cloudevents, delivery: jetstream, notify: true}
queue: {bytes: 64MiB}
stop: {grace: 10s}
log: {form: console, level: debug}
http: off
`

func TestEveryKeyIsRead(t *testing.T) {
	t.Parallel()
	c := loaded(t, everyKey)
	dir := func(s string) bool { return filepath.IsAbs(s) && filepath.Base(filepath.Dir(s)) != "" }
	got := map[string]string{}
	for _, s := range c.settings() {
		got[s.key] = s.raw()
	}
	want := map[string]string{
		"postgres.url": "postgres://app@db/app", "postgres.application_name": "a",
		"nats.url": "nats://one:4222,nats://two:4222", "nats.embedded": "false", "nats.name": "me",
		"nats.creds": "", "nats.user": "u", "nats.password": "0123", "nats.tls.cert": "/c.pem",
		"nats.reply_prefixes": "_INBOX,mine",
		"streams.events.name": "EV", "streams.events.max_age": "1h0m0s", "streams.events.duplicate_window": "1m0s",
		"streams.events.replicas": "3", "streams.events.create": "false",
		"postgres.run_connections": "3", "postgres.pinned_connections": "5",
		"streams.jobs.name": "JO", "streams.jobs.replicas": "3", "streams.jobs.create": "false",
		"streams.results.name": "RE", "streams.results.max_age": "2h0m0s", "streams.results.replicas": "3", "streams.results.create": "false",
		"sql": "true", "sql.url": "postgres://reader@db/app", "sql.connections": "2",
		"transactions.idle_timeout": "10s", "transactions.lifetime": "1m0s", "transactions.max_timeout": "20s",
		"message_ids.keep": "48h0m0s", "jobs": "true", "jobs.concurrency": "4", "jobs.attempts": "2",
		"prefix": "my.bus", "queue.bytes": "64MiB", "stop.grace": "10s",
		"log.form": "console", "log.level": "debug", "http": "off",
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s = %q, want %q", key, got[key], value)
		}
	}
	for _, key := range []string{"postgres.password_file", "nats.store_dir", "nats.tls.ca", "nats.tls.key", "nats.requests.creds", "scripts", "sql.password_file"} {
		if !dir(got[key]) {
			t.Errorf("%s = %q, want a path counted from the file", key, got[key])
		}
	}
	if len(c.Channels) != 4 {
		t.Fatalf("channels = %v, want 4", c.Channels)
	}
	wantChannel := bridge.Channel{
		Subject: "audit.{payload.region}.{channel}", Envelope: bridge.EnvelopeCloudEvents,
		Delivery: bridge.DeliveryJetStream, Notify: true,
	}
	if got := c.Channels["Größe 1.x"]; got != wantChannel {
		t.Errorf("channel = %+v, want %+v", got, wantChannel)
	}
	if got := c.Channels["off"].Envelope; got != bridge.EnvelopeJSON {
		t.Errorf("channel off has envelope %q, want json", got)
	}
}

const least = "postgres: {url: 'postgres://'}\n"

func TestFaultsOfAFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		want          []string // each in a line of its own
	}{
		{"empty", "", []string{"the file is empty"}},
		{"comment only", "# nothing\n", []string{"the file is empty"}},
		{"a list", "- a\n", []string{"want a mapping"}},
		{"a word", "hello", []string{"want a mapping"}},
		{"two documents", least + "---\nprefix: x\n", []string{"more than one document"}},
		{"a tab", "postgres:\n\turl: x\n", []string{"line 2: ", "tab"}},
		{"cut short", "channels: {a: {", []string{"line 1"}},
		{"duplicate keys", least + "prefix: a\nprefix: b\nchannels: {x: {}, x: {}}\n", []string{`line 3: key "prefix"`, `line 4: key "x"`}},
		{"too large", least + "#" + strings.Repeat("x", maxFileBytes), []string{"larger than 1048576 bytes"}},
		{"control character", least + "prefix: \"\x01\"\n", []string{"control characters are not allowed"}},
		{"no URL", "prefix: x\n", []string{"postgres.url: missing"}},
		{"unknown keys", least + "natz: {}\nnats: {ur: x}\nchannels: {a: {subjct: b}}\nstreams: {job: {name: x}}\nsequel: true\n", []string{
			"natz: unknown key", "nats.ur: unknown key; the nearest is nats.url",
			"channels.a.subjct: unknown key; the nearest is channels.a.subject", "streams.job: unknown key; the nearest is streams.jobs", "sequel: unknown key; the nearest is sql",
		}},
		{"wrong types", least + "nats: x\nqueue: [1]\nlog: {form: {}}\nprefix: [a]\nchannels: [a]\n", []string{
			"nats: want a mapping", "queue: want a mapping", "log.form: want one value", "prefix: want one value", "channels: want a mapping",
		}},
		{"wrong values", least + `
nats: {embedded: maybe, url: "ftp://x", reply_prefixes: ["a.b"], tls: {cert: c}, user: u, token: t, requests: {password: p}}
streams: {events: {max_age: 3 days, replicas: many, duplicate_window: 10ms, create: 2, name: "a b"}}
prefix: "a..b"
queue: {bytes: 12 parsecs}
stop: {grace: -1s}
log: {form: xml, level: loud}
http: nowhere
channels: {a: {envelope: paper, delivery: pigeon, subject: "x.{y}", notify: perhaps}}
`, []string{
			"nats.embedded: ", "nats.url: ", "nats.reply_prefixes: ", "nats.tls.cert: ", "nats.token: ", "nats.requests.password: ",
			"streams.events.max_age: ", "streams.events.replicas: ", "streams.events.duplicate_window: ", "streams.events.create: ", "streams.events.name: ",
			"prefix: ", "queue.bytes: ", "stop.grace: ", "log.form: ", "log.level: ", "http: ",
			"channels.a.envelope: ", "channels.a.delivery: ", "channels.a.subject: ", "channels.a.notify: ",
		}},
		{"wrong values for scripts", `
postgres: {url: "postgres://", run_connections: -1, pinned_connections: a}
sql: {password_file: x}
transactions: {idle_timeout: -1s, lifetime: 48h, max_timeout: soon}
message_ids: {keep: 1s}
jobs: {concurrency: -2, attempts: 5000}
streams: {jobs: {name: "a b", replicas: 9}, results: {max_age: 1ms}}
`, []string{
			"postgres.run_connections: ", "postgres.pinned_connections: ", "sql.url: missing", "transactions.idle_timeout: ", "transactions.lifetime: ",
			"transactions.max_timeout: ", "message_ids.keep: ", "jobs.concurrency: ", "jobs.attempts: ",
			"streams.jobs.name: ", "streams.jobs.replicas: ", "streams.results.max_age: ",
		}},
		{"empty switches", least + "sql: {}\njobs: {}\nmessage_ids: {}\n", []string{"sql: want true, false or", "jobs: want true, false or"}},
		{"catch-up scripts", least + "scripts: .\nchannels: {a: {catch_up: 'no/name'}, b: {catch_up: x, durable: true}, c: {catch_up: x}}\n", []string{
			`channels.a.catch_up: "no/name": want a script's name`, "channels.b.catch_up: a durable channel",
		}},
		{"catch-up without scripts", least + "channels: {c: {catch_up: x}}\n", []string{"channels.c.catch_up: there are no scripts"}},
		{"small queue", least + "queue: {bytes: 1KiB}\n", []string{"queue.bytes: "}},
		{"channel name too long", least + "channels: {" + strings.Repeat("x", 64) + ": {}}\n", []string{"channels.xxx"}},
		{"embedded elsewhere", least + "nats: {embedded: true, url: nats://example.com:4222, creds: x}\n", []string{"nats.url: ", "nats.creds: "}},
		{"embedded cluster", least + "nats: {embedded: true, url: 'nats://127.0.0.1:1,nats://127.0.0.1:2'}\n", []string{"nats.url: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := configFile(t, tt.content)
			_, err := Sources{File: path}.Load()
			wantFaults(t, err, path, tt.want)
		})
	}
}

// wantFaults wants one line for each text, from one place, and no others.
func wantFaults(t *testing.T, err error, origin string, want []string) {
	t.Helper()
	var faulty *Error
	if !errors.As(err, &faulty) {
		t.Fatalf("error = %v, want an *Error", err)
	}
	lines := strings.Split(err.Error(), "\n")
	for _, text := range want {
		found := false
		for _, line := range lines {
			found = found || strings.Contains(line, text)
		}
		if !found {
			t.Errorf("no line with %q in\n%v", text, err)
		}
	}
	if len(want) > 2 && len(lines) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, origin+": ") && !strings.Contains(line, "missing") {
			t.Errorf("the line does not name %s: %s", origin, line)
		}
	}
}

func TestFormsOfAFile(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"byte order mark":  "\ufeff" + least + "prefix: x\n",
		"carriage returns": strings.ReplaceAll(least+"prefix: x\n", "\n", "\r\n"),
		"JSON":             `{"postgres": {"url": "postgres://"}, "prefix": "x"}`,
		"merge":            least + "prefix: x\nchannels:\n  a: &a {envelope: json}\n  b: {<<: *a, notify: true}\n",
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := loaded(t, content).Prefix; got != "x" {
				t.Errorf("prefix = %q, want x", got)
			}
		})
	}
	c := loaded(t, tests["merge"])
	if got := c.Channels["b"]; got.Envelope != bridge.EnvelopeJSON || !got.Notify {
		t.Errorf("merged channel = %+v", got)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	c := loaded(t, least+"prefix: file\nnats: {url: nats://file:1, name: file}\nhttp: 127.0.0.1:1\nqueue: {bytes: 2MiB}\n", func(s *Sources) {
		s.Environ = []string{
			"PGBRIDGE_PREFIX=environment", "PGBRIDGE_NATS_URL=nats://environment:1", "PGBRIDGE_HTTP=",
			"PGBRIDGE_STREAMS_EVENTS_MAX_AGE=5h", "PGBRIDGE_NATS_EMBEDDED=false", "PGBRIDGE_CHANNELS=a, b",
		}
		s.NATS = "nats://flag:1"
		s.Channels = []string{"c,d"}
		s.Set = []string{"stop.grace=1s", "channels.a.envelope=json", "channels.x.y.notify=true"}
	})
	for _, tt := range []struct{ what, got, want string }{
		{"default", c.Log.Level, "info"},
		{"file", c.NATSName, "file"},
		{"file over default", FormatSize(c.QueueBytes), "2MiB"},
		{"environment over file", c.Prefix, "environment"},
		{"environment over default", c.Events.MaxAge.String(), "5h0m0s"},
		{"flag over environment", strings.Join(c.NATS.URLs, ","), "nats://flag:1"},
		{"an empty variable is none", c.HTTP, "127.0.0.1:1"},
		{"set", c.StopGrace.String(), "1s"},
		{"channels", strings.Join(c.ChannelNames(), "|"), "a|b|c,d|x.y"},
		{"a channel's key", string(c.Channels["a"].Envelope), "json"},
		{"origin", c.OriginOf("nats.url"), "--server"},
		{"origin", c.OriginOf("prefix"), "PGBRIDGE_PREFIX"},
		{"origin of a channel's key", c.OriginOf("channels.a.subject"), "PGBRIDGE_CHANNELS"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, tt.got, tt.want)
		}
	}
}

func TestEveryScalarKeyHasAVariable(t *testing.T) {
	t.Parallel()
	seen := map[string]string{EnvFile: "", envChannels: ""}
	for _, s := range newConfig().settings() {
		name := envName(s.key)
		if other, taken := seen[name]; taken {
			t.Errorf("%s stands for %s and %s", name, other, s.key)
		}
		seen[name] = s.key
	}
	if seen["PGBRIDGE_POSTGRES_URL"] != "postgres.url" || seen["PGBRIDGE_NATS_TLS_CA"] != "nats.tls.ca" {
		t.Errorf("names are not derived as documented: %v", seen)
	}
}

func TestFaultsOfTheEnvironmentAndFlags(t *testing.T) {
	t.Parallel()
	s := Sources{
		Environ: []string{
			"PGBRIDGE_POSTGRES_URI=x", "PGBRIDGE_QUEUE_BYTES=lots", "PGBRIDGE_NATS_PORT=4222",
			// As Kubernetes makes them beside a Service of that name:
			"PGBRIDGE_SERVICE_HOST=10.0.0.1", "PGBRIDGE_SERVICE_PORT=8080", "PGBRIDGE_SERVICE_PORT_HTTP=8080",
			"PGBRIDGE_PORT=tcp://10.0.0.1:8080", "PGBRIDGE_PORT_8080_TCP=tcp://10.0.0.1:8080",
			"PGBRIDGE_PORT_8080_TCP_ADDR=10.0.0.1", "PGBRIDGE_PORT_8080_TCP_PROTO=tcp", "PGBRIDGE_PORT_8080_TCP_PORT=8080",
			"PGBRIDGE_METRICS_SERVICE_HOST=10.0.0.1", "PGBRIDGE_METRICS_PORT=tcp://10.0.0.1:1",
		},
		Postgres: "postgres://",
		Set:      []string{"x=1", "prefix", "channels.a.b=1", "channels.subject=1", "http=here"},
	}
	_, err := s.Load()
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		"PGBRIDGE_NATS_PORT: unknown variable", "PGBRIDGE_POSTGRES_URI: unknown variable; the nearest is PGBRIDGE_POSTGRES_URL",
		"PGBRIDGE_QUEUE_BYTES: queue.bytes: ",
		"--set: x: unknown key", "--set: prefix: want key=value", "--set: channels.a.b: unknown key",
		"--set: channels.subject: unknown key", "--set: http: ",
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("no %q in\n%v", text, err)
		}
	}
}

func TestNoFileIsNeeded(t *testing.T) {
	t.Parallel()
	c, err := Sources{Environ: []string{"PGBRIDGE_POSTGRES_URL=postgres://app@db/app", "PGBRIDGE_CHANNELS=orders"}}.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := c.Bridge()
	if b.Prefix != "pgbridge" || b.QueueBytes != 32<<20 || b.StopGrace != 25*time.Second || !b.Stream.Create || len(b.Channels) != 1 {
		t.Errorf("bridge configuration = %+v", b)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"0": 0, "5": 5, "5B": 5, "64KiB": 64 << 10, "32 MiB": 32 << 20, "1GiB": 1 << 30} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1MB", "99999999999GiB", "9223372036854775807KiB", "1mib"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	const secret = "hun%40ter2"
	tests := []struct{ in, want string }{
		{MaskConnString("postgres://app:" + secret + "@db/app?x=1"), "postgres://app:***@db/app?x=1"},
		{MaskConnString("postgres://app@db/app?password=" + secret + "&sslpassword=" + secret), "postgres://app@db/app?password=***&sslpassword=***"},
		{MaskConnString("postgres://app@db/app?p%61ssword=" + secret + "&x=1&%53slPassword=" + secret), "postgres://app@db/app?p%61ssword=***&x=1&%53slPassword=***"},
		{MaskConnString("postgres://app@db/app?pass%zz=" + secret), "postgres://app@db/app?pass%zz=***"},
		{MaskConnString("postgres://app:12/" + secret + "@db/app"), "***"},
		{MaskConnString("postgres://app:12?" + secret + "@db/app"), "***"},
		{MaskConnString("postgres://app:12#" + secret + "@db/app"), "***"},
		{MaskConnString("Postgres://app:" + secret + "@db/app"), "***"},
		{MaskConnString("postgres:///app?host=/tmp"), "postgres:///app?host=/tmp"},
		{MaskConnString("host=db password=" + secret + " user=app"), "host=db password=*** user=app"},
		{MaskConnString(`host=db password = 'a \' ` + secret + `' user=app`), "host=db password = *** user=app"},
		{MaskConnString("postgres://app:" + secret + "@db:x%zz/app"), "***"},
		{MaskConnString("postgres://app@db/app"), "postgres://app@db/app"},
		{MaskURLs("nats://u:" + secret + "@a:1,nats://b:2,nats://" + secret + "@c"), "nats://u:***@a:1,nats://b:2,nats://***@c"},
		{MaskURLs("u:" + secret + "@a:1"), "u:***@a:1"},
		{maskAll(secret), "***"},
		{maskAll(""), ""},
	}
	for _, tt := range tests {
		if tt.in != tt.want {
			t.Errorf("masked: %q, want %q", tt.in, tt.want)
		}
	}
}

func TestSecretsAreInNoFault(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	contents := []string{
		"postgres: {url: 'postgres://app:" + secret + "@db:x%zz/app'}\n",
		"postgres: {url: 'postgres://app:" + secret + "@db:99999/app'}\n",
		"postgres: {url: 'host=db password=" + secret + " sslmode=sometimes'}\n",
		least + "nats: {url: 'nats://u:" + secret + "@ho st:%zz'}\n",
		least + "nats: {url: 'ftp://u:" + secret + "@host'}\n",
		least + "nats: {embedded: true, url: 'nats://u:" + secret + "@127.0.0.1:x'}\n",
		least + "nats: {password: " + secret + "}\n",
		least + "nats: {token: " + secret + ", password: [" + secret + "], user: u}\n",
		least + "sql: 'postgres://app:" + secret + "@db/app'\n",
		least + "jobs: 'host=db password=" + secret + "'\n",
		least + "http: 'nats://u:" + secret + "@db'\n",
		least + "requests: {bytes: 'nats://" + secret + "@db'}\n",
		least + "nats: {password: *" + secret + "}\n",
		least + "nats: {password: !!int " + secret + "}\n",
		least + "nats: {password: &" + secret + " [*" + secret + "]}\n",
	}
	for _, content := range contents {
		_, err := Sources{File: configFile(t, content)}.Load()
		if err == nil {
			t.Errorf("no fault in %s", content)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the secret is in: %v", err)
		}
	}
}

// TestPartsAreOff wants requests with SQL and jobs to be asked for.
func TestPartsAreOff(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		environ       []string
		sql, jobs     bool
	}{
		{name: "by default"},
		{name: "explicitly", content: "sql: false\njobs: no\n"},
		{name: "without a value", content: "sql:\njobs:\n"},
		{name: "an empty URL", content: "sql: {url: ''}\n"},
		{name: "on", content: "sql: true\njobs: yes\n", sql: true, jobs: true},
		{name: "by their settings", content: "sql: {url: 'postgres://reader@db/app'}\njobs: {attempts: 2}\n", sql: true, jobs: true},
		{name: "from the environment", environ: []string{"PGBRIDGE_SQL=true", "PGBRIDGE_JOBS=on"}, sql: true, jobs: true},
		{name: "by the environment", content: "jobs: {attempts: 2}\nsql: {url: 'postgres://r@db/app'}\n", environ: []string{"PGBRIDGE_SQL=false", "PGBRIDGE_JOBS=off"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := loaded(t, least+tt.content, func(s *Sources) { s.Environ = tt.environ })
			if r := c.Runner(); (r.SQL != nil) != tt.sql || (r.Jobs != nil) != tt.jobs {
				t.Errorf("SQL %t, jobs %t; want %t, %t", r.SQL != nil, r.Jobs != nil, tt.sql, tt.jobs)
			}
		})
	}
}

// FuzzConfig wants an answer to any file: no panic, and either a usable
// configuration or faults.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{everyKey, least, "a: *a", "a: &a [*a]", "? [a]: b", "a: !!binary x", "<<: {a: b}", "channels: {~: {}}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Sources{File: "fuzz.yaml"}.Parse(data)
		var faulty *Error
		if err != nil && (!errors.As(err, &faulty) || len(faulty.Faults) == 0) {
			t.Errorf("error without faults: %v", err)
		}
		if err == nil && c.Postgres.URL == "" {
			t.Error("a configuration without postgres.url was accepted")
		}
	})
}
