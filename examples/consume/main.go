// Command consume prints the events and gaps of the channel orders from the
// stream, and goes on where it stopped when it is started again. The channel
// needs delivery: jetstream.
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/consume
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	log.Fatal(consume(context.Background()))
}

// consume returns only when something fails.
func consume(ctx context.Context) error {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, "PGBRIDGE_EVENTS", jetstream.ConsumerConfig{
		Durable:        "example",
		FilterSubjects: []string{"pgbridge.event.orders", "pgbridge.gap.orders"},
		MaxAckPending:  1, // the next one comes after the acknowledgement: strict order
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	for {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		handle(m)
		if err := m.Ack(); err != nil {
			return err
		}
	}
}

// handle may see a message again whose acknowledgement was lost; its id stays
// the same.
func handle(m jetstream.Msg) {
	id := m.Headers().Get(nats.MsgIdHdr)
	if strings.HasPrefix(m.Subject(), "pgbridge.gap.") {
		fmt.Printf("gap %s %s\n", id, m.Data())
	} else {
		fmt.Printf("event %s %s\n", id, m.Data())
	}
}
