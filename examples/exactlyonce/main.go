// Command exactlyonce adds up what each customer bought, from the durable channel
// purchases of examples/outbox. It applies each event once, however often it is
// killed: the sequence of the last one is in the same transaction as its effect.
//
//	psql -f examples/exactlyonce/schema.sql
//	DATABASE_URL=postgres://… NATS_URL=nats://127.0.0.1:4222 go run ./examples/exactlyonce
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const streamName = "PGBRIDGE_DURABLE"

func main() {
	log.Fatal(run(context.Background()))
}

// run returns only when something fails. Whoever starts it again loses and
// repeats nothing.
func run(ctx context.Context) error {
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close(context.WithoutCancel(ctx))
	nc, err := nats.Connect(cmp.Or(os.Getenv("NATS_URL"), nats.DefaultURL), nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, streamName)
	if err != nil {
		return err
	}
	created := stream.CachedInfo().Created
	last, err := position(ctx, db, created)
	if err != nil {
		return err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"pgbridge.event.purchases", "pgbridge.gap.purchases"},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: last + 1,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		if err := apply(ctx, db, created, m); err != nil {
			return err
		}
	}
}

// position is the sequence of the last event that was applied, of this stream.
func position(ctx context.Context, db *pgx.Conn, created time.Time) (last uint64, err error) {
	err = db.QueryRow(ctx, "SELECT sequence FROM applied WHERE stream = $1 AND created = $2", streamName, created.Truncate(time.Microsecond)).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return last, err
}

// moveSQL changes nothing where the event was applied already.
const moveSQL = `INSERT INTO applied AS a (stream, created, sequence) VALUES ($1, $2, $3)
	ON CONFLICT (stream) DO UPDATE SET created = $2, sequence = $3 WHERE a.created <> $2 OR a.sequence < $3`

// apply is one event, with its effect, in one transaction.
func apply(ctx context.Context, db *pgx.Conn, created time.Time, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	if strings.HasPrefix(m.Subject(), "pgbridge.gap.") {
		fmt.Printf("gap %s: compare with what the other side has\n", m.Data())
		return nil
	}
	var purchase struct {
		Customer string
		Total    json.Number
	}
	if err := json.Unmarshal(m.Data(), &purchase); err != nil {
		return fmt.Errorf("event %d: %w", meta.Sequence.Stream, err)
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		moved, err := tx.Exec(ctx, moveSQL, streamName, created.Truncate(time.Microsecond), meta.Sequence.Stream)
		if err != nil || moved.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO revenue AS r VALUES ($1, $2::text::numeric)
			ON CONFLICT (customer) DO UPDATE SET total = r.total + excluded.total`, purchase.Customer, purchase.Total.String())
		if err == nil {
			fmt.Printf("applied %d\n", meta.Sequence.Stream)
		}
		return err
	})
}
