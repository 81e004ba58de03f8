package session

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// schema is what the types of a script's prepared statements depend on. It does
// not change.
//
// PostgreSQL refuses a prepared statement that would return other columns than it
// did when it was prepared, but says nothing of parameters that stand for other
// columns by now. So sentinels are prepared beside the statements: a sentinel would
// return the columns of all tables that the statements name, and returns no row.
// Nobody needs a privilege for it, since it reads no table, and it costs what
// executing an empty plan does: PostgreSQL makes the plan anew, and finds that the
// columns are others, only when something has invalidated it.
// https://www.postgresql.org/docs/current/sql-prepare.html#SQL-PREPARE-NOTES
type schema struct {
	sentinels []*pgconn.StatementDescription
	values    [][]byte // parameters of the first sentinel: types of users with their names
	last      int      // the last statement that depends on it; -1: none
	unwatched bool     // there is something that no sentinel can watch
}

const (
	// A transaction locks the tables that its statements name when they are
	// analysed, and so knows them. Indexes and sequences are of no row type. What a
	// view is made of can lie where the role may not look, and cannot change under
	// the view.
	lockedSQL = `SELECT c.oid, c.oid::pg_catalog.regclass, pg_catalog.quote_ident(n.nspname), pg_catalog.quote_ident(c.relname), c.relnatts
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
		WHERE c.reltype OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
		AND c.oid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT l.relation FROM pg_catalog.pg_locks l
			WHERE l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.locktype OPERATOR(pg_catalog.=) 'relation'::pg_catalog.text
			AND l.relation OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid)) ORDER BY c.oid`

	// The types with those that domains and arrays are made of, whose names are
	// shown too.
	typesSQL = `WITH RECURSIVE used AS (SELECT t.oid, t.typbasetype, t.typelem FROM pg_catalog.pg_type t
			WHERE t.oid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])
		UNION SELECT t.oid, t.typbasetype, t.typelem FROM used u JOIN pg_catalog.pg_type t
			ON t.oid OPERATOR(pg_catalog.=) u.typbasetype OR t.oid OPERATOR(pg_catalog.=) u.typelem)
		SELECT oids, oids::pg_catalog.regtype[] FROM (SELECT pg_catalog.array_agg(oid) AS oids FROM used) u`

	// An error, and a volatile function, which is not called before its time.
	movedSQL = ` THEN pg_catalog.set_config('statement_timeout', 'tables or types have changed', true) IS NULL ELSE false END`
	namesSQL = `$1::pg_catalog.regtype[]::pg_catalog.text OPERATOR(pg_catalog.<>) $2::pg_catalog.text`

	describeBegin = "BEGIN ISOLATION LEVEL READ COMMITTED"
)

// relation is a table, view or the like that a statement names.
type relation struct {
	oid     string
	seen    string // its name, as the search path shows it
	kind    string // the name of its row type
	columns int
}

// maxTables bounds what is kept of those that a script names.
const maxTables = 100_000

var errTables = fmt.Errorf("a script that names more than %d tables", maxTables)

func readRelation(row [][]byte) (relation, error) {
	columns, err := strconv.Atoi(string(row[4]))
	return relation{string(row[0]), string(row[1]), string(row[2]) + "." + string(row[3]), columns}, err
}

// sentinels returns the statements that fail when tables are no longer what they
// are now or, the first of them, types are called otherwise. That a table has
// another name by now, or is hidden by one of the same name, shows by its name. The
// OID makes the statement depend on the table.
func sentinels(tables []relation, types bool) (all []string) {
	var columns, moved []string
	width := 0
	if types {
		moved = append(moved, namesSQL)
	}
	end := func() {
		if len(moved) > 0 {
			all = append(all, "SELECT "+strings.Join(columns, ", ")+" WHERE CASE WHEN "+strings.Join(moved, " OR ")+movedSQL)
		}
		columns, moved, width = nil, nil, 0
	}
	for _, t := range tables {
		if width += t.columns; width > maxColumns {
			end()
			width = t.columns
		}
		columns = append(columns, "(NULL::"+t.kind+").*")
		moved = append(moved, fmt.Sprintf("'%s'::pg_catalog.regclass::pg_catalog.text OPERATOR(pg_catalog.<>) %s", t.oid, literal(t.seen)))
	}
	end()
	return all
}

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// appendUserTypes appends the types that a statement takes and returns, but for
// PostgreSQL's own.
func appendUserTypes(types []uint32, d *pgconn.StatementDescription) []uint32 {
	add := func(oid uint32) {
		if oid >= firstUserOID && !slices.Contains(types, oid) {
			types = append(types, oid)
		}
	}
	for _, oid := range d.ParamOIDs {
		add(oid)
	}
	for i := range d.Fields {
		add(d.Fields[i].DataTypeOID)
	}
	return types
}

func oidArray(oids []uint32) []byte {
	dst := []byte{'{'}
	for i, oid := range oids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(oid), 10)
	}
	return append(dst, '}')
}
