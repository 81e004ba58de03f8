package durable

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

// Limits are how far the slot may lag behind the database before a replica is
// not ready. Zero is no limit.
type Limits struct {
	Bytes int64
	Time  time.Duration
}

// exceeded says which limit a lag is over; nil: none.
func (l Limits) exceeded(bytes int64, behind time.Duration) error {
	switch {
	case l.Bytes > 0 && bytes > l.Bytes:
		return fmt.Errorf("%d bytes of the write-ahead log are not confirmed, more than durable.max_lag_bytes: %d", bytes, l.Bytes)
	case l.Time > 0 && behind > l.Time:
		return fmt.Errorf("what was written %s ago is not confirmed, longer than durable.max_lag_time: %s", behind.Round(time.Second), l.Time)
	}
	return nil
}

// maxSamples bounds how many places a clock remembers.
const maxSamples = 1024

// walClock knows when the end of the log was where. A server does not tell how
// old a place in its log is.
type walClock struct{ samples []sample }

type sample struct {
	end wal.LSN
	at  time.Time // by PostgreSQL's clock
}

// behind notes where the log ends now, and returns how long the oldest place
// that is not confirmed has been there, as far as the clock has seen.
func (c *walClock) behind(end, confirmed wal.LSN, now time.Time) time.Duration {
	if n := len(c.samples); n == 0 || c.samples[n-1].end != end {
		c.samples = append(c.samples, sample{end, now})
	}
	first := 0
	for first < len(c.samples) && c.samples[first].end <= confirmed {
		first++
	}
	c.samples = append(c.samples[:0], c.samples[first:]...)
	if len(c.samples) == 0 {
		return 0
	}
	if len(c.samples) > maxSamples { // the oldest one stays
		kept := c.samples[:0]
		for i, s := range c.samples {
			if i%2 == 0 {
				kept = append(kept, s)
			}
		}
		c.samples = kept
	}
	return max(0, now.Sub(c.samples[0].at))
}

// progress is how far a slot is.
type progress struct {
	end, confirmed wal.LSN
	now            time.Time
	missing        []string // slots of standbys for which the server waits
}

// bytes are those of the log that are not confirmed.
func (p *progress) bytes() int64 { return max(0, int64(p.end)-int64(p.confirmed)) }

// progressSQL also finds the standbys that a server of version 17 or newer waits
// for before it sends anything from a slot with failover.
// https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONIZED-STANDBY-SLOTS
const progressSQL = `SELECT pg_catalog.pg_current_wal_lsn()::pg_catalog.text, COALESCE(s.confirmed_flush_lsn, '0/0')::pg_catalog.text, pg_catalog.clock_timestamp(),
	ARRAY(SELECT n FROM pg_catalog.unnest(pg_catalog.string_to_array(COALESCE(pg_catalog.current_setting('synchronized_standby_slots', true), ''), ',')) u,
			pg_catalog.btrim(u, ' "') n
		WHERE n OPERATOR(pg_catalog.<>) '' AND pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(s), 'failover') OPERATOR(pg_catalog.=) 'true'
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots r WHERE r.slot_name OPERATOR(pg_catalog.=) n AND r.slot_type OPERATOR(pg_catalog.=) 'physical' AND r.active))
	FROM pg_catalog.pg_replication_slots s WHERE s.slot_name OPERATOR(pg_catalog.=) $1`

// lookAtProgress returns nil where there is no slot.
func lookAtProgress(ctx context.Context, conn *pgx.Conn, slot string) (*progress, error) {
	var p progress
	var end, confirmed string
	err := conn.QueryRow(ctx, progressSQL, slot).Scan(&end, &confirmed, &p.now, &p.missing)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		p.end, err = wal.ParseLSN(end)
	}
	if err == nil {
		p.confirmed, err = wal.ParseLSN(confirmed)
	}
	if err != nil {
		return nil, fmt.Errorf("look at the lag of the replication slot %s: %w", slot, err)
	}
	return &p, nil
}

// waits says that the server sends nothing, and why; nil: it does not wait.
func (p *progress) waits() error {
	if len(p.missing) == 0 {
		return nil
	}
	return fmt.Errorf("PostgreSQL sends nothing until the standbys that synchronized_standby_slots names are connected: %s", strings.Join(p.missing, ", "))
}
