package main

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestServeScripts(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	c, address := s.serve(t)
	wantResult(t, s.run(t, "account", "id=1"), exitOK, `"Ada"`, "")
	wantResult(t, s.run(t, "--sql", "SELECT 1"), exitFailed, "", "denied")
	_, metrics := get(t, address, "/metrics")
	for _, series := range []string{`pgbridge_requests_total{code="ok",endpoint="run",part="txrunner"}`, fmt.Sprintf("pgbridge_scripts %d", s.count(t)), "pgbridge_publishing 1",
		`pgbridge_runs_total{code="ok",script="account"} 1`, `pgbridge_run_duration_seconds_count{script="account"} 1`,
		`pgbridge_request_wait_seconds_count{endpoint="run",part="txrunner"} 1`, `pgbridge_connection_wait_seconds_count{purpose="run"}`,
		"pgbridge_ready 1", `pgbridge_nats_connected{connection="events"} 1`, `pgbridge_nats_connected{connection="transactions"} 1`, `pgbridge_script_loads_total{outcome="good"} 1`, "pgbridge_build_info{"} {
		if !strings.Contains(metrics, series) {
			t.Errorf("/metrics holds no %s", series)
		}
	}
	// A hangup reads the folder at once, without any configuration file.
	s.write(t, "new", "SELECT 'new';")
	c.signal(t, syscall.SIGHUP)
	testenv.Wait(t, timeLimit, "the new script", func() bool { return s.run(t, "new").code == exitOK })
	s.write(t, "faulty", "SELECT 'open")
	c.signal(t, syscall.SIGHUP)
	says(t, &c.stderr, "faulty.sql:1:")
	testenv.Wait(t, timeLimit, "the fault in /readyz", func() bool {
		code, body := get(t, address, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "faulty.sql")
	})
	wantResult(t, s.run(t, "account", "id=1"), exitOK, `"Ada"`, "")
	_, metrics = get(t, address, "/metrics")
	for _, series := range []string{"pgbridge_ready 0", `pgbridge_problems{part="scripts"} 1`, "pgbridge_script_faults 1", `pgbridge_script_loads_total{outcome="faulty"} `} {
		if !strings.Contains(metrics, series) {
			t.Errorf("with a faulty script /metrics holds no %s", series)
		}
	}
	c.signal(t, syscall.SIGTERM)
	if code := c.code(t); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestServeRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	c := start(t, append([]string{"serve", "--set", "http=off"}, s.args("--set", "scripts=/nowhere/scripts")...)...)
	if code := c.code(t); code != exitUsage || !strings.Contains(c.stderr.String(), "--set: scripts: ") {
		t.Errorf("without the folder: exit code %d, %s", code, &c.stderr)
	}
	capture(t, s.bus, "pgbridge.run.>")
	c = start(t, append([]string{"serve", "--set", "http=off"}, s.args()...)...)
	if code := c.code(t); code != exitFailed || !strings.Contains(c.stderr.String(), "the stream GREEDY captures requests") {
		t.Errorf("with a stream that captures requests: exit code %d, %s", code, &c.stderr)
	}
}

// count returns how many scripts the folder holds.
func (s *scripted) count(t *testing.T) int {
	t.Helper()
	n := 0
	err := fs.WalkDir(os.DirFS(s.folder), ".", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".sql" {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// capture makes a stream that takes messages in.
func capture(t *testing.T, bus *testenv.NATSServer, subject string) {
	t.Helper()
	js, err := jetstream.New(bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "GREEDY", Subjects: []string{subject}}); err != nil {
		t.Fatal(err)
	}
}

func TestCheckOfScripts(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	check := func(more ...string) result { return call(t, nil, append([]string{"check"}, s.args(more...)...)...) }
	wantLines(t, check("--offline"), exitOK, fmt.Sprintf("ok %d can be parsed", s.count(t)))
	wantLines(t, check(), exitOK, fmt.Sprintf("ok %d, PostgreSQL takes them", s.count(t)), "warn run pgbridge migrate", "ok pgbridge.run.>", "ok pgbridge.tx.>", "ok no stream captures them")
	wantLines(t, check("--set", "jobs=true"), exitFailed, "FAIL run pgbridge migrate", "ok stream PGBRIDGE_JOBS", "ok stream PGBRIDGE_RESULTS")

	s.write(t, "a", "SELECT 1;\nSELECT 'open")
	s.write(t, "b", "SELECT 1;\nSELECT nothing_there;")
	wantLines(t, check("--offline"), exitFailed, "FAIL a.sql:2:8: ")
	wantLines(t, check(), exitFailed, "FAIL a.sql:2:8: ", "FAIL b.sql:2:8: column \"nothing_there\" does not exist")
	wantLines(t, check("--set", "scripts=/nowhere"), exitFailed, "FAIL /nowhere")
	for _, name := range []string{"a", "b"} {
		if err := os.Remove(filepath.Join(s.folder, name+".sql")); err != nil {
			t.Fatal(err)
		}
	}
	capture(t, s.bus, "pgbridge.run.account")
	wantLines(t, check("--set", "sql.url=postgres://nobody:x@127.0.0.1:1/x"), exitFailed, "FAIL sql.url", "FAIL stream GREEDY captures requests")
	wantResult(t, call(t, nil, "migrate", "--postgres", s.url), exitOK, "", "")
	wantLines(t, check("--set", "sql.url="+s.url), exitFailed, "ok sql.url", "ok pgbridge.message_id is there")
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	r := call(t, nil, "migrate", "--print")
	wantResult(t, r, exitOK, "CREATE SCHEMA IF NOT EXISTS pgbridge;", "")
	testenv.Exec(t, url, r.stdout)
	args := []string{"migrate", "--postgres", url, "--nats", bus.URL(), "--set", "jobs=true",
		"--set", "channels.audit.delivery=jetstream", "--set", "streams.events.create=false", "--set", "streams.jobs.create=false"}
	for range 2 { // the second time changes nothing
		wantResult(t, call(t, nil, args...), exitOK, "", "has the stream PGBRIDGE_EVENTS")
	}
	args[0] = "check"
	wantLines(t, call(t, nil, args...), exitOK, "ok pgbridge.message_id is there", "ok stream PGBRIDGE_EVENTS", "ok stream PGBRIDGE_JOBS", "ok stream PGBRIDGE_RESULTS")
	wantResult(t, call(t, nil, "migrate"), exitUsage, "", "postgres.url: missing")
	wantResult(t, call(t, nil, "migrate", "--postgres", "postgres://app:hunter2@127.0.0.1:1/app"), exitFailed, "", "app@127.0.0.1:1/app")
}
