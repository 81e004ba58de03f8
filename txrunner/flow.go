package txrunner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// flow sends statements to PostgreSQL in a pipeline and reads their results:
// everything sent between two syncs is one round trip. An error skips what was
// sent after it up to the sync.
type flow struct {
	session  *session
	pipeline *pgconn.Pipeline
	steps    []step // sent, not read yet
}

// step is one thing that was sent and has one result.
type step struct {
	kind      stepKind
	statement int    // index in the script, for those of a script
	sql       string // for a statement of our own
	name      string // that it is being prepared under
	query     *Query // an extension's
}

type stepKind uint8

const (
	stepPrepare  stepKind = iota // our own statement gets a name
	stepOwn                      // our own statement, its result ignored
	stepShow                     // our own statement, its result wanted
	stepID                       // the message id is inserted
	stepCommit                   // COMMIT
	stepDescribe                 // a script's statement is prepared
	stepRun                      // a script's statement is executed
	stepFree                     // a prepared statement is freed
	stepQuery                    // an extension's statement
)

// stepError says which step failed.
type stepError struct {
	step
	err error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// reader takes the result of a step: a *pgconn.ResultReader, or a
// *pgconn.StatementDescription for stepDescribe.
type reader func(s step, result any) error

// open starts a pipeline; ctx ends it with a cancel request.
func (f *flow) open(ctx context.Context) {
	f.pipeline = f.session.conn.StartPipeline(ctx)
}

// own sends a statement of our own, prepared from its second use on.
func (f *flow) own(kind stepKind, sql string, values ...[]byte) {
	if statement := f.session.fixed[sql]; statement != nil {
		f.pipeline.SendQueryStatement(statement, values, nil, nil)
	} else {
		name := f.session.newName()
		f.pipeline.SendPrepare(name, sql, nil)
		f.steps = append(f.steps, step{kind: stepPrepare, sql: sql, name: name})
		f.pipeline.SendQueryPrepared(name, values, nil, nil)
	}
	f.steps = append(f.steps, step{kind: kind, sql: sql})
}

// noRows keeps pgconn from asking for the description of a result that has
// no rows, which it does where it knows of no columns.
func noRows() []pgconn.FieldDescription { return make([]pgconn.FieldDescription, 1) }

// neutral undoes what earlier work has set for the session, a function's work
// too. It lasts only if the transaction that begins here commits.
func (f *flow) neutral() {
	f.own(stepOwn, "SET SESSION AUTHORIZATION DEFAULT")
	f.own(stepOwn, "RESET ALL")
	f.own(stepOwn, "SET ROLE NONE") // which RESET ALL leaves, as it does the first
	f.own(stepOwn, "UNLISTEN *")
}

// empty removes what else earlier work has left in the session: with neutral it
// does what DISCARD ALL does, but for what is prepared. It has to come after
// BEGIN, which cannot set modes when a snapshot was taken. Where there is nothing
// to remove it costs a few microseconds.
func (f *flow) empty() {
	f.own(stepOwn, "CLOSE ALL")
	f.own(stepOwn, "DISCARD SEQUENCES")
	f.own(stepOwn, "DISCARD TEMP")
	f.own(stepOwn, "SELECT pg_catalog.pg_advisory_unlock_all()")
}

// plain sends a statement of our own that is not worth preparing.
func (f *flow) plain(kind stepKind, sql string) {
	f.pipeline.SendQueryParams(sql, nil, nil, nil, nil)
	f.steps = append(f.steps, step{kind: kind, sql: sql})
}

// describe prepares a script's statement under a name, or the empty one.
func (f *flow) describe(statement int, name, sql string) {
	f.pipeline.SendPrepare(name, sql, nil)
	f.steps = append(f.steps, step{kind: stepDescribe, statement: statement, name: name})
}

// execute executes a script's statement; parsed says that it is the unnamed
// statement already.
func (f *flow) execute(statement int, d *description, sql string, values [][]byte, parsed bool) {
	switch {
	case d.named():
		f.pipeline.SendQueryStatement(d.statement, values, nil, nil)
	case parsed:
		f.pipeline.SendQueryPrepared("", values, nil, nil)
	default:
		f.pipeline.SendQueryParams(sql, values, d.statement.ParamOIDs, nil, nil)
	}
	f.steps = append(f.steps, step{kind: stepRun, statement: statement})
}

// free drops prepared statements.
func (f *flow) free(names []string) {
	for _, name := range names {
		f.pipeline.SendDeallocate(name)
		f.steps = append(f.steps, step{kind: stepFree, name: name})
	}
}

// sync sends what is waiting and reads every result, one round trip. read gets
// those of a script's statements and of the kinds that matter; what it returns
// is returned at the end, unless PostgreSQL reports an error, which is a
// *stepError.
func (f *flow) sync(read reader) error {
	if err := f.pipeline.Sync(); err != nil {
		defer func() { f.steps = f.steps[:0] }()
		return f.lost(0, err)
	}
	return f.results(read)
}

// results reads the results of what was sent, up to the sync.
func (f *flow) results(read reader) error {
	defer func() { f.steps = f.steps[:0] }()
	var refused error
	at := 0
	for {
		result, err := f.pipeline.GetResults()
		if err != nil {
			failure := f.lost(at, err)
			if f.session.lost() || !reported(err) {
				return failure
			}
			if refused = failure; postgres.SQLState(err) == stateUnknownStatement {
				f.session.distrust()
			}
			continue
		}
		if result == nil {
			return f.lost(at, errors.Join(refused, errNoMoreResults))
		}
		if _, done := result.(*pgconn.PipelineSync); done {
			return refused
		}
		if refused == nil {
			if refused = f.take(f.steps[at], result, read); f.session.lost() {
				return refused
			}
		}
		at++
	}
}

var errNoMoreResults = errors.New("no more results")

// lost names the step at which an error came.
func (f *flow) lost(at int, err error) error {
	if at < len(f.steps) {
		return &stepError{step: f.steps[at], err: err}
	}
	return &stepError{step: step{kind: stepOwn}, err: err}
}

// take reads one result.
func (f *flow) take(s step, result any, read reader) error {
	if s.kind == stepPrepare {
		f.session.fix(s, result)
		return nil
	}
	err := read(s, result)
	if rr, ok := result.(*pgconn.ResultReader); ok {
		if _, closing := rr.Close(); closing != nil {
			return &stepError{step: s, err: closing}
		}
	}
	return err
}

// close ends the pipeline, so that the connection is free.
func (f *flow) close() {
	if f.pipeline != nil {
		_ = f.pipeline.Close() // what failed has been read
		f.pipeline = nil
	}
}

// reported tells PostgreSQL's refusal of a statement from a broken connection.
func reported(err error) bool {
	var report *pgconn.PgError
	return errors.As(err, &report)
}
