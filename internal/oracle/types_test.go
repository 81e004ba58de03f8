//go:build oracle

package oracle

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// value is a parameter as a client sends it and as SQL writes it.
type value struct {
	JSON string
	SQL  string // a literal whose type its place decides
	kind string // of its place
}

var null = value{JSON: "null", SQL: "NULL"}

// text is a value that is sent as a string.
func text(s string) value {
	b, _ := json.Marshal(s) // a string always marshals
	return value{JSON: string(b), SQL: quote(s)}
}

// literal is a value that is sent as JSON writes it: a number or a boolean.
func literal(s string) value { return value{JSON: s, SQL: quote(s)} }

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// kinds are the types that columns have and values for each, some of which other
// types would change: zeros in front, fractions, times of day, quotes.
func kinds() map[string]*rapid.Generator[value] {
	integers := rapid.Map(rapid.IntRange(-3, 40000), func(n int) value { return literal(strconv.Itoa(n)) })
	words := rapid.Map(rapid.SampledFrom([]string{"007", "", "a b", "it's", `"q"`, `{"a": 1}`, "NULL", "ünï", "1e3", " x "}), text)
	documents := rapid.Map(rapid.SampledFrom([]string{`"abc"`, `7`, `{"a": [1, null]}`, `[1, "x"]`, `true`, `1.50`}), func(s string) value { return value{JSON: s, SQL: quote(s)} })
	return map[string]*rapid.Generator[value]{
		"smallint":                    integers,
		"integer":                     rapid.OneOf(integers, rapid.Just(text("42"))),
		"bigint":                      rapid.OneOf(integers, rapid.Just(literal("9007199254740993"))),
		"numeric":                     sampled("1.10", "-0.005", "NaN", "12345678901234567890.5"),
		"numeric(6,2)":                sampled("1.005", "9999.99", "10000"),
		"double precision":            sampled("1.5", "0.1", "Infinity"),
		"text":                        words,
		"character varying(5)":        words,
		"boolean":                     rapid.SampledFrom([]value{literal("true"), literal("false"), text("on")}),
		"date":                        sampled("2026-02-28", "2026-02-28 13:14:15", "infinity"),
		"timestamp with time zone":    sampled("2026-02-28 13:14:15.5+02", "2026-02-28"),
		"timestamp without time zone": sampled("2026-02-28 13:14:15.5", "2026-02-28"),
		"interval":                    sampled("1 day 2 hours", "P1Y2M"),
		"bytea":                       sampled(`\x00ff`, "abc"),
		"uuid":                        sampled("6b3a55e0-97ee-4d5e-9fbc-2f9f0a1b1c1d"),
		"jsonb":                       documents,
		"json":                        documents,
		"mood":                        sampled("sad", "ok"),
		"temper":                      sampled("sad", "ok"),
		"positive":                    integers,
		"integer[]":                   arrays(integers),
		"numeric[]":                   arrays(sampled("1.10", "NaN")),
		"text[]":                      arrays(words),
		"boolean[]":                   arrays(rapid.SampledFrom([]value{literal("true"), literal("false")})),
		"tags":                        arrays(words),
		"jsonb[]":                     arrays(documents),
	}
}

func sampled(values ...string) *rapid.Generator[value] {
	return rapid.Map(rapid.SampledFrom(values), text)
}

// arrays makes one of values: its literal quotes each element.
func arrays(element *rapid.Generator[value]) *rapid.Generator[value] {
	return rapid.Map(rapid.SliceOfN(rapid.OneOf(element, element, rapid.Just(null)), 0, 3), func(elements []value) value {
		sent, written := make([]string, len(elements)), make([]string, len(elements))
		for i, e := range elements {
			sent[i], written[i] = e.JSON, "NULL"
			if e != null {
				plain := strings.ReplaceAll(e.SQL[1:len(e.SQL)-1], "''", "'")
				written[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(plain) + `"`
			}
		}
		return value{JSON: "[" + strings.Join(sent, ",") + "]", SQL: quote("{" + strings.Join(written, ",") + "}")}
	})
}

// valueOf draws a value for a place of this type; now and then one that it
// refuses, unless there is one among the others already: which of two errors comes first
// depends on whether values are parameters.
func valueOf(t *rapid.T, kind, label string, so map[string]value) value {
	of, known := kinds()[kind]
	if !known {
		panic(fmt.Sprintf("no values for the type %q", kind))
	}
	misfit := rapid.Just(text("misfit"))
	for _, other := range so {
		if other.JSON == text("misfit").JSON {
			misfit = rapid.Just(null)
		}
	}
	if strings.HasPrefix(kind, "json") { // which it would not be there
		misfit = rapid.Just(null)
	}
	v := rapid.OneOf(of, of, of, of, of, of, rapid.Just(null), misfit).Draw(t, label)
	v.kind = kind
	return v
}
