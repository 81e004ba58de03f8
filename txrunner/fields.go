package txrunner

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/internal/service"
)

// fields are a request body's, by name. Reading one takes it out, so that what
// is left in the end is unknown.
type fields map[string]json.RawMessage

// readFields reads a body; an empty one has no fields. No error holds a piece
// of it.
func readFields(body []byte) (fields, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	var f fields
	err := json.Unmarshal(body, &f)
	if err == nil && f == nil {
		err = errors.New("null")
	}
	if err != nil {
		return nil, notAnObject("the body", err)
	}
	return f, nil
}

func notAnObject(what string, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return service.Errorf(service.CodeInvalidRequest, "%s is not JSON: it goes wrong at byte %d", what, syntax.Offset)
	}
	return service.Errorf(service.CodeInvalidRequest, "%s is not a JSON object", what)
}

// take returns a field's value and whether it is there; null is as good as
// absent.
func (f fields) take(name string) (json.RawMessage, bool) {
	value, ok := f[name]
	delete(f, name)
	return value, ok && string(value) != "null"
}

// read reads an optional field; want says what it should be.
func (f fields) read(name, want string, into any) error {
	value, ok := f.take(name)
	if !ok {
		return nil
	}
	if json.Unmarshal(value, into) != nil {
		return service.Errorf(service.CodeInvalidRequest, "field %q: want %s", name, want)
	}
	return nil
}

// duration reads an optional field in milliseconds; 0 means that it is absent.
func (f fields) duration(name string) (time.Duration, error) {
	value, ok := f.take(name)
	if !ok {
		return 0, nil
	}
	var ms int64
	if json.Unmarshal(value, &ms) != nil || ms < 1 {
		return 0, service.Errorf(service.CodeInvalidRequest, "field %q: want a number of milliseconds, a whole one from 1", name)
	}
	return time.Duration(min(ms, maxTimeoutLimit.Milliseconds())) * time.Millisecond, nil
}

// object reads an optional field that is an object.
func (f fields) object(name string) (map[string]json.RawMessage, error) {
	value, ok := f.take(name)
	if !ok {
		return nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(value, &object); err != nil {
		return nil, notAnObject("field \""+name+"\"", err)
	}
	return object, nil
}

// oneOf reads an optional field that is one of a few words, the first by
// default.
func (f fields) oneOf(name string, words ...string) (string, error) {
	word := words[0]
	if _, ok := f[name]; !ok {
		return word, nil
	}
	want := "\"" + strings.Join(words, "\" or \"") + "\""
	if err := f.read(name, want, &word); err != nil {
		return "", err
	}
	if !slices.Contains(words, word) {
		return "", service.Errorf(service.CodeInvalidRequest, "field %q: want %s", name, want)
	}
	return word, nil
}

// end refuses the fields that nobody has read.
func (f fields) end() error {
	for name := range f {
		return service.Errorf(service.CodeInvalidRequest, "unknown field %q", name)
	}
	return nil
}

// storable reports whether PostgreSQL can hold a text.
func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
