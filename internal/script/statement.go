package script

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Statement is one SQL statement.
type Statement struct {
	// Query has $1, $2 … in the place of the parameters. A COPY takes none: its
	// Query holds them as written and is not for sending, see WithLiterals.
	Query
	Text   string   // as written, without the semicolon; only comments within it
	Params []string // the names, in the order of $1, $2 …, each once
	Line   int      // in the file, where Text begins, from 1
	Copy   *Copy    // nil where the statement is no COPY
	// Cursorable is true for what DECLARE accepts: SELECT, VALUES, TABLE, and
	// WITH where nothing in it writes. SELECT INTO is not.
	Cursorable bool
	// MakesNulls is true where a column of a table may come out as NULL although it
	// holds none, as behind an outer join.
	MakesNulls bool
	// Glued is what may have been meant for parameters, as written: an operator that
	// ends in @ and a name right behind it, =@id.
	Glued []string
}

// LengthWith is about how long the statement becomes with such literals: a parameter can
// stand in it any number of times.
func (s *Statement) LengthWith(values []string) int {
	n := len(s.Text)
	for _, h := range s.origin.holes {
		n += len(values[h.param]) + len("/**//**/")
	}
	return n
}

// WithLiterals returns the statement with the literals in the place of the
// parameters: values[i] for Params[i], as PostgreSQL's quote_nullable made it
// on the same connection. It panics if their number is wrong.
func (s *Statement) WithLiterals(values []string) Query {
	if len(values) != len(s.Params) {
		panic("script: one literal for each parameter is needed")
	}
	// The comments keep a literal apart from a name before it, and from another
	// literal before or after it: 'a' and 'b' on two lines are one literal.
	return s.origin.rewrite(func(h hole) string { return "/**/" + values[h.param] + "/**/" })
}

// Query is SQL that was made from a statement, and the way from a place in it
// back to the file.
type Query struct {
	SQL string

	origin *origin
	widths []int // of what stands for each hole in SQL, in bytes
}

// Place is where something is in a script.
type Place struct {
	Position int // in Statement.Text, in characters from 1
	Line     int // in the file, from 1
	Column   int // in that line, in characters from 1
}

// Locate returns the place of a position that PostgreSQL reports for SQL, which
// is in characters from 1. Within what stands for a parameter it is the
// parameter's @. Positions outside of SQL are taken for its nearer end.
func (q Query) Locate(position int) Place {
	if q.origin == nil {
		return Place{}
	}
	return q.origin.place(q.offset(byteOffset(q.SQL, position)))
}

// offset turns an offset in SQL into one in the statement's text.
func (q Query) offset(at int) int {
	shift := 0 // of the text against SQL, behind the holes so far
	for i, hole := range q.origin.holes {
		begin := hole.start - shift
		if at < begin {
			break
		}
		if at < begin+q.widths[i] {
			return hole.start
		}
		shift += hole.end - hole.start - q.widths[i]
	}
	return at + shift
}

// byteOffset returns where the character of that number begins, from 1.
func byteOffset(s string, position int) int {
	for i := range s {
		if position--; position < 1 {
			return i
		}
	}
	return len(s)
}

// hole is a place in a statement's text where a parameter is used.
type hole struct {
	start, end int
	param      int // index of its name
}

// origin is a statement as it is in the file.
type origin struct {
	text  string
	begin mark // of its first character
	holes []hole
}

// rewrite fills the holes.
func (o *origin) rewrite(fill func(hole) string) Query {
	if len(o.holes) == 0 {
		return Query{SQL: o.text, origin: o}
	}
	var sql strings.Builder
	widths := make([]int, len(o.holes))
	at := 0
	for i, hole := range o.holes {
		sql.WriteString(o.text[at:hole.start])
		filling := fill(hole)
		sql.WriteString(filling)
		widths[i], at = len(filling), hole.end
	}
	sql.WriteString(o.text[at:])
	return Query{SQL: sql.String(), origin: o, widths: widths}
}

// numbered writes $1 for a parameter, apart from what would make it a part of a
// name: for PostgreSQL a$1 is one.
func (o *origin) numbered(h hole) string {
	n := "$" + strconv.Itoa(h.param+1)
	if h.start > 0 && isNamePart(o.text[h.start-1]) {
		return " " + n
	}
	return n
}

func (o *origin) asWritten(h hole) string { return o.text[h.start:h.end] }

func (o *origin) place(offset int) Place {
	at := mark{0, o.begin.line, o.begin.column}.to(o.text, offset)
	return Place{
		Position: 1 + utf8.RuneCountInString(o.text[:offset]),
		Line:     at.line,
		Column:   at.column,
	}
}

// Copy says what a COPY statement does.
type Copy struct {
	In      bool // FROM STDIN, else TO STDOUT
	Format  Format
	Options map[string]Option // those that have a value of one word, by their lower-case names
}

// Option is the value of an option of COPY's.
type Option struct {
	Literal string // a literal of SQL's; empty with Param
	Param   string // the parameter that stands for it
}

// Format is the format of a COPY's data.
type Format uint8

// String returns text, csv or binary.
func (f Format) String() string {
	switch f {
	case CSV:
		return "csv"
	case Binary:
		return "binary"
	}
	return "text"
}

// The formats.
const (
	Text Format = iota
	CSV
	Binary
)
