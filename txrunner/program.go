package txrunner

import (
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
)

// defaultRetries is how often a script of an isolation level that asks for it
// is run again after a serialization failure or a deadlock.
const defaultRetries = 3

// program is one version of a script, made ready to run, or the SQL of one
// request. It is safe for concurrent use.
type program struct {
	*script.Script
	begin   string // BEGIN with the script's modes
	timeout time.Duration
	retries int
	adhoc   bool
	leaves  bool          // may leave more than settings in its session
	slots   chan struct{} // nil: no limit on runs at a time

	// foreseeable is how many statements, from the first, can be prepared before
	// those in front of them have run, as far as is known.
	foreseeable atomic.Int64

	fetches []bool // by statement: a FETCH, whose rows cannot be foreseen

	// learned describes the statements that cannot be prepared in advance, as
	// they were found when they were last run; nil where they were not.
	learned []atomic.Pointer[description]
}

// description says what one statement takes and returns. It does not change.
type description struct {
	statement *pgconn.StatementDescription // without a name: not prepared
	params    []*rows.Type
	columns   *rows.Columns // nil: it returns no rows, or it is not known
	rowless   bool          // it returns no rows for certain
}

func (d *description) named() bool { return d.statement.Name != "" }

// modes are the modes of a transaction.
type modes struct {
	isolation  script.Isolation // empty: the session's default
	readOnly   *bool
	deferrable *bool
}

func newProgram(s *script.Script, maxTimeout time.Duration) *program {
	p := &program{
		Script:  s,
		begin:   modesOf(s.Settings).begin(),
		timeout: maxTimeout,
		retries: retriesOf(s.Settings),
		leaves:  mayLeave(s),
		fetches: make([]bool, len(s.Statements)),
		learned: make([]atomic.Pointer[description], len(s.Statements)),
	}
	p.foreseeable.Store(int64(len(s.Statements)))
	for i := range s.Statements {
		p.fetches[i] = fetch.MatchString(s.Statements[i].Text)
	}
	if s.Settings.Timeout > 0 {
		p.timeout = min(p.timeout, s.Settings.Timeout)
	}
	if s.Settings.Concurrency > 0 {
		p.slots = make(chan struct{}, s.Settings.Concurrency)
	}
	return p
}

func modesOf(s script.Settings) modes {
	return modes{isolation: s.Isolation, readOnly: s.ReadOnly, deferrable: s.Deferrable}
}

// begin returns the statement that opens such a transaction.
func (m modes) begin() string {
	sql := "BEGIN"
	if m.isolation != "" {
		sql += " ISOLATION LEVEL " + strings.ToUpper(string(m.isolation))
	}
	sql += word(m.readOnly, " READ ONLY", " READ WRITE")
	return sql + word(m.deferrable, " DEFERRABLE", " NOT DEFERRABLE")
}

func word(choice *bool, yes, no string) string {
	switch {
	case choice == nil:
		return ""
	case *choice:
		return yes
	}
	return no
}

func retriesOf(s script.Settings) int {
	switch {
	case s.Retries != nil:
		return *s.Retries
	case s.Isolation == script.Serializable, s.Isolation == script.RepeatableRead:
		return defaultRetries
	}
	return 0
}

// readOnly reports whether the script cannot write, whatever it holds.
func (p *program) readOnly() bool { return p.Settings.ReadOnly != nil && *p.Settings.ReadOnly }

// writes reports whether losing the connection during COMMIT would leave
// anybody in doubt.
func (p *program) writes() bool { return !p.readOnly() }

var (
	// leavings are the words without which a statement leaves nothing but
	// settings behind its transaction, as long as no function does.
	leavings = regexp.MustCompile(`(?i)\b(temp|temporary|pg_temp\w*|hold|do|call)\b|advisory`)
	fetch    = regexp.MustCompile(`(?i)^fetch\b`)
)

func mayLeave(s *script.Script) bool {
	for i := range s.Statements {
		if leavings.MatchString(s.Statements[i].Text) {
			return true
		}
	}
	return false
}
