package ledger

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// Oracle tells the order of commits, from a slot of its own.
type Oracle struct {
	seen map[int64]bool // a killed server has the slot tell again what it told
}

const slot = "chaos_oracle"

// NewOracle makes the slot. Nothing before it is told.
func NewOracle(ctx context.Context, conn *pgx.Conn) (*Oracle, error) {
	if _, err := conn.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'test_decoding')", slot); err != nil {
		return nil, fmt.Errorf("make the oracle's slot: %w", err)
	}
	return &Oracle{seen: map[int64]bool{}}, nil
}

const changesSQL = `SELECT data FROM pg_logical_slot_get_changes($1, NULL, NULL, 'include-timestamp', 'on', 'skip-empty-xacts', 'on')
	WHERE data LIKE 'COMMIT %' OR data LIKE 'table public.ledger: INSERT:%'`

var (
	inserted  = regexp.MustCompile(`^table public\.ledger: INSERT: id\[bigint\]:(\d+) channel\[text\]:'(\w+)' kind\[text\]:'(\w+)'`)
	committed = regexp.MustCompile(`^COMMIT \d+ \(at (.*)\)$`)
)

// Read returns what was committed since the last call, in the order of the commits.
func (o *Oracle) Read(ctx context.Context, conn *pgx.Conn) ([]Event, error) {
	rows, err := conn.Query(ctx, changesSQL, slot)
	if err != nil {
		return nil, fmt.Errorf("read the oracle's slot: %w", err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the oracle's slot: %w", err)
	}
	var events, open []Event
	for _, line := range lines {
		if m := inserted.FindStringSubmatch(line); m != nil {
			id, _ := strconv.ParseInt(m[1], 10, 64)
			open = append(open, Event{ID: id, Channel: m[2], Kind: Kind(m[3])})
			continue
		}
		m := committed.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("read the oracle's slot: what is %q?", line)
		}
		at, err := time.Parse("2006-01-02 15:04:05.999999-07", m[1])
		if err != nil {
			return nil, fmt.Errorf("read the oracle's slot: %w", err)
		}
		for _, e := range open {
			if e.Committed = at; !o.seen[e.ID] {
				o.seen[e.ID] = true
				events = append(events, e)
			}
		}
		open = nil
	}
	return events, nil
}

// Table tells what was committed by the ledger alone, as a server has it that was
// promoted: no slot comes along there. It needs a single session that writes, so that
// the order is that of the numbers, and track_commit_timestamp.
type Table struct{ last int64 }

// Read returns what was committed since the last call.
func (t *Table) Read(ctx context.Context, conn *pgx.Conn) ([]Event, error) {
	rows, err := conn.Query(ctx, "SELECT id, channel, kind, pg_xact_commit_timestamp(xmin) FROM ledger WHERE id > $1 ORDER BY id", t.last)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
		return e, row.Scan(&e.ID, &e.Channel, &e.Kind, &e.Committed)
	})
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	for _, e := range events {
		t.last = max(t.last, e.ID)
	}
	return events, nil
}
