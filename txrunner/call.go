package txrunner

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/pgbridge/pgbridge/internal/service"
)

// Settings are set in the same round trip as the work. set_config with true
// lasts until the end of the transaction, or until a ROLLBACK TO a savepoint
// from before it.
const (
	roleSQL     = "SELECT pg_catalog.set_config('role', $1, true)"
	noRoleSQL   = "SET LOCAL ROLE NONE"
	settingsSQL = `SELECT pg_catalog.set_config('pgbridge.caller', $1, true),
	pg_catalog.set_config('statement_timeout', $2, true), pg_catalog.set_config('role', $3, true)`
	pinnedSettingsSQL = `SELECT pg_catalog.set_config('pgbridge.caller', $1, true),
	pg_catalog.set_config('statement_timeout', $2, true), pg_catalog.set_config('role', $3, true),
	pg_catalog.set_config('idle_in_transaction_session_timeout', $4, true)`
)

const (
	noRole = "none"
	// serverMargin is how much longer PostgreSQL's own time limits are than
	// ours, so that they decide only where this process cannot.
	serverMargin = 5 * time.Second
)

// call is one run of a program: what a request asks for.
type call struct {
	program  *program
	caller   string // empty: nobody vouches for one
	params   map[string]json.RawMessage
	format   format
	deadline time.Time
	limited  bool       // the deadline is nearer than the longest there is
	id       *messageID // nil: none
}

// checkParams refuses missing and surplus parameters.
func (c *call) checkParams() error {
	for _, name := range c.program.Params {
		if _, ok := c.params[name]; !ok {
			return service.Errorf(service.CodeInvalidRequest, "parameter %q is missing", name)
		}
	}
	if len(c.params) == len(c.program.Params) {
		return nil
	}
	known := make(map[string]bool, len(c.program.Params))
	for _, name := range c.program.Params {
		known[name] = true
	}
	for name := range c.params {
		if !known[name] {
			return service.Errorf(service.CodeInvalidRequest, "the script has no parameter %q", name)
		}
	}
	return nil
}

// encode returns the values of one statement's parameters.
func (c *call) encode(statement int, d *description) ([][]byte, error) {
	names := c.program.Statements[statement].Params
	if len(names) == 0 {
		return nil, nil
	}
	if len(d.params) != len(names) { // a parameter that PostgreSQL does not see
		return nil, service.Errorf(service.CodeInternal, "statement %d has %d parameters, PostgreSQL sees %d", statement+1, len(names), len(d.params))
	}
	values := make([][]byte, len(names))
	for i, name := range names {
		var err error
		if values[i], err = d.params[i].Param(c.params[name]); err != nil {
			return nil, service.Errorf(service.CodeInvalidRequest, "parameter %q: %v", name, err)
		}
	}
	return values, nil
}

// role returns the role that the call runs as, "none" for the login's own.
func (c *call) role() []byte {
	if c.program.Settings.Role == "" {
		return []byte(noRole)
	}
	return []byte(c.program.Settings.Role)
}

// statementTimeout is PostgreSQL's own limit of each statement, in its words.
func statementTimeout(deadline time.Time) []byte {
	return milliseconds(time.Until(deadline) + serverMargin)
}

// milliseconds writes a duration as PostgreSQL reads it, at least 1, as 0 would
// switch the limit off.
func milliseconds(d time.Duration) []byte {
	return strconv.AppendInt(nil, max(1, d.Milliseconds()), 10)
}
