package session

import "time"

// leftBehind is what was found after cleaning. The zero value means that nobody
// knows.
type leftBehind struct {
	known     bool
	strange   bool // only a new session is free of it
	temporary bool // there are temporary tables, or have been
}

// readLeft reads what was left behind in a session that a login began, empty where
// nobody knows who, with a role.
func readLeft(r *Result, login, role string) leftBehind {
	if !r.NextRow() {
		return leftBehind{}
	}
	row := r.Values()
	another := login != "" && string(row[0]) != login
	return leftBehind{known: true, strange: another || string(row[1]) != role, temporary: string(row[2]) != "0"}
}

// judge notes whether the session is clean.
func (s *Session) judge(left leftBehind) {
	mayHave := left.temporary && !s.temporary
	s.temporary = s.temporary || left.temporary // from now on they are always taken away
	s.used = !left.known || left.strange || mayHave
	s.answered = time.Now()
}

// use says that something of a client's is executed.
func (s *Session) use() { s.used, s.untouched = true, false }
