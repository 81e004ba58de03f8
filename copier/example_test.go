package copier_test

import (
	"context"
	"log"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/copier"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Scripts with a COPY in the folder scripts become subjects under
// pgbridge.copy.
func Example() {
	nc, err := nats.Connect(nats.DefaultURL, nats.PermissionErrOnSubscribe(true))
	if err != nil {
		log.Fatal(err)
	}
	copies, err := copier.New(copier.Config{Requests: nc})
	if err != nil {
		log.Fatal(err)
	}
	runner, err := txrunner.New(txrunner.Config{
		ConnString: "postgres://app@localhost/app",
		Scripts:    "scripts",
		Requests:   nc,
		Extensions: []txrunner.Extension{copies.Extension()},
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(runner.Run(context.Background()))
}
