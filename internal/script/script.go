// Package script reads SQL files: one file becomes statements, parameters and
// settings. Nothing else in the program parses SQL.
//
// It splits where PostgreSQL does, with standard_conforming_strings on, and
// knows no more of SQL than that takes, plus the first words of a statement:
//
//   - What is not well formed to PostgreSQL is mostly PostgreSQL's to refuse.
//     Query.Locate finds the place of its error in the file.
//   - What would end the script's transaction, outlive it or cannot run in one
//     is refused here. This is a help for authors and no barrier: a function
//     or a DO block can do the same. What holds in any case is that each
//     statement reaches PostgreSQL alone, through the extended protocol, which
//     refuses a second one.
//   - All faults of a text come at once, each with its place.
//
// What it returns is never changed afterwards, so it is safe for concurrent
// use.
package script

// Kind is what can be done with a script.
type Kind uint8

// The kinds. A script to run whose last statement is Cursorable can also be
// opened as a cursor, and so can one whose last statement returns refcursors,
// which only PostgreSQL can tell.
const (
	Run     Kind = iota // no COPY
	CopyIn              // one COPY … FROM STDIN
	CopyOut             // one COPY … TO STDOUT
)

// String returns run, copy in or copy out.
func (k Kind) String() string {
	switch k {
	case CopyIn:
		return "copy in"
	case CopyOut:
		return "copy out"
	}
	return "run"
}

// Script is what one file holds.
type Script struct {
	Name        string   // as in subjects: the path without .sql, / as a dot
	File        string   // as given to Parse, for messages
	Description string   // lines; a paragraph ends with an empty one
	Params      []string // of all statements, each once, in the order of use
	Settings    Settings
	Foreign     []string    // comment lines that are settings of other tools, passed over
	Statements  []Statement // at least one
	Kind        Kind

	source string
}

// Cursorable reports whether the script can be run and its last statement is
// one that DECLARE accepts.
func (s *Script) Cursorable() bool {
	return s.Kind == Run && s.Statements[len(s.Statements)-1].Cursorable
}

// Text is the script as it was given to Parse, its settings and description
// included.
func (s *Script) Text() string { return s.source }

// CopyIndex returns the index of the COPY among the statements, -1 if the
// script has none.
func (s *Script) CopyIndex() int {
	for i := range s.Statements {
		if s.Statements[i].Copy != nil {
			return i
		}
	}
	return -1
}
