package bridge_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// notifiable is a world with a bridge whose channels take notifications, of
// both deliveries, and one that does not.
func notifiable(t *testing.T, w *world) (*running, *nats.Conn) {
	t.Helper()
	r := launch(t, w.config(t, map[string]bridge.Channel{
		"orders": {Notify: true, NotifyPublish: true},
		"a.b ☃":  {Notify: true, NotifyPublish: true, Delivery: bridge.DeliveryJetStream},
		"quiet":  {},
		"asked":  {Notify: true},
	})).ready(t)
	return r, connect(t, w.nats)
}

func TestNotify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, nc := notifiable(t, w)
	for _, token := range []string{"orders", "a%2Eb%20%E2%98%83"} {
		payloads := append(everyCodePointClass(t), "first", "", strings.Repeat("x", 7999))
		for _, p := range payloads {
			if reply := ask(t, nc, token, p); string(reply.Data) != "{}" || len(reply.Header) != 0 {
				t.Errorf("notify %s = %q %v, want {}", token, reply.Data, reply.Header)
			}
		}
		if err := nc.Publish("pgbridge.notify."+token, []byte("without an answer")); err != nil {
			t.Fatal(err)
		}
		want := slices.Concat(payloads, []string{"without an answer"})
		if got := w.await(t, "pgbridge.event."+token, len(want)); !slices.Equal(got, want) {
			t.Errorf("on %s came %d events, %d of them changed, want %d", token, len(got), len(difference(got, want)), len(want))
		}
	}
}

// {} means that it was committed: whoever listens has it in the queue by then.
func TestNotifyAnsweredAfterCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, nc := notifiable(t, w)
	listener := newWriter(t, w.pg, "").conn
	if _, err := listener.Exec(t.Context(), "LISTEN orders"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		want := fmt.Sprint(i)
		ask(t, nc, "orders", want)
		if _, err := listener.Exec(t.Context(), "SELECT 1"); err != nil { // brings what is queued
			t.Fatal(err)
		}
		n, err := listener.WaitForNotification(t.Context())
		if err != nil || n.Payload != want {
			t.Fatalf("after the answer PostgreSQL delivers %+v, %v, want %s", n, err, want)
		}
	}
}

func TestNotifyRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, nc := notifiable(t, w)
	for _, tt := range []struct {
		name, token, payload, code string
	}{
		{"channel without notify", "quiet", "x", "denied"},
		{"unknown channel", "nowhere", "x", "not_found"},
		{"other case", "Orders", "x", "not_found"},
		{"marker channel", "pgbridge%2Emarker", "x", "not_found"},
		{"8,000 bytes", "orders", strings.Repeat("x", 8000), "too_large"},
		{"100,000 bytes", "orders", strings.Repeat("x", 100_000), "too_large"},
		{"NUL", "orders", "a\x00b", "invalid_request"},
		{"half a character", "orders", "gr\xc3", "invalid_request"},
		{"overlong character", "orders", "\xc0\xaf", "invalid_request"},
		{"surrogate", "orders", "\xed\xa0\x80", "invalid_request"},
		{"beyond Unicode", "orders", "\xf4\x90\x80\x80", "invalid_request"},
		{"two tokens", "a.b", "x", "invalid_request"},
		{"unescaped byte", "a!", "x", "invalid_request"},
		{"needless escape", "%6Frders", "x", "invalid_request"},
		{"broken escape", "orders%2", "x", "invalid_request"},
		{"lower-case escape", "a%2eb", "x", "invalid_request"},
	} {
		checkRefusal(t, tt.name, ask(t, nc, tt.token, tt.payload), tt.code)
		if err := nc.Publish("pgbridge.notify."+tt.token, []byte(tt.payload)); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, nc, "orders", "good")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "good")
	if got := w.heard.events("pgbridge.event.orders"); len(got) != 1 {
		t.Errorf("%d events after one good request, want 1", len(got))
	}
}

// refusal is what clients see of an error.
type refusal struct {
	Error struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Retryable bool   `json:"retryable"`
		SQLState  string `json:"sqlstate"`
	} `json:"error"`
}

func checkRefusal(t *testing.T, name string, reply *nats.Msg, code string) refusal {
	t.Helper()
	numbers := map[string]string{
		"invalid_request": "400", "denied": "403", "not_found": "404", "too_large": "413", "sql_error": "422", "unavailable": "503",
	}
	var r refusal
	err := json.Unmarshal(reply.Data, &r)
	number, line := reply.Header.Get("Nats-Service-Error-Code"), reply.Header.Get("Nats-Service-Error")
	if err != nil || r.Error.Code != code || r.Error.Message == "" || number != numbers[code] || line == "" || strings.Contains(line, "\n") {
		t.Errorf("%s: answer %q %v, want %s and %s", name, reply.Data, reply.Header, code, numbers[code])
	}
	return r
}

// NATS lets anybody name any reply subject, so an answer could go anywhere.
func TestNotifyHostileReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, nc := notifiable(t, w)
	trap := listen(t, w.nats, "evil", "$JS.API.>", "_INBOXES.>", "pgbridge.notify.quiet")
	for _, reply := range []string{"evil.x", "$JS.API.STREAM.DELETE.PGBRIDGE_EVENTS", "_INBOXES.x", "pgbridge.notify.quiet", "evil._INBOX.x", "pgbridge.event.orders"} {
		if err := nc.PublishRequest("pgbridge.notify.orders", reply, []byte("hostile")); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, nc, "orders", "good")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "good")
	if got := w.heard.events("pgbridge.event.orders"); !slices.Equal(got, []string{"good"}) {
		t.Errorf("events = %q, want only the good one", got)
	}
	for _, m := range trap.all() {
		if string(m.Data) == "{}" || strings.HasPrefix(m.Subject, "evil") || strings.HasPrefix(m.Subject, "_INBOXES") {
			t.Errorf("an answer %q went to %s", m.Data, m.Subject)
		}
	}
}

func TestNotifyOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, nc := notifiable(t, w)
	for _, token := range []string{"orders", "a%2Eb%20%E2%98%83"} {
		var want []string
		for i := range 1000 {
			p := fmt.Sprint(i)
			if i%5 > 2 {
				p = "the same" // twice in a row: equal ones in one transaction would collapse
			}
			want = append(want, p)
			if err := nc.Publish("pgbridge.notify."+token, []byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.await(t, "pgbridge.event."+token, len(want)); !slices.Equal(got, want) {
			t.Errorf("on %s came %d events, want %d, in order; %d differ", token, len(got), len(want), len(difference(got, want)))
		}
	}
}

// Every event of a channel is a message, and every message could be a
// notification: it must not go round and round.
func TestNotifyDoesNotLoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	launch(t, w.config(t, map[string]bridge.Channel{
		"orders": {Notify: true}, "event": {Notify: true}, "notify": {Notify: true}, "gap": {Notify: true, Envelope: bridge.EnvelopeJSON},
		"pgbridge": {Notify: true}, "audit": {Notify: true, Delivery: bridge.DeliveryJetStream}, "moved": {Notify: true, Subject: "elsewhere.{channel}"},
	})).ready(t)
	w.heard = listen(t, w.nats, "pgbridge", "elsewhere.>")
	nc := connect(t, w.nats)
	channels := []string{"orders", "event", "notify", "gap", "pgbridge", "audit", "moved"}
	for range 3 { // an event that went round would be in one of the next rounds
		for _, channel := range channels {
			ask(t, nc, channel, "x")
		}
	}
	for _, channel := range channels {
		subject := "pgbridge.event." + channel
		if channel == "moved" {
			subject = "elsewhere.moved"
		}
		if got := w.await(t, subject, 3); len(got) != 3 {
			t.Errorf("%d events on %s, want 3", len(got), subject)
		}
	}
	requests := 0
	for _, m := range w.heard.all() {
		if strings.HasPrefix(m.Subject, "pgbridge.notify.") {
			requests++
		}
	}
	if want := 3 * len(channels); requests != want {
		t.Errorf("%d messages on notify subjects, want the %d requests", requests, want)
	}
}

// One that PostgreSQL refuses does not take those beside it along.
func TestNotifyRefusedByPostgres(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	testenv.Exec(t, pg.URL(), "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
	w := worldOn(t, pg.Server().URL("latin"))
	launch(t, w.config(t, map[string]bridge.Channel{"grün": {Notify: true}})).ready(t)
	nc := connect(t, w.nats)
	inbox := nc.NewRespInbox()
	answers, err := nc.SubscribeSync(inbox + ".*")
	if err != nil {
		t.Fatal(err)
	}
	const n = 200
	var want []string
	for i := range n { // in one burst, so that they share pipelines
		p := fmt.Sprintf("ü %d", i)
		if i%7 == 3 {
			p = fmt.Sprintf("☃ %d", i) // not in LATIN1
		} else {
			want = append(want, p)
		}
		if err := nc.PublishRequest("pgbridge.notify.gr%C3%BCn", fmt.Sprintf("%s.%d", inbox, i), []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		m, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		var i int
		fmt.Sscanf(strings.TrimPrefix(m.Subject, inbox), ".%d", &i)
		if i%7 != 3 {
			if string(m.Data) != "{}" {
				t.Errorf("answer %d = %q, want {}", i, m.Data)
			}
		} else if r := checkRefusal(t, fmt.Sprint("request ", i), m, "sql_error"); r.Error.SQLState != "22P05" {
			t.Errorf("answer %d has SQLSTATE %s, want 22P05", i, r.Error.SQLState)
		}
	}
	if got := w.await(t, "pgbridge.event.gr%C3%BCn", len(want)); !slices.Equal(got, want) {
		t.Errorf("%d events came, want %d, in order", len(got), len(want))
	}
}

func TestNotifyWithoutPostgres(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := worldOn(t, pg.NewDatabase(t))
	r, nc := notifiable(t, w)
	ask(t, nc, "orders", "before")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "before")
	for range 2 {
		pg.Stop(t)
		for i := range 3 {
			reply := checkRefusal(t, fmt.Sprintf("request %d of a stopped server", i), ask(t, nc, "orders", "lost"), "unavailable")
			if !reply.Error.Retryable {
				t.Error("unavailable is not retryable")
			}
		}
		pg.Start(t)
		gaps := len(w.heard.gaps(t, "orders"))
		testenv.Wait(t, patience, "the gap", func() bool { return len(w.heard.gaps(t, "orders")) > gaps })
		r.ready(t)
		after := fmt.Sprint("after ", gaps)
		if reply := ask(t, nc, "orders", after); string(reply.Data) != "{}" {
			t.Errorf("request of a server that is back = %q, want {}", reply.Data)
		}
		w.heard.awaitEvent(t, "pgbridge.event.orders", after)
	}
	if slices.Contains(w.heard.events("pgbridge.event.orders"), "lost") {
		t.Error("a refused request was carried out")
	}
}

// What was being committed when the link died is done or not: nobody knows.
func TestNotifyOverFrozenLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	proxy := testenv.NewProxy(t, testenv.Postgres(t).Addr())
	config := w.config(t, map[string]bridge.Channel{"orders": {Notify: true}})
	config.ConnString = proxy.Reroute(t, w.pg)
	r := launch(t, config).ready(t)
	nc := connect(t, w.nats)
	ask(t, nc, "orders", "before")
	proxy.Freeze()
	began := time.Now()
	reply := ask(t, nc, "orders", "frozen")
	proxy.Cut()
	proxy.Thaw()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the answer took %s", took)
	}
	var refused refusal
	if err := json.Unmarshal(reply.Data, &refused); err != nil || refused.Error.Code != "unknown" || refused.Error.Retryable {
		t.Errorf("answer = %q, want unknown and not retryable", reply.Data)
	}
	testenv.Wait(t, patience, "the gap", func() bool { return len(w.heard.gaps(t, "orders")) == 2 })
	r.ready(t)
	ask(t, nc, "orders", "after")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "after")
}

// ask sends a request to notify and returns the answer.
func ask(t testing.TB, nc *nats.Conn, token, payload string) *nats.Msg {
	t.Helper()
	reply, err := nc.Request("pgbridge.notify."+token, []byte(payload), patience)
	if err != nil {
		t.Fatalf("notify %s: %v", token, err)
	}
	return reply
}

// A plain publish is no request where the channel does not say so: JetStream can
// be made to send one.
func TestNotifyByPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, nc := notifiable(t, w)
	for _, channel := range []string{"asked", "quiet", "nowhere"} {
		if err := nc.Publish("pgbridge.notify."+channel, []byte("published")); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, nc, "asked", "requested")
	if got := r.counter(t, "pgbridge_requests_dropped_total", "no_reply"); got != 3 {
		t.Errorf("%v requests dropped, want 3", got)
	}
	w.heard.awaitEvent(t, "pgbridge.event.asked", "requested")
	if got := w.heard.events("pgbridge.event.asked"); len(got) != 1 {
		t.Errorf("%d events after a publish and a request, want 1", len(got))
	}
}
