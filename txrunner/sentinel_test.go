package txrunner_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

// What may become of the tables, views and functions that a script names, one by
// one: the next run takes it as it is.
func TestNextRunSeesChange(t *testing.T) {
	t.Parallel()
	wide := func(table string) string {
		columns := make([]string, 900)
		for i := range columns {
			columns[i] = fmt.Sprintf("c%d int", i)
		}
		return "CREATE TABLE " + table + " (" + strings.Join(columns, ", ") + ");"
	}
	for _, c := range []struct {
		what, setup, script, first, change, second, show, want string
	}{
		{
			"a role that may only insert",
			`DO $$ BEGIN CREATE ROLE scribe; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; CREATE TABLE note (v int); GRANT INSERT ON note TO scribe`,
			"-- role: scribe\nINSERT INTO note VALUES (@v)", `"1"`, "ALTER TABLE note ALTER v TYPE text", `"007"`,
			"SELECT string_agg(v, ' ' ORDER BY v DESC) FROM note", "1 007",
		},
		{
			"a table with the name of a type", "CREATE TABLE point (v jsonb)", "INSERT INTO point VALUES (@v)", `"a"`,
			"ALTER TABLE point ALTER v TYPE text", `"b"`, "SELECT string_agg(v, ' ') FROM point", `"a" b`,
		},
		{
			"a name that has to be quoted", `CREATE SCHEMA "Odd's"; CREATE TABLE "Odd's"."a ""b" (v jsonb)`, `INSERT INTO "Odd's"."a ""b" VALUES (@v)`, `"a"`,
			`ALTER TABLE "Odd's"."a ""b" ALTER v TYPE text`, `"b"`, `SELECT string_agg(v, ' ') FROM "Odd's"."a ""b"`, `"a" b`,
		},
		{
			"a change that writes no table", "CREATE TABLE event (at timestamp)", "INSERT INTO event VALUES (@v)", `"2020-01-01 00:00:00"`,
			"SET timezone = 'UTC'; ALTER TABLE event ALTER at TYPE timestamptz", `"2020-01-02 03:04:05+02"`,
			"SELECT max(at AT TIME ZONE 'UTC')::text FROM event", "2020-01-02 01:04:05",
		},
		{
			"more columns than a statement can return", wide("one") + wide("two") + wide("three"),
			"INSERT INTO one (c0) VALUES (1); INSERT INTO three (c0) VALUES (1); INSERT INTO two (c899) VALUES (@v)", `"1"`,
			"ALTER TABLE two ALTER c899 TYPE text", `"007"`, "SELECT string_agg(c899, ' ' ORDER BY c899 DESC) FROM two", "1 007",
		},
		{
			"a table that is hidden by another", "CREATE TABLE seen (v jsonb)", "INSERT INTO seen VALUES (@v)", `"a"`,
			"CREATE SCHEMA AUTHORIZATION CURRENT_USER CREATE TABLE seen (v text)", `"b"`, "SELECT string_agg(v, ' ') FROM seen", "b",
		},
		{
			"a table that takes another's place", "CREATE TABLE place (v jsonb)", "INSERT INTO place VALUES (@v)", `"a"`,
			"ALTER TABLE place RENAME TO former; CREATE TABLE place (v text)", `"b"`, "SELECT string_agg(v, ' ') FROM place", "b",
		},
		{
			"a partitioned table", "CREATE TABLE part (v jsonb, n int) PARTITION BY LIST (n); CREATE TABLE part1 PARTITION OF part DEFAULT", "INSERT INTO part VALUES (@v, 1)", `"a"`,
			"ALTER TABLE part ALTER v TYPE text", `"b"`, "SELECT string_agg(v, ' ') FROM part", `"a" b`,
		},
		{
			"a view on what the role may not see",
			`DO $$ BEGIN CREATE ROLE viewer; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; CREATE SCHEMA hidden; CREATE TABLE hidden.t (v jsonb);
				CREATE VIEW shown AS SELECT v FROM hidden.t; GRANT ALL ON shown TO viewer`,
			"-- role: viewer\nINSERT INTO shown VALUES (@v)", `"a"`,
			"DROP VIEW shown; ALTER TABLE hidden.t ALTER v TYPE text; CREATE VIEW shown AS SELECT v FROM hidden.t; GRANT ALL ON shown TO viewer", `"b"`,
			"SELECT string_agg(v, ' ') FROM hidden.t", `"a" b`,
		},
		{
			"a column that takes arrays now", "CREATE TABLE list (v text)", "INSERT INTO list VALUES (@v)", `"a"`,
			"ALTER TABLE list ALTER v TYPE text[] USING ARRAY[v]", `["b"]`, "SELECT string_agg(v::text, ' ') FROM list", "{a} {b}",
		},
		{
			"a function of other types", "CREATE TABLE said (v text); CREATE FUNCTION say(int) RETURNS text LANGUAGE sql AS 'SELECT $1::text'",
			"INSERT INTO said SELECT say(@v)", `"1"`,
			"DROP FUNCTION say(int); CREATE FUNCTION say(text) RETURNS text LANGUAGE sql AS 'SELECT $1'", `"007"`, "SELECT string_agg(v, ' ' ORDER BY v DESC) FROM said", "1 007",
		},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, map[string]string{"it": c.script})
			w.SQL(c.setup)
			w.Serve(func(c *txrunner.Config) { c.RunConnections, c.Share = 1, 1 })
			w.Ask("run.it", `{"params": {"v": `+c.first+`}}`).Good(t)
			w.SQL(c.change)
			w.Ask("run.it", `{"params": {"v": `+c.second+`}}`).Good(t)
			harness.Equal(t, "what is stored", harness.Value[string](w.World, c.show), c.want)
		})
	}
}
