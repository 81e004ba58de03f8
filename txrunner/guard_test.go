package txrunner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// refusal runs a runner that should not serve and returns why it does not.
func refusal(t *testing.T, config txrunner.Config) string {
	t.Helper()
	r, err := txrunner.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	err = r.Run(ctx)
	if err == nil {
		t.Fatal("Run() = nil, want a refusal")
	}
	return err.Error()
}

func TestStreamThatCapturesRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	js, err := jetstream.New(w.Client)
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"*.begin", "pgbridge.run.billing.>", "pgbridge.tx.>"} {
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "THIEF", Subjects: []string{subject}})
		if subject == "*.begin" && err != nil {
			continue // would take JetStream's own requests in
		}
		if err != nil {
			t.Fatal(err)
		}
		if why := refusal(t, w.Config()); !strings.Contains(why, "THIEF") {
			t.Errorf("refused because of %q, want the stream's name", why)
		}
		if err := js.DeleteStream(t.Context(), stream.CachedInfo().Config.Name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"pgbridge.job.>", "pgbridge.event.>"}}); err != nil {
		t.Fatal(err)
	}
	w.Serve()
}

// Two databases under one prefix are a mistake that the replicas which serve are
// not to suffer from: the newcomer waits.
func TestPrefixOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	first := w.Serve()
	w.Serve() // a second replica
	other := w.Config()
	other.ConnString = testenv.Postgres(t).NewDatabase(t)
	newcomer := harness.Launch(t, other)
	testenv.Wait(t, harness.Patience, "the newcomer to say why it waits", func() bool {
		return strings.Contains(fmt.Sprint(newcomer.Problems()), "waiting until both lead to the same")
	})
	harness.Equal(t, "problems of a replica that serves", len(first.Problems()), 0)
	other.Prefix = "other"
	other.Requests = w.Config().Requests
	harness.Launch(t, other)
}

// Requests to a prefix that begins with another and one of pgbridge's words would be answered
// by either: the longer one is not served.
func TestPrefixWithinAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	outer := w.Serve()
	inner := w.Config()
	inner.Prefix = "pgbridge.run"
	newcomer := harness.Launch(t, inner)
	testenv.Wait(t, harness.Patience, "the newcomer to say why it waits", func() bool {
		return strings.Contains(fmt.Sprint(newcomer.Problems()), `serves the prefix "pgbridge", which takes in requests to this one's`)
	})
	w.fails("not_found", "pgbridge.run.run.transfer", "")
	harness.Equal(t, "problems of the other", len(outer.Problems()), 0)
	besides := w.Config()
	besides.Prefix = "pgbridge.runs"
	harness.Serve(t, besides)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, err := txrunner.New(txrunner.Config{Prefix: "a b", RunConnections: -1, Lifetime: -time.Second, ConnString: "postgres://localhost:x/", SQL: &txrunner.SQL{Connections: -2}})
	for _, key := range []string{"prefix", "postgres.run_connections", "transactions.lifetime", "nats", "postgres.url", "sql.connections"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("New() = %v, want a fault of %s", err, key)
		}
	}
	config := w.Config()
	config.Scripts += "/nowhere"
	var fault *txrunner.ConfigError
	if _, err := txrunner.New(config); !errors.As(err, &fault) || fault.Key != "scripts" {
		t.Errorf("New() = %v, want a fault of scripts", err)
	}
}

func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	config := w.Config()
	config.ConnString += "&password=wrong"
	refusal(t, config)
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.SQL(accounts)
	plain := testenv.NATS(t, withoutJetStream)
	w.NATS, w.Client = plain, plain.Connect(t)
	w.Serve()
	harness.Equal(t, "a run", code(w.Ask("run.balance", `{"params": {"id": 1}}`)), "ok")
}

func TestHostileReplySubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.SQL(accounts)
	r := w.Serve()
	stolen, err := w.Client.SubscribeSync("elsewhere.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Client.PublishMsg(&nats.Msg{Subject: "pgbridge.run.billing.transfer", Reply: "elsewhere.x", Data: []byte(`{"params": {"source": 1, "target": 2, "amount": 1}}`)}); err != nil {
		t.Fatal(err)
	}
	w.Ask("run.balance", `{"params": {"id": 1}}`)
	testenv.Wait(t, harness.Patience, "the request to be dropped", func() bool { return metric(t, r, "pgbridge_requests_dropped_total") == 1 })
	if msg, err := stolen.NextMsg(time.Millisecond); err == nil {
		t.Errorf("got %s", msg.Data)
	}
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "100")
}

// A stream that comes later makes the runner refuse requests and name it, until it
// goes.
func TestStreamThatCapturesRequestsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.SQL(accounts)
	r := w.Serve()
	js, err := jetstream.New(w.Client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "THIEF", Subjects: []string{"pgbridge.tx.>"}, NoAck: true}); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the stream to be noticed", func() bool {
		return strings.Contains(strings.Join(r.Problems(), "\n"), "the stream THIEF captures requests on pgbridge.tx.>")
	})
	if e := w.fails("unavailable", "run.balance", `{"params": {"id": 1}}`); !strings.Contains(e.Message, "THIEF") {
		t.Errorf("refused because of %q, want the stream's name", e.Message)
	}
	if err := js.DeleteStream(t.Context(), "THIEF"); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "requests to be served again", func() bool { return len(r.Problems()) == 0 })
	harness.Equal(t, "a run", code(w.Ask("run.balance", `{"params": {"id": 1}}`)), "ok")
}

// One who may publish to inboxes answers for a replica of another database, with
// escape sequences in its id.
func TestForgedReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	forgeries := []string{
		`{"id": "ABC", "metadata": {"prefix": "pgbridge", "database": "elsewhere"}}`,
		`{"id": "\u001b[2J", "metadata": {"prefix": "pgbridge", "database": "elsewhere"}}`,
		`{"id": "LONG", "description": "` + strings.Repeat("x", 64<<10) + `", "metadata": {"prefix": "pgbridge", "database": "elsewhere"}}`,
	}
	_, err := w.Client.Subscribe("$SRV.INFO.pgbridge", func(m *nats.Msg) {
		for _, forgery := range forgeries {
			_ = m.Respond([]byte(forgery))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Flush(); err != nil {
		t.Fatal(err)
	}
	r := w.Serve()
	if line := leaks(r, "\x1b"); line != "" {
		t.Errorf("logged %q", line)
	}
	harness.Equal(t, "warnings", len(r.Logs.FilterField(zap.String("replica", "ABC")).All()), 1)
	harness.Equal(t, "warnings of long answers", len(r.Logs.FilterField(zap.String("replica", "LONG")).All()), 0)
}

// One who may publish to inboxes answers more often than there can be replicas, and keeps
// nobody from starting.
func TestFloodOfForgedReplicas(t *testing.T) {
	t.Parallel()
	const most = 1000 // answers that are looked at
	w := newWorld(t, transfer)
	_, err := w.Client.Subscribe("$SRV.INFO.pgbridge", func(m *nats.Msg) {
		for i := range 3 * most {
			_ = m.Respond(fmt.Appendf(nil, `{"id": "F%d", "metadata": {"prefix": "pgbridge", "database": "elsewhere"}}`, i))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 20 { // on a busy machine none may come in time
		r := w.Serve()
		n := len(r.Logs.FilterMessageSnippet("nobody confirms").All())
		if n > most {
			t.Errorf("%d answers were looked at, want %d at the most", n, most)
		}
		if n > 0 {
			return
		}
	}
	t.Error("nobody has looked at an answer, 20 times")
}

// A replica that is too slow to answer everybody is still there: a newcomer on another
// server waits until it is gone.
func TestSlowReplicaOnAnotherServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	var asked, confirmed atomic.Int32
	answers := func(m *nats.Msg) {
		_ = m.Respond([]byte(`{"id": "SLOW", "metadata": {"prefix": "pgbridge", "database": "elsewhere"}}`))
	}
	_, err := w.Client.Subscribe("$SRV.INFO.pgbridge", func(m *nats.Msg) {
		if asked.Add(1) == 1 { // the next time it is too late
			answers(m)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	itself, err := w.Client.Subscribe("$SRV.INFO.pgbridge.SLOW", func(m *nats.Msg) {
		confirmed.Add(1)
		answers(m)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Flush(); err != nil {
		t.Fatal(err)
	}
	newcomer := harness.Launch(t, w.Config())
	testenv.Wait(t, harness.Patience, "the replica to be asked again by its name", func() bool { return confirmed.Load() >= 3 })
	if !strings.Contains(fmt.Sprint(newcomer.Problems()), `replica "SLOW"`) {
		t.Errorf("problems %q while another replica serves from another server", newcomer.Problems())
	}
	if err := itself.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the newcomer to serve", func() bool { return len(newcomer.Problems()) == 0 })
}

// The part that publishes events does not know its database before it has been
// there. That is no other database, also where it says so itself.
func TestReplicaThatHasNotBeenToItsDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	for _, subject := range []string{"$SRV.INFO.pgbridge", "$SRV.INFO.pgbridge.EVENTS"} {
		_, err := w.Client.Subscribe(subject, func(m *nats.Msg) {
			_ = m.Respond([]byte(`{"id": "EVENTS", "metadata": {"prefix": "pgbridge"}}`))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Client.Flush(); err != nil {
		t.Fatal(err)
	}
	w.Serve()
	harness.Equal(t, "describe", code(w.Ask("describe", "")), "ok")
}

// A server that starts says for a moment that it cannot tell which streams there are,
// and a stop may come while it is asked.
func TestJetStreamThatIsNotReadyYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	js, err := jetstream.NewWithAPIPrefix(w.Client, "later")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	asked := 0
	sub, err := w.Client.Subscribe("later.STREAM.NAMES", func(m *nats.Msg) {
		if asked++; asked > 1 {
			stop()
			return
		}
		_ = m.Respond([]byte(`{"error": {"code": 503, "err_code": 10008, "description": "JetStream system temporarily unavailable"}}`))
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	config := w.Config()
	config.JetStream = js
	r, err := txrunner.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if ctx.Err() == nil {
		t.Error("Run() has returned without asking once more")
	}
}
