package execution

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// Call is what a request asks of a program. It does not change while it is being
// executed.
type Call struct {
	Program  *Program
	Caller   string         // empty: nobody vouches for one
	Owner    string         // whose share of connections and memory it uses
	Budget   *budget.Budget // nil: no limit
	Params   map[string]json.RawMessage
	Format   Format
	Deadline time.Time
	Limited  bool       // the deadline is nearer than the longest there is
	ID       *MessageID // nil: none
}

// Format is how a client wants its rows.
type Format struct {
	Objects  bool // rows as objects instead of arrays
	QuoteBig bool // int8 and numeric as strings
}

// Columns returns the columns as the client wants their values.
func (f Format) Columns(c *rows.Columns) *rows.Columns {
	if f.QuoteBig {
		return c.QuoteBigNumbers()
	}
	return c
}

// readsOnly reports whether nothing of the transaction that the call is made in can write.
func (c *Call) readsOnly() bool { return c.Program.ReadOnly && c.ID == nil }

// CheckParams refuses surplus and missing parameters; the former first, since one that
// is misspelt is both.
func (c *Call) CheckParams() error {
	names, found := c.Program.Script.Params, 0
	missing := ""
	for _, name := range names {
		if _, ok := c.Params[name]; ok {
			found++
		} else if missing == "" {
			missing = name
		}
	}
	if found < len(c.Params) {
		surplus := slices.DeleteFunc(slices.Sorted(maps.Keys(c.Params)), func(name string) bool { return slices.Contains(names, name) })
		return service.Errorf(service.CodeInvalidRequest, "the script has no parameter %q%s", surplus[0], c.Program.misspelt(surplus[0]))
	}
	if missing != "" {
		return service.Errorf(service.CodeInvalidRequest, "parameter %q is missing", missing)
	}
	return nil
}

// errUnsuitable is the cause of an error that a parameter's type is to blame for.
var errUnsuitable = errors.New("the parameter has another type")

// encode returns the values of one statement's parameters.
func (c *Call) encode(statement int, d *session.Description) ([][]byte, error) {
	names := c.Program.Script.Statements[statement].Params
	if len(names) == 0 {
		return nil, nil
	}
	if len(d.Params) != len(names) { // a parameter that PostgreSQL does not see
		return nil, service.Errorf(service.CodeInternal, "statement %d has %d parameters, PostgreSQL sees %d", statement+1, len(names), len(d.Params))
	}
	values := make([][]byte, len(names))
	for i, name := range names {
		var err error
		if values[i], err = d.Params[i].Param(c.Params[name]); err != nil {
			return nil, service.Errorf(service.CodeInvalidRequest, "parameter %q: %v", name, err).WithCause(errUnsuitable)
		}
	}
	return values, nil
}

// literal reports whether the values of a statement's parameters are written the
// same whatever their types are.
func (c *Call) literal(statement int) bool {
	for _, name := range c.Program.Script.Statements[statement].Params {
		if !rows.Literal(c.Params[name]) {
			return false
		}
	}
	return true
}

// MessageID is what makes a request the one that was sent before. The row with
// it is the first thing a transaction writes, so a second transaction with the
// same id waits there for the end of the first.
type MessageID struct {
	Prefix, Caller, Kind, Script, ID string
	Request                          string // the body's hash
}
