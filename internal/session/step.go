package session

import (
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/script"
)

// Step is one thing that was sent and has one result.
type Step struct {
	Kind      StepKind
	Statement int                       // index in the script, for those of a script
	SQL       string                    // for a statement of our own
	Query     *Query                    // for StepQuery
	name      string                    // that it is being prepared under
	cleaning  bool                      // it is for the session's next use
	fields    []pgconn.FieldDescription // what it returns, where PostgreSQL is not asked
	columns   int                       // that a statement of our own returns; 0: whatever it does
}

// StepKind says what was sent.
type StepKind uint8

// The kinds of steps.
const (
	StepOwn      StepKind = iota // our own statement, its result ignored
	StepShow                     // our own statement, its result wanted
	StepCommit                   // COMMIT
	StepDescribe                 // a script's statement is prepared
	StepRun                      // a script's statement is executed
	StepQuery                    // a [Query]
	stepPrepare                  // our own statement gets a name
	stepFree                     // a prepared statement is freed
	stepCheck                    // a sentinel is prepared or executed
	stepLook                     // what was left behind is looked at
)

// Query is a statement that was made of one of a script's, or of none.
type Query struct {
	SQL       string
	Params    [][]byte // in the text format, nil for NULL
	ParamOIDs []uint32 // nil: PostgreSQL finds them
	// Columns is how many a statement of our own returns; 0: whatever it does.
	Columns int
	// Read takes the result while Sync runs. Nil means that it is ignored.
	Read func(*Result) error
	// Statement is the index of the script's statement that it was made of, for
	// error messages, and Locate turns a position in SQL into one there. Both
	// are ignored where Locate is nil.
	Statement int
	Locate    func(position int) script.Place
}

// StepError says which step failed.
type StepError struct {
	Step Step
	Err  error
}

func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns what went wrong.
func (e *StepError) Unwrap() error { return e.Err }

// Reader takes the result of a step: a *Result, or a
// *pgconn.StatementDescription for StepDescribe.
type Reader func(step Step, result any) error
