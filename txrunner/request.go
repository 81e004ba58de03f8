package txrunner

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/spelling"
)

// asked is what the body of a request to work on a script says.
type asked struct {
	sql     string // only without a script
	params  map[string]json.RawMessage
	format  execution.Format
	timeout time.Duration // zero: none
}

// readAsked decodes it, and leaves the fields that it does not know. Whether SQL is
// looked for says ownSQL.
func readAsked(f service.Fields, ownSQL bool) (a asked, err error) {
	if ownSQL {
		var sql string // or all of a would be on the heap
		if err := f.Read("sql", "a string", &sql); err != nil {
			return a, err
		}
		a.sql = sql
	}
	if a.params, err = f.Object("params"); err != nil {
		return a, err
	}
	rows, err := f.OneOf("rows", "array", "object")
	if err != nil {
		return a, err
	}
	numbers, err := f.OneOf("big_numbers", "number", "string")
	if err != nil {
		return a, err
	}
	a.format = execution.Format{Objects: rows == "object", QuoteBig: numbers == "string"}
	a.timeout, err = f.Duration("timeout_ms")
	return a, err
}

// accepts says why something cannot be done with a script; nil means that it
// can.
type accepts = func(*script.Script) *service.Error

// readCall reads a request to work on a script, of a kind under which its message
// id is stored, and returns the fields that only this kind of work knows. accepts
// refuses scripts.
func (r *Runner) readCall(to target, kind string, request *service.Request, accepts accepts) (*execution.Call, service.Fields, error) {
	f, err := request.Fields()
	if err != nil {
		return nil, nil, err
	}
	a, err := readAsked(f, to.script == "")
	if err != nil {
		return nil, nil, err
	}
	p, err := r.program(to, a.sql, request, accepts)
	if err != nil {
		return nil, nil, err
	}
	request.Runs, request.Script = !r.countsEnds(kind), to.script
	limit := p.Timeout
	if a.timeout > 0 {
		limit = min(limit, a.timeout)
	}
	c := &execution.Call{
		Program: p, Caller: to.caller, Owner: request.Owner, Budget: request.Budget, Params: a.params, Format: a.format,
		Deadline: request.Received.Add(limit), Limited: limit < r.config.MaxTimeout,
	}
	if time.Now().After(c.Deadline) {
		return nil, nil, service.Errorf(service.CodeTimeout, "the time ran out before the request was served")
	}
	if id := request.Header.Get(nats.MsgIdHdr); id != "" {
		if to.tx != nil {
			return nil, nil, pinned.NoMessageID(request)
		}
		c.ID, err = execution.NewMessageID(r.config.Prefix, to.caller, kind, to.script, id, request.Data)
		if err != nil {
			return nil, nil, err
		}
	}
	return c, f, c.CheckParams()
}

// program finds the script, or makes one of the request's own SQL, and refuses
// what the target does not suit.
func (r *Runner) program(to target, sql string, request *service.Request, accepts accepts) (p *execution.Program, err error) {
	if to.script == "" {
		if p, err = r.ownSQL(sql, request); err != nil {
			return nil, err
		}
	} else if p = r.scripts.get(to.script); p == nil {
		return nil, r.noScript(to.script)
	}
	if refusal := accepts(p.Script.Script); refusal != nil {
		what := "field \"sql\""
		if to.script != "" {
			what = fmt.Sprintf("script %q", to.script)
		}
		refusal.Message = what + ": " + refusal.Message
		return nil, refusal
	}
	if to.tx != nil {
		err = r.suits(to.tx, p)
	}
	return p, err
}

// parseCost is about what a byte of SQL takes while it is being looked through, at most.
const parseCost = 48

func (r *Runner) ownSQL(sql string, request *service.Request) (*execution.Program, error) {
	if r.config.SQL == nil {
		return nil, service.Errorf(service.CodeDenied, "requests may not bring their own SQL: the setting sql is off")
	}
	memory := request.Memory()
	defer memory.Close()
	if err := memory.Grow(parseCost * len(sql)); err != nil {
		return nil, service.AsError(err)
	}
	parsed, err := script.ParseSQL(sql)
	if err != nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"sql\": %v", err)
	}
	return execution.NewAdHoc(parsed, r.config.MaxTimeout), nil
}

// suits refuses a script that wants another kind of transaction than the client's,
// and SQL that wants another user.
func (r *Runner) suits(t *pinned.Transaction, p *execution.Program) error {
	if p.AdHoc && r.config.SQL.ConnString != "" {
		return service.Errorf(service.CodeDenied, "requests with their own SQL have a PostgreSQL user of their own, which a pinned transaction does not run as")
	}
	return t.Suits(p.Script.Settings)
}

// noScript says that there is none with this name, and which one may be meant.
func (r *Runner) noScript(name string) *service.Error {
	if meant, ok := spelling.Meant(name, r.scripts.names()); ok {
		return service.Errorf(service.CodeNotFound, "no script %q; is %q meant?", name, meant)
	}
	return service.Errorf(service.CodeNotFound, "no script %q", name)
}
