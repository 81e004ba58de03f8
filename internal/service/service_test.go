package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestReply(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "echo", Subject: "pgbridge.echo.>", Handler: Each(echo)})
	msg := request(t, r.client, "pgbridge.echo.a.b%2Ec", "hello")
	if string(msg.Data) != "hello" {
		t.Errorf("reply %q, want hello", msg.Data)
	}
	if got, want := msg.Header["Seen"], []string{"a", "b%2Ec"}; !slices.Equal(got, want) {
		t.Errorf("Tokens = %q, want %q", got, want)
	}
}

func TestTokensBeginAtTheFirstWildcard(t *testing.T) {
	t.Parallel()
	r := newRig(t,
		Endpoint{Name: "as", Subject: "pgbridge.as.*.run.>", Handler: Each(echo)},
		Endpoint{Name: "begin", Subject: "pgbridge.begin", Handler: Each(echo)})
	if got, want := request(t, r.client, "pgbridge.as.alice.run.x", "").Header["Seen"], []string{"alice", "run", "x"}; !slices.Equal(got, want) {
		t.Errorf("Tokens = %q, want %q", got, want)
	}
	if got := request(t, r.client, "pgbridge.begin", "").Header["Seen"]; len(got) != 0 {
		t.Errorf("Tokens = %q, want none", got)
	}
}

func TestErrorReplies(t *testing.T) {
	t.Parallel()
	log, logged := observer.New(zapcore.InfoLevel)
	r := newRigWith(t, Config{Logger: zap.New(log)}, Endpoint{
		Name: "fail", Subject: "pgbridge.fail.*", MaxBatch: 4,
		Handler: func(ctx context.Context, batch []*Request) {
			switch batch[0].Tokens[0] {
			case "typed":
				batch[0].Answer(Reply{}, fmt.Errorf("look up: %w", Errorf(CodeNotFound, "no channel %q", "x")))
			case "emptied":
				batch[0] = nil
			case "plain":
				batch[0].Answer(Reply{}, errors.New("the inside"))
			case "panic":
				panic("the payload")
			case "bug":
				_ = batch[len(batch)].Data //nolint:gocritic // panics, as a bug does
			case "large":
				batch[0].Answer(Reply{Data: make([]byte, 2<<20)}, nil)
			}
		},
	})
	for token, want := range map[string]struct {
		code    Code
		number  string
		message string
	}{
		"typed":   {CodeNotFound, "404", `no channel "x"`},
		"plain":   {CodeInternal, "500", "internal error, see the log of pgbridge"},
		"panic":   {CodeInternal, "500", "internal error, see the log of pgbridge"},
		"bug":     {CodeInternal, "500", "internal error, see the log of pgbridge"},
		"large":   {CodeInternal, "500", "internal error, see the log of pgbridge"},
		"emptied": {CodeInternal, "500", "internal error, see the log of pgbridge"},
		"none":    {CodeInternal, "500", "internal error, see the log of pgbridge"},
	} {
		msg := request(t, r.client, "pgbridge.fail."+token, "")
		if got := wantError(t, msg, want.code); got != want.message {
			t.Errorf("%s: message %q, want %q", token, got, want.message)
		}
		if got := msg.Header.Get("Nats-Service-Error-Code"); got != want.number {
			t.Errorf("%s: code header %q, want %q", token, got, want.number)
		}
		if msg.Header.Get("Status") != "" {
			t.Errorf("%s: the reply has a Status", token)
		}
	}
	panics := logged.FilterMessage("a request handler panicked").All()
	if len(panics) != 2 {
		t.Fatalf("%d panics logged, want 2", len(panics))
	}
	for _, entry := range panics {
		text := fmt.Sprint(entry.ContextMap())
		if !strings.Contains(text, "service_test.go") || strings.Contains(text, "the payload") {
			t.Errorf("logged %s, want the stack and not the value", text)
		}
	}
}

func TestFirstAnswerCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "twice", Subject: "twice", Handler: func(_ context.Context, batch []*Request) {
		batch[0].Answer(Reply{Data: []byte("first")}, nil)
		batch[0].Answer(Reply{Data: []byte("second")}, errors.New("second"))
		panic("late")
	}})
	inbox := r.client.NewRespInbox()
	sub, err := r.client.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.client.PublishRequest("twice", inbox, nil); err != nil {
		t.Fatal(err)
	}
	msg, err := sub.NextMsg(deadline)
	if err != nil || string(msg.Data) != "first" {
		t.Fatalf("reply %v, %v, want first", msg, err)
	}
	if err := r.stop(); err != nil {
		t.Fatalf("Run() = %v", err)
	}
	if msg, err := sub.NextMsg(time.Millisecond); err == nil {
		t.Errorf("a second reply: %q", msg.Data)
	}
}

func TestRequestWithoutReplyIsRun(t *testing.T) {
	t.Parallel()
	log, logged := observer.New(zapcore.InfoLevel)
	served := make(chan string, 1)
	r := newRigWith(t, Config{Logger: zap.New(log)}, Endpoint{
		Name: "quiet", Subject: "quiet.*", NoReply: always,
		Handler: Each(func(_ context.Context, r *Request) (Reply, error) {
			served <- string(r.Data)
			return Reply{}, Errorf(CodeDenied, "no")
		}),
	})
	if err := r.client.Publish("quiet.x", []byte("payload")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, served, "the request is run"); got != "payload" {
		t.Errorf("served %q", got)
	}
	waitUntil(t, "the error is counted", func() bool { return r.endpoints[0].stats.snapshot().NumErrors == 1 })
	if err := r.stop(); err != nil {
		t.Fatalf("Run() = %v", err)
	}
	entries := logged.FilterMessage("request failed").All()
	if len(entries) != 1 {
		t.Fatalf("logged %d times, want once", len(entries))
	}
	fields := entries[0].ContextMap()
	if fields["subject"] != "quiet.x" || strings.Contains(fmt.Sprint(fields), "payload") {
		t.Errorf("logged %v, want the subject and not the payload", fields)
	}
}

func TestHostileReplySubjects(t *testing.T) {
	t.Parallel()
	served := make(chan string, 100)
	r := newRigWith(t, Config{ReplyPrefixes: []string{"_INBOX", "replies.app"}}, Endpoint{
		Name: "do", Subject: "do",
		Handler: Each(func(_ context.Context, r *Request) (Reply, error) {
			served <- r.reply
			return Reply{}, nil
		}),
	})
	hostile := []string{
		"$JS.API.STREAM.DELETE.X", "do", "_INBOXES.x", "_INBO.x", "x._INBOX.y", "_inbox.x",
		"replies.other.x", "replies.application", "replies", "$SRV.PING", "_INBOX%2Ex",
		"_INBOX." + strings.Repeat("x", maxReplyBytes),
	}
	got := make(chan string, 100)
	for _, reply := range hostile {
		if reply == "do" {
			continue // the service's own, which would see a request
		}
		if _, err := r.client.Subscribe(reply, func(m *nats.Msg) { got <- m.Subject }); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, "discovery is there", func() bool { // what it subscribes last
		_, err := r.client.Request("$SRV.STATS.pgbridge", nil, 100*time.Millisecond)
		return err == nil
	})
	dropped := func() int { return r.dropped(t, dropReplySubject) }
	for _, reply := range hostile {
		for _, subject := range []string{"do", "$SRV.INFO.pgbridge"} {
			if err := r.client.PublishRequest(subject, reply, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	waitUntil(t, "all dropped", func() bool { return dropped() >= 2*len(hostile) })
	for _, reply := range []string{"_INBOX.x.y", "replies.app.1", "replies.app"} {
		if err := r.client.PublishRequest("do", reply, nil); err != nil {
			t.Fatal(err)
		}
		if from := receive(t, served, "an allowed reply subject is served"); from != reply {
			t.Errorf("served %q, want %q", from, reply)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatalf("Run() = %v", err)
	}
	if err := r.client.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(served) != 0 || len(got) != 0 || dropped() != 2*len(hostile) {
		t.Errorf("%d served, %d answered, %d dropped, want 0, 0, %d", len(served), len(got), dropped(), 2*len(hostile))
	}
}

func TestOrderPerKeyInBatches(t *testing.T) {
	t.Parallel()
	const keys, each = 5, 200
	var mu sync.Mutex
	seen := make(map[string][]string)
	largest := 0
	r := newRig(t, Endpoint{
		Name: "ordered", Subject: "ordered.*", MaxBatch: 16, Concurrency: 4, NoReply: always, Place: byToken,
		Handler: func(_ context.Context, batch []*Request) {
			mu.Lock()
			defer mu.Unlock()
			largest = max(largest, len(batch))
			for _, r := range batch {
				seen[r.Tokens[0]] = append(seen[r.Tokens[0]], string(r.Data))
				r.Answer(Reply{Data: r.Data}, nil)
			}
		},
	})
	var want []string
	mu.Lock() // let them pile up, so that there are batches
	for i := range each {
		want = append(want, fmt.Sprint(i))
		for key := range keys {
			if err := r.client.Publish(fmt.Sprintf("ordered.%d", key), []byte(want[i])); err != nil {
				mu.Unlock()
				t.Fatal(err)
			}
		}
	}
	mu.Unlock()
	waitUntil(t, "all served", func() bool { return r.endpoints[0].stats.snapshot().NumRequests == keys*each })
	for key := range keys {
		if got := seen[fmt.Sprint(key)]; !slices.Equal(got, want) {
			t.Errorf("key %d: served %v", key, got)
		}
	}
	if largest < 2 || largest > 16 {
		t.Errorf("the largest batch had %d requests, want 2 to 16", largest)
	}
}

// gate is a handler that tells who came and holds each until it is opened.
type gate struct {
	came chan string
	open chan struct{}
}

func newGate() gate { return gate{make(chan string, 100), make(chan struct{})} }

func (g gate) handle(ctx context.Context, r *Request) (Reply, error) {
	g.came <- r.Subject
	select {
	case <-g.open:
		return Reply{Data: []byte("done")}, nil
	case <-ctx.Done():
		return Reply{}, Errorf(CodeUnavailable, "stopped")
	}
}

func TestKeysRunInParallel(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := newRig(t, Endpoint{
		Name: "lanes", Subject: "lanes.*", Concurrency: 2,
		Place: byToken, Handler: Each(g.handle), NoReply: always,
	})
	for _, subject := range []string{"lanes.a", "lanes.a", "lanes.b"} {
		if err := r.client.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	first := []string{receive(t, g.came, "one key"), receive(t, g.came, "another key")}
	slices.Sort(first)
	if !slices.Equal(first, []string{"lanes.a", "lanes.b"}) {
		t.Errorf("served at a time: %v, want one of each key", first)
	}
	close(g.open)
	if got := receive(t, g.came, "the second of a"); got != "lanes.a" {
		t.Errorf("served %s last, want lanes.a", got)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := newWaiting(t, 2, Endpoint{Name: "slow", Subject: "slow", Concurrency: 1, Handler: Each(g.handle)})
	answers := make(chan *nats.Msg, 3)
	inbox := r.client.NewRespInbox()
	if _, err := r.client.Subscribe(inbox, func(m *nats.Msg) { answers <- m }); err != nil {
		t.Fatal(err)
	}
	ask := func() {
		if err := r.client.PublishRequest("slow", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	receive(t, g.came, "the first is being served")
	ask()
	ask()
	ask()
	wantError(t, receive(t, answers, "the fourth is refused"), CodeBusy)
	close(g.open)
	for range 3 {
		if msg := receive(t, answers, "the others are served"); string(msg.Data) != "done" {
			t.Errorf("reply %q, want done", msg.Data)
		}
	}
}

func TestThousandConcurrentRequests(t *testing.T) {
	t.Parallel()
	const n = 1000
	r := newRig(t, Endpoint{Name: "echo", Subject: "echo.*", Handler: Each(echo)})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			body := fmt.Sprint(i)
			msg, err := r.client.Request("echo."+body, []byte(body), deadline)
			if err != nil || string(msg.Data) != body {
				t.Errorf("request %d: %v, %v", i, msg, err)
			}
		})
	}
	wg.Wait()
	if got := r.endpoints[0].stats.snapshot(); got.NumRequests != n || got.NumErrors != 0 {
		t.Errorf("%d requests and %d errors counted, want %d and 0", got.NumRequests, got.NumErrors, n)
	}
}

func TestNewAndHandleRefuse(t *testing.T) {
	t.Parallel()
	s := startNATS(t, &server.Options{})
	nc := connect(t, s)
	good := Config{Name: "pgbridge", Version: "1.0.0", ReplyPrefixes: []string{"_INBOX"}}
	for name, change := range map[string]func(*Config){
		"no name":     func(c *Config) { c.Name = "" },
		"dotted name": func(c *Config) { c.Name = "a.b" },
		"no prefixes": func(c *Config) { c.ReplyPrefixes = nil },
		"empty":       func(c *Config) { c.ReplyPrefixes = []string{""} },
		"wildcard":    func(c *Config) { c.ReplyPrefixes = []string{"_INBOX.>"} },
		"half token":  func(c *Config) { c.ReplyPrefixes = []string{"_INBOX."} },
	} {
		config := good
		change(&config)
		if _, err := New(nc, config); err == nil {
			t.Errorf("%s: New() = nil, want an error", name)
		}
	}
	service, err := New(nc, good)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Handle(Endpoint{Name: "a", Subject: "a.>", Handler: Each(echo)}); err != nil {
		t.Fatal(err)
	}
	for _, e := range []Endpoint{
		{Name: "", Subject: "b", Handler: Each(echo)}, {Name: "b", Subject: "", Handler: Each(echo)},
		{Name: "b", Subject: "b b", Handler: Each(echo)}, {Name: "b", Subject: "b"},
		{Name: "a", Subject: "b", Handler: Each(echo)}, {Name: "b", Subject: "a.>", Handler: Each(echo)},
	} {
		if err := service.Handle(e); err == nil {
			t.Errorf("Handle(%q on %q) = nil, want an error", e.Name, e.Subject)
		}
	}
}

func TestBusyPerKey(t *testing.T) {
	t.Parallel()
	g := newGate()
	r := newRig(t, Endpoint{
		Name: "slow", Subject: "slow.*", Concurrency: 3, Place: byToken, Handler: Each(g.handle),
		Private: &Private{MaxWaiting: 2},
	})
	answers := make(chan *nats.Msg, 8)
	inbox := r.client.NewRespInbox()
	if _, err := r.client.Subscribe(inbox, func(m *nats.Msg) { answers <- m }); err != nil {
		t.Fatal(err)
	}
	for range 4 { // at once, so that the first may still wait for its worker
		if err := r.client.PublishRequest("slow.a", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, receive(t, answers, "the fourth of a is refused"), CodeBusy)
	if err := r.client.PublishRequest("slow.b", inbox, nil); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	for range 4 {
		if msg := receive(t, answers, "the others are served"); string(msg.Data) != "done" {
			t.Errorf("reply %q, want done", msg.Data)
		}
	}
}

func TestHeaderOnEveryReply(t *testing.T) {
	t.Parallel()
	g := newGate()
	close(g.open)
	log, logged := observer.New(zapcore.DebugLevel)
	r := newRigWith(t, Config{Logger: zap.New(log)}, Endpoint{
		Name: "marked", Subject: "marked.*",
		Private: &Private{Header: func(r *Request) nats.Header { return nats.Header{"State": {r.Tokens[0]}} }},
		Handler: Each(func(_ context.Context, r *Request) (Reply, error) {
			if r.Tokens[0] == "bad" {
				return Reply{}, Errorf(CodeDenied, "no")
			}
			return Reply{Header: nats.Header{"Own": {"yes"}}}, nil
		}),
	})
	good := request(t, r.client, "marked.good", "")
	if good.Header.Get("State") != "good" || good.Header.Get("Own") != "yes" {
		t.Errorf("headers %v, want State and Own", good.Header)
	}
	bad := request(t, r.client, "marked.bad", "")
	wantError(t, bad, CodeDenied)
	if bad.Header.Get("State") != "bad" {
		t.Errorf("headers of the error %v, want State", bad.Header)
	}
	entries := logged.FilterMessage("request failed").All()
	if len(entries) != 1 || strings.Contains(fmt.Sprint(entries[0].ContextMap()), "marked.bad") {
		t.Errorf("logged %v, want one line without the subject", entries)
	}
}
