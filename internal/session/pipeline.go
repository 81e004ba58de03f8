package session

import (
	"cmp"
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// Pipeline sends statements to PostgreSQL and reads their results: everything
// sent between two syncs is one round trip. An error skips what was sent after it
// up to the sync. The zero value with a session is one that is not open. A session
// has one open pipeline at a time.
type Pipeline struct {
	Session *Session
	// ReadOnly says that what ends with Finish or EndPart cannot write: no sequence has
	// moved, unless it is a temporary one.
	ReadOnly bool

	open    bool
	answers answers
	steps   []Step // sent, not read yet
	parts   []int  // where those of each part end
	asked   int    // of portals, and not taken
	left    leftBehind
}

// Open starts a pipeline, if it is not open; ctx ends it with a cancel request.
func (p *Pipeline) Open(ctx context.Context) {
	if p.open {
		return
	}
	s := p.Session
	s.Settle(ctx)
	p.open, p.answers.conn, p.answers.stopped = true, s.Conn, ctx.Err
	p.steps, s.steps = s.steps[:0], nil
	if err := ctx.Err(); err != nil && s.request.err == nil {
		s.request.err = err
		return
	}
	s.watcher.Watch(ctx)
}

// Own sends a statement of our own, prepared from its second use on.
func (p *Pipeline) Own(kind StepKind, sql string, values ...[]byte) {
	p.own(Step{Kind: kind, SQL: sql}, values)
}

// Show is Own for a statement whose result is wanted, a StepShow. It returns so many
// columns; a server that says otherwise is not believed any more.
func (p *Pipeline) Show(columns int, sql string, values ...[]byte) {
	p.own(Step{Kind: StepShow, SQL: sql, columns: columns}, values)
}

func (p *Pipeline) own(s Step, values [][]byte) {
	if statement := p.Session.fixed[s.SQL]; statement != nil {
		s.fields = statement.Fields
		p.run(s, statement.Name, values, false)
		return
	}
	name := p.Session.newName()
	p.prepare(Step{Kind: stepPrepare, SQL: s.SQL, name: name, columns: s.columns}, s.SQL)
	p.run(s, name, values, true)
}

// run executes a prepared statement, and has it described where nobody knows what it
// returns.
func (p *Pipeline) run(s Step, name string, values [][]byte, describe bool) {
	p.Session.request.addRun(name, values, describe)
	p.steps = append(p.steps, s)
}

// prepare parses a statement under the step's name and has it described.
func (p *Pipeline) prepare(s Step, sql string) {
	p.Session.request.addParse(s.name, sql, nil)
	p.Session.request.addDescribe('S', s.name)
	p.steps = append(p.steps, s)
}

// parseAndRun does so with the unnamed statement.
func (p *Pipeline) parseAndRun(s Step, sql string, types []uint32, values [][]byte) {
	p.Session.request.addParse("", sql, types)
	p.run(s, "", values, true)
}

// Plain sends a statement of our own that is not worth preparing.
func (p *Pipeline) Plain(kind StepKind, sql string) {
	p.parseAndRun(Step{Kind: kind, SQL: sql}, sql, nil, nil)
}

// Describe prepares a script's statement under a name, or the empty one.
func (p *Pipeline) Describe(statement int, name, sql string) {
	p.prepare(Step{Kind: StepDescribe, Statement: statement, name: name}, sql)
}

// Execute executes a script's statement; parsed says that it is the unnamed
// statement already.
func (p *Pipeline) Execute(statement int, d *Description, sql string, values [][]byte, parsed bool) {
	step := Step{Kind: StepRun, Statement: statement}
	switch {
	case d.Named():
		step.fields = d.Statement.Fields
		p.run(step, d.Statement.Name, values, !d.Rowless && len(step.fields) == 0)
	case parsed:
		p.run(step, "", values, true)
	default:
		p.parseAndRun(step, sql, nil, values) // it may have other types by now
	}
	p.Session.use()
}

// Waiting reports whether something was sent whose result was not read.
func (p *Pipeline) Waiting() bool { return p.open && len(p.steps) > 0 }

// Query sends a statement that was made of a script's, or of none.
func (p *Pipeline) Query(q *Query) {
	p.Session.use()
	p.parseAndRun(Step{Kind: StepQuery, Query: q, columns: q.Columns}, q.SQL, q.ParamOIDs, q.Params)
}

// Free drops prepared statements.
func (p *Pipeline) Free(names []string) {
	for _, name := range names {
		p.Session.request.addFree(name)
		p.steps = append(p.steps, Step{Kind: stepFree, name: name})
	}
}

// Sync sends what is waiting and reads every result, one round trip. read gets
// those of a script's statements and of the kinds that matter; what it returns
// is returned at the end, unless PostgreSQL reports an error, which is a
// *StepError.
func (p *Pipeline) Sync(read Reader) error {
	p.Session.request.addSync()
	if err := p.Session.request.send(p.answers.stopped, p.Session.Conn); err != nil {
		defer p.read()
		return p.lost(0, err)
	}
	return p.results(read)
}

// read says that there is nothing more to be read.
func (p *Pipeline) read() {
	clear(p.steps) // they hold what clients sent
	p.steps, p.parts = p.steps[:0], nil
	p.Session.request.written(p.Session.Conn)
}

// results reads the results of what was sent, up to the sync.
func (p *Pipeline) results(read Reader) (refused error) {
	defer p.read()
	return p.resultsOf(0, len(p.steps), read)
}

// resultsOf reads those of the steps between two, behind which there is a sync.
func (p *Pipeline) resultsOf(from, to int, read Reader) (refused error) {
	for at := from; at < to; at++ {
		result, err := p.answers.to(p.steps[at].fields, p.steps[at].columns)
		if err == nil && (refused == nil || p.steps[at].cleaning || p.steps[at].Kind == stepPrepare) {
			refused = cmp.Or(refused, p.take(&p.steps[at], result, read))
		}
		if r, ok := result.(*Result); ok && err == nil {
			_, err = r.Close()
		}
		if err == nil {
			continue
		}
		refused = p.lost(at, err)
		if p.Session.Lost() {
			return refused
		}
		if postgres.SQLState(err) == unknownStatement {
			p.Session.distrust()
		}
		break // PostgreSQL skips the others
	}
	if err := p.answers.ready(); err != nil {
		return &StepError{Step{Kind: StepOwn}, err}
	}
	return refused
}

// lost names the step at which an error came.
func (p *Pipeline) lost(at int, err error) error {
	if at < len(p.steps) {
		return &StepError{p.steps[at], err}
	}
	return &StepError{Step{Kind: StepOwn}, err}
}

// take reads one result.
func (p *Pipeline) take(s *Step, result any, read Reader) error {
	switch r := result.(type) {
	case nil:
		return nil
	case *pgconn.StatementDescription:
		if s.Kind == stepPrepare {
			p.Session.fix(s, r)
			return nil
		}
	case *Result:
		if s.Kind == stepLook {
			p.left = readLeft(r, p.Session.login, p.Session.role)
			return nil
		}
	}
	return read(*s, result)
}

// Close ends the pipeline, so that the connection is free. What was sent and not
// waited for is executed.
func (p *Pipeline) Close() {
	if !p.open {
		return
	}
	if len(p.steps) > 0 && !p.Session.Lost() { // or the connection would be out of step
		ignore := func(Step, any) error { return nil }
		if p.asked > 0 { // then all of it was sent
			_ = p.results(ignore)
		} else {
			_ = p.Sync(ignore)
		}
	}
	p.Session.watcher.Unwatch()
	p.Session.request.reset()
	p.Session.steps = p.steps[:0]
	p.open, p.steps, p.parts, p.answers = false, nil, nil, answers{}
}

// Reported tells PostgreSQL's refusal of a statement from a broken connection.
func Reported(err error) bool {
	var report *pgconn.PgError
	return errors.As(err, &report)
}

// AtCommit reports whether an error may have come while COMMIT was executed, where
// one was sent: it did not if PostgreSQL has refused a step before it.
func AtCommit(err error) bool {
	var at *StepError
	return !Reported(err) || !errors.As(err, &at) || at.Step.Kind == StepCommit
}
