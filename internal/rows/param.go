package rows

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/internal/jsonscan"
)

// ParamError says why a JSON value cannot be a parameter. It does not hold the
// value.
type ParamError struct {
	Type string // the parameter's or an element's, as [Type.Name] gives it
	Err  error  // what stands in the way
}

func (e *ParamError) Error() string { return fmt.Sprintf("pass a value as %s: %v", e.Type, e.Err) }

// Unwrap returns Err.
func (e *ParamError) Unwrap() error { return e.Err }

// Param returns a JSON value as a parameter of this type in the text format, or
// nil for NULL. The value must be valid JSON, as encoding/json checks it where
// it decodes into a [json.RawMessage]; the text may share its memory.
//
// null is NULL. For json and jsonb every other value is its own text. For the
// other types a string is passed as the text it stands for, a number or boolean
// as it is written, and a JSON array for an array type as an array, in which the
// same rules hold for each element; where the elements are themselves json or
// arrays of a domain, only the outermost is the array. Whether PostgreSQL
// accepts the text is not checked.
//
// Every error is a [*ParamError]: a JSON array or object for any other type, a
// string that PostgreSQL cannot hold, bytes that are not UTF-8.
func (t *Type) Param(value json.RawMessage) ([]byte, error) {
	value = bytes.Trim(value, " \t\r\n")
	switch {
	case len(value) == 0:
		return nil, &ParamError{t.name, errMalformed}
	case !utf8.Valid(value):
		return nil, &ParamError{t.name, errors.New("it is not UTF-8")}
	case isNull(value):
		return nil, nil
	case t.asItIs(value):
		return value, nil
	}
	text, err := t.appendParam(make([]byte, 0, len(value)), value)
	if err != nil {
		return nil, err
	}
	return text, nil
}

// asItIs reports whether a value's JSON text is what PostgreSQL gets.
func (t *Type) asItIs(value []byte) bool { return t.form == formJSON || isLiteral(value) }

// Literal reports whether a valid JSON value is passed as the same text, or NULL,
// whatever the type: a number, a boolean, or null.
func Literal(value json.RawMessage) bool { return isLiteral(bytes.TrimLeft(value, " \t\r\n")) }

// isLiteral reports whether a value that is not null is a number or boolean.
func isLiteral(value []byte) bool {
	return len(value) > 0 && value[0] != '"' && value[0] != '[' && value[0] != '{'
}

func isNull(value []byte) bool { return len(value) > 0 && value[0] == 'n' }

// appendParam appends the text of a value that is not null.
func (t *Type) appendParam(dst, value []byte) ([]byte, error) {
	if len(value) == 0 {
		return dst, &ParamError{t.name, errMalformed}
	}
	if t.asItIs(value) {
		return append(dst, value...), nil
	}
	var err error
	switch {
	case value[0] == '"':
		dst, err = unquote(dst, value)
	case value[0] == '{':
		err = errors.New("it is a JSON object")
	case t.form != formArray:
		err = errors.New("it is a JSON array")
	default:
		return t.elem.appendArrayParam(dst, value)
	}
	if err != nil {
		return dst, &ParamError{t.name, err}
	}
	return dst, nil
}

// appendArrayParam appends a JSON array as an array of this type.
func (t *Type) appendArrayParam(dst, value []byte) ([]byte, error) {
	nests := t.form != formArray && t.form != formJSON
	depth := 0
	var scratch []byte
	for i := 0; i < len(value); {
		if value[i] == '[' && (depth == 0 || nests) {
			dst = append(dst, '{')
			depth++
			i = jsonscan.SkipSpace(value, i+1)
			if i == len(value) || value[i] != ']' {
				continue
			}
		} else {
			end := jsonscan.ValueEnd(value, i)
			var err error
			if dst, scratch, err = t.appendElementParam(dst, scratch, value[i:end]); err != nil {
				return dst, err
			}
			i = jsonscan.SkipSpace(value, end)
		}
		for i < len(value) && value[i] == ']' && depth > 0 {
			dst = append(dst, '}')
			depth--
			i = jsonscan.SkipSpace(value, i+1)
		}
		if depth == 0 {
			return dst, nil
		}
		if i == len(value) || value[i] != ',' {
			break
		}
		dst = append(dst, t.delimiter)
		i = jsonscan.SkipSpace(value, i+1)
	}
	return dst, &ParamError{t.name, errMalformed}
}

// appendElementParam appends one element. scratch is memory for its text, which
// it returns for the next.
func (t *Type) appendElementParam(dst, scratch, value []byte) (_, _ []byte, err error) {
	if isNull(value) {
		return append(dst, "NULL"...), scratch, nil
	}
	scratch, err = t.appendParam(scratch[:0], value)
	if err != nil {
		return dst, scratch, err
	}
	if isLiteral(value) {
		return append(dst, scratch...), scratch, nil
	}
	return appendArrayQuoted(dst, scratch), scratch, nil
}

// appendArrayQuoted appends text as a quoted element of an array.
func appendArrayQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for {
		i := bytes.IndexAny(text, `"\`)
		if i < 0 {
			break
		}
		dst = append(dst, text[:i]...)
		dst = append(dst, '\\', text[i])
		text = text[i+1:]
	}
	dst = append(dst, text...)
	return append(dst, '"')
}
