package rows

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// lookupSQL finds array types by their output function: int2vector and
// oidvector have element types and the category of arrays, but are not written
// like one.
const lookupSQL = `WITH RECURSIVE wanted AS (
	SELECT oid, typname, typdelim, typbasetype,
		CASE WHEN typoutput OPERATOR(pg_catalog.=) 'pg_catalog.array_out'::pg_catalog.regproc THEN typelem ELSE 0::pg_catalog.oid END AS element
	FROM pg_catalog.pg_type WHERE oid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])
	UNION
	SELECT t.oid, t.typname, t.typdelim, t.typbasetype,
		CASE WHEN t.typoutput OPERATOR(pg_catalog.=) 'pg_catalog.array_out'::pg_catalog.regproc THEN t.typelem ELSE 0::pg_catalog.oid END
	FROM wanted w JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) w.typbasetype OR t.oid OPERATOR(pg_catalog.=) w.element
) SELECT oid, typname, typdelim, typbasetype, element FROM wanted`

// LookupOn returns a Lookup that asks on conn with the unnamed statement: one
// round trip, inside whatever transaction is open there. The connection must be
// free.
func LookupOn(conn *pgconn.PgConn) Lookup {
	return func(ctx context.Context, oids []uint32) ([]TypeRow, error) {
		found, err := postgres.ReadRowsWith(ctx, conn, lookupSQL, 5, oidArray(oids))
		if err != nil {
			return nil, fmt.Errorf("look up %d types in pg_type: %w", len(oids), err)
		}
		rows := make([]TypeRow, len(found))
		for i, values := range found {
			var err error
			if rows[i], err = readTypeRow(values); err != nil {
				return nil, fmt.Errorf("read a row of pg_type: %w", err)
			}
		}
		return rows, nil
	}
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

func readTypeRow(values [][]byte) (TypeRow, error) {
	row := TypeRow{Name: string(values[1]), Delimiter: ','}
	if len(values[2]) == 1 {
		row.Delimiter = values[2][0]
	}
	for column, oid := range map[int]*uint32{0: &row.OID, 3: &row.Base, 4: &row.Element} {
		n, err := strconv.ParseUint(string(values[column]), 10, 32)
		if err != nil {
			return TypeRow{}, err
		}
		*oid = uint32(n)
	}
	return row, nil
}
