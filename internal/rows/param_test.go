package rows

import (
	"encoding/json"
	"errors"
	"testing"
)

func TestParam(t *testing.T) {
	t.Parallel()
	types := builtinTypes()
	tags := arrayOf(types[1009], ',') // of a domain over text[]
	for _, c := range []struct {
		typ         *Type
		value, want string
	}{
		{types[20], ` 42 `, `42`},
		{types[20], `"42"`, `42`},
		{types[25], `""`, ``},
		{types[25], `1e2`, `1e2`},
		{types[25], `false`, `false`},
		{types[25], `"\u00e9\ud83d\ude00\/\b\f\n\r\t\\\""`, "é😀/\b\f\n\r\t\\\""},
		{types[114], ` {"a": [1]} `, `{"a": [1]}`},
		{types[114], `"a"`, `"a"`},
		{types[3802], `false`, `false`},
		{types[1007], `[]`, `{}`},
		{types[1007], ` [ 1 , [ ] , null ] `, `{1,{},NULL}`},
		{types[1007], `"[0:1]={1,2}"`, `[0:1]={1,2}`},
		{types[1007], `7`, `7`},
		{types[1009], `["a\"b\\c", "", "NULL", "null", "{", null, 5, true, ["x"]]`, `{"a\"b\\c","","NULL","null","{",NULL,5,true,{"x"}}`},
		{types[1020], `["(1,1),(0,0)",null]`, `{"(1,1),(0,0)";NULL}`},
		{types[3807], `[{"a":"]"},[1, 2],"x",null,5]`, `{"{\"a\":\"]\"}","[1, 2]","\"x\"",NULL,5}`},
		{tags, `[["a",null],[],null,"{b}"]`, `{"{\"a\",NULL}","{}",NULL,"{b}"}`},
	} {
		got, err := c.typ.Param(json.RawMessage(c.value))
		if err != nil || got == nil || string(got) != c.want {
			t.Errorf("Param(%s) as %s = %q, %v, want %q", c.value, c.typ.Name(), got, err, c.want)
		}
	}
	for _, oid := range []uint32{20, 25, 114, 3802, 1007, 3807} {
		if got, err := types[oid].Param(json.RawMessage(` null`)); got != nil || err != nil {
			t.Errorf("Param(null) as %s = %q, %v, want nil", types[oid].Name(), got, err)
		}
	}
}

func TestParamRefuses(t *testing.T) {
	t.Parallel()
	types := builtinTypes()
	for _, c := range []struct {
		oid         uint32
		value, want string
	}{
		{20, `{}`, `pass a value as int8: it is a JSON object`},
		{20, `[1]`, `pass a value as int8: it is a JSON array`},
		{22, `[1]`, `pass a value as int2vector: it is a JSON array`},
		{2249, `{"a": 1}`, `pass a value as record: it is a JSON object`},
		{1007, `{"a": 1}`, `pass a value as int4[]: it is a JSON object`},
		{1007, `[1, [{"a": 1}]]`, `pass a value as int4: it is a JSON object`},
		{25, `"a\u0000"`, `pass a value as text: a string in it holds a NUL character, which PostgreSQL cannot store`},
		{1009, `["a", "\u0000"]`, `pass a value as text: a string in it holds a NUL character, which PostgreSQL cannot store`},
		{25, `"\ud800"`, `pass a value as text: a string in it holds half of a surrogate pair`},
		{25, `"\ude00\ud83d"`, `pass a value as text: a string in it holds half of a surrogate pair`},
		{25, `"\ud83dx"`, `pass a value as text: a string in it holds half of a surrogate pair`},
		{25, "\"\xff\"", `pass a value as text: it is not UTF-8`},
		{114, "[\"\xff\"]", `pass a value as json: it is not UTF-8`},
		{25, ``, `pass a value as text: it is not valid JSON`},
		{114, ``, `pass a value as json: it is not valid JSON`},
		{1007, `[1`, `pass a value as int4: it is not valid JSON`},
		{25, `"\x"`, `pass a value as text: it is not valid JSON`},
	} {
		got, err := types[c.oid].Param(json.RawMessage(c.value))
		var refused *ParamError
		if !errors.As(err, &refused) || got != nil || err.Error() != c.want {
			t.Errorf("Param(%q) as %s = %q, %v, want %s", c.value, types[c.oid].Name(), got, err, c.want)
		}
	}
}

func TestParamAllocatesOnce(t *testing.T) {
	types := builtinTypes()
	for name, c := range map[string]struct {
		oid   uint32
		value string
		want  float64
	}{
		"a number": {20, `42`, 0},
		"json":     {114, `{"a": 1}`, 0},
		"a string": {25, `"a\nb"`, 1},
		"an array": {1007, `[1,2,3]`, 2}, // and the memory for an element
	} {
		value := json.RawMessage(c.value)
		if got := testing.AllocsPerRun(100, func() { _, _ = types[c.oid].Param(value) }); got > c.want {
			t.Errorf("%s allocates %v times, want %v", name, got, c.want)
		}
	}
}
