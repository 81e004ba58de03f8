package service

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestDirectPassesTheQueue(t *testing.T) {
	t.Parallel()
	g := newGate()
	var order []string
	r := newRig(t, Endpoint{
		Name: "slow", Subject: "slow.*", Concurrency: 1, Handler: Each(g.handle), NoReply: always,
		Private: &Private{Direct: func(r *Request) bool {
			if r.Tokens[0] == "queued" {
				return false
			}
			order = append(order, r.Tokens[0])
			if r.ReplySubject() != "" {
				r.Answer(Reply{Data: []byte("direct")}, nil)
			}
			return true
		}},
	})
	if err := r.client.Publish("slow.queued", nil); err != nil {
		t.Fatal(err)
	}
	receive(t, g.came, "the queue is busy")
	var want []string
	for i := range 100 {
		want = append(want, strconv.Itoa(i))
		if err := r.client.Publish("slow."+want[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	if msg := request(t, r.client, "slow.last", ""); string(msg.Data) != "direct" {
		t.Errorf("reply %q, want direct", msg.Data)
	}
	if !slices.Equal(order, append(want, "last")) {
		t.Errorf("taken in the order %q", order)
	}
	if got := r.endpoints[0].stats.snapshot().NumRequests; got != 1 {
		t.Errorf("%d requests counted, want the answered one", got)
	}
	close(g.open)
}

func TestDirectPanics(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{
		Name: "echo", Subject: "echo.*", Handler: Each(echo),
		Private: &Private{Direct: func(r *Request) bool {
			if r.Tokens[0] == "panic" {
				panic("the payload")
			}
			return false
		}},
	})
	wantError(t, request(t, r.client, "echo.panic", ""), CodeInternal)
	request(t, r.client, "echo.x", "")
}

// TestNoResponders has messages come in that look like NATS's own.
func TestNoResponders(t *testing.T) {
	t.Parallel()
	type seen struct {
		subject string
		status  bool
	}
	came := make(chan seen, 10)
	r := newRig(t,
		Endpoint{Name: "plain", Subject: "plain.*", Handler: Each(echo)},
		Endpoint{
			Name: "tx", Subject: "tx.>", Handler: Each(echo),
			Private: &Private{Direct: func(r *Request) bool {
				came <- seen{r.Subject, r.NoResponders()}
				return true
			}},
		})
	if err := r.config.Lasting.PublishRequest("_INBOX.nobody", "tx.ack.1", []byte("chunk")); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, came, "NATS says that nobody listens"), (seen{"tx.ack.1", true}); got != want {
		t.Errorf("received %v, want %v", got, want)
	}
	for _, subject := range []string{"plain.x", "tx.ack.2"} {
		forged := nats.NewMsg(subject)
		forged.Header.Set("Status", "503")
		if err := r.client.PublishMsg(forged); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := receive(t, came, "a forged one"), (seen{"tx.ack.2", true}); got != want {
		t.Errorf("received %v, want %v", got, want)
	}
	request(t, r.client, "plain.x", "")
	if err := r.client.Publish("tx.ack.3", nil); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, came, "an empty message"), (seen{"tx.ack.3", false}); got != want {
		t.Errorf("received %v, want %v", got, want)
	}
}

func TestLinger(t *testing.T) {
	t.Parallel()
	linger, stopped := make(chan struct{}), make(chan error, 1)
	r := newRig(t,
		Endpoint{Name: "gone", Subject: "gone", Handler: Each(echo)},
		Endpoint{Name: "tx", Subject: "tx", Handler: Each(echo), Private: &Private{Done: linger}})
	go func() { stopped <- r.stop() }()
	waitUntil(t, "only one listens", func() bool {
		_, err := r.client.Request("gone", nil, pollTimeout)
		return err != nil
	})
	request(t, r.client, "tx", "")
	select {
	case err := <-stopped:
		t.Fatalf("Run() = %v while an endpoint lingers", err)
	default:
	}
	close(linger)
	if err := receive(t, stopped, "Run returns"); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestLingerEndsWithTheGrace(t *testing.T) {
	t.Parallel()
	r := newRigWith(t, Config{StopGrace: 1},
		Endpoint{Name: "tx", Subject: "tx", Handler: Each(echo), Private: &Private{Done: make(chan struct{})}})
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v", err)
	}
}

func TestSettleEndsWithTheContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, Endpoint{Name: "tx", Subject: "tx", Handler: Each(echo), Private: &Private{}})
	if err := r.settle(t.Context(), r.nc); err != nil {
		t.Errorf("settle() = %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pollTimeout)
	defer cancel()
	if r.settle(ctx, r.nc) == nil {
		t.Error("settle() = nil without anyone who receives")
	}
}

// NATS refuses to publish to these, and says so with the subject, which would be logged.
func TestNoAnswersToSubjectsThatAreNone(t *testing.T) {
	t.Parallel()
	h := &host{config: Config{ReplyPrefixes: []string{"_INBOX"}}}
	for subject, want := range map[string]bool{
		"_INBOX": true, "_INBOX.a": true, "_INBOX.a.b": true,
		"_INBOX.": false, "_INBOX..a": false, "_INBOX.a..b": false, "_INBOX.a.": false, "_INBOX...": false,
	} {
		if h.replyAllowed(subject) != want {
			t.Errorf("an answer to %q is allowed: %t, want %t", subject, !want, want)
		}
	}
}

// The library passes such a message on as one without headers, and so without its id.
func TestHeadersThatCannotBeRead(t *testing.T) {
	t.Parallel()
	served := make(chan string, 10)
	r := newRig(t, Endpoint{Name: "do", Subject: "do", Handler: Each(func(_ context.Context, r *Request) (Reply, error) {
		served <- r.Header.Get(nats.MsgIdHdr)
		return Reply{}, nil
	})})
	for _, header := range []string{"NATS/1.0\r\nnonsense\r\nNats-Msg-Id: a\r\n\r\n", "NATS/1.0\r\nNats-Msg-Id: a\r\n", "NATS/9\r\n\r\n"} {
		inbox := r.client.NewInbox()
		answers, err := r.client.SubscribeSync(inbox)
		if err != nil || r.client.Flush() != nil {
			t.Fatal(err)
		}
		testenv.PublishRaw(t, r.server.Addr().String(), "do", inbox, header, "")
		answer, err := answers.NextMsg(10 * time.Second)
		if err != nil || answer.Header.Get("Nats-Service-Error-Code") != "400" || len(served) != 0 {
			t.Errorf("%q: %v, %v, %d served", header, answer, err, len(served))
		}
	}
	if _, err := r.client.RequestMsg(&nats.Msg{Subject: "do", Header: nats.Header{nats.MsgIdHdr: {"a"}}}, 10*time.Second); err != nil || <-served != "a" {
		t.Error("a request with an id:", err)
	}
	if _, err := r.client.Request("do", []byte("body"), 10*time.Second); err != nil || <-served != "" {
		t.Error("a request without headers:", err)
	}
}
