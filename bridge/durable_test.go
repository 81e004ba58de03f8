package bridge_test

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
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// durableWorld is a database with the schema and a NATS server.
func durableWorld(t *testing.T) (pg, ns string) {
	t.Helper()
	pg, ns = testenv.Postgres(t).NewDatabase(t), testenv.NATS(t).URL()
	conn, err := pgx.Connect(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := bridge.CheckSchema(t.Context(), conn, 0); err == nil {
		t.Error("CheckSchema finds nothing missing in an empty database")
	}
	if err := bridge.Migrate(t.Context(), conn, 0); err != nil {
		t.Fatal(err)
	}
	if err := bridge.CheckSchema(t.Context(), conn, 1<<20); err != nil {
		t.Errorf("CheckSchema() = %v after Migrate", err)
	}
	if err := bridge.CheckSchema(t.Context(), conn, 1<<16); err == nil {
		t.Error("CheckSchema finds no fault in events larger than a message")
	}
	return pg, ns
}

// TestOlderSchema looks whether durable channels go on with a schema that a version
// before this one made, and not with one that lacks what they need.
func TestOlderSchema(t *testing.T) {
	t.Parallel()
	pg, _ := durableWorld(t)
	conn, err := pgx.Connect(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for version, want := range map[int]bool{1: false, 2: true} {
		testenv.Exec(t, pg, fmt.Sprintf("CREATE OR REPLACE FUNCTION pgbridge.durable_version() RETURNS integer LANGUAGE sql AS 'SELECT %d'", version))
		if err := bridge.CheckSchema(t.Context(), conn, 1<<20); (err == nil) != want {
			t.Errorf("version %d of the schema: %v, want that it is taken: %t", version, err, want)
		}
	}
}

// What a stranger made would run with pgbridge's rights: durable channels do not begin.
func TestSchemaOfAStranger(t *testing.T) {
	t.Parallel()
	pg, _ := durableWorld(t)
	conn, err := pgx.Connect(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	mallory := testenv.Value[string](t, pg, "SELECT 'mallory_' || current_database()")
	testenv.Exec(t, pg, "CREATE ROLE "+mallory)
	t.Cleanup(func() { testenv.Exec(t, pg, "DROP OWNED BY "+mallory+" CASCADE; DROP ROLE "+mallory) })
	testenv.Exec(t, pg, "ALTER TABLE pgbridge.position OWNER TO "+mallory)
	if err := bridge.CheckSchema(t.Context(), conn, 1<<20); err == nil || !strings.Contains(err.Error(), mallory) {
		t.Errorf("CheckSchema() = %v", err)
	}
}

// Two prefixes whose streams have one name do not share them: each would take the other's
// last message for its own, and leave out what it has not published.
func TestStreamsOfAnotherPrefix(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	prefixed := func(prefix string) *running {
		return launch(t, bridge.Config{ConnString: pg, Events: connect(t, ns), Prefix: prefix, Stream: bridge.Stream{Create: true}, StopGrace: time.Second, // the second cannot publish
			Durable:  bridge.Durable{Stream: bridge.Stream{Create: true}},
			Channels: map[string]bridge.Channel{"billing": {Durable: true}, "audit": {Delivery: bridge.DeliveryJetStream}}})
	}
	first := prefixed("a.b").ready(t)
	second := prefixed("a_b")
	for _, name := range []string{"A_B_DURABLE", "A_B_EVENTS"} {
		second.hasProblem(t, "stream "+name+`: belongs to the prefix "a.b"`)
	}
	if p := first.Problems(); len(p) > 0 {
		t.Errorf("the first has the problems %q", p)
	}
}

// A subject that NATS forbids is named; nothing is lost by it, nor before its time.
func TestDurableSubjectForbidden(t *testing.T) {
	t.Parallel()
	pg, _ := durableWorld(t)
	deny := denyPublish("secret.evil.secret")
	var options *server.Options
	n := testenv.NATS(t, func(o *server.Options) {
		options = o
		o.Users = []*server.User{{Username: "bridge", Password: "bridge", Permissions: &deny}, {Username: "audience", Password: "audience"}}
	})
	b := launch(t, bridge.Config{ConnString: pg, Events: connect(t, withUser(n.URL(), "bridge")), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"secret": {Durable: true, Subject: "secret.{payload.to}.{channel}"}}}).ready(t)
	testenv.Exec(t, pg, `SELECT pgbridge.notify('secret', '{"to": "evil"}'), pgbridge.notify('secret', '{"to": "good"}')`)
	b.hasProblem(t, `durable channels: nats: permissions violation: Permissions Violation for Publish to "secret.evil.secret"`)
	n.Stop(t)
	options.Users[0].Permissions = nil
	n.Start(t)
	messages := durableMessages(t, withUser(n.URL(), "audience"))
	for _, want := range []string{"pgbridge.gap.secret", "secret.evil.secret", "secret.good.secret"} {
		if m := nextDurable(t, messages); m.Subject() != want {
			t.Errorf("%s: %s, want one on %s", m.Subject(), m.Data(), want)
		}
	}
}

// Whoever writes an event on a subject that NATS goes on to forbid loses that event, with a
// gap, and holds up nobody for long.
func TestDurableSubjectForbiddenForLong(t *testing.T) {
	t.Parallel()
	pg, _ := durableWorld(t)
	deny := denyPublish("secret.evil.secret")
	n := testenv.NATS(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "bridge", Password: "bridge", Permissions: &deny}, {Username: "audience", Password: "audience"}}
	})
	launch(t, bridge.Config{ConnString: pg, Events: connect(t, withUser(n.URL(), "bridge")), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"secret": {Durable: true, Subject: "secret.{payload.to}.{channel}"}}}).ready(t)
	messages := durableMessages(t, withUser(n.URL(), "audience"))
	for range 2 {
		testenv.Exec(t, pg, `SELECT pgbridge.notify('secret', '{"to": "good"}')`)
		testenv.Exec(t, pg, `SELECT pgbridge.notify('secret', '{"to": "evil"}')`)
		testenv.Exec(t, pg, `SELECT pgbridge.notify('secret', '{"to": "good"}')`)
	}
	good, gap := "secret.good.secret", "pgbridge.gap.secret"
	for i, want := range []string{gap, good, gap, good, good, gap, good} {
		m := nextDurable(t, messages)
		if m.Subject() != want {
			t.Fatalf("%s: %s, want one on %s", m.Subject(), m.Data(), want)
		}
		if i > 0 && want == gap && !(strings.Contains(string(m.Data()), `"nats_unavailable"`) && strings.Contains(string(m.Data()), `"dropped":1`)) {
			t.Errorf("the gap is %s, want one of one event that NATS refused", m.Data())
		}
	}
}

// An account's messages can be traced by what their writers say, and NATS takes none whose
// trace may not be published where the account wants it. That stops nobody's events.
func TestDurableTraceForbidden(t *testing.T) {
	t.Parallel()
	pg, _ := durableWorld(t)
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := `accounts {APP {jetstream: enabled, msg_trace: {dest: "trace.app", sampling: 100}, users: [
		{user: bridge, password: bridge, permissions: {publish: {deny: "trace.>"}}}, {user: audience, password: audience}]}}`
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	n := testenv.NATS(t, func(o *server.Options) {
		if err := o.ProcessConfigFile(file); err != nil {
			t.Fatal(err)
		}
	})
	b := launch(t, bridge.Config{ConnString: pg, Events: connect(t, withUser(n.URL(), "bridge")), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"audit": {Durable: true}}}).ready(t)
	messages := durableMessages(t, withUser(n.URL(), "audience"))
	nextDurable(t, messages) // the gap at the start
	testenv.Exec(t, pg, `SELECT pgbridge.notify('audit', 'one')`)
	testenv.Exec(t, pg, `SELECT pgbridge.notify('audit', 'traced', '{"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}')`)
	testenv.Exec(t, pg, `SELECT pgbridge.notify('audit', 'three')`)
	for _, want := range []string{"one", "traced", "three"} {
		if m := nextDurable(t, messages); string(m.Data()) != want {
			t.Errorf("%s: %s, want %s", m.Subject(), m.Data(), want)
		}
	}
	b.ready(t)
}

// durableMessages subscribes to the whole stream of durable events.
func durableMessages(t *testing.T, ns string) <-chan jetstream.Msg {
	t.Helper()
	js, err := jetstream.New(connect(t, ns))
	if err != nil {
		t.Fatal(err)
	}
	var stream jetstream.Stream
	testenv.Wait(t, patience, "the stream", func() bool {
		stream, err = js.Stream(t.Context(), "PGBRIDGE_DURABLE")
		return err == nil
	})
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages := make(chan jetstream.Msg, 1000)
	running, err := consumer.Consume(func(m jetstream.Msg) { messages <- m })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	return messages
}

func nextDurable(t *testing.T, messages <-chan jetstream.Msg) jetstream.Msg {
	t.Helper()
	select {
	case m := <-messages:
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return nil
	}
}

func TestDurableChannelBesideAPlainOne(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	config := bridge.Config{ConnString: pg, Events: connect(t, ns), Stream: bridge.Stream{Create: true},
		Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{
			"billing": {Durable: true, Envelope: bridge.EnvelopeJSON, Subject: "bills.{header.region}.{channel}"},
			"orders":  {},
		}}
	b := launch(t, config)
	messages := durableMessages(t, ns)
	if gap := nextDurable(t, messages); gap.Subject() != "pgbridge.gap.billing" || !strings.Contains(string(gap.Data()), `"reason":"started"`) {
		t.Errorf("the first message is %s: %s", gap.Subject(), gap.Data())
	}
	plain := subscribed(t, ns, "pgbridge.event.orders")
	testenv.Wait(t, patience, "readiness", func() bool { return len(b.Problems()) == 0 })
	testenv.Exec(t, pg, `SELECT pgbridge.notify('billing', '{"n": 1}', '{"region": "eu", "traceparent": "00-1"}'), pg_notify('orders', 'x'), pg_notify('billing', 'not durable')`)
	m := nextDurable(t, messages)
	var body struct {
		Channel     string
		Payload     struct{ N int }
		PID         *int
		ID          string
		LSN         string
		CommittedAt time.Time `json:"committed_at"`
	}
	if err := json.Unmarshal(m.Data(), &body); err != nil {
		t.Fatalf("%s: %v", m.Data(), err)
	}
	if body.Payload.N != 1 || body.PID != nil || body.ID != m.Headers().Get("Pgbridge-Id") || body.ID == "" || !strings.Contains(body.LSN, "/") || body.CommittedAt.IsZero() {
		t.Errorf("body %s, headers %v", m.Data(), m.Headers())
	}
	if m.Subject() != "bills.eu.billing" || m.Headers().Get("traceparent") != "00-1" || m.Headers().Get("Pgbridge-Channel") != "billing" {
		t.Errorf("subject %s, headers %v", m.Subject(), m.Headers())
	}
	if _, err := plain.NextMsg(patience); err != nil {
		t.Errorf("the plain channel: %v", err)
	}
	config.Channels["more"] = bridge.Channel{Durable: true}
	if err := b.Reload(config.Channels); err != nil {
		t.Fatal(err)
	}
	if gap := nextDurable(t, messages); gap.Subject() != "pgbridge.gap.more" {
		t.Errorf("after a reload came %s: %s", gap.Subject(), gap.Data())
	}
	testenv.Exec(t, pg, `SELECT pgbridge.notify('more', 'raw')`)
	if m := nextDurable(t, messages); string(m.Data()) != "raw" || m.Subject() != "pgbridge.event.more" {
		t.Errorf("after a reload came %s: %s", m.Subject(), m.Data())
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	testenv.Wait(t, patience, "the slot to be dropped", func() bool {
		dropped, err := bridge.DropSlot(t.Context(), conn, "pgbridge")
		return err == nil && dropped
	})
	if dropped, err := bridge.DropSlot(t.Context(), conn, "pgbridge"); err != nil || dropped {
		t.Errorf("DropSlot() = %t, %v without a slot", dropped, err)
	}
}

// The first durable channel comes while the bridge runs.
func TestFirstDurableChannelByReload(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	config := bridge.Config{ConnString: pg, Events: connect(t, ns), Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
		Channels: map[string]bridge.Channel{"orders": {}}}
	b := launch(t, config).ready(t)
	if err := b.Reload(map[string]bridge.Channel{"orders": {}, "billing": {Durable: true}}); err != nil {
		t.Fatal(err)
	}
	if gap := nextDurable(t, durableMessages(t, ns)); gap.Subject() != "pgbridge.gap.billing" {
		t.Errorf("after a reload came %s: %s", gap.Subject(), gap.Data())
	}
}

// The replica with the publishing lock reads the slot; when it dies another
// goes on, with nothing lost or repeated.
func TestDurableTakeover(t *testing.T) {
	t.Parallel()
	pg, ns := durableWorld(t)
	w := &world{pg: pg, nats: ns, prefix: "pgbridge"}
	channels := map[string]bridge.Channel{"a": {Durable: true}}
	one := spawn(t, w, channels, 1<<20)
	messages := durableMessages(t, ns)
	nextDurable(t, messages) // the gap
	spawn(t, w, channels, 1<<20)
	var sent int
	send := func(n int) {
		for range n {
			sent++
			testenv.Exec(t, pg, "SELECT pgbridge.notify('a', $1::text)", nats.NewInbox()[:7]+strings.Repeat("x", sent))
		}
	}
	send(20)
	one.Kill()
	killed := time.Now()
	send(20)
	for i := 1; i <= sent; i++ {
		m := nextDurable(t, messages)
		if got := len(m.Data()) - 7; got != i {
			t.Fatalf("event %d came where %d was expected: %s %.80s", got, i, m.Subject(), m.Data())
		}
		if i == 21 {
			t.Logf("the first event after the kill came after %s", time.Since(killed).Round(time.Millisecond))
		}
	}
}

func TestDurableConfigurationFaults(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]bridge.Config{
		"channels.a.notify":       {Channels: map[string]bridge.Channel{"a": {Durable: true, Notify: true}}},
		"channels.a.delivery":     {Channels: map[string]bridge.Channel{"a": {Durable: true, Delivery: bridge.DeliveryCore}}},
		"channels.a.subject":      {Channels: map[string]bridge.Channel{"a": {Subject: "x.{header.y}"}}},
		"streams.durable.name":    {Durable: bridge.Durable{Stream: bridge.Stream{Name: "a.b"}}},
		"streams.durable.max_age": {Durable: bridge.Durable{Stream: bridge.Stream{MaxAge: -1}}},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := bridge.EnsureStream(context.Background(), connect(t, testenv.NATS(t).URL()), bridge.Config{Channels: map[string]bridge.Channel{"a": {Durable: true}}}); err != nil {
		t.Errorf("EnsureStream() = %v where only a durable channel is, which has a stream of its own", err)
	}
	if err := bridge.EnsureDurableStream(context.Background(), nil, bridge.Config{}); err != nil {
		t.Errorf("EnsureDurableStream() = %v without a durable channel", err)
	}
}
