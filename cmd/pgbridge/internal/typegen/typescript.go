package typegen

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pgbridge/pgbridge/client"
)

const typescriptHead = `// Written by pgbridge describe --types typescript: do not edit.
//
// Rows are objects ("rows": "object"), int8 and numeric strings ("big_numbers":
// "string"), for a number would lose digits.

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };
/** PostgreSQL does not say how many dimensions an array has; this is for one. */
export type List<T> = (T | null)[];
/** A parameter may be an array of any depth. */
export type Nested<T> = (T | null | Nested<T>)[];
export type Float = number | "NaN" | "Infinity" | "-Infinity";
`

func typescript(scripts []*client.Description) []byte {
	var b, index strings.Builder
	b.WriteString(typescriptHead)
	used := names{"Json": true, "List": true, "Nested": true, "Float": true, "Scripts": true}
	for _, d := range scripts {
		params, row := used.unique(pascal(d.Info.Name)+"Params"), used.unique(pascal(d.Info.Name)+"Row")
		b.WriteString("\n" + typescriptComment(d.Info))
		fmt.Fprintf(&b, "export type %s = {\n", params)
		for _, p := range d.Parameters {
			fmt.Fprintf(&b, "  %s: %s;\n", property(p.Name), typescriptParam(d, p))
		}
		b.WriteString("};\n")
		if d.Columns == nil {
			fmt.Fprintf(&b, "export type %s = { [column: string]: unknown };\n", row)
		} else {
			fmt.Fprintf(&b, "export type %s = {\n", row)
			for _, c := range shown(d.Columns) {
				fmt.Fprintf(&b, "  %s: %s;\n", property(c.Name), typescriptColumn(c))
			}
			b.WriteString("};\n")
		}
		fmt.Fprintf(&index, "  %s: { kind: %s; params: %s; row: %s };\n", property(d.Info.Name), quoted(string(d.Info.Kind)), params, row)
	}
	fmt.Fprintf(&b, "\n/** Each script by its name. */\nexport type Scripts = {\n%s};\n", &index)
	return []byte(b.String())
}

func typescriptComment(s client.ScriptInfo) string {
	if s.Description == "" {
		return ""
	}
	return "/**\n * " + strings.Join(lines(s.Description), "\n * ") + "\n */\n"
}

var typescriptName = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

func property(name string) string {
	if typescriptName.MatchString(name) {
		return name
	}
	return quoted(name)
}

func quoted(s string) string {
	encoded, _ := json.Marshal(s) // a string can be
	return string(encoded)
}

func typescriptColumn(c client.Column) string {
	f, array := formOf(c.Type)
	written := map[form]string{
		text: "string", boolean: "boolean", small: "number", big: "string", decimal: "string", float: "Float", document: "Json",
	}[f]
	if array {
		written = "List<" + written + ">"
	}
	if c.NotNull || f == document && !array { // null is a Json
		return written
	}
	return written + " | null"
}

// typescriptParam is what suits all types that a parameter has.
func typescriptParam(d *client.Description, p client.Parameter) string {
	var all []string
	for _, t := range types(d, p) {
		if w := typescriptAccepted(t); !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	switch len(all) {
	case 0:
		return "unknown"
	case 1:
		return all[0]
	}
	return "(" + strings.Join(all, ") & (") + ")"
}

func typescriptAccepted(postgres string) string {
	f, array := formOf(postgres)
	written := map[form]string{text: "string | number | boolean", boolean: "boolean | string", document: "Json"}[f]
	if written == "" {
		written = "number | string"
	}
	switch {
	case array:
		return "Nested<" + written + "> | string | null"
	case f == document:
		return written
	}
	return written + " | null"
}
