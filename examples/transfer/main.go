// Command transfer runs the script transfer, and goes on asking until it knows
// what became of it:
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/transfer order-77
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("name the order")
	}
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(nc, client.Options{Patience: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		// It may be sent again with the same id: the money moves once.
		reply, err := c.Run(context.Background(), client.Script{
			Name: "transfer", Params: client.Params{"source": 1, "target": 2, "amount": "10.50"}, MessageID: os.Args[1],
		})
		failure, answered := client.AsError(err)
		switch {
		case err == nil:
			fmt.Printf("done: %d statements\n", len(reply.Results))
			return
		case answered && !failure.Retryable && !errors.Is(err, client.ErrOutcomeUnknown):
			log.Fatalf("refused: %v", err)
		}
		log.Printf("trying again in %s: %v", pause, err)
		<-time.After(pause)
	}
}
