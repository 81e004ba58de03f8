package script

import (
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, test := range tricky {
		f.Add(test.source)
	}
	f.Add("-- Text.\n-- role: \"a\"\ncopy (with recursive a as (select @a) search depth first by b set c, d as (table e) select @b) to stdout (format csv)")
	f.Fuzz(func(t *testing.T, source string) {
		if _, err := Parse("a", "a.sql", []byte(source)); err != nil {
			checkFaults(t, source, err)
		}
		s, err := ParseSQL(source)
		if err != nil {
			checkFaults(t, source, err)
			return
		}
		checkPieces(t, source, s)
		for i := range s.Statements {
			checkStatement(t, &s.Statements[i])
		}
	})
}

func checkFaults(t *testing.T, source string, err error) {
	faults, ok := err.(Errors)
	if !ok || len(faults) == 0 {
		t.Fatalf("Parse() = %#v, want faults", err)
	}
	for _, fault := range faults {
		if fault.Line > 1+strings.Count(source, "\n")+strings.Count(source, "\r") || (fault.Line > 0) != (fault.Column > 0) {
			t.Errorf("%v is not in %q", fault, source)
		}
	}
}

// checkPieces checks that the statements and nothing but space, comments and
// semicolons make up the source.
func checkPieces(t *testing.T, source string, s *Script) {
	rest := strings.TrimPrefix(source, byteOrderMark)
	for _, statement := range s.Statements {
		for rest != "" && !begins(rest, statement.Text) {
			rest = rest[between(t, rest):]
		}
		var found bool
		if rest, found = strings.CutPrefix(rest, statement.Text); !found {
			t.Fatalf("%q is not in %q", statement.Text, source)
		}
	}
	for rest != "" {
		rest = rest[between(t, rest):]
	}
}

// begins reports whether the text is next, and not only the same characters in
// a comment.
func begins(rest, text string) bool {
	return strings.HasPrefix(rest, text) && (lex(rest, 0).kind > blockComment || strings.HasPrefix(text, "/*+"))
}

// between returns the length of what may be between two statements.
func between(t *testing.T, rest string) int {
	token := lex(rest, 0)
	if token.kind > blockComment && rest[0] != ';' || token.kind == unfinished {
		t.Fatalf("%q is left over", rest)
	}
	return token.end
}

func checkStatement(t *testing.T, s *Statement) {
	literals := make([]string, len(s.Params))
	for i := range literals {
		literals[i] = "'a''b'"
	}
	for _, q := range []Query{s.Query, s.WithLiterals(literals)} {
		checkWay(t, s, q)
	}
	if len(s.Params) > 0 || strings.HasPrefix(s.SQL, byteOrderMark) {
		return // not to be read again: $1, or a mark that is one only now
	}
	again, err := ParseSQL(s.SQL)
	if err != nil {
		t.Fatalf("ParseSQL(%q), a second time: %v", s.SQL, err)
	}
	if got := texts(again); len(got) != 1 || got[0] != s.SQL {
		t.Errorf("ParseSQL(%q) = %q, want the same again", s.SQL, got)
	}
}

// checkWay checks that the places of a query's characters are in order, begin
// and end with the text, and have the same characters outside of parameters.
func checkWay(t *testing.T, s *Statement, q Query) {
	text, last := []rune(s.Text), Place{Position: 1, Line: s.Line}
	chars := []rune(q.SQL)
	if len(chars) > 2000 {
		return // the loop takes time by the square
	}
	for i := range len(chars) + 1 {
		at := q.Locate(i + 1)
		if at.Position < last.Position || at.Line < last.Line || at.Position > len(text)+1 {
			t.Fatalf("Locate(%d) of %q is %+v after %+v", i+1, q.SQL, at, last)
		}
		if i < len(chars) && text[at.Position-1] != '@' && text[at.Position-1] != chars[i] {
			t.Fatalf("Locate(%d) of %q is %+v of %q", i+1, q.SQL, at, s.Text)
		}
		last = at
	}
	if last.Position != len(text)+1 {
		t.Fatalf("the end of %q is at %+v of %q", q.SQL, last, s.Text)
	}
}
