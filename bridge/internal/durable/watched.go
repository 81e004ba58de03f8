package durable

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// watchedSQL finds the triggers for rows that pgbridge.watch has made. Of those that
// PostgreSQL has made for partitions only the ones that are disabled say something new.
const watchedSQL = `SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, pg_catalog.encode(t.tgargs, 'hex'), t.tgenabled::pg_catalog.text,
	EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attgenerated OPERATOR(pg_catalog.=) 'v' AND NOT a.attisdropped),
	c.relkind OPERATOR(pg_catalog.=) 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid),
	t.tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
	FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
	WHERE t.tgfoid OPERATOR(pg_catalog.=) pg_catalog.to_regprocedure('pgbridge.watched()') AND (t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR t.tgenabled OPERATOR(pg_catalog.=) ANY ('{D,R}'::pg_catalog."char"[]))
	AND (t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 1) OPERATOR(pg_catalog.=) 1
	ORDER BY 1, 2, t.tgname LIMIT 10000`

// watchedTable is a table that is watched.
type watchedTable struct {
	schema, name string
	arguments    []string // channel, schema and name as they were, and perhaps that only stored columns are told
	enabled      string
	virtual      bool // it has columns that are not stored
	parent       bool // of tables whose rows its triggers do not see
	partition    bool // of the table that is watched
}

// Watched says how many tables are watched in the connection's database, and what is
// wrong with which: it was changed since, or the channel is none of these.
func Watched(ctx context.Context, conn *pgx.Conn, channels []string) (tables int, faults []string, err error) {
	rows, err := conn.Query(ctx, watchedSQL)
	if err != nil {
		return 0, nil, fmt.Errorf("look at the tables that are watched: %w", err)
	}
	all, err := pgx.CollectRows(rows, readWatched)
	if err != nil {
		return 0, nil, fmt.Errorf("look at the tables that are watched: %w", err)
	}
	for _, t := range all {
		if !t.partition {
			tables++
		}
		if fault := t.fault(channels); fault != "" {
			faults = append(faults, fmt.Sprintf("%q.%q %s", t.schema, t.name, fault))
		}
	}
	return tables, faults, nil
}

func readWatched(row pgx.CollectableRow) (t watchedTable, err error) {
	var arguments string
	if err := row.Scan(&t.schema, &t.name, &arguments, &t.enabled, &t.virtual, &t.parent, &t.partition); err != nil {
		return t, err
	}
	text, err := hex.DecodeString(arguments)
	for argument := range strings.SplitAfterSeq(string(text), "\x00") {
		if argument, whole := strings.CutSuffix(argument, "\x00"); whole {
			t.arguments = append(t.arguments, argument)
		}
	}
	return t, err
}

func (t *watchedTable) fault(channels []string) string {
	if len(t.arguments) < 3 {
		return "has a trigger that pgbridge.watch did not make"
	}
	channel, again := t.arguments[0], "; watch it again"
	switch {
	case !slices.Contains(channels, channel) && t.partition: // its parent's trigger says so
	case !slices.Contains(channels, channel):
		return fmt.Sprintf("is watched on %q, which is no durable channel here", channel)
	case t.enabled == "D" || t.enabled == "R":
		return fmt.Sprintf("is watched on %q, and the trigger is disabled", channel)
	case t.arguments[1] != t.schema || t.arguments[2] != t.name:
		return fmt.Sprintf("is called %q.%q in its events on %q", t.arguments[1], t.arguments[2], channel) + again
	case t.virtual && len(t.arguments) < 4:
		return fmt.Sprintf("has virtual columns, which are null in its events on %q", channel) + again
	case t.parent:
		return fmt.Sprintf("has child tables, whose rows have no events on %q", channel)
	}
	return ""
}
