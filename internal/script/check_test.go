package script

import (
	"fmt"
	"strings"
	"testing"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	const routine = "a routine takes no parameters of the script"
	tests := []struct {
		source string
		line   int
		column int
		part   string // of the message
	}{
		{"", 0, 0, "no statement"},
		{"-- only\n;;", 0, 0, "no statement"},
		{"select '\x00'", 1, 9, "zero byte"},
		{"select 'ä\xff'", 1, 10, "not UTF-8"},
		{"select\n 'a", 2, 2, "has no end"},
		{"select 1; select E'a\\'", 1, 18, "has no end"},
		{"select $a$ $b$", 1, 8, "has no end"},
		{"select \"a", 1, 8, "has no end"},
		{"select U&\"a", 1, 8, "has no end"},
		{"select 1 /* /* */", 1, 10, "has no end"},
		{"select (\n(1); select 2", 1, 8, "begins here with ( has no end"},
		{"create procedure p() begin atomic select 1; select case end; select 2", 1, 22, "begins here with begin has no end"},
		{"select 1 \\gset", 1, 10, "command of psql"},
		{"copy t from stdin;\n1\t2\n\\.\n", 3, 1, "command of psql"},
		{"select 1;\r\n\r\nselect $1, $2", 3, 8, "written @name"},
		{"begin", 1, 1, "one transaction"},
		{"begin atomic", 1, 1, "one transaction"},
		{"Start Transaction", 1, 1, "one transaction"},
		{"select 'ä'; /* a */ COMMIT", 1, 21, "one transaction"},
		{"end", 1, 1, "one transaction"},
		{"abort", 1, 1, "one transaction"},
		{"rollback", 1, 1, "one transaction"},
		{"rollback work and chain", 1, 1, "one transaction"},
		{"rollback prepared 'to'", 1, 1, "one transaction"},
		{"prepare transaction 'a'", 1, 1, "one transaction"},
		{"prepare transaction as select 1", 1, 1, "PREPARE: prepared statements"},
		{"set transaction read only", 1, 1, "modes of a transaction"},
		{"set local transaction read only", 1, 1, "modes of a transaction"},
		{"set session characteristics as transaction read only", 1, 1, "modes of a transaction"},
		{"set local session characteristics as transaction read only", 1, 1, "modes of a transaction"},
		{"set search_path = a", 1, 1, "use SET LOCAL"},
		{"set session search_path = a", 1, 1, "use SET LOCAL"},
		{"set role a", 1, 1, "use SET LOCAL"},
		{"set session authorization a", 1, 1, "use SET LOCAL"},
		{"set time zone 'UTC'", 1, 1, "use SET LOCAL"},
		{"reset all", 1, 1, "RESET"},
		{"discard all", 1, 1, "DISCARD"},
		{"load 'a'", 1, 1, "LOAD"},
		{"listen a", 1, 1, "LISTEN"},
		{"unlisten *", 1, 1, "UNLISTEN"},
		{"prepare a as select 1", 1, 1, "PREPARE"},
		{"deallocate all", 1, 1, "DEALLOCATE"},
		{"execute a", 1, 1, "EXECUTE"},
		{"declare a binary no scroll cursor with hold for select 1", 1, 1, "WITH HOLD"},
		{"copy t from '/etc/passwd'", 1, 8, "files and programs"},
		{"copy t to program 'cat'", 1, 8, "files and programs"},
		{"copy t from @file", 1, 8, "files and programs"},
		{"copy t", 1, 1, "FROM STDIN or COPY"},
		{"copy t to stdout (format @f)", 1, 26, "cannot be a parameter"},
		{"copy t to stdout;\ncopy t to stdout", 2, 1, "a second COPY"},
		{"vacuum", 1, 1, "in a transaction"},
		{"create database a", 1, 1, "in a transaction"},
		{"drop tablespace a", 1, 1, "in a transaction"},
		{"alter system set a = 1", 1, 1, "in a transaction"},
		{"create unique index concurrently a on b (c)", 1, 1, "in a transaction"},
		{"drop index concurrently a", 1, 1, "in a transaction"},
		{"reindex database a", 1, 1, "in a transaction"},
		{"reindex (verbose) table concurrently a", 1, 1, "in a transaction"},
		{"notify a, @p", 1, 11, "pg_notify"},
		{"set local a = @p", 1, 15, "set_config"},
		{"create view a as select @p", 1, 25, "takes no parameters"},
		{"create table a (b int default @p)", 1, 31, "takes no parameters"},
		{"do @p", 1, 4, "takes no parameters"},
		{"create function f(int) returns int return @x", 1, 43, routine},
	}
	for _, test := range tests {
		_, err := Parse("test", "test.sql", []byte(test.source))
		faults, ok := err.(Errors)
		if !ok || len(faults) != 1 {
			t.Errorf("Parse(%q) = %v, want one fault", test.source, err)
			continue
		}
		fault := faults[0]
		if fault.File != "test.sql" || fault.Line != test.line || fault.Column != test.column || !strings.Contains(fault.Msg, test.part) {
			t.Errorf("Parse(%q) = %v, want %d:%d: …%s…", test.source, err, test.line, test.column, test.part)
		}
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		"savepoint a; rollback to a; rollback work to savepoint a; rollback transaction to a; release a",
		"set local search_path = a; set constraints all deferred; show search_path",
		"notify a, 'b'; call p(@a); do $$ begin commit; end $$; lock table a",
		"declare a cursor for select @a; declare b cursor without hold for select 1; fetch a; move a; close a",
		"create function f(int) returns int return $1; create function g(int) returns int begin atomic select $1; end",
		"create table a as select @a; create temp table if not exists a (b) as values (@a); explain select @a",
		"select @a; (select @a); with a as (select @a) table a; values (@a); insert into a values (@a)",
		"update a set b = @a; delete from a where b = @a; merge into a using b on true when matched then update set b = @a",
		"reindex table a; create index a on b (c); refresh materialized view concurrently a; analyze; cluster a using b",
		`"begin"; select "commit"; select t.end, t.begin from t`,
	} {
		if _, err := ParseSQL(source); err != nil {
			t.Errorf("ParseSQL(%q): %v", source, err)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Parse("a", "a.sql", []byte("-- speed: high\n-- timeout: soon\nselect $1;\ncommit;\nselect 'a"))
	var got []string
	for line := range strings.Lines(err.Error()) {
		got = append(got, line[:len("a.sql:1:1:")])
	}
	want := "[a.sql:1:1: a.sql:2:1: a.sql:3:8: a.sql:4:1: a.sql:5:8:]"
	if fmt.Sprint(got) != want {
		t.Errorf("faults are\n%v\nat %v, want %s", err, got, want)
	}
}

func TestManyFaults(t *testing.T) {
	t.Parallel()
	_, err := ParseSQL(strings.Repeat("commit;", 1000))
	if faults := err.(Errors); len(faults) != maxFaults+1 {
		t.Errorf("%d faults, want %d", len(faults), maxFaults+1)
	}
}
