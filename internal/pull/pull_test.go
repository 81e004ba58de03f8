package pull_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/pull"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestAnswersOfOthers has answers to what somebody else has asked come where a consumer
// delivers: they are no messages of the consumer's, and no word of the server's.
func TestAnswersOfOthers(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t).Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(t.Context(), "S", jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	asked, err := nc.SubscribeSync("$JS.API.CONSUMER.MSG.NEXT.S.c")
	if err != nil {
		t.Fatal(err)
	}
	p, err := pull.Open(pull.Options{JetStream: js, Stream: "S", Consumer: "c", Batch: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(func(*nats.Msg) {})
	next := make(chan *nats.Msg, 1)
	go func() {
		m, err := p.Next(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Error(err)
		}
		next <- m
	}()
	request, err := asked.NextMsgWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*nats.Msg{
		{Data: []byte("{}")},
		{Data: []byte(`{"stream":"OTHER","seq":1}`)},
		{Reply: "pgbridge.tx.r.i.ack.c.1", Header: nats.Header{"Pgbridge-Seq": {"1"}}, Data: []byte("a chunk")},
	} {
		m.Subject = request.Reply
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.Publish(t.Context(), "s", []byte("its own")); err != nil {
		t.Fatal(err)
	}
	if m := <-next; m == nil || string(m.Data) != "its own" {
		t.Errorf("Next() = %+v, want the consumer's message", m)
	}
	if more, _, err := asked.Pending(); err != nil || more != 0 {
		t.Errorf("%d more requests, %v, want none", more, err)
	}
}
