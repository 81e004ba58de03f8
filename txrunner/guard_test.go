package txrunner_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
	js, err := jetstream.New(w.client)
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
		if why := refusal(t, w.config()); !strings.Contains(why, "THIEF") {
			t.Errorf("refused because of %q, want the stream's name", why)
		}
		if err := js.DeleteStream(t.Context(), stream.CachedInfo().Config.Name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"pgbridge.job.>", "pgbridge.event.>"}}); err != nil {
		t.Fatal(err)
	}
	w.serve()
}

func TestPrefixOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.serve()
	w.serve() // a second replica
	other := w.config()
	other.ConnString = testenv.Postgres(t).NewDatabase(t)
	if why := refusal(t, other); !strings.Contains(why, "another database") {
		t.Errorf("refused because of %q", why)
	}
	other.Prefix = "other"
	other.Requests = w.config().Requests
	launch(t, other)
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
	config := w.config()
	config.Scripts += "/nowhere"
	var fault *txrunner.ConfigError
	if _, err := txrunner.New(config); !errors.As(err, &fault) || fault.Key != "scripts" {
		t.Errorf("New() = %v, want a fault of scripts", err)
	}
}

func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	config := w.config()
	config.ConnString += "&password=wrong"
	refusal(t, config)
}

func TestWithoutJetStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.sql(accounts)
	plain := testenv.NATS(t, withoutJetStream)
	w.nats, w.client = plain, plain.Connect(t)
	w.serve()
	equal(t, "a run", code(w.ask("run.balance", `{"params": {"id": 1}}`)), "ok")
}

func TestHostileReplySubject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, transfer)
	w.sql(accounts)
	r := w.serve()
	stolen, err := w.client.SubscribeSync("elsewhere.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.PublishMsg(&nats.Msg{Subject: "pgbridge.run.billing.transfer", Reply: "elsewhere.x", Data: []byte(`{"params": {"source": 1, "target": 2, "amount": 1}}`)}); err != nil {
		t.Fatal(err)
	}
	w.ask("run.balance", `{"params": {"id": 1}}`)
	testenv.Wait(t, patience, "the request to be dropped", func() bool { return metric(t, r, "pgbridge_requests_dropped_total") == 1 })
	if msg, err := stolen.NextMsg(time.Millisecond); err == nil {
		t.Errorf("got %s", msg.Data)
	}
	equal(t, "the balance", value[string](w, "SELECT balance::text FROM account WHERE id = 1"), "100")
}
