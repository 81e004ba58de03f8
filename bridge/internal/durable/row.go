package durable

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/api"
)

// row is what the database remembers of the stream.
type row struct {
	created   string // of the stream
	sequence  uint64 // of the last message that was acknowledged
	id        string // its id
	committed time.Time
	channels  []string              // of the replica that wrote it
	owed      map[string]api.Reason // gaps still to be announced, by channel
	terms     map[string]term       // by channel
}

// loadRow returns nil where there is none.
func loadRow(ctx context.Context, conn *pgx.Conn, prefix string) (*row, error) {
	var r row
	var owed, terms string
	err := conn.QueryRow(ctx, `SELECT stream_created, last_sequence, id, committed_at, channels, owed::text, terms::text FROM pgbridge.position WHERE prefix = $1`, prefix).
		Scan(&r.created, &r.sequence, &r.id, &r.committed, &r.channels, &owed, &terms)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pgbridge.position: %w", err)
	}
	if err := errors.Join(json.Unmarshal([]byte(owed), &r.owed), json.Unmarshal([]byte(terms), &r.terms)); err != nil {
		return nil, fmt.Errorf("read pgbridge.position: %w", err)
	}
	return &r, nil
}

// saveSQL changes nothing where another replica has come further, unless it is
// forced.
const saveSQL = `INSERT INTO pgbridge.position AS p (prefix, stream_created, last_sequence, id, committed_at, channels, owed, terms, updated_at)
	VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $9::text::jsonb, pg_catalog.now())
	ON CONFLICT (prefix) DO UPDATE SET stream_created = $2, last_sequence = $3, id = $4, committed_at = $5, channels = $6, owed = $7::text::jsonb, terms = $9::text::jsonb, updated_at = pg_catalog.now()
	WHERE $8::boolean OR p.last_sequence <= $3 OR p.stream_created <> $2`

func saveRow(ctx context.Context, conn *pgx.Conn, prefix string, r *row, force bool) error {
	owed, err1 := json.Marshal(r.owed)
	terms, err2 := json.Marshal(r.terms)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if len(r.owed) == 0 {
		owed = []byte("{}") // not null
	}
	if len(r.terms) == 0 {
		terms = []byte("{}")
	}
	if _, err := conn.Exec(ctx, saveSQL, prefix, r.created, r.sequence, r.id, r.committed, r.channels, string(owed), force, string(terms)); err != nil {
		return fmt.Errorf("write pgbridge.position: %w", err)
	}
	return nil
}

// tryRow finds out whether a row can be written, which is to be known before a replica is
// ready, and not with the next event. It commits nothing, which could have to wait for a
// standby.
func tryRow(ctx context.Context, conn *pgx.Conn, prefix string, r *row) error {
	for _, do := range []func() error{
		func() error { _, err := conn.Exec(ctx, "BEGIN"); return err },
		func() error { return saveRow(ctx, conn, prefix, r, false) },
		func() error { _, err := conn.Exec(ctx, "ROLLBACK"); return err },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// oweGaps remembers that a gap must be announced on every channel, before what
// makes it necessary can be forgotten. Without a row all begin with one anyway. Where
// another replica has made a new slot since this one looked, nothing more is owed.
func oweGaps(ctx context.Context, conn *pgx.Conn, prefix string, reason api.Reason, name string, seen slot) error {
	if _, err := conn.Exec(ctx, `UPDATE pgbridge.position SET owed =
		(SELECT COALESCE(pg_catalog.jsonb_object_agg(c, $2::text), '{}') FROM pg_catalog.unnest(channels) c) WHERE prefix = $1 AND NOT EXISTS
		(SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $3::pg_catalog.name AND COALESCE(s.confirmed_flush_lsn, '0/0') <> $4::text::pg_catalog.pg_lsn)`,
		prefix, string(reason), name, seen.confirmed.String()); err != nil {
		return fmt.Errorf("write pgbridge.position: %w", err)
	}
	return nil
}
