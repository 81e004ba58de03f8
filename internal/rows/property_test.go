package rows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sample is a type and what can be written of it.
type sample struct {
	sqlType string
	text    *rapid.Generator[string]
}

func samples() []sample {
	integer := func(bits uint) *rapid.Generator[string] {
		return rapid.Map(rapid.Int64Range(-1<<(bits-1), 1<<(bits-1)-1), func(n int64) string { return fmt.Sprint(n) })
	}
	number := rapid.OneOf(
		rapid.StringMatching(`-?[0-9]{1,30}(\.[0-9]{1,20})?`),
		rapid.StringMatching(`-?[0-9]{1,3}(\.[0-9]{1,3})?e-?[0-9]{1,2}`),
		rapid.SampledFrom([]string{"NaN", "Infinity", "-Infinity", "1.00", "0", "-0.0"}))
	float4 := rapid.Map(rapid.Float32(), func(f float32) string { return fmt.Sprint(f) })
	float8 := rapid.Map(rapid.Float64(), func(f float64) string { return fmt.Sprint(f) })
	special := rapid.SampledFrom([]string{"NaN", "Infinity", "-Infinity", "-0"})
	return []sample{
		{"bool", rapid.SampledFrom([]string{"t", "f"})},
		{"int2", integer(16)},
		{"int4", integer(32)},
		{"int8", integer(64)},
		{"float4", rapid.OneOf(float4, special)},
		{"float8", rapid.OneOf(float8, special)},
		{"numeric", number},
		{"text", text()},
		{"varchar", text()},
		{"json", document()},
		{"jsonb", document()},
		{"uuid", rapid.StringMatching(`[0-9a-f]{32}`)},
		{"mood", rapid.SampledFrom([]string{"sad", `it's "ok"\`, "{happy}", "NULL", ""})},
		{"price", number},
		{"doc", document()},
	}
}

// text is rich in what some syntax has to escape.
func text() *rapid.Generator[string] {
	special := rapid.StringOf(rapid.SampledFrom([]rune("\x01\b\t\n\f\r\x1f \"\\/{},;[]=NUL\x7f\u0080é\u2028\uffff😀a")))
	plain := rapid.Map(rapid.String(), func(s string) string { return strings.ReplaceAll(s, "\x00", "") })
	return rapid.OneOf(special, plain)
}

// document is JSON with and without spaces.
func document() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		v := jsonValue(3).Draw(t, "json")
		encode := json.Marshal
		if rapid.Bool().Draw(t, "indent") {
			encode = func(v any) ([]byte, error) { return json.MarshalIndent(v, " ", "\t") }
		}
		text, err := encode(v)
		if err != nil {
			t.Fatalf("encode %v: %v", v, err)
		}
		return string(text)
	})
}

func jsonValue(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int().AsAny(), text().AsAny(),
		rapid.Map(rapid.StringMatching(`(0|-?[1-9][0-9]{0,25})\.[0-9]{1,5}`), func(s string) any { return json.Number(s) }),
	}
	if depth > 0 {
		deeper := rapid.Deferred(func() *rapid.Generator[any] { return jsonValue(depth - 1) })
		leaves = append(leaves, rapid.SliceOfN(deeper, 0, 3).AsAny(), rapid.MapOfN(text(), deeper, 0, 3).AsAny())
	}
	return rapid.OneOf(leaves...)
}

// arrays are literals of arrays of up to dimensions, some with bounds.
func arrays(element *rapid.Generator[string], delimiter string, dimensions int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 3), 0, dimensions).Draw(t, "sizes")
		if len(sizes) == 0 {
			return "{}"
		}
		bounds := ""
		if rapid.Bool().Draw(t, "bounded") {
			for _, size := range sizes {
				lower := rapid.IntRange(-3, 3).Draw(t, "lower")
				bounds += fmt.Sprintf("[%d:%d]", lower, lower+size-1)
			}
			bounds += "="
		}
		return bounds + array(t, element, delimiter, sizes)
	})
}

func array(t *rapid.T, element *rapid.Generator[string], delimiter string, sizes []int) string {
	parts := make([]string, sizes[0])
	for i := range parts {
		switch {
		case len(sizes) > 1:
			parts[i] = array(t, element, delimiter, sizes[1:])
		case rapid.IntRange(0, 4).Draw(t, "null") == 0:
			parts[i] = "NULL"
		default:
			parts[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(element.Draw(t, "element")) + `"`
		}
	}
	return "{" + strings.Join(parts, delimiter) + "}"
}

func TestValuesAreWhatToJSONMakesOfThem(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	all := samples()
	for _, scalar := range samples() {
		all = append(all, sample{scalar.sqlType + "[]", arrays(scalar.text, ",", 3)})
	}
	cells := arrays(samples()[3].text, ",", 3)
	tags := arrays(text(), ",", 3)
	all = append(all, sample{"tags", tags}, sample{"tags[]", arrays(tags, ",", 1)}, sample{"cells[]", arrays(cells, ",", 1)})
	for _, c := range all {
		t.Run(c.sqlType, func(t *testing.T) {
			param := s.paramType(t, "SELECT $1::"+c.sqlType)
			rapid.Check(t, func(t *rapid.T) { s.checkValue(t, c.sqlType, param, c.text.Draw(t, "text")) })
		})
	}
}

func (s *session) checkValue(t *rapid.T, sqlType string, param *Type, text string) {
	result, columns := s.query(t, "SELECT v, to_json(v)::text, to_jsonb(v)::text FROM (SELECT $1::"+sqlType+" AS v) q", []byte(text))
	value := string(columns.types[0].appendJSON(nil, result.Rows[0][0]))
	if want := string(result.Rows[0][1]); value != want {
		t.Fatalf("%s: got %s, want to_json's %s", sqlType, value, want)
	}
	if got, want := s.value(t, "SELECT $1::jsonb::text", []byte(value)), string(result.Rows[0][2]); got != want {
		t.Fatalf("%s: got %s, want to_jsonb's %s", sqlType, got, want)
	}
	s.checkRoundTrip(t, sqlType, param, value)
}

// checkRoundTrip passes a value as a parameter and wants it back. jsonb prints
// spaces of its own.
func (s *session) checkRoundTrip(t failer, sqlType string, param *Type, value string) {
	t.Helper()
	passed, err := param.Param(json.RawMessage(value))
	if err != nil {
		t.Fatalf("Param(%s) as %s: %v", value, sqlType, err)
	}
	result, columns := s.query(t, "SELECT $1::"+sqlType, passed)
	if got := row(result, columns); compact(t, got) != compact(t, "["+value+"]") {
		t.Errorf("%s: passed %s, got %s back", sqlType, value, got)
	}
}

func compact(t failer, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return b.String()
}

func TestEveryCodePoint(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	param := s.paramType(t, "SELECT $1::text")
	for first := rune(1); first <= 0x10FFFF; first += 0x8000 {
		var b strings.Builder
		for r := first; r < first+0x8000 && r <= 0x10FFFF; r++ {
			if r < 0xD800 || r > 0xDFFF {
				b.WriteRune(r)
			}
		}
		result, columns := s.query(t, "SELECT v, string_to_array(v, NULL) FROM (SELECT $1::text AS v) q", []byte(b.String()))
		checkText(t, row(result, columns), b.String())
		if got, err := param.Param(escapeAll(b.String())); err != nil || string(got) != b.String() {
			t.Fatalf("code points from %x: Param = %q, %v", first, got, err)
		}
	}
}

// checkText wants a row that holds text twice: whole, and in an array of
// characters.
func checkText(t *testing.T, row, text string) {
	t.Helper()
	var values []any
	if err := json.Unmarshal([]byte(row), &values); err != nil {
		t.Fatal(err)
	}
	if values[0] != text {
		t.Fatalf("got %q, want %q", values[0], text)
	}
	characters := values[1].([]any)
	for i, r := range []rune(text) {
		if characters[i] != string(r) {
			t.Fatalf("array: got %q, want %q", characters[i], r)
		}
	}
}

// escapeAll writes every character as \u escapes.
func escapeAll(text string) json.RawMessage {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if r > 0xFFFF {
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04X`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return json.RawMessage(b.String())
}
