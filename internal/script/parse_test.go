package script

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// texts returns the statements' texts.
func texts(s *Script) []string {
	all := make([]string, len(s.Statements))
	for i := range s.Statements {
		all[i] = s.Statements[i].Text
	}
	return all
}

func mustParse(t testing.TB, source string) *Script {
	t.Helper()
	s, err := Parse("test", "test.sql", []byte(source))
	if err != nil {
		t.Fatalf("Parse(%q): %v", source, err)
	}
	return s
}

// tricky are texts with the statements they hold. Other tests check the same
// list against psql and PostgreSQL.
var tricky = []struct {
	name, source string
	want         []string
}{
	{"one", "select 1", []string{"select 1"}},
	{"empty statements", ";; select 1 ;\n; /* ; */ ; -- ;\n;select 2;", []string{"select 1", "select 2"}},
	{"string", "select ';''; '; select 2", []string{"select ';''; '", "select 2"}},
	{"backslash in a string", `select '\'; select 2`, []string{`select '\'`, "select 2"}},
	{"escape string", `select E'\';', e'\\'; select 2`, []string{`select E'\';', e'\\'`, "select 2"}},
	{"escape string goes on", "select E'a' -- ';\n  '\\';'; select 2", []string{"select E'a' -- ';\n  '\\';'", "select 2"}},
	{"escape string does not go on", "select E'a' || '\\'; select 2", []string{"select E'a' || '\\'", "select 2"}},
	{"escape string ends at a block comment", "select E'a' /*\n*/ , '\\'; select 2", []string{"select E'a' /*\n*/ , '\\'", "select 2"}},
	{"name before a string", `select fooE'\'; select 2`, []string{`select fooE'\'`, "select 2"}},
	{"unicode string", `select U&'\0041;\'; select 2`, []string{`select U&'\0041;\'`, "select 2"}},
	{"unicode name", `select 1 as U&"a;""\0041"; select 2`, []string{`select 1 as U&"a;""\0041"`, "select 2"}},
	{"u alone", "select u&'1;'; select 2", []string{"select u&'1;'", "select 2"}},
	{"bit strings", "select B'01;', x'1F;', N'a;'; select 2", []string{"select B'01;', x'1F;', N'a;'", "select 2"}},
	{"quoted name", `select 1 as "a;""b'"; select 2`, []string{`select 1 as "a;""b'"`, "select 2"}},
	{"dollars", "select $$;'$$, $a$;$$;$b$;$a$; select 2", []string{"select $$;'$$, $a$;$$;$b$;$a$", "select 2"}},
	{"dollar tags", "select $ä_1$;$ä$;$ä_1$; select 2", []string{"select $ä_1$;$ä$;$ä_1$", "select 2"}},
	{"dollars that overlap", "select $a$ $$a$; select 2", []string{"select $a$ $$a$", "select 2"}},
	{"dollars in names", "select a$$b, c$x$; select 2", []string{"select a$$b, c$x$", "select 2"}},
	{"no dollar quote", "select $a; select 2", []string{"select $a", "select 2"}},
	{"comments", "/* a; /* b; */ c; */ select 1 /*;*/; -- ;\nselect 2 -- ;\n", []string{"select 1", "select 2"}},
	{"comment in stars", "select /**;/**/;**/ 1; select 2", []string{"select /**;/**/;**/ 1", "select 2"}},
	{"comment and slash", "select /*/;*/ 1; select 2", []string{"select /*/;*/ 1", "select 2"}},
	{"comment behind an operator", "select 1+/*;*/2, 3*--;\n4; select 2", []string{"select 1+/*;*/2, 3*--;\n4", "select 2"}},
	{"comment up to a carriage return", "select 1 -- ;\r; select 2", []string{"select 1", "select 2"}},
	{"quote in a comment", "select 1 -- it's\n; /* it's */ select 2", []string{"select 1", "select 2"}},
	{"hint", "/* a */ /*+ SeqScan(t) */ /* b */ select 1; select 2", []string{"/*+ SeqScan(t) */ /* b */ select 1", "select 2"}},
	{"parentheses", "create rule r as on insert to t do (select 1; select 2); select 3",
		[]string{"create rule r as on insert to t do (select 1; select 2)", "select 3"}},
	{"closing parenthesis", "select 1); select 2", []string{"select 1)", "select 2"}},
	{"routine", "create function f() returns int begin atomic select 1; select 2; end; select 3",
		[]string{"create function f() returns int begin atomic select 1; select 2; end", "select 3"}},
	{"routine with CASE", "CREATE OR REPLACE PROCEDURE p() BEGIN /**/ ATOMIC SELECT CASE WHEN true THEN 1 END; END; select 3",
		[]string{"CREATE OR REPLACE PROCEDURE p() BEGIN /**/ ATOMIC SELECT CASE WHEN true THEN 1 END; END", "select 3"}},
	{"routine with END a name", "create procedure p() begin atomic select 2 end; end; select 3",
		[]string{"create procedure p() begin atomic select 2 end; end", "select 3"}},
	{"empty routine", "create procedure p() begin atomic end; select 3", []string{"create procedure p() begin atomic end", "select 3"}},
	{"routine in a routine", "create procedure p() begin atomic create procedure q() begin atomic select 1; end; select 2; end; select 3",
		[]string{"create procedure p() begin atomic create procedure q() begin atomic select 1; end; select 2; end", "select 3"}},
	{"routine in strings", "create function f() returns int language sql as $$ select 1; $$; create function g() returns int return 1; select 3",
		[]string{"create function f() returns int language sql as $$ select 1; $$", "create function g() returns int return 1", "select 3"}},
	{"no routine", "select begin atomic from t; select 2", []string{"select begin atomic from t", "select 2"}},
	{"slices", "select (array[1,2])[1:2]; select 2", []string{"select (array[1,2])[1:2]", "select 2"}},
	{"no space", "select 1;select'a';select\"b\"", []string{"select 1", "select'a'", `select"b"`}},
	{"space", "\f\t\r\n select\v1\f;", []string{"select\v1"}},
	{"no break space", "select\u00a01; select 2", []string{"select\u00a01", "select 2"}},
	{"byte order mark", "\ufeffselect 1; select 2", []string{"select 1", "select 2"}},
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, test := range tricky {
		s, err := Parse("test", "test.sql", []byte(test.source))
		if err != nil {
			t.Errorf("%s: Parse(%q): %v", test.name, test.source, err)
		} else if got := texts(s); !slices.Equal(got, test.want) {
			t.Errorf("%s: statements of %q are\n%q, want\n%q", test.name, test.source, got, test.want)
		}
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	tests := []struct {
		source, sql string
		params      string // joined with spaces
	}{
		{"select @a", "select $1", "a"},
		{"select @a, @b, @a", "select $1, $2, $1", "a b"},
		{"select @A,@a", "select $1,$2", "A a"},
		{"select (@a)", "select ($1)", "a"},
		{"select @a::int", "select $1::int", "a"},
		{"select @_1, @größe", "select $1, $2", "_1 größe"},
		{"select @a$b", "select $1", "a$b"},
		{"select x@a", "select x $1", "a"},
		{"select 1@a", "select 1 $1", "a"},
		{"select 'x'@a", "select 'x'$1", "a"},
		{"select - @a", "select - $1", "a"},
		{"select -/**/@a", "select -/**/$1", "a"},
		{"select 1--\n@a", "select 1--\n$1", "a"},
		{"select [@a:@b]", "select [$1:$2]", "a b"},
		{"select @a@b", "select $1 $2", "a b"},
		{"select @a- @b", "select $1- $2", "a b"},
		{"select a+@b, a<@b, a@@b, a=@b, @-@b, ~@b", "select a+@b, a<@b, a@@b, a=@b, @-@b, ~@b", ""},
		{"select @ b, @1, @-b, @\"b\", @(b), @€", "select @ b, @1, @-b, @\"b\", @(b), @€", ""},
		{"select '@a', \"@a\", E'\\'@a', $$@a$$, $q$@a$q$, U&'@a' /* @a */ -- @a", "select '@a', \"@a\", E'\\'@a', $$@a$$, $q$@a$q$, U&'@a'", ""},
	}
	for _, test := range tests {
		s := mustParse(t, test.source)
		if got := s.Statements[0].SQL; got != test.sql {
			t.Errorf("SQL of %q = %q, want %q", test.source, got, test.sql)
		}
		if got := strings.Join(s.Params, " "); got != test.params {
			t.Errorf("Params of %q = %q, want %q", test.source, got, test.params)
		}
	}
}

func TestParametersOfAScript(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "select @b, @a;\nselect 1;\nselect @a, @c")
	if want := []string{"b", "a", "c"}; !slices.Equal(s.Params, want) {
		t.Errorf("Params = %q, want %q", s.Params, want)
	}
	last := s.Statements[2]
	if want := []string{"a", "c"}; !slices.Equal(last.Params, want) || last.SQL != "select $1, $2" || last.Line != 3 {
		t.Errorf("last statement = %+v, want %q of its own on line 3", last, want)
	}
}

func TestWithLiterals(t *testing.T) {
	t.Parallel()
	s := mustParse(t, "copy (select a@x, @y, 'a'\n@x) to stdout").Statements[0]
	if s.SQL != s.Text {
		t.Errorf("SQL = %q, want it as written", s.SQL)
	}
	q := s.WithLiterals([]string{"'1'", "NULL"})
	want := "copy (select a/**/'1'/**/, /**/NULL/**/, 'a'\n/**/'1'/**/) to stdout"
	if q.SQL != want {
		t.Errorf("SQL = %q, want %q", q.SQL, want)
	}
	at := 1 + strings.Index(want, ") to")
	if got, want := q.Locate(at), (Place{Position: 1 + strings.Index(s.Text, ") to"), Line: 2, Column: 3}); got != want {
		t.Errorf("Locate(%d) = %+v, want %+v", at, got, want)
	}
}

func TestKind(t *testing.T) {
	t.Parallel()
	tests := []struct {
		source     string
		kind       Kind
		format     Format
		cursorable bool
	}{
		{"select 1", Run, Text, true},
		{"create temp table a (b int); copy a from stdin; select 1", CopyIn, Text, false},
		{"COPY a (b, \"from\") FROM STDIN (FORMAT csv, FORCE_NULL (format, b))", CopyIn, CSV, false},
		{"copy a from stdin with (force_null (format, b), header, format 'binary') where format = 'csv'", CopyIn, Binary, false},
		{"copy s.\"to\" to stdin csv header", CopyOut, CSV, false},
		{"copy s.to to stdout where csv", CopyOut, Text, false},
		{"copy binary a from stdout", CopyIn, Binary, false},
		{"copy (select a from b) to stdout (delimiter @d, format \"csv\")", CopyOut, CSV, false},
		{"copy a to stdout", CopyOut, Text, false},
	}
	for _, test := range tests {
		s := mustParse(t, test.source)
		if s.Kind != test.kind || s.Cursorable() != test.cursorable {
			t.Errorf("%q is %v, cursorable %v, want %v, %v", test.source, s.Kind, s.Cursorable(), test.kind, test.cursorable)
		}
		i := s.CopyIndex()
		if (i >= 0) != (test.kind != Run) {
			t.Errorf("CopyIndex() of %q = %d", test.source, i)
		} else if i >= 0 && s.Statements[i].Copy.Format != test.format {
			t.Errorf("format of %q = %v, want %v", test.source, s.Statements[i].Copy.Format, test.format)
		}
	}
}

func TestCopyOptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		source string
		want   map[string]Option
	}{
		{"copy a from stdin", map[string]Option{}},
		{"copy a (quote, \"escape\") from stdin (FORMAT Csv, \"quote\" E'\\x7c', ESCAPE @e, encoding \"Latin\"\"1\", force_null (quote, escape), header)", map[string]Option{
			"format": {Literal: "'csv'"}, "quote": {Literal: `E'\x7c'`}, "escape": {Param: "e"}, "encoding": {Literal: `'Latin"1'`},
		}},
		{"copy a from stdin with (null format, format csv, on_error ignore, delimiter U&\"\\007c\")", map[string]Option{
			"null": {Literal: "'format'"}, "format": {Literal: "'csv'"}, "on_error": {Literal: "'ignore'"}, "delimiter": {Literal: `U&'\007c'`},
		}},
		{"copy a from stdin with csv quote as '|' force not null quote, escape escape '/' force null quote encoding 'sjis' where quote = 'x'", map[string]Option{
			"format": {Literal: "'csv'"}, "quote": {Literal: "'|'"}, "escape": {Literal: "'/'"}, "encoding": {Literal: "'sjis'"},
		}},
	}
	for _, test := range tests {
		s := mustParse(t, test.source)
		if got := s.Statements[0].Copy.Options; !maps.Equal(got, test.want) {
			t.Errorf("options of %q = %v, want %v", test.source, got, test.want)
		}
	}
	for _, source := range []string{"copy a from stdin (format @f)", "copy a from stdin (format $$csv$$)", "copy a from stdin (format E'csv')"} {
		if _, err := ParseSQL(source); err == nil {
			t.Errorf("%s is no fault", source)
		}
	}
}

func TestParseSQL(t *testing.T) {
	t.Parallel()
	s, err := ParseSQL("-- speed: high\nselect @a")
	if err != nil || s.Description != "" || !slices.Equal(s.Params, []string{"a"}) {
		t.Errorf("ParseSQL() = %+v, %v, want a comment to be only that", s, err)
	}
	_, err = ParseSQL("select 1;\n  commit")
	if want := "line 2, column 3: " + oneTransaction; err == nil || err.Error() != want {
		t.Errorf("ParseSQL() = %v, want %s", err, want)
	}
}
