package txrunner

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
)

// Check reads the scripts folder anew, has PostgreSQL prepare every script as
// far as that is possible before it is run, and returns what is wrong, each
// fault with its file and place. It opens one connection, changes nothing, and
// blocks until it is done or ctx ends. It may be called while Run runs or not
// at all.
func (r *Runner) Check(ctx context.Context) []error {
	return append(faultsIn(r.scripts.load()), r.checkPrepared(ctx)...)
}

// CheckScripts is [Runner.Check] for a program that serves nothing: it does
// without config.Requests. It returns the number of scripts beside the faults.
func CheckScripts(ctx context.Context, config Config) (int, []error) {
	r := &Runner{config: config.withDefaults()}
	var f faults
	if r.parseSettings(&f); len(f) > 0 {
		return 0, f
	}
	r.scripts = &scripts{folder: config.Scripts, maxTimeout: r.config.MaxTimeout, log: zap.NewNop()}
	faults := r.Check(ctx)
	return len(r.scripts.names()), faults
}

// checkPrepared returns what PostgreSQL finds wrong with the scripts as they
// were loaded.
func (r *Runner) checkPrepared(ctx context.Context) (faults []error) {
	s, err := r.checkSession(ctx)
	if err != nil {
		return append(faults, fmt.Errorf("check the scripts: %w", err))
	}
	defer s.close()
	for _, name := range r.scripts.names() {
		p := r.scripts.get(name)
		if p == nil {
			continue // gone meanwhile
		}
		if err := s.check(ctx, p); err != nil {
			faults = append(faults, err)
		}
		if s.lost() || ctx.Err() != nil {
			return append(faults, errors.New("check the scripts: not finished"))
		}
	}
	return faults
}

// checkSession connects like a pool does.
func (r *Runner) checkSession(ctx context.Context) (*session, error) {
	config, err := r.settings.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	for setting, value := range sessionSettings(r.config.MaxTimeout, r.config.MaxTimeout) {
		config.RuntimeParams[setting] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := attachSession(rows.NewCatalog())(ctx, conn); err != nil {
		return nil, err
	}
	return sessionOf(conn.PgConn()), nil
}

// check prepares one script and forgets it.
func (s *session) check(ctx context.Context, p *program) error {
	known, err := s.prepare(ctx, p)
	if err == nil {
		err = known.stopped
		if err != nil && mayChangeSchema(p.Statements[:len(known.statements)]) {
			err = nil // it may well work in a run
		}
	}
	s.forgetProgram(p)
	if err == nil {
		return nil
	}
	return scriptError(p, err)
}

// schemaKeepers begin statements after which the next ones can be prepared as
// well as before.
var schemaKeepers = regexp.MustCompile(`(?i)^(SELECT|INSERT|UPDATE|DELETE|MERGE|VALUES|TABLE|WITH|LOCK|SAVEPOINT|RELEASE|ROLLBACK|NOTIFY)\b`)

func mayChangeSchema(statements []script.Statement) bool {
	for i := range statements {
		if !schemaKeepers.MatchString(statements[i].Text) {
			return true
		}
	}
	return false
}

// scriptError says where in a script's file PostgreSQL found a fault.
func scriptError(p *program, err error) error {
	fault := &script.Error{File: p.File, Msg: err.Error()}
	var report *pgconn.PgError
	if !errors.As(err, &report) {
		return fault
	}
	fault.Msg = fmt.Sprintf("%s (SQLSTATE %s)", report.Message, report.Code)
	var at *stepError
	if errors.As(err, &at) && at.kind == stepDescribe {
		place := p.Statements[at.statement].Locate(max(1, int(report.Position)))
		fault.Line, fault.Column = place.Line, place.Column
	}
	if report.Code == "42P08" { // ambiguous_parameter
		fault.Msg += "; a cast such as CAST(@name AS text) settles the type"
	}
	return fault
}
