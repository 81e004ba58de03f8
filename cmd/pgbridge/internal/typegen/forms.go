package typegen

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/pgbridge/pgbridge/client"
)

// form is how values of a type are written in JSON.
type form int

const (
	text     form = iota // a string
	boolean              // true, false
	small                // int2, int4: a number
	big                  // int8: a number, or a string where that was asked for
	decimal              // numeric: the same, and NaN and the infinities as strings
	float                // a number, or one of those strings
	document             // json, jsonb: any value
	unknown              // nobody knows
)

var forms = map[string]form{
	"bool": boolean, "int2": small, "int4": small, "int8": big, "float4": float, "float8": float,
	"numeric": decimal, "json": document, "jsonb": document,
}

// formOf returns a type's form, and whether it is an array of that.
func formOf(postgres string) (f form, array bool) {
	postgres, array = strings.CutSuffix(postgres, "[]")
	return forms[postgres], array
}

// shown are the columns that a row has as an object: of equal names the last.
func shown(columns []client.Column) []client.Column {
	var all []client.Column
	for i, c := range columns {
		if !slices.ContainsFunc(columns[i+1:], func(later client.Column) bool { return later.Name == c.Name }) {
			all = append(all, c)
		}
	}
	return all
}

// names gives each name once, with a number behind it where it was given before.
type names map[string]bool

func (n names) unique(name string) string {
	candidate := name
	for i := 2; n[candidate]; i++ {
		candidate = fmt.Sprintf("%s%d", name, i)
	}
	n[candidate] = true
	return candidate
}

// pascal makes a name that TypeScript and Go take for an exported one:
// orders.search becomes OrdersSearch.
func pascal(name string) string {
	var b strings.Builder
	upper := true
	for _, r := range name {
		switch letter, digit := isLetter(r), r >= '0' && r <= '9'; {
		case !letter && !digit:
			upper = true
		case upper && letter:
			b.WriteString(strings.ToUpper(string(r)))
			upper = false
		default:
			b.WriteRune(r)
			upper = false
		}
	}
	if b.Len() == 0 || !isLetter(rune(b.String()[0])) {
		return "X" + b.String()
	}
	return b.String()
}

// isLetter keeps to ASCII, where both languages agree on what a name is.
func isLetter(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// lines are those of a description, fit for a comment.
func lines(description string) []string {
	clean := strings.Map(func(r rune) rune {
		if r == '\n' || !unicode.IsControl(r) && !unicode.Is(unicode.Cf, r) && r != 0x2028 && r != 0x2029 {
			return r
		}
		return ' '
	}, strings.ReplaceAll(description, "*/", "* /"))
	return strings.Split(strings.TrimSpace(clean), "\n")
}

// types are a parameter's. A COPY's parameter has none, for PostgreSQL gets a literal.
func types(d *client.Description, p client.Parameter) []string {
	if len(p.Types) == 0 && d.Info.Kind != client.KindRun {
		return []string{"text"}
	}
	return p.Types
}
