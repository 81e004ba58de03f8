// Package typegen writes what scripts take and return as types of another language.
//
// It promises that a value of a type that it has written is one that pgbridge sends,
// or takes, as docs/requests.md says: a column may be null unless PostgreSQL's catalog
// forbids it, and a parameter may have every form that its type has in JSON. What
// PostgreSQL does not tell before a run is any value at all. The same scripts give
// the same bytes.
package typegen

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/pgbridge/pgbridge/client"
)

// Language is one that types are written in.
type Language string

// The languages.
const (
	TypeScript Language = "typescript"
	Go         Language = "go"
	JSONSchema Language = "jsonschema"
)

// Write returns a file with the types of these scripts. The name is that of Go's
// package.
func Write(l Language, name string, scripts []*client.Description) ([]byte, error) {
	sorted := slices.SortedFunc(slices.Values(scripts), func(a, b *client.Description) int {
		return strings.Compare(a.Info.Name, b.Info.Name)
	})
	for _, d := range sorted {
		if err := plain(d); err != nil {
			return nil, err
		}
	}
	switch l {
	case TypeScript:
		return typescript(sorted), nil
	case Go:
		return golang(name, sorted)
	case JSONSchema:
		return jsonSchema(sorted)
	}
	return nil, fmt.Errorf("write types: no language %q", l)
}

// plain refuses names that no script and no parameter of pgbridge's has, so that
// whoever answers in its stead cannot write code.
func plain(d *client.Description) error {
	for _, token := range strings.Split(d.Info.Name, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return !isLetter(r) && (r < '0' || r > '9') && r != '_' && r != '-' }) {
			return fmt.Errorf("write types: %q is no script's name", d.Info.Name)
		}
	}
	for _, p := range d.Parameters {
		if p.Name == "" || strings.ContainsFunc(p.Name, func(r rune) bool {
			return r != '_' && r != '$' && !isLetter(r) && (r < '0' || r > '9') && (r < 0x80 || !unicode.IsPrint(r))
		}) {
			return fmt.Errorf("write types of the script %s: %q is no parameter's name", d.Info.Name, p.Name)
		}
	}
	return nil
}
