package copier

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// textOID is the OID of the type text.
const textOID = 25

// query returns the COPY with literals in the place of its parameters, of which
// it takes none itself. PostgreSQL makes them, on the connection where they are
// used; they have no type, and are coerced as parameters are.
func (k *copying) query(ctx context.Context, w *txrunner.Work) (txrunner.Query, error) {
	statement := &k.script.Statements[k.at]
	values, err := k.values(statement)
	if err != nil {
		return txrunner.Query{}, err
	}
	literals := make([]string, len(values))
	if len(values) > 0 {
		err := w.Send(ctx, txrunner.Query{
			SQL:    quoteSQL(len(values)),
			Params: values, ParamOIDs: repeat(textOID, len(values)),
			Read: func(r *pgconn.ResultReader) error { return readLiterals(r, literals) },
		})
		if err != nil {
			return txrunner.Query{}, err
		}
	}
	if err := w.Sync(ctx); err != nil {
		return txrunner.Query{}, err
	}
	q := statement.WithLiterals(literals)
	return txrunner.Query{SQL: q.SQL, Statement: k.at, Locate: q.Locate}, nil
}

// values are the parameters of a statement as text.
func (k *copying) values(statement *script.Statement) ([][]byte, error) {
	if len(statement.Params) == 0 {
		return nil, nil
	}
	params, err := k.params()
	if err != nil {
		return nil, err
	}
	values := make([][]byte, len(statement.Params))
	for i, name := range statement.Params {
		if values[i], err = k.copier.text.Param(params[name]); err != nil {
			return nil, service.Errorf(service.CodeInvalidRequest, "parameter %q: %v", name, err)
		}
	}
	return values, nil
}

// params are those of the request, which has been found to have all.
func (k *copying) params() (map[string]json.RawMessage, error) {
	f, err := service.ReadFields(k.task.Request.Data)
	if err != nil {
		return nil, err
	}
	return f.Object("params")
}

func quoteSQL(n int) string {
	calls := make([]string, n)
	for i := range calls {
		calls[i] = "pg_catalog.quote_nullable($" + strconv.Itoa(i+1) + ")"
	}
	return "SELECT " + strings.Join(calls, ", ")
}

func repeat(oid uint32, n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = oid
	}
	return all
}

func readLiterals(r *pgconn.ResultReader, into []string) error {
	if !r.NextRow() || len(r.Values()) != len(into) {
		return errors.New("PostgreSQL does not quote parameters")
	}
	for i, literal := range r.Values() {
		into[i] = string(literal)
	}
	return nil
}
