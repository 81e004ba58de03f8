//go:build oracle

package oracle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// answer is what a script has answered, however it was run.
type answer struct {
	results []result // of a cursor, only the last one's columns and rows
	state   string   // SQLSTATE; empty: it went well
}

type result struct {
	command string
	columns []string // name and type
	rows    []any    // JSON, decoded
}

// rename gives a type of columns another name.
func (a answer) rename(from, to string) {
	for _, r := range a.results {
		for i := range r.columns {
			r.columns[i] = strings.ReplaceAll(r.columns[i], " "+from, " "+to)
		}
	}
}

// plain is a connection with the simple protocol.
type plain struct {
	conn  *pgx.Conn
	names map[uint32]string // types that a result has shown
}

func dial(t *testing.T, url string) *plain {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	p := &plain{conn: conn}
	p.must(t, "SET timezone = 'UTC'; SET intervalstyle = iso_8601; SET datestyle = ISO; SET bytea_output = hex")
	return p
}

// exec runs statements as one message and returns their SQLSTATE.
func (p *plain) exec(sql string) (state string) {
	_, err := p.conn.PgConn().Exec(context.Background(), sql).ReadAll()
	return stateOf(err)
}

func stateOf(err error) string {
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Code
	}
	return err.Error()
}

func (p *plain) must(t testing.TB, sql string) {
	t.Helper()
	if state := p.exec(sql); state != "" {
		t.Fatalf("%s: SQLSTATE %s", sql, state)
	}
}

// change does what drawChange has drawn, as a whole or not at all.
func (p *plain) change(sql string) string {
	state := p.exec("BEGIN; SET LOCAL search_path = public; " + sql + "; COMMIT")
	if state != "" {
		p.exec("ROLLBACK")
	}
	return state
}

// value returns the only value of a query; empty where there is none.
func (p *plain) value(t testing.TB, sql string) string {
	t.Helper()
	results, err := p.conn.PgConn().Exec(context.Background(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if rows := results[len(results)-1].Rows; len(rows) > 0 {
		return string(rows[0][0])
	}
	return ""
}

// run runs a script's statements one by one, in a transaction, which does nothing in
// the end if it is to be undone.
func (p *plain) run(t testing.TB, statements []string, undo bool) answer {
	t.Helper()
	p.must(t, "BEGIN")
	var a answer
	for _, sql := range statements {
		one, err := p.query(sql)
		if err != nil {
			p.must(t, "ROLLBACK")
			return answer{state: stateOf(err)}
		}
		a.results = append(a.results, p.read(t, one))
	}
	if undo {
		p.must(t, "ROLLBACK")
	} else if state := p.exec("COMMIT"); state != "" {
		return answer{state: state}
	}
	return a
}

// unprepared returns the SQLSTATE with which PostgreSQL refuses to prepare the
// first of the statements that it refuses, all others being as they are: a
// script whose statements are prepared before the first is run ends so.
func (p *plain) unprepared(t testing.TB, statements []string) string {
	t.Helper()
	p.must(t, "BEGIN")
	defer p.must(t, "ROLLBACK")
	for i, sql := range statements {
		if state := p.exec(fmt.Sprintf("PREPARE q%d AS %s", i, sql)); state != "" {
			return state
		}
	}
	return ""
}

// query is ReadAll for one statement, except that a result without rows keeps
// its columns.
func (p *plain) query(sql string) (*pgconn.Result, error) {
	all := p.conn.PgConn().Exec(context.Background(), sql)
	one := &pgconn.Result{}
	for all.NextResult() {
		described := slices.Clone(all.ResultReader().FieldDescriptions())
		one = all.ResultReader().Read()
		one.FieldDescriptions = described
	}
	return one, all.Close()
}

func (p *plain) read(t testing.TB, from *pgconn.Result) result {
	t.Helper()
	into := result{command: from.CommandTag.String()}
	for _, f := range from.FieldDescriptions {
		into.columns = append(into.columns, f.Name+" "+p.typeName(t, f.DataTypeOID))
	}
	for _, row := range from.Rows {
		values := make([]any, len(row))
		for i, v := range row {
			values[i] = p.decode(t, from.FieldDescriptions[i].DataTypeOID, v)
		}
		into.rows = append(into.rows, values)
	}
	return into
}

// typeName asks anew each time: types come and go here.
func (p *plain) typeName(t testing.TB, oid uint32) string {
	t.Helper()
	kind := strings.Split(p.value(t, fmt.Sprintf("SELECT concat_ws(' ', typtype, typcategory, typbasetype, typelem, typname) FROM pg_type WHERE oid = %d", oid)), " ")
	parsed := func(i int) uint32 { n, _ := strconv.ParseUint(kind[i], 10, 32); return uint32(n) }
	switch {
	case kind[0] == "d": // a domain's name is its base type's
		return p.typeName(t, parsed(2))
	case kind[1] == "A":
		return p.typeName(t, parsed(3)) + "[]"
	}
	return kind[4]
}

// decode turns a value in PostgreSQL's text format into what its JSON is to be.
func (p *plain) decode(t testing.TB, oid uint32, v []byte) any {
	t.Helper()
	if v == nil {
		return nil
	}
	s := string(v)
	switch oid {
	case pgtype.BoolOID:
		return s == "t"
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.Float8OID, pgtype.NumericOID:
		if strings.ContainsAny(s, "nN") { // NaN, Infinity
			return s
		}
		return json.Number(s)
	case pgtype.JSONOID, pgtype.JSONBOID:
		return parse(t, s)
	}
	if strings.HasSuffix(p.typeName(t, oid), "[]") {
		return p.decodeArray(t, p.value(t, fmt.Sprintf("SELECT format_type(%d, NULL)", oid)), s)
	}
	return s
}

// decodeArray has PostgreSQL itself take the array apart.
func (p *plain) decodeArray(t testing.TB, kind, s string) any {
	t.Helper()
	results, err := p.conn.PgConn().Exec(context.Background(), fmt.Sprintf("SELECT u FROM unnest(%s::%s) WITH ORDINALITY x(u, n) ORDER BY n", quote(s), kind)).ReadAll()
	if err != nil {
		t.Fatalf("array %s of %s: %v", s, kind, err)
	}
	all := []any{}
	for _, row := range results[0].Rows {
		all = append(all, p.decode(t, results[0].FieldDescriptions[0].DataTypeOID, row[0]))
	}
	dimensions := bounds.FindAllStringSubmatch(p.value(t, fmt.Sprintf("SELECT array_dims(%s::%s)", quote(s), kind)), -1)
	for i := len(dimensions) - 1; i > 0; i-- { // unnest has flattened it
		first, _ := strconv.Atoi(dimensions[i][1])
		last, _ := strconv.Atoi(dimensions[i][2])
		all = nested(slices.Collect(slices.Chunk(all, last-first+1)))
	}
	return all
}

var bounds = regexp.MustCompile(`\[(-?\d+):(-?\d+)\]`)

func nested(rows [][]any) []any {
	all := make([]any, len(rows))
	for i, row := range rows {
		all[i] = row
	}
	return all
}

func parse(t testing.TB, s string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return v
}
