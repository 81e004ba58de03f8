package txrunner

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// scriptEntry is a script in the list of all.
type scriptEntry struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Cursor      bool   `json:"cursor,omitempty"` // it can be opened as one
	Description string `json:"description,omitempty"`
}

// scriptDetails is all that a client gets to know of a script.
type scriptDetails struct {
	scriptEntry
	Settings   scriptSettings  `json:"settings"`
	Parameters []parameter     `json:"parameters"`
	Columns    json.RawMessage `json:"columns,omitempty"` // of the last statement
}

// parameter is one parameter with its types, which can differ between the
// statements; none where they are not known before a run.
type parameter struct {
	Name  string   `json:"name"`
	Types []string `json:"types"`
}

type scriptSettings struct {
	Isolation   script.Isolation `json:"isolation,omitempty"`
	ReadOnly    *bool            `json:"read_only,omitempty"`
	Deferrable  *bool            `json:"deferrable,omitempty"`
	Timeout     int64            `json:"timeout_ms,omitempty"`
	Retries     *int             `json:"retries,omitempty"`
	Role        string           `json:"role,omitempty"`
	Concurrency int              `json:"concurrency,omitempty"`
	Buckets     []string         `json:"bucket,omitempty"`
}

func newEntry(p *program) scriptEntry {
	return scriptEntry{Name: p.Name, Kind: p.Kind.String(), Cursor: p.Cursorable(), Description: p.Description}
}

// serveDescribe answers with one script, or with as many of all as fit.
func (r *Runner) serveDescribe(ctx context.Context, to address, request *service.Request) {
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
	f, err := service.ReadFields(request.Data)
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
	if err := onlyEmpty(request.Data); err != nil {
		return nil, err
	}
	p := r.scripts.get(name)
	if p == nil {
		return nil, service.Errorf(service.CodeNotFound, "no script %q", name)
	}
	described, err := r.describeStatements(ctx, p, request.Received.Add(r.config.MaxTimeout))
	if err != nil {
		return nil, err
	}
	details := scriptDetails{scriptEntry: newEntry(p), Settings: settingsOf(p), Parameters: parametersOf(p, described)}
	if last := described[len(described)-1]; last != nil && last.columns != nil {
		details.Columns = last.columns.AppendHeader(nil)
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

// describeStatements asks PostgreSQL; what it cannot tell before a run is nil.
func (r *Runner) describeStatements(ctx context.Context, p *program, deadline time.Time) ([]*description, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	conn, err := r.runs.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	x := &execution{call: &call{program: p}, flow: flow{session: sessionOf(conn.Conn().PgConn())}}
	known, err := x.session.prepare(ctx, p)
	if err != nil {
		return nil, x.failure(ctx, err)
	}
	all := make([]*description, len(p.Statements))
	copy(all, known.statements)
	for i := range all {
		if all[i] == nil {
			all[i] = p.learned[i].Load()
		}
	}
	return all, nil
}

func settingsOf(p *program) scriptSettings {
	s := p.Settings
	return scriptSettings{
		Isolation: s.Isolation, ReadOnly: s.ReadOnly, Deferrable: s.Deferrable, Timeout: s.Timeout.Milliseconds(),
		Retries: s.Retries, Role: s.Role, Concurrency: s.Concurrency, Buckets: s.Buckets,
	}
}

func parametersOf(p *program, described []*description) []parameter {
	all := make([]parameter, len(p.Params))
	for i, name := range p.Params {
		all[i] = parameter{Name: name, Types: []string{}}
		for j, d := range described {
			at := slices.Index(p.Statements[j].Params, name)
			if d == nil || at < 0 || at >= len(d.params) {
				continue
			}
			if kind := d.params[at].Name(); !slices.Contains(all[i].Types, kind) {
				all[i].Types = append(all[i].Types, kind)
			}
		}
	}
	return all
}
