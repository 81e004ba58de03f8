package copier

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// textOID is the OID of the type text.
const textOID = 25

// query returns the COPY with literals in the place of its parameters, of which
// it takes none itself. PostgreSQL makes them, on the connection where they are
// used; they have no type, and are coerced as parameters are.
func (k *copying) query(ctx context.Context, w *execution.Execution) (session.Query, error) {
	statement := &k.script.Statements[k.at]
	values, err := k.values(statement)
	if err != nil {
		return session.Query{}, err
	}
	literals := make([]string, len(values))
	if len(values) > 0 {
		err := w.Send(ctx, session.Query{
			SQL: quoteSQL(len(values)), Columns: len(values),
			Params: values, ParamOIDs: repeat(textOID, len(values)),
			Read: func(r *session.Result) error { return readLiterals(r, literals) },
		})
		if err != nil {
			return session.Query{}, err
		}
	}
	if err := w.Sync(ctx); err != nil {
		return session.Query{}, err
	}
	if k.in() {
		byName := make(map[string]string, len(literals))
		for i, name := range statement.Params {
			byName[name] = literals[i]
		}
		if err := k.askReading(ctx, w, byName); err != nil {
			return session.Query{}, err
		}
		if err := w.Sync(ctx); err != nil {
			return session.Query{}, err
		}
	}
	// It is in memory twice while it is sent.
	if err := k.sql.Set(k.brought + 2*statement.LengthWith(literals)); err != nil {
		return session.Query{}, service.AsError(err)
	}
	q := statement.WithLiterals(literals)
	return session.Query{SQL: q.SQL, Statement: k.at, Locate: q.Locate}, nil
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
	f, err := k.task.Request.Fields()
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

func readLiterals(r *session.Result, into []string) error {
	if !r.NextRow() {
		return errors.New("PostgreSQL does not quote parameters")
	}
	for i, literal := range r.Values() {
		into[i] = string(literal)
	}
	return nil
}

// askReading asks PostgreSQL what the options of the COPY that matter to its
// data mean, if there are any: their values can be written in many ways, and an
// encoding has many names.
func (k *copying) askReading(ctx context.Context, w *execution.Execution, literals map[string]string) error {
	k.reading = reading{format: k.copy().Format, quote: '"'}
	value := func(option string) string {
		o, given := k.copy().Options[option]
		switch {
		case !given:
			return "NULL"
		case o.Param != "":
			return literals[o.Param]
		}
		return o.Literal
	}
	quote, escape, encoding := value("quote"), value("escape"), value("encoding")
	if quote == "NULL" && escape == "NULL" && encoding == "NULL" {
		k.reading.escape = k.reading.quote
		return nil
	}
	statement := k.script.Statements[k.at]
	return w.Send(ctx, session.Query{
		SQL: "SELECT " + quote + ", " + escape +
			", pg_catalog.pg_encoding_to_char(pg_catalog.pg_char_to_encoding(" + encoding + "))",
		Columns: 3, Read: k.reading.read, Statement: k.at,
		Locate: func(int) script.Place { return script.Place{Position: 1, Line: statement.Line} },
	})
}
