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

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
)

func main() {
	log.Fatal(consume(context.Background()))
}

// consume returns only when something fails. An event may come again when its
// acknowledgement was lost; its id stays the same.
func consume(ctx context.Context) error {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	c, err := client.New(nc, client.Options{})
	if err != nil {
		return err
	}
	consumption, err := c.Consume(ctx, client.ConsumeOptions{Durable: "example", Channels: []string{"orders"}})
	if err != nil {
		return err
	}
	for event, err := range consumption.Events(ctx) {
		switch {
		case err != nil:
			return err
		case event.Gap != nil:
			fmt.Printf("gap %s %s\n", event.ID, event.Message.Data)
		default:
			fmt.Printf("event %s %s\n", event.ID, event.Payload)
		}
	}
	return nil
}
