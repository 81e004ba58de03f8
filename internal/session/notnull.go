package session

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// notNullSQL returns, of tables' columns by OID and number, the places of those that
// cannot be NULL. A column of a view, or of a foreign table, says nothing for certain,
// and where other tables inherit from one, theirs may hold NULL. From 18 on, a
// constraint may have been declared and never validated.
const notNullSQL = `SELECT w.place FROM ROWS FROM (
	pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int2[])
) WITH ORDINALITY AS w(relation, number, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) w.relation AND a.attnum OPERATOR(pg_catalog.=) w.number
JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.relation
WHERE w.number OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND a.attnotnull AND CASE c.relkind
	WHEN 'r' THEN NOT c.relhassubclass
	WHEN 'p' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_partition_tree(c.oid) t
		JOIN pg_catalog.pg_class part ON part.oid OPERATOR(pg_catalog.=) t.relid
		WHERE part.relkind OPERATOR(pg_catalog.=) 'f'::pg_catalog."char")
END AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
	WHERE k.conrelid OPERATOR(pg_catalog.=) w.relation AND k.contype OPERATOR(pg_catalog.=) 'n'::pg_catalog."char"
		AND w.number OPERATOR(pg_catalog.=) ANY (k.conkey) AND NOT k.convalidated)`

// NotNull says of each field whether it is a column of a table that holds no NULL,
// outside a transaction, on a session that is clean. Whether the statement makes NULL
// of one is not for the catalog to say: see script.Statement.MakesNulls.
func (s *Session) NotNull(ctx context.Context, fields []pgconn.FieldDescription) ([]bool, error) {
	relations, numbers := make([]string, len(fields)), make([]string, len(fields))
	for i, f := range fields {
		relations[i] = strconv.FormatUint(uint64(f.TableOID), 10)
		numbers[i] = strconv.Itoa(int(int16(f.TableAttributeNumber))) // a system column's is less than 0
	}
	never := make([]bool, len(fields))
	if len(fields) == 0 {
		return never, nil
	}
	array := func(of []string) []byte { return []byte("{" + strings.Join(of, ",") + "}") }
	err := s.Ask(ctx, 1, notNullSQL, [][]byte{array(relations), array(numbers)}, func(r *Result) error {
		for r.NextRow() {
			if place, err := strconv.Atoi(string(r.Values()[0])); err == nil && 0 < place && place <= len(never) {
				never[place-1] = true
			}
		}
		return nil
	})
	return never, err
}
