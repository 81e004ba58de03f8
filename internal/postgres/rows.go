package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/inlet"
)

const (
	// rowsBytes is how much the rows of a statement of our own may have in all.
	rowsBytes = 16 << 20
	// closeLimit is how long saying goodbye to a server may take.
	closeLimit = 2 * time.Second
)

// ReadRows executes one statement of our own as a simple query and returns its rows,
// which have so many columns and hold no NULL. It blocks until the server has answered or
// ctx ends. A server that answers otherwise breaks the protocol: the error is an
// [inlet.ErrForm] and the connection is closed.
func ReadRows(ctx context.Context, conn *pgconn.PgConn, sql string, columns int) (rows [][][]byte, err error) {
	results := conn.Exec(ctx, sql)
	read := 0
	for ; results.NextResult(); read++ {
		if rows, err = takeRows(conn, results.ResultReader(), columns); err != nil {
			return nil, err
		}
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	if read != 1 {
		return nil, giveUp(conn, "%d results of one statement", read)
	}
	return rows, nil
}

// ReadRowsWith is ReadRows with parameters as text, for the unnamed statement.
func ReadRowsWith(ctx context.Context, conn *pgconn.PgConn, sql string, columns int, params ...[]byte) ([][][]byte, error) {
	return takeRows(conn, conn.ExecParams(ctx, sql, params, nil, nil, nil), columns)
}

// Execute executes statements whose results are of no interest.
func Execute(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	return conn.Exec(ctx, sql).Close()
}

// takeRows reads a result to its end.
func takeRows(conn *pgconn.PgConn, r *pgconn.ResultReader, columns int) (rows [][][]byte, err error) {
	bytes := 0
	for r.NextRow() {
		row, err := copyRow(r, columns)
		if err != nil {
			return nil, giveUp(conn, "%w", err)
		}
		for _, v := range row {
			bytes += len(v)
		}
		if bytes += valueBytes * (1 + columns); bytes > rowsBytes {
			return nil, giveUp(conn, "more than %d bytes of rows", rowsBytes)
		}
		rows = append(rows, row)
	}
	if _, err := r.Close(); err != nil {
		return nil, err
	}
	if len(r.FieldDescriptions()) != columns {
		return nil, giveUp(conn, "%d columns, not %d", len(r.FieldDescriptions()), columns)
	}
	return rows, nil
}

// valueBytes is what a value, and a row, takes besides.
const valueBytes = 24

func copyRow(r *pgconn.ResultReader, columns int) ([][]byte, error) {
	values := r.Values()
	if len(values) != columns || len(r.FieldDescriptions()) != columns {
		return nil, fmt.Errorf("a row of %d values in %d columns, not %d", len(values), len(r.FieldDescriptions()), columns)
	}
	row := make([][]byte, columns)
	for i, v := range values {
		if v == nil {
			return nil, fmt.Errorf("NULL in column %d", i+1)
		}
		row[i] = append([]byte{}, v...)
	}
	return row, nil
}

// giveUp closes a connection whose server is not to be believed.
func giveUp(conn *pgconn.PgConn, format string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	_ = conn.Conn().Close() // first: what still comes is not waited for
	_ = conn.Close(ctx)
	return fmt.Errorf("%w: a statement of ours was answered with "+format, append([]any{inlet.ErrForm}, args...)...)
}
