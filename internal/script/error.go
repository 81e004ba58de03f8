package script

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is one fault of a script.
type Error struct {
	File   string // empty for the SQL of a request
	Line   int    // from 1; 0 for the file as a whole
	Column int    // in characters, from 1
	Msg    string
}

// Error returns file:line:column: message, without what is not known.
func (e *Error) Error() string {
	switch {
	case e.Line == 0 && e.File == "":
		return e.Msg
	case e.Line == 0:
		return e.File + ": " + e.Msg
	case e.File == "":
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// Errors are all faults of a script or a folder, in the order of their places.
type Errors []*Error

// Error returns one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, fault := range e {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the faults, for errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, fault := range e {
		all[i] = fault
	}
	return all
}

func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// mark is a place in a text: the offset of a byte, its line and column.
type mark struct{ offset, line, column int }

// to returns the mark of a later offset. Lines end as they do for PostgreSQL:
// with \n, \r or both.
func (m mark) to(source string, offset int) mark {
	for ; m.offset < offset; m.offset++ {
		c := source[m.offset]
		switch {
		case c == '\n', c == '\r' && !strings.HasPrefix(source[m.offset+1:], "\n"):
			m.line, m.column = m.line+1, 1
		case utf8.RuneStart(c):
			m.column++
		}
	}
	return m
}
