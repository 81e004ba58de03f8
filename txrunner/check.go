package txrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

// Checked is what PostgreSQL makes of a script.
type Checked struct {
	Name       string
	Kind       string   // run, copy in or copy out
	Cursor     bool     // it can be opened as one
	Parameters []string // each with its types, in the order of their use: "id int8"
	Columns    []string // of the last statement, the same way; none where they are not known before a run
	Foreign    []string // comment lines that are settings of other tools, passed over
	// Later is the number of the first statement, from 1, that can be prepared only
	// when those before it have run; 0 means that there is none.
	Later int
	Fault error // nil: PostgreSQL takes it
}

// Check reads the scripts folder anew, has PostgreSQL prepare every script as
// far as that is possible before it is run, and returns what is wrong, each
// fault with its file and place. It opens one connection, changes nothing, and
// blocks until it is done or ctx ends. It may be called while Run runs or not
// at all.
func (r *Runner) Check(ctx context.Context) []error {
	_, faults := r.look(ctx, nil)
	return faults
}

// CheckScripts is [Runner.Check] for a program that serves nothing: it does
// without config.Requests. It returns what is made of each script, too, in the order
// of their names. While it works it calls progress, which may be nil, with how many of
// them it has looked at.
func CheckScripts(ctx context.Context, config Config, progress func(done, total int)) ([]Checked, []error) {
	r := &Runner{config: config.withDefaults()}
	var f faults
	if r.parseSettings(&f); len(f) > 0 {
		return nil, f
	}
	r.scripts = newScripts(config.Scripts, r.config.MaxTimeout, zap.NewNop())
	return r.look(ctx, progress)
}

func (r *Runner) look(ctx context.Context, progress func(done, total int)) (all []Checked, faults []error) {
	faults = faultsIn(r.scripts.load())
	total := len(*r.scripts.programs.Load())
	err := r.checkPrepared(ctx, func(_ *execution.Program, c Checked) {
		if all = append(all, c); c.Fault != nil {
			faults = append(faults, c.Fault)
		}
		if progress != nil {
			progress(len(all), total)
		}
	}, nil)
	if err != nil {
		faults = append(faults, err)
	}
	return all, faults
}

// checkPrepared says what PostgreSQL makes of the scripts as they were loaded, but
// for those that are known.
func (r *Runner) checkPrepared(ctx context.Context, say func(*execution.Program, Checked), known map[*execution.Program]bool) error {
	var s *session.Session
	for _, name := range r.scripts.names() {
		p := r.scripts.get(name)
		if p == nil || known[p] {
			continue
		}
		if s == nil {
			var err error
			if s, err = session.Connect(ctx, r.settings, session.Limits{Statement: r.config.MaxTimeout, Idle: r.config.MaxTimeout}); err != nil {
				return fmt.Errorf("check the scripts: %w", err)
			}
			defer s.Close()
		}
		c := check(ctx, s, p)
		if s.Lost() || ctx.Err() != nil {
			return errors.New("check the scripts: not finished")
		}
		say(p, c)
	}
	return nil
}

// check prepares one script and forgets it.
func check(ctx context.Context, s *session.Session, p *execution.Program) Checked {
	c := Checked{Name: p.Script.Name, Kind: p.Script.Kind.String(), Cursor: p.Script.Cursorable(), Foreign: p.Script.Foreign}
	described := make([]*session.Description, len(p.Script.Statements))
	known, _, err := s.Prepare(ctx, p.Script)
	if err == nil {
		copy(described, known.Statements)
		if err = known.Stopped; err != nil && mayBeGoodLater(ctx, s, err, p.Script.Statements[:len(known.Statements)]) {
			c.Later, err = len(known.Statements)+1, nil
		}
	}
	s.Forget(p.Script)
	for _, parameter := range parametersOf(p, described) {
		c.Parameters = append(c.Parameters, strings.TrimRight(parameter.Name+" "+strings.Join(parameter.Types, " or "), " "))
	}
	if last := described[len(described)-1]; last != nil && last.Columns != nil {
		var columns []api.Column
		_ = json.Unmarshal(last.Columns.AppendHeader(nil), &columns) // it is our own
		for _, column := range columns {
			c.Columns = append(c.Columns, column.Name+" "+column.Type)
		}
	}
	if err != nil {
		c.Fault = scriptError(p.Script.Script, err)
	}
	return c
}

// schemaKeepers begin statements after which the next ones can be prepared as
// well as before, if no function has changed what there is.
var (
	schemaKeepers = regexp.MustCompile(`(?i)^(SELECT|INSERT|UPDATE|DELETE|MERGE|VALUES|TABLE|WITH|LOCK|SAVEPOINT|RELEASE|ROLLBACK|NOTIFY)\b`)
	setsPath      = regexp.MustCompile(`(?i)\bset_config\s*\(\s*'(search_path|role|session_authorization)'`)
	callsFunction = regexp.MustCompile(`([\w$]+|"(?:[^"]|"")+")\s*\(`)
)

// mayBeGoodLater reports whether a statement that could not be prepared may well be
// when those before it have run: they can make what it is about, or lead the search
// path there.
func mayBeGoodLater(ctx context.Context, s *session.Session, err error, before []script.Statement) bool {
	if postgres.SQLState(err) == "42601" { // syntax_error
		return false
	}
	var functions []string
	for i := range before {
		text := before[i].Text
		if !schemaKeepers.MatchString(text) || setsPath.MatchString(text) {
			return true
		}
		for _, called := range callsFunction.FindAllStringSubmatch(text, -1) {
			functions = append(functions, called[1])
		}
	}
	return len(functions) > 0 && anyVolatile(ctx, s, functions)
}

// volatileSQL looks for functions of users that may do anything.
const volatileSQL = `SELECT 1 FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
	AND p.provolatile OPERATOR(pg_catalog.=) 'v'::pg_catalog."char" AND p.proname OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.name[]) LIMIT 1`

func anyVolatile(ctx context.Context, s *session.Session, names []string) bool {
	list := []byte{'{'}
	for i, name := range names {
		if name[0] == '"' {
			name = strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
		} else {
			name = strings.ToLower(name)
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(list, '"')
		list = append(list, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name)...)
		list = append(list, '"')
	}
	row, err := s.AskRow(ctx, 1, volatileSQL, [][]byte{append(list, '}')})
	return err == nil && row != nil
}

// scriptError says where in a script's file PostgreSQL found a fault.
func scriptError(p *script.Script, err error) error {
	fault := &script.Error{File: p.File, Msg: err.Error()}
	var report *pgconn.PgError
	if !errors.As(err, &report) {
		return fault
	}
	failure := service.FromPostgres(err, false)
	var at *session.StepError
	if errors.As(err, &at) && at.Step.Kind == session.StepDescribe {
		statement := &p.Statements[at.Step.Statement]
		place := statement.Locate(max(1, int(report.Position)))
		fault.Line, fault.Column = place.Line, place.Column
		execution.Explain(failure, statement)
	}
	fault.Msg = fmt.Sprintf("%s (SQLSTATE %s)", failure.Message, report.Code)
	if report.Code == "42601" && report.Position <= 1 { // it may be no SQL at all: a link to a secret, whose first word would be logged
		fault.Msg = "syntax error: no statement begins like this (SQLSTATE 42601)"
	}
	if failure.Hint != "" {
		fault.Msg += ": " + failure.Hint
	}
	return fault
}
