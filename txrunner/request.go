package txrunner

import (
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
	f, err := readFields(request.Data)
	if err != nil {
		return nil, err
	}
	c := &call{caller: to.caller}
	if c.program, err = r.program(to, f); err != nil {
		return nil, err
	}
	if c.params, err = f.object("params"); err != nil {
		return nil, err
	}
	if err := c.readFormat(f); err != nil {
		return nil, err
	}
	asked, err := f.duration("timeout_ms")
	if err != nil {
		return nil, err
	}
	if err := f.end(); err != nil {
		return nil, err
	}
	limit := c.program.timeout
	if asked > 0 {
		limit = min(limit, asked)
	}
	c.limited = limit < r.config.MaxTimeout
	c.deadline = request.Received.Add(limit)
	if time.Now().After(c.deadline) {
		return nil, service.Errorf(service.CodeTimeout, "the time ran out before the request was served")
	}
	return c, c.checkParams()
}

// program finds the script, or makes one of the request's own SQL.
func (r *Runner) program(to address, f fields) (*program, error) {
	if to.script == "" {
		return r.adhoc(f)
	}
	p := r.scripts.get(to.script)
	switch {
	case p == nil:
		return nil, service.Errorf(service.CodeNotFound, "no script %q", to.script)
	case p.Kind != script.Run:
		return nil, service.Errorf(service.CodeInvalidRequest, "script %q is a COPY and cannot be run", to.script)
	}
	return p, nil
}

func (r *Runner) adhoc(f fields) (*program, error) {
	if r.config.SQL == nil {
		return nil, service.Errorf(service.CodeDenied, "requests may not bring their own SQL: the setting sql is off")
	}
	var sql string
	if err := f.read("sql", "a string", &sql); err != nil {
		return nil, err
	}
	parsed, err := script.ParseSQL(sql)
	if err != nil {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"sql\": %v", err)
	}
	if parsed.Kind != script.Run {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"sql\": a COPY cannot be run")
	}
	p := newProgram(parsed, r.config.MaxTimeout)
	p.adhoc = true
	return p, nil
}

// readFormat reads how the client wants its rows.
func (c *call) readFormat(f fields) error {
	form, err := f.oneOf("rows", "array", "object")
	if err != nil {
		return err
	}
	numbers, err := f.oneOf("big_numbers", "number", "string")
	if err != nil {
		return err
	}
	c.format = format{objects: form == "object", quoteBig: numbers == "string"}
	return nil
}
