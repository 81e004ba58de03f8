package cursors_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/cursors"
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
}

func newWorld(t testing.TB, scripts map[string]string, hooks ...func(*server.Options)) *world {
	t.Helper()
	w := &world{t: t, pg: testenv.Postgres(t).NewDatabase(t), nats: testenv.NATS(t, hooks...), folder: t.TempDir()}
	for name, text := range scripts {
		w.write(name, text)
	}
	w.client = w.nats.Connect(t)
	return w
}

func (w *world) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, name+".sql"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sql(sql string) {
	w.t.Helper()
	testenv.Exec(w.t, w.pg, sql)
}

func (w *world) config() txrunner.Config {
	return txrunner.Config{
		ConnString: w.pg, Scripts: w.folder, ScriptsPoll: -1, StopGrace: 10 * time.Second,
		SQL: &txrunner.SQL{}, Extensions: []txrunner.Extension{cursors.New()},
		Requests: w.nats.Connect(w.t, nats.PermissionErrOnSubscribe(true), nats.MaxReconnects(-1),
			nats.ReconnectWait(50*time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})),
	}
}

// serve starts a runner that is ready; it is stopped when the test ends.
func (w *world) serve(changes ...func(*txrunner.Config)) {
	w.t.Helper()
	config := w.config()
	for _, change := range changes {
		change(&config)
	}
	core, logs := observer.New(zap.DebugLevel)
	config.Logger = zap.New(core)
	runner, err := txrunner.New(config)
	if err != nil {
		w.t.Fatal(err)
	}
	testenv.Run(w.t, logs, runner.Run)
	testenv.Wait(w.t, patience, "the runner to be ready", func() bool { return len(runner.Problems()) == 0 })
}

// answer is a reply as a client sees it.
type answer struct {
	header  nats.Header
	body    string
	size    int
	Tx      string              `json:"tx"`
	Cursor  string              `json:"cursor"`
	Columns []map[string]string `json:"columns"`
	Rows    []json.RawMessage   `json:"rows"`
	Done    bool                `json:"done"`
	Moved   int64               `json:"moved"`
	Cursors []struct {
		Cursor  string              `json:"cursor"`
		Columns []map[string]string `json:"columns"`
	} `json:"cursors"`
	Error *failure `json:"error"`
}

type failure struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	SQLState  string `json:"sqlstate"`
	Row       int64  `json:"row"`
	Statement int    `json:"statement"`
	Position  int    `json:"position"`
}

func (a answer) state() string { return a.header.Get("Pgbridge-Transaction") }

// rows are all rows in one string.
func (a answer) rows() string {
	parts := make([]string, len(a.Rows))
	for i, r := range a.Rows {
		parts[i] = string(r)
	}
	return strings.Join(parts, "")
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
	return read(reply)
}

func read(reply *nats.Msg) (answer, error) {
	a := answer{header: reply.Header, body: string(reply.Data), size: len(reply.Data)}
	if err := json.Unmarshal(reply.Data, &a); err != nil {
		return answer{}, fmt.Errorf("reply %.200q: %w", reply.Data, err)
	}
	if (a.Error != nil) != (reply.Header.Get("Nats-Service-Error-Code") != "") {
		return answer{}, fmt.Errorf("headers %v with the body %.200s", reply.Header, reply.Data)
	}
	return a, nil
}

// works asks and wants no error.
func (w *world) works(subject, body string, headers ...string) answer {
	w.t.Helper()
	a := w.ask(subject, body, headers...)
	if a.Error != nil {
		w.t.Fatalf("%s %s: %+v", subject, body, *a.Error)
	}
	return a
}

// fails asks and wants an error with this code.
func (w *world) fails(code, subject, body string, headers ...string) answer {
	w.t.Helper()
	a := w.ask(subject, body, headers...)
	if a.Error == nil || a.Error.Code != code {
		w.t.Fatalf("%s %s answered %.300s, want the error %s", subject, body, a.body, code)
	}
	return a
}

// connections counts those that are in a transaction.
func (w *world) inTransaction() int {
	w.t.Helper()
	return testenv.Value[int](w.t, w.pg, `SELECT count(*)::int FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'`)
}

func (w *world) wantIdle() {
	w.t.Helper()
	testenv.Wait(w.t, patience, "every transaction to end", func() bool { return w.inTransaction() == 0 })
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

// received is what came of a stream.
type received struct {
	first   answer
	rows    []json.RawMessage
	chunks  int
	largest int // rows in a chunk
	end     nats.Header
	err     *failure
}

// streamed asks for a stream and takes all of it; ack says whether each chunk is
// acknowledged.
func (w *world) streamed(tx, body string, ack bool) received {
	w.t.Helper()
	sub := w.openStream(tx, body)
	var r received
	for {
		msg, err := sub.NextMsg(patience)
		if err != nil {
			w.t.Fatalf("after %d chunks: %v", r.chunks, err)
		}
		if done := r.take(w, msg, ack); done {
			_ = sub.Unsubscribe()
			return r
		}
	}
}

func (w *world) openStream(tx, body string) *nats.Subscription {
	w.t.Helper()
	sub, err := w.client.SubscribeSync(nats.NewInbox())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.client.PublishRequest(tx+".stream", sub.Subject, []byte(body)); err != nil {
		w.t.Fatal(err)
	}
	return sub
}

// take reads one message of a stream and reports whether it was the last.
func (r *received) take(w *world, msg *nats.Msg, ack bool) bool {
	w.t.Helper()
	switch {
	case msg.Header.Get("Pgbridge-Seq") != "":
		var rows []json.RawMessage
		if err := json.Unmarshal(msg.Data, &rows); err != nil {
			w.t.Fatalf("chunk %.100q: %v", msg.Data, err)
		}
		r.rows, r.chunks, r.largest = append(r.rows, rows...), r.chunks+1, max(r.largest, len(rows))
		equal(w.t, "sequence number", msg.Header.Get("Pgbridge-Seq"), fmt.Sprint(r.chunks))
		if ack {
			if err := w.client.Publish(msg.Reply, nil); err != nil {
				w.t.Fatal(err)
			}
		}
		return false
	case len(msg.Data) == 0:
		r.end = msg.Header
		return true
	}
	a, err := read(msg)
	switch {
	case err != nil:
		w.t.Fatal(err)
	case a.Error != nil:
		r.err = a.Error
		return r.first.Tx == "" // else the empty message comes
	default:
		r.first = a
	}
	return false
}

// child process

const childEnv = "CURSORS_TEST_CHILD"

type childConfig struct{ Postgres, NATS, Scripts string }

func serveChild(ctx context.Context) error {
	var c childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c); err != nil {
		return err
	}
	nc, err := nats.Connect(c.NATS, nats.PermissionErrOnSubscribe(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	runner, err := txrunner.New(txrunner.Config{
		ConnString: c.Postgres, Scripts: c.Scripts, Requests: nc, Extensions: []txrunner.Extension{cursors.New()},
	})
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}
