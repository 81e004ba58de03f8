package rows

import (
	"sync"
	"testing"
)

func TestColumns(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	result, columns := s.query(t, `SELECT 1::int8 AS a, 'x' AS "say ""hi""", 2.0 AS a, ARRAY[3]::int8[] AS b, '{"n": 4}'::jsonb AS a, NULL AS c`)
	values := result.Rows[0]
	for _, c := range []struct{ name, got, want string }{
		{"header", string(columns.AppendHeader([]byte("x"))), `x[{"name":"a","type":"int8"},{"name":"say \"hi\"","type":"text"},` +
			`{"name":"a","type":"numeric"},{"name":"b","type":"int8[]"},{"name":"a","type":"jsonb"},{"name":"c","type":"text"}]`},
		{"row", string(columns.AppendRow([]byte("x"), values)), `x[1,"x",2.0,[3],{"n": 4},null]`},
		{"object", string(columns.AppendObject([]byte("x"), values)), `x{"say \"hi\"":"x","b":[3],"a":{"n": 4},"c":null}`},
		{"quoted row", string(columns.QuoteBigNumbers().AppendRow(nil, values)), `["1","x","2.0",["3"],{"n": 4},null]`},
		{"quoted header", string(columns.QuoteBigNumbers().AppendHeader(nil)), string(columns.AppendHeader(nil))},
		{"quoted object", string(columns.QuoteBigNumbers().AppendObject(nil, values)), `{"say \"hi\"":"x","b":["3"],"a":{"n": 4},"c":null}`},
		{"the first row again", string(columns.AppendRow(nil, values)), `[1,"x",2.0,[3],{"n": 4},null]`},
	} {
		if c.got != c.want {
			t.Errorf("%s = %s, want %s", c.name, c.got, c.want)
		}
	}
}

func TestQuoteBigNumbers(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	result, columns := s.query(t, `SELECT 1::int2, 2::int4, 1.5::float8, 'NaN'::numeric, 3::price, '{{4},{NULL}}'::price[],
		'{"{5,NULL}"}'::cells[], '{6}'::int4[]`)
	want := `[1,2,1.5,"NaN","3",[["4"],[null]],[["5",null]],[6]]`
	if got := string(columns.QuoteBigNumbers().AppendRow(nil, result.Rows[0])); got != want {
		t.Errorf("AppendRow = %s, want %s", got, want)
	}
}

func TestNoColumns(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	result, columns := s.query(t, `SELECT`)
	got := string(columns.AppendObject(columns.AppendRow(columns.AppendHeader(nil), result.Rows[0]), result.Rows[0]))
	if got != `[][]{}` {
		t.Errorf("header, row and object = %s, want [][]{}", got)
	}
}

func TestColumnsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	result, columns := s.query(t, `SELECT '{"{\"a,b\"}"}'::tags[], '{1}'::jsonb[], 5::int8`)
	want := `[[["a,b"]],[1],5]`
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				if got := row(result, columns); got != want {
					t.Errorf("AppendRow = %s, want %s", got, want)
				}
			}
		})
	}
	group.Wait()
}

func TestRowsDoNotAllocate(t *testing.T) {
	s := newSession(t)
	result, columns := s.query(t, `SELECT 42::int8, E'twenty bytes \n "of" é', 10.50::numeric, now(), true, NULL, 'NaN'::float8,
		'{"a": [1]}'::jsonb, '[2:3]={1,NULL}'::int4[], ARRAY['a"b', 'c\d', NULL], ARRAY['{"a": "b"}']::jsonb[], 'x'::bytea`)
	quoted := columns.QuoteBigNumbers()
	buffer := make([]byte, 0, 4096)
	for name, f := range map[string]func(){
		"AppendRow":                  func() { columns.AppendRow(buffer, result.Rows[0]) },
		"AppendObject":               func() { columns.AppendObject(buffer, result.Rows[0]) },
		"QuoteBigNumbers, AppendRow": func() { quoted.AppendRow(buffer, result.Rows[0]) },
		"AppendHeader":               func() { columns.AppendHeader(buffer) },
	} {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s allocates %v times, want 0", name, got)
		}
	}
}
