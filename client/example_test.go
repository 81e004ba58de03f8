package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/txrunner"
)

// Money moves once, however often this is run: the message id sees to that.
func ExampleClient_Run() {
	nc, stop := servedExamples()
	defer stop()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	reply, err := c.Run(context.Background(), client.Script{
		Name:      "transfer",
		Params:    client.Params{"source": 1, "target": 2, "amount": "10.50"},
		MessageID: "order-77",
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, result := range reply.Results {
		fmt.Println(result.Command)
	}

	reply, err = c.Run(context.Background(), client.Script{Name: "account", Params: client.Params{"id": 1}})
	if err != nil {
		log.Fatal(err)
	}
	var id int64
	var owner, balance string
	row := reply.Results[0].Rows[0]
	if err := row[:2].Scan(&id, &owner); err != nil {
		log.Fatal(err)
	}
	balance = string(row[2]) // a numeric as it is written
	fmt.Println(id, owner, balance)
	// Output:
	// INSERT 0 1
	// UPDATE 1
	// UPDATE 1
	// 1 Ada 989.50
}

// What PostgreSQL refuses is an error with all of its fields.
func ExampleError() {
	nc, stop := servedExamples()
	defer stop()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Run(context.Background(), client.Script{
		Name: "transfer", Params: client.Params{"source": 3, "target": 2, "amount": 1000},
	})
	if failure, ok := client.AsError(err); ok {
		fmt.Println(failure.Code, failure.SQLState, failure.Table, failure.Retryable)
	}
	// Output: sql_error 23514 account false
}

// A job waits in a stream until somebody does it, once.
func ExampleClient_Job() {
	nc, stop := servedExamples()
	defer stop()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	job, err := c.Job(context.Background(), client.Script{
		Name: "transfer", Params: client.Params{"source": 1, "target": 2, "amount": 5}, MessageID: "order-78",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("left as", job.ID)
	reply, err := job.Wait(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(reply.Results), "statements")
	// Output:
	// left as order-78
	// 3 statements
}

func ExampleClient_Describe() {
	nc, stop := servedExamples()
	defer stop()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	d, err := c.Describe(context.Background(), "account")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Info.Description)
	for _, p := range d.Parameters {
		fmt.Println(p.Name, p.Types)
	}
	// Output:
	// One account.
	// id [int8]
}

// A transaction's requests run on one connection, and nobody sees what they did
// before the commit.
func ExampleClient_Begin() {
	nc, stop := servedExamples()
	defer stop()
	ctx := context.Background()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	tx, err := c.Begin(ctx, client.TxOptions{Isolation: "serializable"})
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback(ctx) // does nothing after the commit
	move := func(amount string) error {
		_, err := tx.Run(ctx, client.Script{
			Name: "transfer", Params: client.Params{"source": 2, "target": 3, "amount": amount},
		})
		return err
	}
	if err := move("100"); err != nil {
		log.Fatal(err)
	}
	if err := tx.Savepoint(ctx, "enough"); err != nil {
		log.Fatal(err)
	}
	if move("100000") != nil { // so much is not there
		if err := tx.RollbackTo(ctx, "enough"); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(tx.Commit(ctx))
	// Output: <nil>
}

// A result of any size, row by row, with a page of it in memory.
func ExampleClient_Cursor() {
	nc, stop := servedExamples()
	defer stop()
	ctx := context.Background()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	cursor, err := c.Cursor(ctx, client.Script{Name: "orders.all"}, client.CursorOptions{PageRows: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer cursor.Close(ctx)
	for row, err := range cursor.Rows(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", row[1])
	}
	// Output:
	// "Ada"
	// "Grace"
	// "Edsger"
}

// Rows as CSV, all of them or an error.
func ExampleClient_CopyOut() {
	nc, stop := servedExamples()
	defer stop()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	script := client.Script{Name: "export_orders", Params: client.Params{"customer": "Ada"}}
	copied, err := c.CopyOut(context.Background(), script, os.Stdout, client.CopyOptions{})
	if err != nil {
		log.Fatal("what was written is not all: ", err)
	}
	fmt.Println(copied.Rows, "row")
	// Output:
	// id,customer,total
	// 1,Ada,12.50
	// 1 row
}

// All lines, or none.
func ExampleClient_CopyIn() {
	nc, stop := servedExamples()
	defer stop()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	csv := strings.NewReader("customer,total\nBarbara,7.25\nAda,1\n")
	copied, err := c.CopyIn(context.Background(), client.Script{Name: "import_orders"}, csv, client.CopyOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(copied.Rows, "rows")
	// Output: 2 rows
}

// Events and gaps in one order.
func ExampleClient_Subscribe() {
	nc, stop := servedExamples()
	defer stop()
	ctx := context.Background()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	sub, err := c.Subscribe(ctx, client.SubscribeOptions{Channels: []string{"orders"}})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	if err := c.Notify(ctx, "orders", []byte("hello")); err != nil {
		log.Fatal(err)
	}
	for event, err := range sub.Events(ctx) {
		switch {
		case err != nil:
			log.Fatal(err)
		case event.Gap != nil:
			continue // here a program reads again what may have changed
		}
		fmt.Printf("%s: %s\n", event.Channel, event.Payload)
		break
	}
	// Output: orders: hello
}

// A durable consumer goes on where it stopped; an event is done with when the
// loop comes back.
func ExampleClient_Consume() {
	nc, stop := servedExamples()
	defer stop()
	ctx := context.Background()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	consumption, err := c.Consume(ctx, client.ConsumeOptions{Durable: "billing", Channels: []string{"audit"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Notify(ctx, "audit", []byte("hello")); err != nil {
		log.Fatal(err)
	}
	for event, err := range consumption.Events(ctx) {
		switch {
		case err != nil:
			log.Fatal(err)
		case event.Gap != nil:
			continue
		}
		fmt.Printf("event: %s\n", event.Payload)
		break
	}
	// Output: event: hello
}

// servedExamples starts a pgbridge with the example's scripts, three orders, and
// the channels orders and audit, and connects to its NATS server.
func servedExamples() (nc *nats.Conn, stop func()) {
	t := &exampleTB{}
	w := newWorld(t, options{runner: func(c *txrunner.Config) {
		c.Jobs = &txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
	}})
	w.SQL("INSERT INTO orders (customer, total) VALUES ('Ada', 12.50), ('Grace', 99), ('Edsger', 7.25)")
	w.publish(map[string]bridge.Channel{"orders": {Notify: true}, "audit": {Notify: true, Delivery: bridge.DeliveryJetStream}})
	return w.Client, t.close
}

// exampleTB is what the servers of a test need of it, for an example.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (t *exampleTB) Helper()                   {}
func (t *exampleTB) Name() string              { return "example" }
func (t *exampleTB) Failed() bool              { return false }
func (t *exampleTB) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleTB) Log(args ...any)           { log.Print(args...) }
func (t *exampleTB) Fatal(args ...any)         { log.Panic(args...) }
func (t *exampleTB) Error(args ...any)         { log.Panic(args...) }
func (t *exampleTB) Logf(f string, a ...any)   { log.Printf(f, a...) }
func (t *exampleTB) Fatalf(f string, a ...any) { log.Panicf(f, a...) }
func (t *exampleTB) Errorf(f string, a ...any) { log.Panicf(f, a...) }

func (t *exampleTB) TempDir() string {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Panic(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (t *exampleTB) close() {
	for i := len(t.cleanups) - 1; i >= 0; i-- {
		t.cleanups[i]()
	}
}
