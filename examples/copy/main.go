// Command copy writes what the script export_orders copies out of PostgreSQL
// to stdout, and checks that all of it has come.
//
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/copy > orders.csv
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/client"
)

func main() {
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL))
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	out := bufio.NewWriter(os.Stdout)
	script := client.Script{Name: "export_orders", Params: client.Params{"customer": nil}}
	copied, err := c.CopyOut(context.Background(), script, out, client.CopyOptions{})
	if err := errors.Join(err, out.Flush()); err != nil {
		log.Fatal("what was written is not all: ", err)
	}
	fmt.Fprintln(os.Stderr, copied.Rows, "rows")
}
