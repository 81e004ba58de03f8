package durable

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

const maxSlotName = 63

// SlotName returns the name of the slot of a prefix in a database. Slots are
// the whole cluster's, so it holds the database's OID. Different prefixes have
// different names.
func SlotName(prefix string, database uint32) string {
	head := fmt.Sprintf("pgbridge_%d_", database)
	var b strings.Builder
	for _, c := range []byte(prefix) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteByte(c)
		case c == '_':
			b.WriteString("__")
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	if name := head + b.String(); len(name) <= maxSlotName {
		return name
	}
	sum := sha256.Sum256([]byte(prefix))
	return head + "_h" + hex.EncodeToString(sum[:20]) // no encoding above begins so
}

// slot is what PostgreSQL says of a replication slot.
type slot struct {
	exists    bool
	ours      bool // a lasting one of this database with pgoutput, of what has committed
	active    bool
	lost      bool // invalidated: what it kept is gone
	confirmed wal.LSN
}

// A slot with two_phase gives a prepared transaction's messages before anybody knows
// whether it commits, and nothing when it does.
const slotSQL = `SELECT COALESCE(plugin OPERATOR(pg_catalog.=) 'pgoutput' AND database OPERATOR(pg_catalog.=) pg_catalog.current_database(), false)
		AND NOT two_phase AND NOT temporary, active,
	COALESCE(wal_status OPERATOR(pg_catalog.=) 'lost', false) OR pg_catalog.jsonb_extract_path_text(pg_catalog.to_jsonb(s), 'invalidation_reason') IS NOT NULL,
	COALESCE(confirmed_flush_lsn, '0/0')::pg_catalog.text
	FROM pg_catalog.pg_replication_slots s WHERE slot_name OPERATOR(pg_catalog.=) $1::pg_catalog.name`

func lookAtSlot(ctx context.Context, conn *pgx.Conn, name string) (s slot, err error) {
	var confirmed string
	err = conn.QueryRow(ctx, slotSQL, name).Scan(&s.ours, &s.active, &s.lost, &confirmed)
	if errors.Is(err, pgx.ErrNoRows) {
		return slot{}, nil
	}
	if err != nil {
		return slot{}, fmt.Errorf("look at the replication slot %s: %w", name, err)
	}
	s.exists = true
	s.confirmed, err = wal.ParseLSN(confirmed)
	return s, err
}

// createSlot makes the slot. It waits for every transaction that runs. From 17
// on standbys are given it, too.
func createSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	sql := "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput')"
	var version int
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version_num')::integer").Scan(&version); err != nil {
		return err
	}
	if version >= 170000 {
		sql = "SELECT pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput', false, false, true)"
	}
	if _, err := conn.Exec(ctx, sql, name); err != nil {
		return fmt.Errorf("create the replication slot %s: %w", name, err)
	}
	return nil
}

func dropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", name); err != nil {
		return fmt.Errorf("drop the replication slot %s: %w", name, err)
	}
	return nil
}

// dropSlotIf drops the slot unless another replica has made it anew since it was seen, or
// reads it, and reports whether it did.
func dropSlotIf(ctx context.Context, conn *pgx.Conn, name string, seen slot) (bool, error) {
	tag, err := conn.Exec(ctx, `SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots
		WHERE slot_name = $1::pg_catalog.name AND NOT active AND COALESCE(confirmed_flush_lsn, '0/0') = $2::text::pg_catalog.pg_lsn`, name, seen.confirmed.String())
	if err != nil {
		return false, fmt.Errorf("drop the replication slot %s: %w", name, err)
	}
	return tag.RowsAffected() == 1, nil
}

// publicationExists reports whether the publication is there.
func publicationExists(ctx context.Context, conn *pgx.Conn, name string) (there bool, err error) {
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname OPERATOR(pg_catalog.=) $1::pg_catalog.name)", name).Scan(&there)
	return there, err
}
