package service

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
)

// TestWhatNATSSendsIsNoRequest has JetStream answer, deliver and republish to
// the service's subjects.
func TestWhatNATSSendsIsNoRequest(t *testing.T) {
	t.Parallel()
	s := startNATS(t, &server.Options{JetStream: true, StoreDir: t.TempDir()})
	served := make(chan *Request, 100)
	service := newService(t, connect(t, s), Config{ReplyPrefixes: []string{"_INBOX", "$JS.ACK"}}, Endpoint{
		Name: "do", Subject: "do.>", NoReply: func(r *Request) bool { return r.Tokens[0] == "quiet" },
		Handler: func(_ context.Context, batch []*Request) { served <- batch[0]; batch[0].Answer(Reply{}, nil) },
	})
	start(t, service)
	r := &rig{Service: service, server: s, client: connect(t, s)}
	waitUntil(t, "subscribed", func() bool { return len(r.Problems()) == 0 })
	js, err := jetstream.New(r.client)
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "S", Subjects: []string{"s"}, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: "s", Destination: "do.quiet.republished"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "S", jetstream.ConsumerConfig{Durable: "pull"}); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the republished message is dropped", func() bool { return r.dropped(t, dropNATS) == 1 })
	const next = "$JS.API.CONSUMER.MSG.NEXT.S.pull"
	ask := func(api, body string) {
		t.Helper()
		if err := r.client.PublishRequest(api, "do.quiet.x", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	ask(next, `{"batch": 1, "no_wait": true}`) // a delivery has no header, but a reply subject
	if request := receive(t, served, "a delivery"); !strings.HasPrefix(request.ReplySubject(), "$JS.ACK.") {
		t.Fatalf("a delivery wants its answer at %q", request.ReplySubject())
	}
	for i, try := range [][2]string{
		{"$JS.API.DIRECT.GET.S", `{"seq": 17}`}, {"$JS.API.DIRECT.GET.S", `{"seq": 1}`}, {"$JS.API.DIRECT.GET.S.s", ``},
		{next, `{"batch": 1, "no_wait": true}`},
	} {
		ask(try[0], try[1])
		waitUntil(t, try[0]+" is dropped", func() bool { return r.dropped(t, dropNATS) == i+2 })
	}
	if err := r.client.PublishRequest("$JS.API.STREAM.NAMES", "do.x", nil); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "an answer of the API is dropped", func() bool { return r.dropped(t, dropNoReply) == 1 })
	if len(served) != 0 {
		t.Errorf("served %q of what NATS sent", (<-served).Subject)
	}
}

// TestChunkIsNoRequest has a chunk that was sent come back, with its reply subject, as NATS
// brings it from an account that imports where it was to go.
func TestChunkIsNoRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "do", Subject: "do.>", Handler: Each(func(context.Context, *Request) (Reply, error) {
		t.Error("a chunk was served")
		return Reply{}, nil
	})})
	chunk := &nats.Msg{Subject: "do.x", Reply: r.client.NewInbox(), Header: nats.Header{HeaderSeq: {"1"}}, Data: []byte("{}")}
	if err := r.client.PublishMsg(chunk); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the chunk is dropped", func() bool { return r.dropped(t, dropNATS) == 1 })
}

func TestMadeByNATS(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{
		"Status": true, "status": true, "Nats-Stream": true, "nats-subject": true, "Nats-Sequence": true,
		"Nats-Time-Stamp": true, "Nats-Num-Pending": true, "Nats-Last-Consumer": true, "Nats-Tomorrow": true,
		"Nats-Msg-Id": false, "Nats-Expected-Stream": false, "Nats-Trace-Dest": false, "Natsy": false, "Pgbridge-Seq": false, "": false,
	} {
		if got := madeByNATS(nats.Header{"Other": {"x"}, key: {"x"}}); got != want {
			t.Errorf("a message with the header %q: %t, want %t", key, got, want)
		}
	}
}

func TestNoReplyIsDropped(t *testing.T) {
	t.Parallel()
	served := make(chan string, 10)
	r := newRig(t, Endpoint{Name: "do", Subject: "do.*", Handler: Each(func(_ context.Context, r *Request) (Reply, error) {
		served <- r.Tokens[0]
		return Reply{}, nil
	})})
	if err := r.client.Publish("do.quiet", nil); err != nil {
		t.Fatal(err)
	}
	request(t, r.client, "do.loud", "")
	if got := receive(t, served, "the one with a reply subject"); got != "loud" || r.dropped(t, dropNoReply) != 1 {
		t.Errorf("served %q, %d dropped", got, r.dropped(t, dropNoReply))
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, Config{MaxBodyBytes: 10}, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)})
	request(t, r.client, "echo", "0123456789")
	msg, err := r.client.Request("echo", []byte("0123456789a"), deadline)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, msg, CodeTooLarge)
}

// TestManyHeaders has requests come whose headers would take far more memory than the
// budget counts, also to what is taken directly.
func TestManyHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "echo", Subject: "echo", Handler: Each(echo)}, Endpoint{
		Name: "direct", Subject: "direct", Handler: Each(echo),
		Private: &Private{Direct: func(r *Request) bool { r.Answer(Reply{}, nil); return true }},
	})
	for n, code := range map[int]Code{maxHeaders: "", maxHeaders + 1: CodeInvalidRequest, 20 * maxHeaders: CodeInvalidRequest} {
		apart, alike := nats.Header{}, nats.Header{}
		for i := range n {
			apart.Set(strconv.Itoa(i), "")
			alike.Add("x", "")
		}
		for _, subject := range []string{"echo", "direct"} {
			for _, header := range []nats.Header{apart, alike} {
				msg, err := r.client.RequestMsg(&nats.Msg{Subject: subject, Header: header}, deadline)
				if err != nil {
					t.Fatal(err)
				}
				if code != "" {
					wantError(t, msg, code)
				} else if msg.Header.Get(api.HeaderErrorCode) != "" {
					t.Errorf("%d headers on %s are answered %s", n, subject, msg.Data)
				}
			}
		}
	}
}

// TestHeadersCountTwice: nats.go keeps the bytes that came, and texts made of them.
func TestHeadersCountTwice(t *testing.T) {
	t.Parallel()
	sizes := make(chan int, 1)
	r := newRigWith(t, Config{Budget: budget.New(1<<20, 1)}, Endpoint{Name: "size", Subject: "size", Handler: Each(func(_ context.Context, r *Request) (Reply, error) {
		sizes <- r.memory.Bytes()
		return Reply{}, nil
	})})
	header := nats.Header{"x": {strings.Repeat("x", 10_000)}}
	if _, err := r.client.RequestMsg(&nats.Msg{Subject: "size", Header: header, Data: make([]byte, 1000)}, deadline); err != nil {
		t.Fatal(err)
	}
	if n := receive(t, sizes, "its size"); n < 21_000 || n > 25_000 {
		t.Errorf("a request with headers of 10,000 bytes takes %d of the budget", n)
	}
}

// TestBudget has one sender hold all that it may, and another one come.
func TestBudget(t *testing.T) {
	t.Parallel()
	g := newGate()
	b := budget.New(1<<20, 0)
	r := newRigWith(t, Config{Budget: b}, Endpoint{Name: "slow", Subject: "slow.*", Concurrency: 100, Handler: Each(g.handle)})
	answers := make(chan *nats.Msg, 100)
	inbox := r.client.NewRespInbox()
	if _, err := r.client.Subscribe(inbox, func(m *nats.Msg) { answers <- m }); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 100<<10)
	for range 10 {
		if err := r.client.PublishRequest("slow.greedy", inbox, body); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, receive(t, answers, "one of ten is refused"), CodeBusy)
	if err := r.client.PublishRequest("slow.modest", inbox, body); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		receive(t, g.came, "the others are served")
	}
	if used := b.Used(); used < 10*int64(len(body)) || used > b.Limit() {
		t.Errorf("%d bytes are used of %d", used, b.Limit())
	}
	close(g.open)
	for range 10 {
		if msg := receive(t, answers, "the others are answered"); string(msg.Data) != "done" {
			t.Errorf("reply %q, want done", msg.Data)
		}
	}
	waitUntil(t, "all memory is given back", func() bool { return b.Used() == 0 })
	large, err := r.client.Request("slow.huge", make([]byte, 950<<10), deadline)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, large, CodeTooLarge)
}

// TestOneOwnerDoesNotKeepOthersOut has one sender take all places and workers
// it may.
func TestOneOwnerDoesNotKeepOthersOut(t *testing.T) {
	t.Parallel()
	open := make(chan struct{})
	r := newRig(t, Endpoint{Name: "slow", Subject: "slow.*", Concurrency: 4, NoReply: always, Handler: Each(func(ctx context.Context, r *Request) (Reply, error) {
		if r.Tokens[0] == "greedy" {
			<-open
		}
		return echo(ctx, r)
	})})
	inbox := r.client.NewRespInbox()
	refused := make(chan *nats.Msg, 2*api.MaxWaiting)
	if _, err := r.client.Subscribe(inbox, func(m *nats.Msg) { refused <- m }); err != nil {
		t.Fatal(err)
	}
	for range api.MaxWaiting {
		if err := r.client.PublishRequest("slow.greedy", inbox, nil); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, receive(t, refused, "the greedy one is refused"), CodeBusy)
	if msg := request(t, r.client, "slow.modest", "x"); string(msg.Data) != "x" {
		t.Errorf("reply %q, want x", msg.Data)
	}
	close(open)
}
