package bridge_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap/zapcore"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// trial is a bridge with a channel for each kind of delivery, and writers on
// both, while something goes wrong.
type trial struct {
	*world
	bridge  *running
	writers []*steady
	names   int
}

// newTrial launches the bridge, through the proxy if there is one, and begins
// to write, past it.
func newTrial(t *testing.T, w *world, proxy *testenv.Proxy, changes ...func(*bridge.Config)) *trial {
	t.Helper()
	config := w.config(t, map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}})
	if proxy != nil {
		config.ConnString = proxy.Reroute(t, w.pg)
	}
	for _, change := range changes {
		change(&config)
	}
	x := &trial{world: w, bridge: launch(t, config).ready(t)}
	x.heard.awaitGap(t, "orders", api.ReasonStarted)
	x.heard.awaitGap(t, "audit", api.ReasonStarted)
	x.write(t, w.pg)
	return x
}

func (x *trial) write(t *testing.T, url string) {
	t.Helper()
	for _, channel := range []string{"orders", "orders", "audit"} {
		x.writers = append(x.writers, keepWriting(t, url, channel, string(rune('a'+x.names))))
		x.names++
	}
}

// endWriting ends the present writers and returns them.
func (x *trial) endWriting() []*steady {
	ended := x.writers
	for _, s := range ended {
		s.end()
	}
	x.writers = nil
	return ended
}

// held counts how often the bridge took the lock.
func (x *trial) held() int { return x.bridge.logs.FilterMessage("holds the publishing lock").Len() }

// connected counts how often the listener connected.
func (x *trial) connected() int { return x.bridge.logs.FilterMessage("listener connected").Len() }

func (x *trial) awaitGaps(t *testing.T, reason api.Reason, n int) {
	t.Helper()
	for _, channel := range []string{"orders", "audit"} {
		testenv.Wait(t, patience, fmt.Sprintf("gap %d of %s", n, channel), func() bool {
			found := 0
			for _, g := range x.heard.gaps(t, channel) {
				if g.Reason == reason {
					found++
				}
			}
			return found >= n
		})
	}
}

// outcome is what became of one channel.
type outcome struct {
	channel string
	events  []string
	gaps    []api.Gap
	missing int
}

// flows waits until events arrive on both channels.
func (x *trial) flows(t *testing.T) {
	t.Helper()
	orders, audit := len(x.heard.events("pgbridge.event.orders")), len(x.heard.events("pgbridge.event.audit"))
	testenv.Wait(t, patience, "events to flow", func() bool {
		return len(x.heard.events("pgbridge.event.orders")) > orders+100 && len(x.heard.events("pgbridge.event.audit")) > audit+100
	})
}

// finish ends the writing once the bridge is ready again, waits for the last
// event of each writer and judges them all.
func (x *trial) finish(t *testing.T) map[string]outcome {
	t.Helper()
	x.bridge.ready(t)
	audit := x.finishStream(t)
	orders := outcome{channel: "orders", events: x.heard.events("pgbridge.event.orders"), gaps: x.heard.gaps(t, "orders")}
	orders.missing = x.judge(t, orders)
	return map[string]outcome{"orders": orders, "audit": audit}
}

// finishStream is finish for a test in which the audience was away: what it
// missed of core NATS is not the bridge's to tell, so only the stream counts.
func (x *trial) finishStream(t *testing.T) outcome {
	t.Helper()
	last := ""
	for _, s := range x.writers {
		last = s.finish(t) // the last writer's channel is audit
		x.heard.awaitEvent(t, "pgbridge.event."+s.channel, last)
	}
	stored := x.recorded(t, last)
	audit := outcome{channel: "audit", events: stored.events("pgbridge.event.audit"), gaps: stored.gaps(t, "audit")}
	audit.missing = x.judge(t, audit)
	return audit
}

// judge judges the writers of one channel.
func (x *trial) judge(t *testing.T, o outcome) (missing int) {
	t.Helper()
	for _, s := range x.writers {
		if s.channel != o.channel {
			continue
		}
		n := s.judge(t, o.events, o.gaps)
		t.Logf("writer %s on %s: %d committed, %d in doubt, %d missing within %d gaps", s.name, s.channel, len(s.commits), len(s.doubtful), n, len(o.gaps))
		missing += n
	}
	return missing
}

// recorded returns what the stream holds up to a body, as an audience that
// heard it all. Core subscribers hear what the stream refused, too, and again.
func (w *world) recorded(t testing.TB, last string) *audience {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	js, err := jetstream.New(connect(t, w.nats))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, strings.ToUpper(w.prefix)+"_EVENTS")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	a := &audience{prefix: w.prefix}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatalf("the stream holds %d messages and not %q: %v", len(a.msgs), last, err)
		}
		a.add(&nats.Msg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
		if string(m.Data()) == last {
			return a
		}
	}
}

// steady commits numbered notifications, one transaction after the other,
// until it is ended, over every outage of the server.
type steady struct {
	url, channel, name string

	quit, done chan struct{}
	once       sync.Once

	// The rest is the goroutine's until done is closed.
	conn     *pgx.Conn
	commits  []commit
	doubtful map[string]bool // the link broke before the answer: committed or not
	n        int
}

func keepWriting(t testing.TB, url, channel, name string) *steady {
	s := &steady{url: url, channel: channel, name: name, doubtful: map[string]bool{}, quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	t.Cleanup(s.end)
	return s
}

func (s *steady) run() {
	defer close(s.done)
	pace := time.NewTicker(4 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-s.quit:
			s.disconnect()
			return
		case <-pace.C:
			if s.commit(3) != nil {
				s.disconnect()
			}
		}
	}
}

func (s *steady) disconnect() {
	if s.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.conn.Close(ctx)
		s.conn = nil
	}
}

// commit commits k notifications in one transaction.
func (s *steady) commit(k int) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if s.conn == nil {
		if s.conn, err = pgx.Connect(ctx, s.url); err != nil {
			return err
		}
	}
	payloads := make([]string, k)
	for i := range payloads {
		payloads[i] = fmt.Sprintf("%s-%d", s.name, s.n)
		s.n++
	}
	before := time.Now()
	_, err = s.conn.Exec(ctx, "SELECT pg_notify($1, p) FROM unnest($2::text[]) WITH ORDINALITY u(p, n) ORDER BY n", s.channel, payloads)
	after := time.Now()
	for _, p := range payloads {
		s.commits = append(s.commits, commit{p, before, after})
		if err != nil {
			s.doubtful[p] = true
		}
	}
	return err
}

// end stops writing, and waits.
func (s *steady) end() {
	s.once.Do(func() { close(s.quit) })
	<-s.done
}

// finish ends the writing with one more notification, and returns its payload.
func (s *steady) finish(t testing.TB) string {
	t.Helper()
	s.end()
	defer s.disconnect()
	if err := s.commit(1); err != nil {
		t.Fatal(err)
	}
	return s.commits[len(s.commits)-1].payload
}

// tookOver reports whether one replica followed another, so that what both send through
// core NATS, each on its own connection, comes in any order.
func tookOver(gaps []api.Gap) bool {
	return slices.ContainsFunc(gaps, func(g api.Gap) bool { return g.Reason == api.ReasonTakeover })
}

// sort puts what arrived in the order of this writer's commits.
func (s *steady) sort(arrived []string) {
	position := make(map[string]int, len(s.commits))
	for i, c := range s.commits {
		position[c.payload] = i
	}
	slices.SortStableFunc(arrived, func(a, b string) int { return position[a] - position[b] })
}

// judge compares this writer's commits with what arrived on its channel.
func (s *steady) judge(t testing.TB, arrived []string, gaps []api.Gap) (missing int) {
	t.Helper()
	var mine []string
	came := map[string]bool{}
	for _, body := range arrived {
		if strings.HasPrefix(body, s.name+"-") {
			mine = append(mine, body)
			came[body] = true
		}
	}
	if s.channel == "orders" && tookOver(gaps) {
		s.sort(mine)
	}
	sure := slices.DeleteFunc(slices.Clone(s.commits), func(c commit) bool { return s.doubtful[c.payload] && !came[c.payload] })
	return judge(t, sure, mine, gaps)
}

// hasProblem waits for a problem that holds the word.
func (r *running) hasProblem(t testing.TB, word string) {
	t.Helper()
	testenv.Wait(t, patience, "a problem with "+word, func() bool {
		return slices.ContainsFunc(r.Problems(), func(p string) bool { return strings.Contains(p, word) })
	})
}

// warnings counts the lines at level warn or above that hold all the words.
func (r *running) warnings(words ...string) int {
	n := 0
	for _, e := range r.logs.All() {
		line := fmt.Sprint(e.Message, e.ContextMap())
		lacks := func(word string) bool { return !strings.Contains(line, word) }
		if e.Level >= zapcore.WarnLevel && !slices.ContainsFunc(words, lacks) {
			n++
		}
	}
	return n
}

// worldOn is a world on a database that exists.
func worldOn(t testing.TB, database string) *world {
	t.Helper()
	w := &world{pg: database, nats: testenv.NATS(t).URL(), prefix: "pgbridge"}
	w.heard = listen(t, w.nats, w.prefix)
	return w
}

func parsed(t testing.TB, rawURL string) *url.URL {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func databaseOf(t testing.TB, rawURL string) string {
	t.Helper()
	return strings.TrimPrefix(parsed(t, rawURL).Path, "/")
}

// as returns the URL for another role; an empty password leaves it out.
func as(t testing.TB, rawURL, role, password string) string {
	t.Helper()
	u := parsed(t, rawURL)
	u.User = url.User(role)
	if password != "" {
		u.User = url.UserPassword(role, password)
	}
	return u.String()
}

// with returns the URL with settings, key and value in turn.
func with(t testing.TB, rawURL string, settings ...string) string {
	t.Helper()
	u := parsed(t, rawURL)
	q := u.Query()
	for i := 0; i < len(settings); i += 2 {
		q.Set(settings[i], settings[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}
