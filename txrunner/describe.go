package txrunner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/api/describe"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

func newEntry(p *execution.Program) describe.Script {
	return describe.Script{Name: p.Script.Name, Kind: p.Script.Kind.String(), Cursor: p.Script.Cursorable(), Description: p.Script.Description}
}

// serveDescribe answers with one script, or with as many of all as fit.
func (r *Runner) serveDescribe(ctx context.Context, to target, request *service.Request) {
	var body []byte
	var err error
	if to.script == "" {
		body, err = r.listScripts(request)
	} else {
		body, err = r.describeScript(ctx, to.script, request)
	}
	request.Answer(service.Reply{Data: body}, err)
}

// listScripts lists the scripts after the one that is named, in order. Where
// not all fit one message, next is what to name in the next request.
func (r *Runner) listScripts(request *service.Request) ([]byte, error) {
	f, err := request.Fields()
	if err != nil {
		return nil, err
	}
	var after string
	if err := f.Read("after", "a string", &after); err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	programs := *r.scripts.programs.Load()
	body, limit := []byte(`{"scripts":[`), r.replyLimit()
	last := ""
	for _, name := range r.scripts.names() {
		if name <= after {
			continue
		}
		entry, err := json.Marshal(newEntry(programs[name]))
		if err != nil {
			return nil, fmt.Errorf("encode a script's entry: %w", err)
		}
		if last != "" && len(body)+len(entry) > limit {
			return fmt.Appendf(body, `],"next":%q}`, last), nil
		}
		if last != "" {
			body = append(body, ',')
		}
		body, last = append(body, entry...), name
	}
	return append(body, "]}"...), nil
}

func (r *Runner) describeScript(ctx context.Context, name string, request *service.Request) ([]byte, error) {
	if f, err := request.Fields(); err != nil {
		return nil, err
	} else if err := f.End(); err != nil {
		return nil, err
	}
	p := r.scripts.get(name)
	if p == nil {
		return nil, r.noScript(name)
	}
	described, notNull, err := r.describeStatements(ctx, p, request.Owner, request.Received.Add(r.config.MaxTimeout))
	if err != nil {
		return nil, err
	}
	details, err := details(p, described, notNull)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(details)
	if err != nil {
		return nil, fmt.Errorf("encode a script's description: %w", err)
	}
	if len(body) > r.replyLimit() {
		return nil, service.Errorf(service.CodeTooLarge, "the description does not fit one message")
	}
	return body, nil
}

// describeStatements asks PostgreSQL; what it cannot tell before a run is nil. Of the
// last statement's columns it says which are never NULL.
func (r *Runner) describeStatements(ctx context.Context, p *execution.Program, owner string, deadline time.Time) (all []*session.Description, notNull []bool, err error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	s, err := execution.Acquire(ctx, r.runs, owner, session.Ourselves)
	if err != nil {
		return nil, nil, err
	}
	defer s.GiveBack(false)
	s.Forget(p.Script) // it is asked how things are, and not how they were
	known, _, err := s.Prepare(ctx, p.Script)
	if err != nil {
		return nil, nil, (&execution.Call{Program: p}).Failure(ctx, err)
	}
	all = make([]*session.Description, len(p.Script.Statements))
	copy(all, known.Statements)
	if last := len(all) - 1; all[last] != nil && !p.Script.Statements[last].MakesNulls {
		if notNull, err = s.NotNull(ctx, all[last].Statement.Fields); err != nil {
			return nil, nil, (&execution.Call{Program: p}).Failure(ctx, err)
		}
	}
	for i := range all {
		if all[i] == nil {
			all[i] = p.Script.Learned(i)
		}
	}
	return all, notNull, nil
}

// details is all that a client gets to know of a script.
func details(p *execution.Program, described []*session.Description, notNull []bool) (describe.Description, error) {
	e := newEntry(p)
	d := describe.Description{
		Name: e.Name, Kind: e.Kind, Cursor: e.Cursor, Description: e.Description,
		Settings: settingsOf(p), Parameters: parametersOf(p, described),
	}
	if last := described[len(described)-1]; last != nil && last.Columns != nil {
		if err := json.Unmarshal(last.Columns.AppendHeader(nil), &d.Columns); err != nil {
			return d, fmt.Errorf("describe a script's columns: %w", err)
		}
		for i, never := range notNull {
			d.Columns[i].NotNull = never
		}
	}
	return d, nil
}

func settingsOf(p *execution.Program) describe.Settings {
	s := p.Script.Settings
	return describe.Settings{
		Isolation: string(s.Isolation), ReadOnly: s.ReadOnly, Deferrable: s.Deferrable, TimeoutMS: s.Timeout.Milliseconds(),
		Retries: s.Retries, Role: s.Role, Concurrency: s.Concurrency, Buckets: s.Buckets,
	}
}

func parametersOf(p *execution.Program, described []*session.Description) []describe.Parameter {
	all := make([]describe.Parameter, len(p.Script.Params))
	for i, name := range p.Script.Params {
		all[i] = describe.Parameter{Name: name, Types: []string{}}
		for j, d := range described {
			at := slices.Index(p.Script.Statements[j].Params, name)
			if d == nil || at < 0 || at >= len(d.Params) {
				continue
			}
			if kind := d.Params[at].Name(); !slices.Contains(all[i].Types, kind) {
				all[i].Types = append(all[i].Types, kind)
			}
		}
	}
	return all
}
