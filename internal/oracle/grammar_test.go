//go:build oracle

package oracle

import (
	"fmt"
	"regexp"
	"strings"

	"pgregory.net/rapid"
)

// script is one that may be run: statements with parameters, and for each
// parameter its place.
type script struct {
	name       string
	statements []string
	places     map[string]string // a column, table.column, or a type
	reads      bool              // its last statement can be a cursor's
}

// Tables and columns are few, so that scripts and changes meet.
const columns = 3

// drawScripts draws a folder of scripts. They are few, since what matters is what is
// known of them when they are run again.
func drawScripts(t *rapid.T) []script {
	all := make([]script, 12)
	for i := range all {
		all[i] = rapid.Custom(drawScript).Draw(t, "file")
		all[i].name = fmt.Sprintf("s%d", i)
	}
	return append(all, script{
		name:       "tenant",
		statements: []string{"SELECT set_config('search_path', @path || ', public', true)", "INSERT INTO doc (data) VALUES (@data)", "SELECT data FROM doc ORDER BY ctid"},
		places:     map[string]string{"path": "text", "data": "doc.data"},
		reads:      true,
	})
}

func (s script) text() string { return strings.Join(s.statements, ";\n") + ";\n" }

var parameter = regexp.MustCompile(`@[a-z0-9]+`)

// written is a statement with its parameters' values in it.
func (s script) written(statement string, values map[string]value) string {
	return parameter.ReplaceAllStringFunc(statement, func(name string) string { return values[name[1:]].SQL })
}

func drawScript(t *rapid.T) script {
	s := script{places: map[string]string{}}
	if rapid.IntRange(0, 2).Draw(t, "is counted") == 0 {
		s.statements = append(s.statements, counting)
	}
	for range rapid.IntRange(1, 3).Draw(t, "statements") {
		if rapid.IntRange(0, 9).Draw(t, "is a FETCH") == 0 {
			s.statements = append(s.statements, fmt.Sprintf("DECLARE k%d CURSOR FOR SELECT * FROM t%[1]d ORDER BY id", rapid.IntRange(0, 1).Draw(t, "cursor")))
			s.statements = append(s.statements, "FETCH ALL FROM "+strings.Fields(s.statements[len(s.statements)-1])[1])
			continue
		}
		s.statements = append(s.statements, s.drawStatement(t))
	}
	s.reads = strings.HasPrefix(s.statements[len(s.statements)-1], "SELECT") || strings.HasPrefix(s.statements[len(s.statements)-1], "VALUES")
	return s
}

// counting leaves a trace that no rollback takes back.
const counting = "SELECT nextval('turns') > 0 AS counted"

// param takes a new parameter for a place.
func (s *script) param(place string) string {
	name := fmt.Sprintf("p%d", len(s.places))
	s.places[name] = place
	return "@" + name
}

func (s *script) drawStatement(t *rapid.T) string {
	table := rapid.SampledFrom([]string{"t0", "t1"}).Draw(t, "table")
	column := fmt.Sprintf("c%d", rapid.IntRange(0, columns-1).Draw(t, "column"))
	place := table + "." + column
	switch rapid.IntRange(0, 12).Draw(t, "form") {
	case 0, 1:
		return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, column, s.param(place))
	case 2:
		return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) RETURNING *", table, column, s.param(place))
	case 3:
		return fmt.Sprintf("UPDATE %s SET %s = %s WHERE id = %s", table, column, s.param(place), s.param("integer"))
	case 4:
		return fmt.Sprintf("UPDATE %s SET %s = %s WHERE id < %s RETURNING id, %s", table, column, s.param(place), s.param("integer"), column)
	case 5:
		return fmt.Sprintf("DELETE FROM %s WHERE id = %s", table, s.param("integer"))
	case 6, 7:
		return fmt.Sprintf("SELECT id, %s FROM %s ORDER BY id", column, table)
	case 8:
		return fmt.Sprintf("SELECT * FROM %s WHERE id > %s ORDER BY id", table, s.param("integer"))
	case 9:
		kind := rapid.SampledFrom([]string{"integer", "text", "numeric(6,2)", "integer[]", "jsonb", "boolean", "date", "mood", "positive", "tags"}).Draw(t, "cast")
		return fmt.Sprintf("SELECT %s::%s AS v, %s::text", s.param(kind), kind, s.param("text"))
	case 10:
		return fmt.Sprintf("SELECT id, 100 / (id - %s) AS q FROM %s ORDER BY id", s.param("integer"), table)
	case 11:
		return fmt.Sprintf("SELECT array_agg(%s ORDER BY id) AS all_of_them FROM %s", column, table)
	default:
		return counting
	}
}

// setup is the schema at the beginning. Numbers of rows come from no sequence, for a
// script that is executed again may skip some. What another run of the test has left is
// dropped, which is a change like any other.
const setup = `DROP SCHEMA IF EXISTS public, north, south CASCADE; CREATE SCHEMA public; CREATE SCHEMA north; CREATE SCHEMA south;
SET search_path = public;
CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0); CREATE DOMAIN tags AS text[];
CREATE SEQUENCE turns;
CREATE FUNCTION next_id(t text) RETURNS int LANGUAGE plpgsql AS $$ DECLARE n int; BEGIN EXECUTE 'SELECT coalesce(max(id), 0) + 1 FROM public.' || t INTO n; RETURN n; END $$;
CREATE TABLE t0 (id int DEFAULT next_id('t0'), c0 integer, c1 text, c2 jsonb);
CREATE TABLE t1 (id int DEFAULT next_id('t1'), c0 mood, c1 integer[], c2 numeric(6,2) CHECK (c2 <> 9999.99));
CREATE TABLE north.doc (data jsonb); CREATE TABLE south.doc (data text);
INSERT INTO t0 (c0, c1) VALUES (1, 'a'), (2, '007'); INSERT INTO t1 (c0, c1) VALUES ('ok', '{1,2}'), ('sad', NULL)`

// drawChange draws what another session does to the schema. It may be refused,
// by both databases alike.
func drawChange(t *rapid.T) string {
	table := rapid.SampledFrom([]string{"t0", "t1", "t0", "t1", "north.doc", "south.doc"}).Draw(t, "changed table")
	column := fmt.Sprintf("c%d", rapid.IntRange(0, columns-1).Draw(t, "changed column"))
	if strings.HasSuffix(table, "doc") {
		column = "data"
	}
	kind := rapid.SampledFrom(kindNames()).Draw(t, "new type")
	switch rapid.IntRange(0, 11).Draw(t, "change") {
	case 0, 1, 2:
		return fmt.Sprintf("ALTER TABLE %s ALTER %s TYPE %s USING %[2]s::text::%[3]s", table, column, kind)
	case 3, 4:
		return fmt.Sprintf("ALTER TABLE %s ALTER %s TYPE %s USING NULL", table, column, kind)
	case 5:
		return fmt.Sprintf("ALTER TABLE %s DROP %s; ALTER TABLE %[1]s ADD %[2]s %s", table, column, kind)
	case 6:
		return "CREATE TYPE mood_new AS ENUM ('sad', 'ok'); ALTER TABLE t1 ALTER c0 TYPE mood_new USING c0::text::mood_new; DROP TYPE mood; ALTER TYPE mood_new RENAME TO mood"
	case 9:
		return "ALTER TYPE mood RENAME TO temper"
	case 10:
		return "ALTER TYPE temper RENAME TO mood"
	case 7:
		return "ALTER DOMAIN positive DROP CONSTRAINT IF EXISTS positive_check; ALTER DOMAIN positive ADD CONSTRAINT positive_check CHECK (VALUE > " +
			rapid.SampledFrom([]string{"0", "10"}).Draw(t, "bound") + ") NOT VALID"
	case 8:
		return fmt.Sprintf("ALTER TABLE %s RENAME %s TO was; ALTER TABLE %[1]s ADD %[2]s %s; ALTER TABLE %[1]s DROP was", table, column, kind)
	default:
		return fmt.Sprintf("CREATE TABLE copy_of AS TABLE %s; DROP TABLE %[1]s; ALTER TABLE copy_of SET SCHEMA %[2]s; ALTER TABLE %[2]s.copy_of RENAME TO %[3]s",
			table, schemaOf(table), table[strings.Index(table, ".")+1:])
	}
}

func schemaOf(table string) string {
	if schema, _, found := strings.Cut(table, "."); found {
		return schema
	}
	return "public"
}

func kindNames() []string {
	return []string{
		"smallint", "integer", "bigint", "numeric", "numeric(6,2)", "double precision", "text", "character varying(5)", "boolean", "date",
		"timestamp with time zone", "timestamp without time zone", "interval", "bytea", "uuid", "jsonb", "json", "mood", "positive",
		"integer[]", "numeric[]", "text[]", "boolean[]", "tags", "jsonb[]",
	}
}
