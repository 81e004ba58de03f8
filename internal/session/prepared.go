package session

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// unknownStatement is the SQLSTATE for a prepared statement that PostgreSQL does
// not know.
const unknownStatement = "26000"

// maxPrepared is how many scripts a connection keeps prepared; the one not used for
// longest makes room.
const maxPrepared = 256

// Prepared is a script that a connection has prepared: its first statements,
// up to one that needs what the statements before it do.
type Prepared struct {
	Statements []*Description
	Stopped    error // why not all that could be; nil: they are, or a COPY follows

	script *Script
	schema schema
	made   time.Time
}

// names returns those of the prepared statements.
func (p *Prepared) names() (all []string) {
	for _, d := range p.Statements {
		all = append(all, d.Statement.Name)
	}
	for _, sentinel := range p.schema.sentinels {
		all = append(all, sentinel.Name)
	}
	return all
}

// Forget makes the next use of a script prepare and describe it again, after what
// it is about has changed.
func (s *Session) Forget(script *Script) {
	element := s.prepared[script]
	if element == nil {
		return
	}
	s.recent.Remove(element)
	delete(s.prepared, script)
	s.unused = append(s.unused, element.Value.(*Prepared).names()...)
}

// remember keeps what was prepared, at the cost of what was not used for
// longest.
func (s *Session) remember(p *Prepared) {
	s.prepared[p.script] = s.recent.PushFront(p)
	if s.recent.Len() > maxPrepared {
		s.Forget(s.recent.Back().Value.(*Prepared).script)
	}
}

func (s *Session) drop(described []*pgconn.StatementDescription) {
	for _, d := range described {
		s.unused = append(s.unused, d.Name)
	}
}

// distrust makes everything be prepared anew, after the server did not know a
// statement: a function can have dropped others as well.
func (s *Session) distrust() {
	unused := s.unused
	for _, statement := range s.fixed {
		unused = append(unused, statement.Name)
	}
	for _, element := range s.prepared {
		unused = append(unused, element.Value.(*Prepared).names()...)
	}
	s.forget()
	s.unused = unused // to free one that is not there is no error
}

// countPrepared is how many statements of ours the server has under a name.
func (s *Session) countPrepared() int {
	n := len(s.fixed) + len(s.unused)
	for _, element := range s.prepared {
		n += len(element.Value.(*Prepared).names())
	}
	return n
}

// fix remembers a statement of our own that was prepared. One that is twice in a round
// trip was prepared twice.
func (s *Session) fix(done *Step, statement *pgconn.StatementDescription) {
	if before := s.fixed[done.SQL]; before != nil {
		s.unused = append(s.unused, before.Name)
	}
	statement.Name = done.name
	s.fixed[done.SQL] = statement
}

// Depends returns the last statement after which [Pipeline.Check] is worth
// sending; -1 means that there is none.
func (p *Prepared) Depends() int { return p.schema.last }

// Checked reports whether [Pipeline.Check] is worth sending after a statement, of a
// script that was prepared just now or before: after the last that depends on
// something, and before that wherever a statement can have changed what the next
// ones are about. One of those that fails for that would leave nobody the chance to
// look, since a rollback takes back the search path and temporary tables.
func (p *Prepared) Checked(i int, fresh bool) bool {
	return i == p.schema.last || i < p.schema.last && (fresh || p.script.moves[i])
}

// newName returns a name that no prepared statement of this connection has had.
func (s *Session) newName() string {
	s.names++
	return fmt.Sprintf("pgbridge_%d", s.names)
}
