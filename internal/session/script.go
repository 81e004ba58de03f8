package session

import (
	"regexp"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/script"
)

// Script is one version of a script with what was found out about its
// statements. It is safe for concurrent use.
type Script struct {
	*script.Script

	// foreseeable is how many statements, from the first, can be prepared before
	// those in front of them have run, as far as is known.
	foreseeable atomic.Int64

	fetches []bool // by statement: a FETCH, whose rows cannot be foreseen
	reverts []bool // by statement: a ROLLBACK TO
	moves   []bool // by statement: one whose text says that it can change what others are about

	// learned describes the statements that cannot be prepared in advance, as
	// they were found when they were last run; nil where they were not.
	learned []atomic.Pointer[Description]
}

// Description says what one statement takes and returns. It does not change.
type Description struct {
	Statement *pgconn.StatementDescription // without a name: not prepared
	Params    []*rows.Type
	Columns   *rows.Columns // nil: it returns no rows, or it is not known
	Rowless   bool          // it returns no rows for certain

	made time.Time
}

// Named reports whether the statement is prepared on the connection.
func (d *Description) Named() bool { return d.Statement.Name != "" }

var (
	fetch  = regexp.MustCompile(`(?i)^fetch\b`)
	move   = regexp.MustCompile(`(?i)^(set|do|call|create|alter|drop)\b|\bset_config\b`)
	revert = regexp.MustCompile(`(?i)^rollback\b`) // a script's only TO a savepoint
)

// RollsBack reports whether a statement is ROLLBACK TO.
func (s *Script) RollsBack(i int) bool { return s.reverts[i] }

// NewScript returns a script of whose statements nothing is known.
func NewScript(s *script.Script) *Script {
	known := &Script{
		Script:  s,
		fetches: make([]bool, len(s.Statements)),
		reverts: make([]bool, len(s.Statements)),
		moves:   make([]bool, len(s.Statements)),
		learned: make([]atomic.Pointer[Description], len(s.Statements)),
	}
	known.foreseeable.Store(int64(len(s.Statements)))
	for i := range s.Statements {
		known.fetches[i] = fetch.MatchString(s.Statements[i].Text)
		known.reverts[i] = revert.MatchString(s.Statements[i].Text)
		known.moves[i] = move.MatchString(s.Statements[i].Text)
	}
	return known
}

// Foresee says that only the first n statements can be prepared before any has
// run: they change what the next ones are about.
func (s *Script) Foresee(n int) { s.foreseeable.Store(int64(n)) }

// Learned returns what a statement that cannot be prepared in advance was when it
// was last run; nil means that nobody knows, or not since long.
func (s *Script) Learned(i int) *Description {
	d := s.learned[i].Load()
	if d == nil || time.Since(d.made) > maxAge/2 {
		return nil
	}
	return d
}

// Learn keeps it; nil forgets it.
func (s *Script) Learn(i int, d *Description) { s.learned[i].Store(d) }

// Unlearn forgets all of it.
func (s *Script) Unlearn() {
	for i := range s.learned {
		s.learned[i].Store(nil)
	}
}

const (
	// maxAge is how long what was prepared is believed. It bounds what no sentinel
	// shows: functions, operators and casts that were replaced.
	maxAge = 30 * time.Second
	// firstUserOID is the first OID that is not one of PostgreSQL's own.
	firstUserOID = 16384
	// maxColumns is how many columns one sentinel returns at most; PostgreSQL
	// allows 1664.
	maxColumns = 1600
)
