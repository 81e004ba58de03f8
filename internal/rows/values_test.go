package rows

import "testing"

func TestValues(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	for _, c := range []struct{ expression, wantType, want string }{
		{`NULL::int4`, "int4", `null`},
		{`9007199254740993::int8`, "int8", `9007199254740993`},
		{`1.00::numeric`, "numeric", `1.00`},
		{`1e20::numeric`, "numeric", `100000000000000000000`},
		{`1e20::float8`, "float8", `1e+20`},
		{`'-Infinity'::numeric`, "numeric", `"-Infinity"`},
		{`12::oid`, "oid", `"12"`},
		{`'date'::name`, "name", `"date"`},
		{`'x'::"char"`, "char", `"x"`},
		{`'ab'::char(4)`, "bpchar", `"ab  "`},
		{`12.5::money::numeric`, "numeric", `12.50`},
		{`pg_sleep(0)`, "void", `""`},
		{`'0044-03-15 BC'::date`, "date", `"0044-03-15 BC"`},
		{`'infinity'::date`, "date", `"infinity"`},
		{`'-infinity'::timestamptz`, "timestamptz", `"-infinity"`},
		{`'2026-11-22 10:00:00.000001+02'::timestamptz`, "timestamptz", `"2026-11-22 08:00:00.000001+00"`},
		{`'0044-03-15 12:00 BC'::timestamp`, "timestamp", `"0044-03-15 12:00:00 BC"`},
		{`'10:00+02'::timetz`, "timetz", `"10:00:00+02"`},
		{`'1 year 2 mons -3 days 04:05:06.7'::interval`, "interval", `"P1Y2M-3DT4H5M6.7S"`},
		{`'{1 day,-1 sec}'::interval[]`, "interval[]", `["P1D","PT-1S"]`},
		{`'\x00ff41'::bytea`, "bytea", `"\\x00ff41"`},
		{`ARRAY['\x00'::bytea, '', NULL]`, "bytea[]", `["\\x00","\\x",null]`},
		{`'{happy}'::mood`, "mood", `"{happy}"`},
		{`ARRAY['{happy}', 'NULL', '', NULL]::mood[]`, "mood[]", `["{happy}","NULL","",null]`},
		{`'(1,"a ""b"" \\")'::pair`, "pair", `"(1,\"a \"\"b\"\" \\\\\")"`},
		{`ARRAY[(1,'x, y')::pair, NULL]`, "pair[]", `["(1,\"x, y\")",null]`},
		{`ROW(1, NULL)`, "record", `"(1,)"`},
		{`ARRAY[ROW(1, 2)]`, "record[]", `["(1,2)"]`},
		{`'[1,5)'::int4range`, "int4range", `"[1,5)"`},
		{`'(,)'::span`, "span", `"(,)"`},
		{`ARRAY['[1,2]', '[3,4]']::span[]`, "span[]", `["[1,2]","[3,4]"]`},
		{`'{[1,2),[5,6)}'::int4multirange`, "int4multirange", `"{[1,2),[5,6)}"`},
		{`'{[1,2]}'::span_multirange`, "span_multirange", `"{[1,2]}"`},
		{`'1 2 3'::int2vector`, "int2vector", `"1 2 3"`},
		{`ARRAY['1 2'::int2vector]`, "int2vector[]", `["1 2"]`},
		{`'1 2'::oidvector`, "oidvector", `"1 2"`},
		{`'{(2,2),(1,1);(4,4),(3,3)}'::box[]`, "box[]", `["(2,2),(1,1)","(4,4),(3,3)"]`},
		{`'{(2,2),(1,1);(4,4),(3,3)}'::frame[]`, "box[]", `["(2,2),(1,1)","(4,4),(3,3)"]`},
		{`ARRAY['(1,2)', '(3,4)']::point[]`, "point[]", `["(1,2)","(3,4)"]`},
		{`'[2:3]={1,2}'::int4[]`, "int4[]", `[1,2]`},
		{`'[-1:0][5:5]={{1},{NULL}}'::int4[]`, "int4[]", `[[1],[null]]`},
		{`'{{{{{{7}}}}}}'::int8[]`, "int8[]", `[[[[[[7]]]]]]`},
		{`'{}'::text[]`, "text[]", `[]`},
		{`'{"", "NULL", NULL, null, " a ", "a\\\\b\"c"}'::text[]`, "text[]", `["","NULL",null,null," a ","a\\\\b\"c"]`},
		{`'{NaN,Infinity,1.50}'::numeric[]`, "numeric[]", `["NaN","Infinity",1.50]`},
		{`'{"a" :  "\u00e9\\" , "a": 1e2}'::json`, "json", `{"a" :  "\u00e9\\" , "a": 1e2}`},
		{`'{"b": 1.00, "a": [1,2]}'::jsonb`, "jsonb", `{"a": [1, 2], "b": 1.00}`},
		{`ARRAY['{"a": "\\\""}', '1', 'null', NULL]::jsonb[]`, "jsonb[]", `[{"a": "\\\""},1,null,null]`},
		{`'7'::price`, "numeric", `7`},
		{`'{7,NULL}'::price[]`, "numeric[]", `[7,null]`},
		{`'{"{a,NULL}","{}",NULL}'::tags[]`, "text[][]", `[["a",null],[],null]`},
		{`'{"[3:4]={1,2}","{{3},{4}}"}'::cells[]`, "int8[][]", `[[1,2],[[3],[4]]]`},
		{`'pg_class'::information_schema.sql_identifier`, "name", `"pg_class"`},
		{`(SELECT most_common_vals FROM pg_stats WHERE false)`, "anyarray", `null`},
		{`'<a/>'::xml`, "xml", `"<a/>"`},
		{`'127.0.0.1'::inet`, "inet", `"127.0.0.1"`},
	} {
		result, columns := s.query(t, "SELECT "+c.expression+" AS v")
		if got := row(result, columns); got != "["+c.want+"]" {
			t.Errorf("%s: got %s, want [%s]", c.expression, got, c.want)
		}
		if got, want := string(columns.AppendHeader(nil)), `[{"name":"v","type":"`+c.wantType+`"}]`; got != want {
			t.Errorf("%s: header is %s, want %s", c.expression, got, want)
		}
	}
}

// TestValuesRoundTrip covers the types that the property leaves out.
func TestValuesRoundTrip(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	for sqlType, values := range map[string][]string{
		"date":                                 {`"0044-03-15 BC"`, `"infinity"`, `null`},
		"timestamptz":                          {`"2026-11-22 08:00:00.000001+00"`, `"-infinity"`},
		"timestamptz[]":                        {`["2026-11-22 08:00:00+00",null]`},
		"interval":                             {`"P1Y2M-3DT4H5M6.7S"`, `"PT0S"`},
		"bytea":                                {`"\\x00ff41"`, `"\\x"`},
		"bytea[]":                              {`["\\x00","\\x"]`},
		"pair":                                 {`"(1,\"a \"\"b\"\" \\\\\")"`},
		"pair[]":                               {`["(1,\"x, y\")",null]`},
		"int4range[]":                          {`["[1,5)","empty"]`},
		"int4multirange":                       {`"{[1,2),[5,6)}"`},
		"span":                                 {`"(,)"`},
		"box[]":                                {`["(2,2),(1,1)","(4,4),(3,3)"]`, `[["(2,2),(1,1)"],["(4,4),(3,3)"]]`},
		"frame[]":                              {`["(2,2),(1,1)",null,"(4,4),(3,3)"]`},
		"int2vector":                           {`"1 2 3"`},
		`"char"`:                               {`"x"`},
		"bit(3)[]":                             {`["101"]`},
		"json":                                 {`"x"`, `[1,  {"a":2}]`, `5`, `true`, `"\u0000"`, `"\ud800"`},
		"jsonb":                                {`"x"`, `[1, {"a": 2}]`, `5.00`},
		"jsonb[]":                              {`[[1, 2], {"a": "\\\"{}"}, "x", null, 5, true]`, `[]`},
		"doc[]":                                {`[[1], {}, null]`},
		"tags[]":                               {`[["a,b",null],[],null,[["c"],["\"\\"]]]`},
		"text[]":                               {`[["a","NULL"],[null,""]]`, `[]`},
		"name":                                 {`"x"`},
		"bool[]":                               {`[true,false,null]`},
		"float8[]":                             {`["NaN",1e+20,-0]`},
		"tsvector":                             {`"'a':1 'b'"`},
		"public.mood[]":                        {`["{happy}","NULL",""]`},
		"information_schema.cardinal_number[]": {`[1,2]`},
	} {
		param := s.paramType(t, "SELECT $1::"+sqlType)
		for _, value := range values {
			s.checkRoundTrip(t, sqlType, param, value)
		}
	}
}
