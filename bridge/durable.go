package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge/internal/durable"
	"github.com/pgbridge/pgbridge/bridge/internal/schema"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// defaultDurableMaxAge is how long durable events are kept.
const defaultDurableMaxAge = 7 * 24 * time.Hour

// maxConfirmDelay keeps a mistyped delay from filling the database's disk.
const maxConfirmDelay = time.Hour

// Durable says where the events of durable channels go.
type Durable struct {
	// Stream keeps them. It belongs to the bridges of one prefix alone. Its name
	// defaults to the prefix in upper case, dots as underscores, with _DURABLE
	// appended; MaxAge defaults to 7 days; DuplicateWindow is not used.
	Stream Stream
	// AcceptHistory goes on where the stream holds events that this database
	// never had, as after a restore. Without it the bridge publishes none then:
	// it may be the old side of a split, or a copy.
	AcceptHistory bool
	// ConfirmDelay is how long an event is stored in the stream before the slot
	// lets go of it. One longer than nats-server's sync_interval covers a host
	// that loses what it acknowledged last: it is published again. It costs the
	// write-ahead log of that time. Zero: none.
	ConfirmDelay time.Duration
	// MaxLagBytes of the write-ahead log and MaxLagTime are how far the slot may
	// lag behind before [Bridge.Problems] tells. Zero: no limit.
	MaxLagBytes int
	MaxLagTime  time.Duration
}

// NameFor returns the stream's name: its own, or the default for a prefix.
func (d Durable) NameFor(prefix string) string {
	if d.Stream.Name != "" {
		return d.Stream.Name
	}
	return subject.StreamName(prefix, "DURABLE")
}

func (d Durable) withDefaults(prefix string) Durable {
	d.Stream.Name = d.NameFor(prefix)
	if d.Stream.MaxAge == 0 {
		d.Stream.MaxAge = defaultDurableMaxAge
	}
	d.Stream.DuplicateWindow = min(2*time.Minute, d.Stream.MaxAge)
	if d.Stream.Replicas == 0 {
		d.Stream.Replicas = 1
	}
	return d
}

func (d Durable) options(prefix string) durable.StreamOptions {
	return durable.StreamOptions{Name: d.Stream.Name, Prefix: prefix, MaxAge: d.Stream.MaxAge, Replicas: d.Stream.Replicas, Create: d.Stream.Create}
}

// validate finds what no slot could be served with.
func (d Durable) validate(f *faults) {
	if d.ConfirmDelay < 0 || d.ConfirmDelay > maxConfirmDelay {
		f.add("durable.confirm_delay", "%s: want at most %s", d.ConfirmDelay, maxConfirmDelay)
	}
	if d.MaxLagBytes < 0 {
		f.add("durable.max_lag_bytes", "%d: want a positive size, or 0 for no limit", d.MaxLagBytes)
	}
	if d.MaxLagTime < 0 || d.MaxLagTime > 0 && d.MaxLagTime <= d.ConfirmDelay {
		f.add("durable.max_lag_time", "%s: want more than durable.confirm_delay, which is %s, or 0 for no limit", d.MaxLagTime, d.ConfirmDelay)
	}
}

func (d Durable) limits() durable.Limits {
	return durable.Limits{Bytes: int64(d.MaxLagBytes), Time: d.MaxLagTime}
}

// MigrationSQL returns what [Migrate] executes, for people who would rather do
// it themselves. Executing it again changes nothing.
func MigrationSQL() string { return schema.SQL(0) }

// Migrate makes what durable channels need in the database, in one transaction:
// functions, an empty publication, a table. Where all is there it needs no
// privilege. maxPayload is NATS's max_payload in bytes, from which the limit of
// an event's size follows; zero leaves the limit, at first that for 1 MiB. It
// blocks until PostgreSQL has answered or ctx ends. The connection must be free.
func Migrate(ctx context.Context, conn *pgx.Conn, maxPayload int64) error {
	limit := 0
	if maxPayload > 0 {
		limit = schema.Limit(maxPayload)
	}
	return schema.Migrate(ctx, conn, limit)
}

// CheckSchema says why a database cannot serve durable channels for a NATS
// server with this max_payload, zero: unknown. It blocks until PostgreSQL has
// answered or ctx ends.
func CheckSchema(ctx context.Context, conn *pgx.Conn, maxPayload int64) error {
	state, err := schema.Look(ctx, conn)
	switch {
	case err != nil:
		return fmt.Errorf("look at the schema pgbridge: %w", err)
	case state.Version < schema.Needed:
		return errors.New("the schema pgbridge lacks what durable channels need: run pgbridge migrate")
	case !state.Writable:
		return errors.New("the role may not read and write pgbridge.position: pgbridge migrate --print shows the privileges")
	case maxPayload > 0 && state.Limit > schema.Limit(maxPayload):
		return fmt.Errorf("pgbridge.notify takes events of %d bytes, NATS messages hold %d: run pgbridge migrate with --nats", state.Limit, schema.Limit(maxPayload))
	}
	return nil
}

// DropSlot drops the replication slot of durable channels, so that it no longer
// keeps the write-ahead log, and reports whether there was one. It fails while a
// bridge reads it. It blocks until PostgreSQL has answered or ctx ends.
func DropSlot(ctx context.Context, conn *pgx.Conn, prefix string) (dropped bool, err error) {
	return durable.Drop(ctx, conn, prefix)
}
