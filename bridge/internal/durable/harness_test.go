package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/schema"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/problem"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	patience   = 90 * time.Second
	streamName = "PGBRIDGE_DURABLE"
)

// world is a database with the schema and an oracle: a second slot, which
// tells what was committed in which order.
type world struct {
	t      *testing.T
	url    string
	oracle string
	nats   string // URL
}

// newWorld makes a database of its own on the server.
func newWorld(t *testing.T, pg *testenv.PG, natsURL string) *world {
	t.Helper()
	w := &world{t: t, url: pg.NewDatabase(t), nats: natsURL}
	conn := w.connect()
	if err := schema.Migrate(t.Context(), conn, 0); err != nil {
		t.Fatal(err)
	}
	w.oracle = testenv.Value[string](t, w.url, "SELECT 'oracle_' || current_database()")
	testenv.Exec(t, w.url, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", w.oracle)
	return w
}

func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close(context.WithoutCancel(w.t.Context())) })
	return conn
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	testenv.Exec(w.t, w.url, sql, args...)
}

// each executes calls so many times, i from 1 on, each in a transaction of its own, one
// right after the other however slow the machine is to open connections.
func (w *world) each(n int, calls string) {
	w.t.Helper()
	w.exec(fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP PERFORM %s; COMMIT; END LOOP; END $$", n, calls))
}

// replica is a feed that runs.
type replica struct {
	*Feed
	logs *observer.ObservedLogs
	stop func() error
}

// run starts a feed with these channels, the hooks first.
func (w *world) run(channels []string, hooks ...func(*Feed)) *replica {
	w.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	f, err := newFeed(w.url, w.nats, zap.New(core))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.NC.Close)
	for _, hook := range hooks {
		hook(f)
	}
	f.SetRoutes(w.routes(channels))
	return &replica{Feed: f, logs: logs, stop: testenv.Run(w.t, logs, f.Run)}
}

// trio are three replicas, of which one reads the slot and the others want it all the
// time.
type trio []*replica

// three starts them, the second and the third when the first one's slot is there.
func (w *world) three(channels []string, hooks ...func(*Feed)) trio {
	w.t.Helper()
	first := w.run(channels, hooks...)
	testenv.Wait(w.t, patience, "the slot", func() bool { return first.Unkept() == "" })
	return trio{first, w.run(channels, hooks...), w.run(channels, hooks...)}
}

func (r trio) stop(t *testing.T) {
	t.Helper()
	for _, one := range r {
		if err := one.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// tells reports whether one of them says that it has such a problem.
func (r trio) tells(word string) bool {
	return slices.ContainsFunc(r, func(one *replica) bool { return strings.Contains(one.Problem.Current(), word) })
}

// haveSaid reports whether each of them has had such a problem.
func (r trio) haveSaid(word string) bool {
	return !slices.ContainsFunc(r, func(one *replica) bool {
		return !slices.ContainsFunc(one.logs.FilterMessage("retrying").All(), func(e observer.LoggedEntry) bool {
			cause, _ := e.ContextMap()["cause"].(string)
			return strings.Contains(cause, word)
		})
	})
}

// logged is how often they logged a message.
func (r trio) logged(message string) (n int) {
	for _, one := range r {
		n += one.logs.FilterMessage(message).Len()
	}
	return n
}

// patient gives a replica a connection that does not notice that its link is frozen.
func (w *world) patient(f *Feed) {
	w.t.Helper()
	nc, err := nats.Connect(w.nats, nats.MaxReconnects(-1), nats.PingInterval(time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	if f.JetStream, err = jetstream.New(nc); err != nil {
		w.t.Fatal(err)
	}
	f.NC.Close()
	f.NC = nc
}

func newFeed(url, natsURL string, log *zap.Logger) (*Feed, error) {
	nc, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.PingInterval(2*time.Second))
	if err != nil {
		return nil, err
	}
	settings, err := postgres.Parse(url, postgres.Options{})
	if err != nil {
		nc.Close()
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Feed{
		Changed:  wait.NewSignal(),
		Settings: settings, NC: nc, JetStream: js, Prefix: "pgbridge", Stream: StreamOptions{Name: streamName, Create: true},
		Encoder: event.NewEncoder("pgbridge", "app"), Counters: event.NewCounters, Latency: prometheus.NewHistogram(prometheus.HistogramOpts{}),
		Lease: func() bool { return true }, Problem: problem.New(part.Durable, error.Error), Late: problem.New(part.Durable, error.Error), Log: log,
	}, nil
}

func (w *world) routes(channels []string) map[string]*event.Route {
	w.t.Helper()
	all, err := routesFor(channels)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func routesFor(channels []string) (map[string]*event.Route, error) {
	all := map[string]*event.Route{}
	for _, c := range channels {
		r, err := event.NewRoute(c, "pgbridge", event.RouteOptions{Envelope: event.EnvelopeRaw, Stored: true, Durable: true})
		if err != nil {
			return nil, err
		}
		all[c] = r
	}
	return all, nil
}

// message is one of the stream.
type message struct {
	sequence uint64
	channel  string
	gap      *api.Gap
	payload  string
	id       string
}

// messages reads the whole stream.
func (w *world) messages() []message {
	w.t.Helper()
	nc, err := nats.Connect(w.nats)
	if err != nil {
		return nil // it is away just now
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second) // a cluster without a leader does not answer
	defer cancel()
	s, err := js.Stream(ctx, streamName)
	if err != nil {
		return nil
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{InactiveThreshold: 10 * time.Second})
	if err != nil {
		return nil
	}
	// This is called again and again, and with thousands of consumers the server makes no more.
	defer func() { _ = s.DeleteConsumer(ctx, c.CachedInfo().Name) }()
	var all []message
	for {
		batch, err := c.Fetch(int(state.Msgs), jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			return nil
		}
		for m := range batch.Messages() {
			all = append(all, w.message(m))
			if all[len(all)-1].sequence >= state.LastSeq {
				return all
			}
		}
		if batch.Error() != nil {
			return nil
		}
	}
}

func (w *world) message(m jetstream.Msg) message {
	meta, err := m.Metadata()
	if err != nil {
		w.t.Fatal(err)
	}
	one := message{sequence: meta.Sequence.Stream, payload: string(m.Data()), id: m.Headers().Get(event.HeaderID)}
	kind, channel, _ := strings.Cut(strings.TrimPrefix(m.Subject(), "pgbridge."), ".")
	one.channel = channel
	if kind == "gap" {
		one.gap = &api.Gap{}
		if err := json.Unmarshal(m.Data(), one.gap); err != nil {
			w.t.Fatal(err)
		}
	}
	return one
}

// committed is what the oracle says was sent on a channel, in order.
func (w *world) committed() []string {
	w.t.Helper()
	rows, err := w.connect().Query(w.t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'pgbridge', 'messages', 'true')`, w.oracle)
	if err != nil {
		w.t.Fatal(err)
	}
	changes, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, b := range changes {
		if b[0] != 'M' || b[1] != 1 {
			continue
		}
		prefix, rest, _ := strings.Cut(string(b[10:]), "\x00")
		if channel, is := strings.CutPrefix(prefix, plainPrefix); is {
			all = append(all, channel+" "+rest[4:])
		}
	}
	return all
}

// events leaves the gaps out.
func events(all []message) (events []string) {
	for _, m := range all {
		if m.gap == nil {
			events = append(events, m.channel+" "+m.payload)
		}
	}
	return events
}

func gaps(all []message) (gaps []string) {
	for _, m := range all {
		if m.gap != nil {
			gaps = append(gaps, m.channel+" "+string(m.gap.Reason))
		}
	}
	return gaps
}

// await waits until the stream's last event has this payload, and returns all.
func (w *world) await(payload string) []message {
	w.t.Helper()
	var all []message
	testenv.Wait(w.t, patience, fmt.Sprintf("the event %q", payload), func() bool {
		all = w.messages()
		return len(all) > 0 && all[len(all)-1].payload == payload
	})
	return all
}

// compare fails the test unless the stream has what was committed, item by
// item, in order, from the first on.
func (w *world) compare(all []message) {
	w.t.Helper()
	got, want := events(all), w.committed()
	if slices.Equal(got, want) {
		return
	}
	for i, m := range all {
		if i > 0 && m.sequence != all[i-1].sequence+1 {
			w.t.Errorf("message %d follows %d", m.sequence, all[i-1].sequence)
		}
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			w.t.Fatalf("the stream has %d events, %d were committed; they differ at %d: %.80q, want %.80q", len(got), len(want), i,
				got[i:min(i+2, len(got))], want[min(i, len(want)):min(i+2, len(want))])
		}
	}
}

// begun waits until the channels' first gaps are in the stream.
func (w *world) begun(n int) {
	w.t.Helper()
	testenv.Wait(w.t, patience, "the first gaps", func() bool { return len(w.messages()) >= n })
}
