package durable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Check says how the slot of a prefix is in the connection's database, or what is
// wrong with it.
func Check(ctx context.Context, conn *pgx.Conn, prefix string, limits Limits) (string, error) {
	name, err := slotNameIn(ctx, conn, prefix)
	if err != nil {
		return "", err
	}
	s, err := lookAtSlot(ctx, conn, name)
	switch {
	case err != nil:
		return "", err
	case !s.exists:
		return name + " is not there yet; serve makes it", nil
	case !s.ours:
		return "", foreignSlot(name)
	case s.lost:
		return "", fmt.Errorf("%s is lost: serve makes a new one and announces a gap", name)
	}
	return lagOf(ctx, conn, name, limits)
}

// lagOf is what another session can see of the lag. Where nobody reads the slot
// PostgreSQL 17 and newer know since when; where somebody does, it is how long
// what was confirmed last had waited.
func lagOf(ctx context.Context, conn *pgx.Conn, name string, limits Limits) (string, error) {
	p, err := lookAtProgress(ctx, conn, name)
	if err != nil || p == nil {
		return "", err
	}
	var seconds *float64
	err = conn.QueryRow(ctx, `SELECT EXTRACT(epoch FROM CASE WHEN s.active THEN r.flush_lag
			ELSE pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(s), 'inactive_since')::pg_catalog.timestamptz END)::pg_catalog.float8
		FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid OPERATOR(pg_catalog.=) s.active_pid WHERE s.slot_name OPERATOR(pg_catalog.=) $1`, name).Scan(&seconds)
	if err != nil {
		return "", fmt.Errorf("look at the replication slot %s: %w", name, err)
	}
	reader, err := readerOf(ctx, conn, name)
	if err != nil {
		return "", err
	}
	state, behind, age := "nobody reads it", time.Duration(0), ""
	if reader != "" { // whoever that is
		state = "read by " + reader
	}
	if seconds != nil {
		behind = time.Duration(*seconds * float64(time.Second))
		age = ", " + behind.Round(time.Millisecond).String() + " behind"
	}
	if err := errors.Join(p.waits(), limits.exceeded(p.bytes(), behind)); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Sprintf("%s: %s, %d bytes are not confirmed%s", name, state, p.bytes(), age), nil
}

// CheckRoom says why the server has no slot or no sender left for a prefix. One's own
// slot and who reads it need no other.
func CheckRoom(ctx context.Context, conn *pgx.Conn, prefix string) error {
	name, err := slotNameIn(ctx, conn, prefix)
	if err != nil {
		return err
	}
	var slots, senders int
	err = conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('max_replication_slots')::pg_catalog.int4 OPERATOR(pg_catalog.-)
			(SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name OPERATOR(pg_catalog.<>) $1::pg_catalog.name)::pg_catalog.int4,
		pg_catalog.current_setting('max_wal_senders')::pg_catalog.int4 OPERATOR(pg_catalog.-)
			(SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication r WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s
				WHERE s.slot_name OPERATOR(pg_catalog.=) $1::pg_catalog.name AND s.active_pid OPERATOR(pg_catalog.=) r.pid))::pg_catalog.int4`, name).Scan(&slots, &senders)
	switch {
	case err != nil:
		return fmt.Errorf("count the replication slots: %w", err)
	case slots < 1:
		return errors.New("all replication slots are taken: raise max_replication_slots")
	case senders < 1:
		return errors.New("all senders are taken: raise max_wal_senders")
	}
	return nil
}

func slotNameIn(ctx context.Context, conn *pgx.Conn, prefix string) (string, error) {
	var database uint32
	if err := conn.QueryRow(ctx, "SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()").Scan(&database); err != nil {
		return "", fmt.Errorf("ask for the database: %w", err)
	}
	return SlotName(prefix, database), nil
}

// foreignSlot says that somebody else's slot has our name.
func foreignSlot(name string) error {
	return fmt.Errorf("the replication slot %s is not pgbridge's: it has another plugin or database, is temporary, or has two_phase", name)
}
