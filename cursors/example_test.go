package cursors_test

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/txrunner"
)

// A program that serves the scripts of a folder, as cursors too, until it is
// interrupted.
func Example() {
	nc, err := nats.Connect("nats://127.0.0.1:4222",
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.PermissionErrOnSubscribe(true))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	runner, err := txrunner.New(txrunner.Config{
		ConnString: "postgres://app@127.0.0.1/app?sslmode=disable",
		Requests:   nc,
		Scripts:    "scripts",
		Extensions: []txrunner.Extension{cursors.New()},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := runner.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
