package script

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"pgregory.net/rapid"
)

const inFailedTransaction = "25P02"

func connect(t *testing.T) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(testContext(t), testenv.Postgres(t).NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// grammar is a session in a failed transaction: PostgreSQL parses what comes
// and does nothing of it.
type grammar struct{ *pgconn.PgConn }

func newGrammar(t *testing.T) grammar {
	t.Helper()
	conn := connect(t)
	_, err := conn.Exec(testContext(t), "begin; select 1/0").ReadAll()
	if conn.TxStatus() != 'E' {
		t.Fatalf("transaction is %c: %v", conn.TxStatus(), err)
	}
	return grammar{conn}
}

// whole parses any number of statements. It returns the error that the parser
// found, nil for none.
func (g grammar) whole(ctx context.Context, sql string) *pgconn.PgError {
	_, err := g.Exec(ctx, sql).ReadAll()
	return syntaxError(err)
}

// piece parses one statement and refuses a second.
func (g grammar) piece(ctx context.Context, sql string) *pgconn.PgError {
	_, err := g.Prepare(ctx, "", sql, nil)
	return syntaxError(err)
}

func syntaxError(err error) *pgconn.PgError {
	at, ok := errors.AsType[*pgconn.PgError](err)
	if err == nil || ok && at.Code == inFailedTransaction {
		return nil
	}
	if !ok {
		return &pgconn.PgError{Message: err.Error()}
	}
	return at
}

// split returns the statements of any text, also of those that no script may
// hold, and whether all of it could be split. It is harmless if nothing in it
// would end the failed transaction.
func split(source string) (statements []Statement, complete, harmless bool) {
	p := parser{script: &Script{source: source}}
	complete, harmless = p.readable(), true
	p.split()
	for _, fault := range p.faults {
		if strings.Contains(fault.Msg, "no end") || strings.Contains(fault.Msg, "psql") {
			complete = false
		}
		harmless = harmless && fault.Msg != oneTransaction
	}
	return p.script.Statements, complete, harmless
}

type fataler interface{ Fatalf(string, ...any) }

// checkGrammar checks that PostgreSQL takes each statement as one exactly if it
// takes the text as a whole, and else finds the same fault at the same place.
func checkGrammar(ctx context.Context, t fataler, g grammar, source string) {
	statements, complete, harmless := split(source)
	if !harmless {
		return
	}
	want := g.whole(ctx, source)
	if !complete {
		if want == nil {
			t.Fatalf("PostgreSQL takes %q, which could not be split", source)
		}
		return
	}
	for i := range statements {
		s := &statements[i]
		if len(s.Params) > 0 {
			return // not the same text
		}
		got := g.piece(ctx, s.SQL)
		if got == nil {
			continue
		}
		if want == nil || got.Code != want.Code || !samePlace(source, s, int(got.Position), int(want.Position)) {
			t.Fatalf("statement %d of %q:\n%v at %d, of the whole:\n%v", i+1, source, got, got.Position, want)
		}
		return
	}
	if want != nil {
		t.Fatalf("PostgreSQL does not take %q: %v at %d; but all of %q", source, want, want.Position, texts(&Script{Statements: statements}))
	}
}

// samePlace compares a position in the statement with one in the source. What
// is the end of the one can be a semicolon in the other, behind comments.
func samePlace(source string, s *Statement, inStatement, inSource int) bool {
	if inStatement == 0 || inSource == 0 {
		return inStatement == inSource
	}
	place, at := s.Locate(inStatement), mark{0, 1, 1}.to(source, byteOffset(source, inSource))
	if place.Line == at.line && place.Column == at.column {
		return true
	}
	return place.Position > utf8.RuneCountInString(s.Text)
}

func TestSplitLikePostgres(t *testing.T) {
	t.Parallel()
	ctx, g := testContext(t), newGrammar(t)
	for _, test := range tricky {
		checkGrammar(ctx, t, g, strings.TrimPrefix(test.source, byteOrderMark))
	}
}

// TestSplitAnything makes texts of what is difficult to take apart.
func TestSplitAnything(t *testing.T) {
	t.Parallel()
	ctx, g := testContext(t), newGrammar(t)
	words := rapid.SampledFrom([]string{
		"'", "'", "''", "E'", `\`, `\'`, "U&", "B'", "n'", `"`, `"`, "$$", "$a$", "$", "a", "ä", "1", ".", " ", "\n", "\r", "\t",
		"/*", "*/", "--", "--\n", "-", "*", "/", "+", "@", "@ ", "<@", ";", ";", ";", "; ", "(", ")", ",", "select 1", "select ",
		"select 'a'", "select E'a'", "\n'b\\'", " as \"a\"", "select $$a$$", " end", " case ", "create procedure p() begin atomic ",
		"create function f() returns int ", "begin atomic ", "end;", "create rule r as on insert to t do also (", "insert into t values (1)", "select 1;",
	})
	rapid.Check(t, func(rt *rapid.T) {
		checkGrammar(ctx, rt, g, strings.Join(rapid.SliceOfN(words, 1, 14).Draw(rt, "words"), ""))
	})
}

// TestRunLikePostgres compares the values of statements that run one by one
// with those of the whole.
func TestRunLikePostgres(t *testing.T) {
	t.Parallel()
	ctx, conn := testContext(t), connect(t)
	body := rapid.StringMatching(`[a;'"\$/*\-\n@( ]{0,8}`)
	literals := rapid.Custom(func(t *rapid.T) string {
		text := body.Draw(t, "body")
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return "E'" + strings.ReplaceAll(text, "'", `\'`) + "'"
		case 1:
			return "$b$" + text + "$b$"
		case 2:
			return "$$" + strings.ReplaceAll(text, "$", "") + "$$"
		case 3:
			return "'a' AS \"" + strings.ReplaceAll(text, `"`, `""`) + `"`
		case 4:
			return "'a' /*" + strings.NewReplacer("*", "", "/", "").Replace(text) + "*/"
		}
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	})
	rapid.Check(t, func(t *rapid.T) {
		source := "select " + strings.Join(rapid.SliceOfN(literals, 1, 6).Draw(t, "literals"), ";select ")
		want, wantErr := values(conn.Exec(ctx, source).ReadAll())
		s, err := ParseSQL(source)
		if err != nil && wantErr == nil {
			t.Fatalf("ParseSQL(%q): %v", source, err)
		} else if err != nil {
			return
		}
		var all []*pgconn.Result
		for i := range s.Statements {
			all = append(all, conn.ExecParams(ctx, s.Statements[i].SQL, nil, nil, nil, nil).Read())
		}
		got, gotErr := values(all, nil)
		if (gotErr == nil) != (wantErr == nil) || gotErr == nil && !slices.Equal(got, want) {
			t.Fatalf("%q is\n%q, %v, as a whole\n%q, %v", source, got, gotErr, want, wantErr)
		}
	})
}

// values returns the first value of each result.
func values(results []*pgconn.Result, err error) (all []string, _ error) {
	for _, result := range results {
		if result.Err != nil {
			return nil, result.Err
		}
		all = append(all, string(result.Rows[0][0]))
	}
	return all, err
}

// TestSplitFilesOfPostgres takes the SQL that PostgreSQL comes with.
func TestSplitFilesOfPostgres(t *testing.T) {
	t.Parallel()
	ctx, g, conn := testContext(t), newGrammar(t), connect(t)
	files := conn.ExecParams(ctx, `
		SELECT regexp_replace(pg_read_file(dir || '/' || file), '^\\echo .*$', '', 'gn'), file
		FROM pg_config AS c, LATERAL (VALUES (setting), (setting || '/extension')) AS d (dir), pg_ls_dir(dir) AS file
		WHERE c.name = 'SHAREDIR' AND file LIKE '%.sql'`, nil, nil, nil, nil).Read()
	if files.Err != nil || len(files.Rows) < 5 {
		t.Fatalf("found %d files: %v", len(files.Rows), files.Err)
	}
	for _, row := range files.Rows {
		source := string(row[0])
		if _, complete, harmless := split(source); !complete || !harmless {
			t.Errorf("%s could not be split", row[1])
		}
		checkGrammar(ctx, t, g, source)
	}
}

func TestLocateLikePostgres(t *testing.T) {
	t.Parallel()
	ctx, conn := testContext(t), connect(t)
	// The mark · stands before what PostgreSQL objects to.
	for _, marked := range []string{
		"select ·a",
		"-- Text.\n\nselect 1;\n  select ·a",
		"select @a::int,\r\n  @b::int, ·c, @a",
		"select 'ä€😀', @größe::text || ·x",
		"/* ä */ /*+ hint */ select 1, /* ä */\n ·x",
		"select 1;\nselect @a::int,\n\n@a::int from ·from t",
		"select @a ·+ @a",
		"select a·@a",
		"select 1 -- @a\n, ·x",
		"\ufeffselect ·x",
		"select @a::int, (·@b::int).x",
		"select @a::int; select 1 +·",
	} {
		begin := strings.Index(marked, "·")
		source := strings.Replace(marked, "·", "", 1)
		statements, _, _ := split(source)
		s := &statements[len(statements)-1]
		_, err := conn.Prepare(ctx, "", s.SQL, nil)
		fault, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || fault.Position == 0 {
			t.Errorf("prepare %q: %v, want an error with its position", s.SQL, err)
			continue
		}
		at := (&parser{script: &Script{source: source}}).top().to(source, begin)
		want := Place{Line: at.line, Column: at.column, Position: 1 + utf8.RuneCountInString(source[strings.LastIndex(source, s.Text):begin])}
		if got := s.Locate(int(fault.Position)); got != want {
			t.Errorf("%v of %q at %d is %+v, want %+v", err, source, fault.Position, got, want)
		}
	}
}

// TestCursorableLikeDeclare compares Cursorable with what DECLARE takes.
func TestCursorableLikeDeclare(t *testing.T) {
	t.Parallel()
	ctx, conn := testContext(t), connect(t)
	if _, err := conn.Exec(ctx, "create table t (a int, b int); create sequence insert; create table source (a int)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"select 1", "SELECT a FROM t FOR UPDATE", "values (1), (2)", "table t", "(select 1)", "((select 1) union table source) order by 1",
		"select 1 into x", "select a into temp x from t", "select 1 as into", "select (select 1) as \"into\" from t",
		"with x as (select 1) select * from x", "with x as (select 1) table x", "with x as (select 1) (select * from x)", "with x as (select 1) values (1)",
		"with recursive x (n) as (select 1 union all select n + 1 from x where n < 3) select n from x",
		"with recursive x (n, m) as (select 1, 1 union all select n + 1, m from x where n < 3) search depth first by n, m set o select n from x",
		"with recursive x (n, m) as (select 1, 1 union all select n + 1, m from x where n < 3) cycle n, m set c to 'y' default 'n' using p, y as (table t) select n from x",
		"with recursive x (n) as (select 1 union all select n + 1 from x where n < 3) search breadth first by n set o cycle n set c using p select n from x",
		"with insert as (select 1), delete (a) as not materialized (select 2) select * from insert", "with x as materialized (table t), y as (values (1)) table y",
		"with x as (insert into t values (1) returning a) select * from x", "with x as (with y as (select 1) select * from y) select * from x",
		"with y as (select 1), x as (with y as (select 1) delete from t returning a) select * from x",
		"with x as (select 1) insert into t select * from x returning a", "with x as (select 1) update t set a = 1", "with x as (select 1) delete from t",
		"with x as (select 1 as a) select a into y from x", "insert into t values (1) returning a", "delete from t returning a", "update t set a = 1 returning a",
		"explain select 1", "show search_path", "create table y as select 1", "fetch c", "execute x", "do ''", "call p()", "analyze", "1", "",
		"select case when true then 1 end",
	} {
		statements, _, _ := split(sql)
		got := len(statements) == 1 && statements[0].Cursorable
		_, err := conn.Exec(ctx, "begin; declare c cursor for "+sql+"; rollback").ReadAll()
		if _, end := conn.Exec(ctx, "rollback").ReadAll(); end != nil {
			t.Fatal(end)
		}
		if want := err == nil; got != want {
			t.Errorf("%q is cursorable: %v, but DECLARE says: %v", sql, got, err)
		}
	}
}
