// Package visitors keeps a throw-away database company, so that whoever looks at its
// console sees something go on: a clerk whose transaction takes a lamp and reads through a
// long list, a courier who waits for the same lamp, a delivery that is copied in, and jobs,
// some of which fail.
//
// What they do is done over NATS as anybody would do it. It changes none of the example's
// own tables, and nothing is announced.
package visitors

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/wait"
)

//go:embed schema.sql scripts
var files embed.FS

// Schema returns the SQL that makes their tables, in the schema of the example.
func Schema() string {
	schema, err := files.ReadFile("schema.sql")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(schema)
}

// Scripts returns the folder of their scripts, which work on the tables.
func Scripts() fs.FS {
	scripts, err := fs.Sub(files, "scripts")
	if err != nil {
		panic(err) // it is embedded
	}
	return scripts
}

const (
	// bucket holds the delivery, whose rows are long: what PostgreSQL has not looked at
	// yet is on its way to it, and a short file would be there at once.
	bucket       = "imports"
	object       = "delivery.csv"
	deliveryRows = 1000
	remarkBytes  = 24 << 10

	// page is how long the clerk looks at one, and pages how many are looked at.
	page  = 2500 * time.Millisecond
	pages = 8
	rest  = 3 * time.Second
)

// Visitors are all of them.
type Visitors struct {
	nc *nats.Conn
}

// Over are those who come over a connection to NATS, which stays the caller's.
func Over(nc *nats.Conn) *Visitors { return &Visitors{nc} }

// Run has them come and go until ctx ends, and returns when the last has left. Servers
// that are away, and what is refused, send nobody home for good.
func (v *Visitors) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for _, who := range []struct {
		caller string // a job has none
		visit  func(context.Context, *client.Client) error
	}{{"clerk", clerk}, {"courier", courier}, {"", v.delivery}, {"", accountant}} {
		c, err := client.New(v.nc, client.Options{Caller: who.caller})
		if err != nil {
			return fmt.Errorf("prepare the visitors: %w", err)
		}
		all.Go(func() {
			for wait.For(ctx, rest); ctx.Err() == nil; wait.For(ctx, rest) {
				_ = who.visit(ctx, c) // whoever was refused comes again
			}
		})
	}
	return nil
}

// end ends a transaction, also when nobody has time any more.
func end(ctx context.Context, tx *client.Tx, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if *err != nil {
		_ = tx.Rollback(ctx) // else its lease ends it
		return
	}
	*err = tx.Commit(ctx)
}

var reserve = client.Script{Name: "demo.reserve", Params: client.Params{"item": "lamp"}}

// clerk takes a lamp, and keeps it while reading through the list.
func clerk(ctx context.Context, c *client.Client) (err error) {
	tx, err := c.Begin(ctx, client.TxOptions{})
	if err != nil {
		return err
	}
	defer end(ctx, tx, &err)
	if _, err := tx.Run(ctx, reserve); err != nil {
		return err
	}
	list, err := tx.Cursor(ctx, client.Script{Name: "demo.stocktaking"}, client.CursorOptions{PageRows: 100})
	if err != nil {
		return err
	}
	for range pages {
		if _, err := list.Next(ctx); err != nil {
			return err
		}
		if wait.For(ctx, page); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// courier wants the same lamp.
func courier(ctx context.Context, c *client.Client) (err error) {
	tx, err := c.Begin(ctx, client.TxOptions{})
	if err != nil {
		return err
	}
	defer end(ctx, tx, &err)
	_, err = tx.Run(ctx, reserve)
	return err
}

// delivery is copied in from its file, as a job.
func (v *Visitors) delivery(ctx context.Context, c *client.Client) error {
	if err := v.lay(ctx); err != nil {
		return err
	}
	job, err := c.CopyJob(ctx, client.Script{Name: "demo.delivery"}, client.Object{Bucket: bucket, Name: object}, client.CopyOptions{})
	if err != nil {
		return err
	}
	_, err = job.Copied(ctx)
	return err
}

// lay puts the file where it is copied from, if it is not there.
func (v *Visitors) lay(ctx context.Context) error {
	js, err := jetstream.New(v.nc)
	if err != nil {
		return err
	}
	store, err := js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: bucket})
	if err != nil {
		return err
	}
	if _, err := store.GetInfo(ctx, object); err == nil {
		return nil
	}
	row := "chair," + strings.Repeat("r", remarkBytes) + "\n"
	_, err = store.PutString(ctx, object, "item,remarks\n"+strings.Repeat(row, deliveryRows))
	return err
}

// accountant closes the day, and asks for what is sold out.
func accountant(ctx context.Context, c *client.Client) error {
	for _, s := range []client.Script{{Name: "demo.close_day"}, {Name: "demo.reserve", Params: client.Params{"item": "table"}}} {
		job, err := c.Job(ctx, s)
		if err != nil {
			return err
		}
		if _, err := job.Wait(ctx); ctx.Err() != nil {
			return err
		}
	}
	return nil
}
