package rows

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/internal/jsonscan"
)

// FuzzValue wants valid JSON for every text, and a string that holds the text
// where the text is not an array.
func FuzzValue(f *testing.F) {
	for _, s := range []string{
		"", "t", "NaN", "-1.5e+20", "01", "1.", "1e", "-", "{", "{}", "{{},{}}", "{1,{2}}", "{1,}", "{,}", "{NULL,null}", `{"a\"b","c\\d"}`,
		`{"`, `{"\`, `{"a"b}`, "[0:1]={1,2}", "[0:1]={", "[", "{(1,1);(2,2)}", `{"{\"a\",NULL}"}`, "\xff\x00\x1f", "{\xc3}", "\xed\xa0\x80",
	} {
		f.Add(s)
	}
	types := builtinTypes()
	nested := arrayOf(types[1007], ',')
	delete(types, 114)
	delete(types, 3802)
	delete(types, 199)
	delete(types, 3807)
	f.Fuzz(func(t *testing.T, text string) {
		for _, oid := range []uint32{16, 20, 25, 1000, 1009, 1020, 1231} {
			checkJSON(t, types[oid], text)
		}
		checkJSON(t, nested, text)
	})
}

func checkJSON(t *testing.T, typ *Type, text string) {
	t.Helper()
	got := typ.appendJSON(nil, []byte(text))
	if !json.Valid(got) || !utf8.Valid(got) {
		t.Fatalf("%s %q became %q, not valid JSON", typ.Name(), text, got)
	}
	if got[0] != '"' {
		return
	}
	var back string
	if err := json.Unmarshal(got, &back); err != nil || utf8.ValidString(text) && back != text {
		t.Fatalf("%s %q became %s", typ.Name(), text, got)
	}
}

// FuzzParam wants no panic for any bytes, and for arrays of text and of
// documents the same value back.
func FuzzParam(f *testing.F) {
	for _, s := range []string{
		`["a",null,["\"\\\u00e9"]]`, `[{"a":[1,"]"]},5]`, `[`, `"\`, `"\u`, `"\ud83d\ude00"`, ` [ ] `, `[1,]`, `null`, `{`, "", "]", `[[],[[]]]`, `[1 2]`,
	} {
		f.Add([]byte(s))
	}
	types := builtinTypes()
	nested := arrayOf(types[1009], ',')
	f.Fuzz(func(t *testing.T, value []byte) {
		for _, typ := range []*Type{types[20], types[25], types[114], types[1009], types[1020], types[3807], nested} {
			text, err := typ.Param(value)
			if err == nil && typ != nested && json.Valid(value) && value[0] == '[' {
				checkBack(t, typ, value, text)
			}
		}
	})
}

// checkBack wants the array that was passed. Literals among the elements of an
// array of another type come back as strings.
func checkBack(t *testing.T, typ *Type, value, text []byte) {
	t.Helper()
	got := typ.appendJSON(nil, text)
	if want := stringsOnly(t, value, typ.elem); compact(t, string(got)) != want {
		t.Fatalf("%s: passed %s as %s, got %s back", typ.Name(), value, text, got)
	}
}

// stringsOnly writes value with its numbers and booleans as strings, unless elem
// keeps them.
func stringsOnly(t *testing.T, value []byte, elem *Type) string {
	t.Helper()
	if elem == nil || elem.form == formJSON {
		return compact(t, string(value))
	}
	var out []byte
	for i := 0; i < len(value); {
		end := i + 1
		switch c := value[i]; {
		case c == '"':
			end = jsonscan.ValueEnd(value, i)
			s, err := unquote(nil, value[i:end])
			if err != nil {
				t.Fatal(err)
			}
			out = appendString(out, s)
		case c == '[' || c == ']' || c == ',':
			out = append(out, c)
		case jsonscan.SkipSpace(value, i) > i:
		default:
			end = jsonscan.ValueEnd(value, i)
			if isNull(value[i:]) {
				out = append(out, "null"...)
			} else {
				out = appendString(out, value[i:end])
			}
		}
		i = end
	}
	return string(out)
}
