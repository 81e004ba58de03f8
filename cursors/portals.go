package cursors

import (
	"context"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/session"
)

// portal is a cursor as pg_cursors shows it.
type portal struct {
	sql    string
	scroll bool
	hold   bool
}

const portalsSQL = "SELECT name, statement, is_scrollable, is_holdable FROM pg_catalog.pg_cursors"

// listCursors returns the cursors that the transaction has, by name, those that are
// wanted: functions can open any number, of any length.
func listCursors(ctx context.Context, w *execution.Execution, wanted func(name string) bool) (map[string]portal, error) {
	there := make(map[string]portal)
	err := w.Send(ctx, session.Query{SQL: portalsSQL, Columns: 4, Read: func(r *session.Result) error {
		for r.NextRow() {
			v := r.Values()
			if !wanted(string(v[0])) {
				continue
			}
			there[string(v[0])] = portal{string(v[1]), string(v[2]) == "t", string(v[3]) == "t"}
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	return there, w.Sync(ctx)
}
