package txrunner

import (
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// address is what the subject of a request says.
type address struct {
	caller string
	script string // empty: the request brings its own SQL
}

// newCall reads a request to run something.
func (r *Runner) newCall(to address, request *service.Request) (*call, error) {
	c, f, err := r.readCall(to, request, runnable)
	if err != nil {
		return nil, err
	}
	return c, f.End()
}

func runnable(s *script.Script) *service.Error {
	if s.Kind == script.Run {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "a COPY cannot be run")
}

// readCall reads what all requests to work on a script have in common, and
// returns the fields that are left. accepts refuses scripts.
func (r *Runner) readCall(to address, request *service.Request, accepts accepts) (*call, service.Fields, error) {
	f, err := service.ReadFields(request.Data)
	if err != nil {
		return nil, nil, err
	}
	c := &call{caller: to.caller}
	if c.program, err = r.program(to, f, accepts); err != nil {
		return nil, nil, err
	}
	if c.params, err = f.Object("params"); err != nil {
		return nil, nil, err
	}
	if err := c.readFormat(f); err != nil {
		return nil, nil, err
	}
	if err := r.readLimit(c, f, request.Received); err != nil {
		return nil, nil, err
	}
	return c, f, c.checkParams()
}

// readLimit reads how much time the call has.
func (r *Runner) readLimit(c *call, f service.Fields, received time.Time) error {
	asked, err := f.Duration("timeout_ms")
	if err != nil {
		return err
	}
	limit := c.program.timeout
	if asked > 0 {
		limit = min(limit, asked)
	}
	c.limited = limit < r.config.MaxTimeout
	c.deadline = received.Add(limit)
	if time.Now().After(c.deadline) {
		return service.Errorf(service.CodeTimeout, "the time ran out before the request was served")
	}
	return nil
}

// accepts says why something cannot be done with a script; nil means that it
// can.
type accepts = func(*script.Script) *service.Error

// program finds the script, or makes one of the request's own SQL.
func (r *Runner) program(to address, f service.Fields, accepts accepts) (*program, error) {
	if to.script == "" {
		return r.adhoc(f, accepts)
	}
	p := r.scripts.get(to.script)
	if p == nil {
		return nil, service.Errorf(service.CodeNotFound, "no script %q", to.script)
	}
	if refusal := accepts(p.Script); refusal != nil {
		refusal.Message = fmt.Sprintf("script %q: %s", to.script, refusal.Message)
		return nil, refusal
	}
	return p, nil
}

func (r *Runner) adhoc(f service.Fields, accepts accepts) (*program, error) {
	if r.config.SQL == nil {
		return nil, service.Errorf(service.CodeDenied, "requests may not bring their own SQL: the setting sql is off")
	}
	var sql string
	if err := f.Read("sql", "a string", &sql); err != nil {
		return nil, err
	}
	parsed, err := script.ParseSQL(sql)
	if err != nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"sql\": %v", err)
	}
	if refusal := accepts(parsed); refusal != nil {
		refusal.Message = "field \"sql\": " + refusal.Message
		return nil, refusal
	}
	p := newProgram(parsed, r.config.MaxTimeout)
	p.adhoc = true
	return p, nil
}

// readFormat reads how the client wants its rows.
func (c *call) readFormat(f service.Fields) error {
	form, err := f.OneOf("rows", "array", "object")
	if err != nil {
		return err
	}
	numbers, err := f.OneOf("big_numbers", "number", "string")
	if err != nil {
		return err
	}
	c.format = format{objects: form == "object", quoteBig: numbers == "string"}
	return nil
}
