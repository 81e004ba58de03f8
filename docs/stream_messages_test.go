package docs_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// inbox sends an example to a subject and receives everything that comes back.
func (b *bench) inbox(subject string, question example) *nats.Subscription {
	b.t.Helper()
	sub, err := b.client.SubscribeSync(b.client.NewInbox())
	if err != nil {
		b.t.Fatal(err)
	}
	m := &nats.Msg{Subject: subject, Reply: sub.Subject, Header: nats.Header{}, Data: question.Payload}
	if err := b.client.PublishMsg(m); err != nil {
		b.t.Fatal(err)
	}
	return sub
}

func next(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatalf("receive %s: %v", sub.Subject, err)
	}
	return m
}

func opening(t *testing.T, m *nats.Msg) (o api.CopyOpening) {
	t.Helper()
	if err := json.Unmarshal(m.Data, &o); err != nil {
		t.Fatalf("%v: %s", err, m.Data)
	}
	return o
}

// streamed receives a stream that begins, has one chunk, and ends.
func (b *bench) streamed(d *document, sub *nats.Subscription, begun, chunk string) {
	b.t.Helper()
	alike(b.t, d.example(b.t, begun), next(b.t, sub))
	piece := next(b.t, sub)
	alike(b.t, d.example(b.t, chunk), piece)
	if err := b.client.Publish(piece.Reply, d.example(b.t, "acknowledgement").bytes(b.t)); err != nil {
		b.t.Fatal(err)
	}
	alike(b.t, d.example(b.t, "end of a stream"), next(b.t, sub))
}

// bytes are those of a payload that is no JSON.
func (e example) bytes(t *testing.T) []byte {
	t.Helper()
	var s string
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

// TestCursorMessagesAreReal sends the requests of cursors that asyncapi.yaml shows.
func TestCursorMessagesAreReal(t *testing.T) {
	t.Parallel()
	b, d := newBench(t), asyncapi(t)
	const order = `{"sql": "INSERT INTO orders (customer, total) VALUES ('Ada', 12.50), ('Grace', 99), ('Edsger', 7.25)"}`
	b.ask("pgbridge.run", example{Payload: []byte(order)})
	b.ask("pgbridge.run", example{Payload: []byte(`{"sql": "CREATE FUNCTION opened() RETURNS refcursor LANGUAGE plpgsql AS $$ DECLARE totals refcursor := 'totals'; BEGIN OPEN totals FOR SELECT sum(total) FROM orders; RETURN totals; END $$"}`)})
	open := func(question, answer string) string {
		t.Helper()
		script := "orders.all"
		if question != "open a cursor" {
			script = "orders.search"
		}
		opened := b.ask("pgbridge.cursor."+script, d.example(t, question))
		alike(t, d.example(t, answer), opened)
		return txOf(t, opened.Data)
	}
	tx := open("open a cursor", "cursor opened")
	alike(t, d.example(t, "page"), b.ask(tx+".fetch", d.example(t, "fetch")))
	tx = open("open a cursor to page in both directions", "cursor opened")
	for _, c := range []struct{ verb, question, answer string }{
		{"move", "move", "moved"},
		{"close", "close", "committed"},
	} {
		alike(t, d.example(t, c.answer), b.ask(tx+"."+c.verb, d.example(t, c.question)))
	}
	tx = open("open a cursor to page in both directions", "cursor opened")
	for _, question := range []string{"fetch a page that can be asked for again", "fetch backward"} {
		reply := b.ask(tx+".fetch", d.example(t, question))
		if failure := reply.Header.Get(api.HeaderError); failure != "" {
			t.Errorf("%s: %s", question, failure)
		}
	}
	tx = open("open a cursor", "cursor opened")
	b.streamed(d, b.inbox(tx+".stream", d.example(t, "stream")), "cursor stream begun", "chunk of a cursor's stream")
	refcursors := b.ask("pgbridge.cursor", d.example(t, "open a cursor with SQL"))
	alike(t, d.example(t, "cursors opened"), refcursors)
	b.ask(txOf(t, refcursors.Data)+".rollback", example{})
	large := b.ask("pgbridge.cursor.large", d.example(t, "empty"))
	alike(t, d.example(t, "row that is too large"), b.ask(txOf(t, large.Data)+".fetch", d.example(t, "fetch")))
}

// TestCopyMessagesAreReal does the same for copies: as chunks, with an object, and as
// a job.
func TestCopyMessagesAreReal(t *testing.T) {
	t.Parallel()
	b, d := newBench(t), asyncapi(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js, err := jetstream.New(b.client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "exports"}); err != nil {
		t.Fatal(err)
	}
	progress := subscribe(t, b.client, "pgbridge.progress.>")
	upload := b.inbox("pgbridge.copy.upsert_orders", d.example(t, "empty"))
	begun := next(t, upload)
	alike(t, d.example(t, "upload begun"), begun)
	alike(t, d.example(t, "progress"), next(t, progress))
	to := opening(t, begun).Data
	taken := b.ask(to, d.example(t, "upload chunk").raw(t))
	alike(t, d.example(t, "chunk taken"), taken)
	alike(t, d.example(t, "copied"), b.ask(to, d.example(t, "end of an upload").raw(t)))

	b.streamed(d, b.inbox("pgbridge.copy.export_orders", d.example(t, "copy")), "stream begun", "chunk")
	object := b.ask("pgbridge.copy.export_orders", d.example(t, "copy to an object"))
	alike(t, d.example(t, "copied to an object"), object)
	refused := b.inbox("pgbridge.copy", d.example(t, "copy with SQL"))
	alike(t, d.example(t, "stream begun"), next(t, refused))
	alike(t, d.example(t, "copy that PostgreSQL refuses"), next(t, refused))
	alike(t, d.example(t, "end of a stream that failed"), next(t, refused))

	results := subscribe(t, b.client, "pgbridge.result.export_orders.*")
	b.ask("pgbridge.job.copy.export_orders", d.example(t, "job that copies"))
	alike(t, d.example(t, "result of a job that copies"), next(t, results))
}

// raw is the example with a payload that is no JSON.
func (e example) raw(t *testing.T) example {
	t.Helper()
	e.Payload = e.bytes(t)
	return e
}

// TestDurableExamplesAreReal does the same for events through the write-ahead log.
func TestDurableExamplesAreReal(t *testing.T) {
	t.Parallel()
	bus, d := testenv.NATS(t), asyncapi(t)
	client := bus.Connect(t)
	gaps := subscribe(t, client, "pgbridge.gap.billing")
	channels, heard := map[string]bridge.Channel{}, map[string]*nats.Subscription{}
	for name, envelope := range map[string]bridge.Envelope{"billing": "", "json": bridge.EnvelopeJSON, "cloudevents": bridge.EnvelopeCloudEvents} {
		channels[name] = bridge.Channel{Durable: true, Envelope: envelope}
		heard[name] = subscribe(t, client, "pgbridge.event."+name)
	}
	database := testenv.Postgres(t).NewDatabase(t)
	migrate(t, database)
	migrateBridge(t, database)
	b, err := bridge.New(bridge.Config{
		ConnString: database, Events: events(t, bus.URL()), Channels: channels,
		Durable: bridge.Durable{Stream: bridge.Stream{Create: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, nil, b.Run)
	alike(t, d.example(t, "gap of a durable channel"), next(t, gaps))
	for channel, name := range map[string]string{"billing": "durable", "json": "durable, json", "cloudevents": "durable, cloudevents"} {
		testenv.Exec(t, database, `SELECT pgbridge.notify($1, '{"id": 7}')`, channel)
		alike(t, d.example(t, name), next(t, heard[channel]))
	}
	testenv.Exec(t, database, `SELECT pgbridge.notify('json', '\x00ff'::bytea)`)
	alike(t, d.example(t, "durable, json, bytes"), next(t, heard["json"]))
}

// TestCatchUpExamplesAreReal runs a script at the start.
func TestCatchUpExamplesAreReal(t *testing.T) {
	t.Parallel()
	bus, d := testenv.NATS(t), asyncapi(t)
	client := bus.Connect(t)
	channels, heard := map[string]bridge.Channel{}, map[string]*nats.Subscription{}
	for name, envelope := range map[string]bridge.Envelope{"orders": "", "json": bridge.EnvelopeJSON, "cloudevents": bridge.EnvelopeCloudEvents} {
		channels[name] = bridge.Channel{Envelope: envelope, CatchUp: "missed"}
		heard[name] = subscribe(t, client, "pgbridge.event."+name)
	}
	gaps := subscribe(t, client, "pgbridge.gap.orders")
	b, err := bridge.New(bridge.Config{
		ConnString: testenv.Postgres(t).NewDatabase(t), Events: events(t, bus.URL()), Channels: channels,
		CatchUp: func(ctx context.Context, _ bridge.Window, row func(context.Context, []byte) error) error {
			return row(ctx, []byte(`{"id": 7}`))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, nil, b.Run)
	for channel, name := range map[string]string{
		"orders": "row of a catch-up script", "json": "row of a catch-up script, json", "cloudevents": "row of a catch-up script, cloudevents",
	} {
		alike(t, d.example(t, name), next(t, heard[channel]))
	}
	alike(t, d.example(t, "gap that was caught up with"), next(t, gaps))
}

// TestCountedGapIsReal drops an event that does not fit a message.
func TestCountedGapIsReal(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t, func(o *server.Options) { o.MaxPayload = 4096 })
	gaps := subscribe(t, bus.Connect(t), "pgbridge.gap.orders")
	database := serve(t, bus.URL(), map[string]bridge.Channel{"orders": {}})
	next(t, gaps) // that of the start
	testenv.Exec(t, database, "SELECT pg_notify('orders', repeat('x', 5000))")
	gap, counted := next(t, gaps), asyncapi(t).example(t, "counted gap")
	alike(t, counted, gap)
	var real, shown api.Gap
	strict(t, gap.Data, &real)
	strict(t, counted.Payload, &shown)
	if real.Reason != shown.Reason || real.Dropped == nil || *real.Dropped != 1 {
		t.Errorf("the gap is %s", gap.Data)
	}
}

// TestEveryExampleIsCompared wants each example of asyncapi.yaml in one of the tests.
func TestEveryExampleIsCompared(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for _, e := range asyncapi(t).all() {
		if !strings.Contains(tests.String(), `"`+e.Name+`"`) {
			t.Errorf("no test compares the example %q with a real message", e.Name)
		}
	}
}
