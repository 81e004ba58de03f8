package txrunner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(testenv.RunChild(serveChild))
	}
	testenv.Main(m)
}

const patience = 60 * time.Second // for what has to happen

// world is a database, a NATS server, a folder of scripts and a client.
type world struct {
	t      testing.TB
	pg     string // URL
	nats   *testenv.NATSServer
	folder string
	client *nats.Conn
	js     jetstream.JetStream // nil: not used
}

func newWorld(t testing.TB, scripts map[string]string) *world {
	t.Helper()
	w := &world{t: t, pg: testenv.Postgres(t).NewDatabase(t), nats: testenv.NATS(t), folder: t.TempDir()}
	for name, text := range scripts {
		w.write(name, text)
	}
	w.client = w.nats.Connect(t)
	return w
}

// write puts a script into the folder; name is its path without .sql.
func (w *world) write(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.folder, name+".sql")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sql(sql string) {
	w.t.Helper()
	testenv.Exec(w.t, w.pg, sql)
}

func (w *world) migrate() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.pg)
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close(ctx)
	for range 2 { // the second time changes nothing
		if err := txrunner.Migrate(ctx, conn); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) config() txrunner.Config {
	return txrunner.Config{
		ConnString: w.pg, Scripts: w.folder, ScriptsPoll: -1, StopGrace: 10 * time.Second,
		Requests: w.nats.Connect(w.t, nats.PermissionErrOnSubscribe(true), nats.MaxReconnects(-1),
			nats.ReconnectWait(50*time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})),
	}
}

// running is a runner under test.
type running struct {
	*txrunner.Runner
	logs *observer.ObservedLogs
	stop func() error // and wait; the first call counts
}

// serve starts a runner that is ready; it is stopped when the test ends.
func (w *world) serve(changes ...func(*txrunner.Config)) *running {
	w.t.Helper()
	config := w.config()
	for _, change := range changes {
		change(&config)
	}
	r := launch(w.t, config)
	testenv.Wait(w.t, patience, "the runner to be ready", func() bool { return len(r.Problems()) == 0 })
	return r
}

func launch(t testing.TB, config txrunner.Config) *running {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	config.Logger = zap.New(core)
	runner, err := txrunner.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return &running{Runner: runner, logs: logs, stop: testenv.Run(t, logs, runner.Run)}
}

// answer is a reply as a client sees it.
type answer struct {
	header  nats.Header
	body    string
	Results []struct {
		Command      string              `json:"command"`
		RowsAffected int64               `json:"rows_affected"`
		Columns      []map[string]string `json:"columns"`
		Rows         json.RawMessage     `json:"rows"`
	} `json:"results"`
	Notices  []map[string]string `json:"notices"`
	Attempts int                 `json:"attempts"`
	Tx       string              `json:"tx"`
	Idle     int64               `json:"idle_timeout_ms"`
	Expires  time.Time           `json:"expires_at"`
	Error    *failure            `json:"error"`
}

type failure struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	Retryable  bool   `json:"retryable"`
	Statement  int    `json:"statement"`
	SQLState   string `json:"sqlstate"`
	Position   int    `json:"position"`
	Line       int    `json:"line"`
	Detail     string `json:"detail"`
	Constraint string `json:"constraint"`
}

// ask sends a request below the prefix, or below a transaction's subject.
func (w *world) ask(subject, body string, headers ...string) answer {
	w.t.Helper()
	a, err := w.try(subject, body, headers...)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) try(subject, body string, headers ...string) (answer, error) {
	if !strings.HasPrefix(subject, "pgbridge.") {
		subject = "pgbridge." + subject
	}
	msg := nats.NewMsg(subject)
	msg.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		msg.Header.Set(headers[i], headers[i+1])
	}
	reply, err := w.client.RequestMsg(msg, patience)
	if err != nil {
		return answer{}, fmt.Errorf("request %s: %w", subject, err)
	}
	a := answer{header: reply.Header, body: string(reply.Data)}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return answer{}, fmt.Errorf("reply %q to %s: %w", reply.Data, subject, err)
	}
	if (a.Error != nil) != (reply.Header.Get("Nats-Service-Error-Code") != "") {
		return answer{}, fmt.Errorf("headers %v with the body %s", reply.Header, reply.Data)
	}
	return a, nil
}

// rows asks and returns the last result's rows as JSON.
func (w *world) rows(subject, body string, headers ...string) string {
	w.t.Helper()
	a := w.ask(subject, body, headers...)
	if a.Error != nil {
		w.t.Fatalf("%s: %+v", subject, *a.Error)
	}
	return string(a.Results[len(a.Results)-1].Rows)
}

// fails asks and wants an error with this code.
func (w *world) fails(code, subject, body string, headers ...string) failure {
	w.t.Helper()
	a := w.ask(subject, body, headers...)
	if a.Error == nil || a.Error.Code != code {
		w.t.Fatalf("%s answered %s, want the error %s", subject, a.body, code)
	}
	return *a.Error
}

// value returns the only value of a query.
func value[T any](w *world, sql string, args ...any) T {
	w.t.Helper()
	return testenv.Value[T](w.t, w.pg, sql, args...)
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}
