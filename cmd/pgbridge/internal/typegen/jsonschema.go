package typegen

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/pgbridge/pgbridge/client"
)

// object is a part of a schema; encoding/json writes its members in order.
type object = map[string]any

// jsonSchema writes one document with a definition for each script's params, for its
// row as an object, and for the same row as an array, name.values.
func jsonSchema(scripts []*client.Description) ([]byte, error) {
	definitions := object{}
	for _, d := range scripts {
		definitions[d.Info.Name+".params"] = schemaOfParams(d)
		if d.Columns != nil {
			definitions[d.Info.Name+".row"], definitions[d.Info.Name+".values"] = schemasOfRow(d.Columns)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(object{
		"$schema":  "https://json-schema.org/draft/2020-12/schema",
		"$comment": "Written by pgbridge describe --types jsonschema: do not edit.",
		"$defs":    definitions,
	})
	if err != nil {
		return nil, fmt.Errorf("write types as a JSON Schema: %w", err)
	}
	return b.Bytes(), nil
}

func schemaOfParams(d *client.Description) object {
	members, required := object{}, []string{}
	for _, p := range d.Parameters {
		all := []any{}
		for _, t := range types(d, p) {
			all = append(all, accepted(t))
		}
		switch len(all) {
		case 0:
			members[p.Name] = true
		case 1:
			members[p.Name] = all[0]
		default:
			members[p.Name] = object{"allOf": all}
		}
		required = append(required, p.Name)
	}
	schema := object{"type": "object", "properties": members, "required": required, "additionalProperties": false}
	if d.Info.Description != "" {
		schema["description"] = d.Info.Description
	}
	return schema
}

// accepted is what a parameter of a type can be.
func accepted(postgres string) any {
	f, array := formOf(postgres)
	scalar := map[form][]string{text: {"string", "number", "boolean", "null"}, boolean: {"boolean", "string", "null"}}[f]
	switch {
	case array:
		return object{"type": []string{"array", "string", "null"}} // its elements are PostgreSQL's to read
	case f == document:
		return true
	case scalar == nil:
		scalar = []string{"number", "string", "null"}
	}
	return object{"type": scalar}
}

func schemasOfRow(columns []client.Column) (row, values object) {
	members, required, items := object{}, []string{}, []any{}
	for _, c := range columns {
		items = append(items, schemaOfColumn(c))
	}
	for _, c := range shown(columns) {
		members[c.Name] = schemaOfColumn(c)
		required = append(required, c.Name)
	}
	return object{"type": "object", "properties": members, "required": required, "additionalProperties": false},
		object{"type": "array", "prefixItems": items, "items": false, "minItems": len(items)}
}

func schemaOfColumn(c client.Column) any {
	f, array := formOf(c.Type)
	switch {
	case array:
		return orNull(object{"type": "array"}, c.NotNull) // nested as deep as it happens to be
	case f == document:
		return true
	}
	special := []string{"NaN", "Infinity", "-Infinity"}
	return orNull(map[form]object{
		text:    {"type": "string"},
		boolean: {"type": "boolean"},
		small:   {"type": "integer"},
		float:   {"anyOf": []object{{"type": "number"}, {"enum": special}}},
		// A string where "big_numbers" asks for that.
		big:     {"type": []string{"integer", "string"}, "pattern": `^-?\d+$`},
		decimal: {"type": []string{"number", "string"}, "pattern": `^(-?\d+(\.\d+)?|NaN|-?Infinity)$`},
	}[f], c.NotNull)
}

func orNull(schema object, notNull bool) object {
	if notNull {
		return schema
	}
	return object{"anyOf": []object{schema, {"type": "null"}}}
}
