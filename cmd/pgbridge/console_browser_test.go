//go:build browser

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestConsoleInABrowser has scripts/console.mjs look at each view of a pgbridge that
// works: make check-console sees to the browser, and names it and its packages.
func TestConsoleInABrowser(t *testing.T) {
	t.Parallel()
	packages, browser := os.Getenv("PGBRIDGE_TEST_BROWSER_PACKAGES"), os.Getenv("PGBRIDGE_TEST_BROWSER")
	if packages == "" || browser == "" {
		t.Fatal("PGBRIDGE_TEST_BROWSER_PACKAGES and PGBRIDGE_TEST_BROWSER are not set: run make check-console")
	}
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"wal_level": "logical"}})
	bus := testenv.NATS(t, func(o *server.Options) { o.ServerName = strings.ReplaceAll(stranger(), " ", "/") }) // no spaces there
	w := &watched{t: t, url: pg.NewDatabase(t), bus: bus}
	testenv.Exec(t, w.url, `CREATE TABLE load (n int); CREATE TABLE halfway (n int);
		CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
			IF NEW.n = 300000 THEN PERFORM pg_advisory_xact_lock(7); END IF; RETURN NEW; END$$;
		CREATE TRIGGER stop BEFORE INSERT ON halfway FOR EACH ROW EXECUTE FUNCTION stop()`)
	w.forgottenSlot()
	config := w.configure()
	wantResult(t, call(t, nil, "migrate", "-c", config), exitOK, "", "")
	c := start(t, "serve", "-c", config)
	address := httpAddress(t, c)
	waitReady(t, address)
	w.nc = bus.Connect(t, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	w.ask("pgbridge.run.divide", `{"params": {"by": 0}}`)
	w.ask("pgbridge.run.divide", `{"params": {"by": 1}}`)
	w.pretend()
	w.transactions()
	w.jobs()
	w.halfway()
	ctx, stop := context.WithCancel(context.Background())
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		w.write(ctx)
	}()
	defer func() { stop(); <-writing }()
	w.look("http://"+address+"/", packages, browser)
}

// watched is a pgbridge with something of everything.
type watched struct {
	t   *testing.T
	url string
	bus *testenv.NATSServer
	nc  *nats.Conn

	first string // the transaction that others wait for
	data  string // where the copy's chunks go
}

// stranger is what anything is called that somebody else names. In the pictures for
// the documents it is a person.
func stranger() string {
	if os.Getenv("PGBRIDGE_TEST_PICTURES") != "" {
		return "mallory"
	}
	return "<img src=x onerror=pwned()>"
}

func (w *watched) configure() string {
	scripts := w.t.TempDir()
	for name, text := range map[string]string{
		"divide": "-- Divides one by a number.\n-- timeout: 2s\nSELECT 1 / @by::int AS \"" + stranger() + "\";",
		"lock":   "SELECT pg_advisory_xact_lock(@key::int);",
		"all":    "SELECT n FROM generate_series(1, 1000) n;",
		"load":   "COPY load FROM STDIN;",
		"object": "-- bucket: " + bucket + "\nCOPY halfway FROM STDIN;",
	} {
		rewrite(w.t, filepath.Join(scripts, name+".sql"), text)
	}
	for i := range 10_000 {
		rewrite(w.t, filepath.Join(scripts, fmt.Sprintf("s%05d.sql", i)), "SELECT 1;")
	}
	channels := map[string]any{"orders": map[string]any{}, "audit": map[string]any{"delivery": "jetstream"}, "billing": map[string]any{"durable": true}, stranger(): map[string]any{}}
	for i := range 10_000 {
		channels[fmt.Sprintf("ch%05d", i)] = map[string]any{}
	}
	text, err := json.Marshal(map[string]any{
		"postgres": map[string]any{"url": w.url}, "nats": map[string]any{"url": w.bus.URL()}, "http": "127.0.0.1:0",
		"console": map[string]any{"payloads": true}, "channels": channels, "scripts": scripts, "jobs": true,
		"transactions": map[string]any{"idle_timeout": "15m", "lifetime": "20m", "max_timeout": "15m"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return configFile(w.t, string(text))
}

func (w *watched) ask(subject, body string) map[string]any {
	w.t.Helper()
	m, err := w.nc.Request(subject, []byte(body), 30*time.Second)
	if err != nil {
		w.t.Fatalf("ask %s: %v", subject, err)
	}
	var reply map[string]any
	_ = json.Unmarshal(m.Data, &reply) // some are empty
	return reply
}

// pretend answers as a replica would, with names of its own choice.
func (w *watched) pretend() {
	answer := fmt.Appendf(nil, `{"replica": %[1]q, "version": %[1]q, "state": "standby", "started_at": %[2]q, "problems": [%[1]q]}`, stranger(), time.Now().Format(time.RFC3339))
	if _, err := w.nc.Subscribe("pgbridge.status", func(m *nats.Msg) { m.Respond(answer) }); err != nil {
		w.t.Fatal(err)
	}
}

// forgottenSlot is in a database with a name that somebody else chose, and nobody
// reads it.
func (w *watched) forgottenSlot() {
	testenv.Exec(w.t, w.url, "CREATE DATABASE "+pgx.Identifier{stranger()}.Sanitize())
	config, err := pgx.ParseConfig(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	config.Database = stranger()
	conn, err := pgx.ConnectConfig(w.t.Context(), config)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(w.t.Context(), "SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')"); err != nil {
		w.t.Fatal(err)
	}
}

// leave leaves a job.
func (w *watched) leave(script, params string) {
	w.ask("pgbridge.job.run."+script, `{"params": `+params+`}`) // the stream acknowledges it
}

// jobs has one done, one failed and one that waits for the first transaction.
func (w *watched) jobs() {
	w.leave("divide", `{"by": 0}`)
	w.leave("divide", `{"by": 1}`)
	w.leave("lock", `{"key": 7}`)
}

// transactions leaves one that waits for another, one with a cursor and a copy.
func (w *watched) transactions() {
	w.first, _ = w.ask("pgbridge.begin", "{}")["tx"].(string)
	w.ask(w.first+".run.lock", `{"params": {"key": 7}}`)
	second, _ := w.ask("pgbridge.as."+subject.Token(stranger())+".begin", "{}")["tx"].(string)
	if err := w.nc.PublishRequest(second+".run.lock", w.nc.NewInbox(), []byte(`{"params": {"key": 7}}`)); err != nil {
		w.t.Fatal(err)
	}
	w.ask("pgbridge.cursor.all", `{"count": 10}`)
	w.data, _ = w.ask("pgbridge.copy.load", "{}")["data"].(string)
}

const bucket = "imports"

// halfway begins the copy of an object, which waits for the first transaction when
// part of it is in.
func (w *watched) halfway() {
	js, err := w.nc.JetStream()
	if err != nil {
		w.t.Fatal(err)
	}
	store, err := js.CreateObjectStore(&nats.ObjectStoreConfig{Bucket: bucket})
	if err != nil {
		w.t.Fatal(err)
	}
	var rows strings.Builder
	for n := range 1_000_000 {
		fmt.Fprintln(&rows, n)
	}
	if _, err := store.PutString("rows", rows.String()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.nc.PublishRequest("pgbridge.copy.object", w.nc.NewInbox(), []byte(`{"object": {"bucket": "`+bucket+`", "name": "rows"}}`)); err != nil {
		w.t.Fatal(err)
	}
}

// idle starts one that has nothing to do, and returns its address.
func (w *watched) idle(config, prefix string) string {
	url := testenv.Postgres(w.t).NewDatabase(w.t)
	c := start(w.t, "serve", "-c", configFile(w.t, fmt.Sprintf("postgres: {url: %q}\nnats: {url: %q}\nhttp: 127.0.0.1:0\nprefix: %s\nconsole: true\n%s\n", url, w.bus.URL(), prefix, config)))
	address := httpAddress(w.t, c)
	waitReady(w.t, address)
	return "http://" + address + "/"
}

// feed sends another chunk, so that the copy goes on.
func (w *watched) feed(n int) {
	chunk := nats.NewMsg(w.data)
	chunk.Header.Set("Pgbridge-Seq", strconv.Itoa(n))
	chunk.Reply = w.nc.NewInbox()
	chunk.Data = []byte("1\n2\n3\n")
	_ = w.nc.PublishMsg(chunk) // while NATS is away nobody looks at it
}

// write keeps events coming.
func (w *watched) write(ctx context.Context) {
	conn, err := pgx.Connect(ctx, w.url)
	if err != nil {
		return
	}
	defer conn.Close(context.Background())
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%20 == 0 {
			w.feed(n/20 + 1)
		}
		payload := fmt.Sprintf(`{"customer": "ada", "order": %d, "note": "<b>bold</b>"}`, n)
		for _, sql := range []string{"SELECT pg_notify('orders', $1)", "SELECT pg_notify('audit', $1)", "SELECT pgbridge.notify('billing', $1)"} {
			if _, err := conn.Exec(ctx, sql, payload); err != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look runs the browser, and does what it asks for.
func (w *watched) look(url, packages, browser string) {
	w.t.Helper()
	pictures := os.Getenv("PGBRIDGE_TEST_PICTURES")
	if pictures == "" {
		pictures = w.t.TempDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "../../scripts/console.mjs")
	cmd.Env = append(os.Environ(), "CONSOLE_URL="+url, "CONSOLE_PACKAGES="+packages, "CONSOLE_BROWSER="+browser, "CONSOLE_PICTURES="+pictures, "CONSOLE_STRANGER="+stranger(),
		"CONSOLE_IDLE="+w.idle("channels: {orders: {}}", "idle")+" "+w.idle("scripts: "+w.t.TempDir(), "bare"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := false
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "ask nats-stop":
			w.bus.Stop(w.t)
		case line == "ask nats-start":
			w.bus.Start(w.t)
		case line == "ask job":
			w.leave("divide", `{"by": 0}`)
		case line == "ask drop-slot":
			testenv.Exec(w.t, w.url, "SELECT pg_drop_replication_slot('forgotten')")
		case line == "ask unlock":
			w.ask(w.first+".rollback", "")
		case line == "end":
			ended = true
			continue
		case strings.HasPrefix(line, "fault "):
			w.t.Error(strings.TrimPrefix(line, "fault "))
			continue
		default:
			w.t.Log(line)
			continue
		}
		fmt.Fprintln(stdin, "ok")
	}
	if err := cmd.Wait(); err != nil || !ended {
		w.t.Fatalf("the browser's script: %v\n%s", err, &stderr)
	}
}
