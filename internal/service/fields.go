package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pgbridge/pgbridge/internal/jsonscan"
)

// maxDuration is what a longer duration is taken for: no limit is as long.
const maxDuration = 24 * time.Hour

// Fields are those of a request's body, by name. Reading one takes it out, so
// that what is left in the end is unknown. Every error is an *Error with the
// code invalid_request and holds no piece of the body. A field that is null is
// as good as absent.
type Fields map[string]json.RawMessage

// largeBody is what takes so long to read that few are read at a time.
const largeBody = 32 << 10

// Fields reads the request's body. Of large ones only so many are read at a time that
// a processor is left for what NATS sends, which would cut the connection otherwise.
func (r *Request) Fields() (Fields, error) {
	if r.endpoint != nil && len(r.Data) > largeBody {
		r.endpoint.host.readers <- struct{}{}
		defer func() { <-r.endpoint.host.readers }()
	}
	return ReadFields(r.Data)
}

// ReadFields reads a body; an empty one has no fields.
func ReadFields(body []byte) (Fields, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, nil
	}
	if !utf8.Valid(body) {
		return nil, Errorf(CodeInvalidRequest, "the body is not UTF-8")
	}
	return readObject("the body", body)
}

// readObject splits JSON into the members of an object. They share its memory.
func readObject(what string, text []byte) (Fields, error) {
	if !json.Valid(text) || !jsonscan.IsObject(text) {
		return nil, notAnObject(what, json.Unmarshal(text, new(map[string]json.RawMessage)))
	}
	return splitObject(what, text)
}

// maxMembers is how many an object may have, far more than there are fields or a script
// has parameters. Short ones take many times the memory that they are written in.
const maxMembers = 4096

func splitObject(what string, text []byte) (f Fields, err error) {
	f = make(Fields, 4)
	jsonscan.Members(text, func(key, value []byte) bool {
		if f[name(key)] = value; len(f) > maxMembers {
			err = Errorf(CodeInvalidRequest, "%s has more than %d members", what, maxMembers)
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// name decodes a key. Only one that is written with an escape, or outside of
// ASCII, needs more than to lose its quotes.
func name(key []byte) string {
	for _, c := range key {
		if c == '\\' || c >= utf8.RuneSelf {
			var s string
			_ = json.Unmarshal(key, &s) // it was checked
			return s
		}
	}
	return string(key[1 : len(key)-1])
}

func notAnObject(what string, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return Errorf(CodeInvalidRequest, "%s is not JSON: it goes wrong at byte %d", what, syntax.Offset)
	}
	return Errorf(CodeInvalidRequest, "%s is not a JSON object", what)
}

// Take returns a field's value and whether it is there; null is as good as
// absent.
func (f Fields) Take(name string) (json.RawMessage, bool) {
	value, ok := f[name]
	delete(f, name)
	return value, ok && string(value) != "null"
}

// Read reads an optional field; want says what it should be.
func (f Fields) Read(name, want string, into any) error {
	value, ok := f.Take(name)
	if !ok {
		return nil
	}
	if json.Unmarshal(value, into) != nil {
		return Errorf(CodeInvalidRequest, "field %q: want %s", name, want)
	}
	return nil
}

// Duration reads an optional field in milliseconds; 0 means that it is absent.
func (f Fields) Duration(name string) (time.Duration, error) {
	value, ok := f.Take(name)
	if !ok {
		return 0, nil
	}
	var ms int64
	if json.Unmarshal(value, &ms) != nil || ms < 1 {
		return 0, Errorf(CodeInvalidRequest, "field %q: want a number of milliseconds, a whole one from 1", name)
	}
	return time.Duration(min(ms, maxDuration.Milliseconds())) * time.Millisecond, nil
}

// Bytes reads an optional size; missing is what it is without the field, and a
// size over most is taken for most.
func (f Fields) Bytes(name string, missing, most int) (int, error) {
	const want = "a number of bytes, a whole one from 1"
	n := int64(missing)
	if err := f.Read(name, want, &n); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, Errorf(CodeInvalidRequest, "field %q: want %s", name, want)
	}
	return int(min(n, int64(most))), nil
}

// Object reads an optional field that is an object.
func (f Fields) Object(name string) (map[string]json.RawMessage, error) {
	value, ok := f.Take(name)
	if !ok {
		return nil, nil
	}
	if !jsonscan.IsObject(value) {
		return nil, notAnObject("field \""+name+"\"", nil)
	}
	return splitObject("field \""+name+"\"", value)
}

// OneOf reads an optional field that is one of a few words, the first by
// default.
func (f Fields) OneOf(name string, words ...string) (string, error) {
	word := words[0]
	if _, ok := f[name]; !ok {
		return word, nil
	}
	want := "\"" + strings.Join(words, "\" or \"") + "\""
	if err := f.Read(name, want, &word); err != nil {
		return "", err
	}
	if !slices.Contains(words, word) {
		return "", Errorf(CodeInvalidRequest, "field %q: want %s", name, want)
	}
	return word, nil
}

// End refuses the fields that nobody has read.
func (f Fields) End() error {
	for name := range f {
		return Errorf(CodeInvalidRequest, "unknown field %q", name)
	}
	return nil
}

// Storable reports whether PostgreSQL can hold a text.
func Storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }
