// Command subscribe prints the events and gaps of the channel orders as they
// arrive over core NATS:
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/subscribe
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
)

func main() {
	log.Fatal(subscribe(context.Background()))
}

// subscribe returns only when something fails.
func subscribe(ctx context.Context) error {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	c, err := client.New(nc, client.Options{})
	if err != nil {
		return err
	}
	sub, err := c.Subscribe(ctx, client.SubscribeOptions{Channels: []string{"orders"}})
	if err != nil {
		return err
	}
	defer sub.Close()
	log.Print("listening")
	for event, err := range sub.Events(ctx) {
		switch {
		case err != nil:
			return err
		case event.Gap != nil:
			handleGap(event.Gap)
		default:
			fmt.Printf("event %s\n", event.Payload)
		}
	}
	return nil
}

// handleGap is where a program reads its state from the database again.
func handleGap(g *client.Gap) {
	if g.Since == nil {
		fmt.Printf("gap (%s): read everything again\n", g.Reason)
		return
	}
	fmt.Printf("gap (%s): read again what was committed from %s to %s\n",
		g.Reason, g.Since.Format(time.RFC3339Nano), g.Until.Format(time.RFC3339Nano))
}
