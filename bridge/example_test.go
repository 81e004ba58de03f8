package bridge_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
)

// A program that carries two channels until it is interrupted. The connection
// reconnects for ever and keeps no messages back, since the bridge has a queue
// of its own.
func Example() {
	nc, err := nats.Connect("nats://127.0.0.1:4222",
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1), nats.PermissionErrOnSubscribe(true))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	b, err := bridge.New(bridge.Config{
		ConnString: "postgres://app@127.0.0.1/app?sslmode=disable",
		Events:     nc,
		Channels: map[string]bridge.Channel{
			"orders": {},
			"audit":  {Delivery: bridge.DeliveryJetStream, Subject: "audit.{payload.region}"},
		},
		Stream: bridge.Stream{Create: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Every fault of a configuration is reported at once, each with its key.
func ExampleConfig_Validate() {
	err := bridge.Config{
		QueueBytes: 1000,
		Channels: map[string]bridge.Channel{
			"orders": {Subject: "$JS.orders"},
			"audit":  {Envelope: "xml"},
		},
	}.Validate()
	fmt.Println(err)
	// Output:
	// queue.bytes: 1000: want at least 1 MiB
	// channels.audit.envelope: "xml": want raw, json or cloudevents
	// channels.orders.subject: "$JS.orders": begins with $, _INBOX or _R_, which NATS keeps for itself and for replies
}
