package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFields wants of every body what encoding/json makes of it, and no piece
// of it in an error.
func FuzzFields(f *testing.F) {
	for _, body := range []string{
		``, ` `, `{}`, `{"a":1,"b":[1,{"c":"}"}],"a":null}`, `{"\u0061":"\ud800","é":0}`, `[]`, `{"a":}`, `{"a" : 1 }`, `null`, "{\"a\":\"\xff\"}",
		`{"\"":"\\"}`, `{"timeout_ms":1e3,"size":-1,"form":"rows","params":{"x":{}}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, err := ReadFields(body)
		var want map[string]json.RawMessage
		valid := utf8.Valid(body) && (len(bytes.TrimSpace(body)) == 0 || json.Unmarshal(body, &want) == nil && want != nil && len(want) <= maxMembers)
		if (err == nil) != valid {
			t.Fatalf("ReadFields(%q) = %v", body, err)
		}
		if !maps.EqualFunc(fields, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Fatalf("ReadFields(%q) = %s, want %s", body, fields, want)
		}
		readAll(t, fields)
	})
}

// readAll reads the fields as handlers do, each as everything.
func readAll(t *testing.T, fields Fields) {
	for name := range fields {
		if d, err := maps.Clone(fields).Duration(name); err == nil && (d < 0 || d > maxDuration) {
			t.Errorf("field %q is %s", name, d)
		}
		if n, err := maps.Clone(fields).Bytes(name, 1, 10); err == nil && (n < 1 || n > 10) {
			t.Errorf("field %q is %d bytes", name, n)
		}
		words := []string{"rows", "objects"}
		if word, err := maps.Clone(fields).OneOf(name, words...); err == nil && !slices.Contains(words, word) {
			t.Errorf("field %q is %q", name, word)
		}
		if object, err := maps.Clone(fields).Object(name); err == nil && object != nil && !json.Valid(fields[name]) {
			t.Errorf("field %q is %v", name, object)
		}
	}
}

// TestObjectsAreBounded has objects with as many members as they may have, and one more.
func TestObjectsAreBounded(t *testing.T) {
	t.Parallel()
	members := func(n int) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(`"%x":1`, i)
		}
		return "{" + strings.Join(all, ",") + "}"
	}
	for n, code := range map[int]Code{maxMembers: "", maxMembers + 1: CodeInvalidRequest, 10 * maxMembers: CodeInvalidRequest} {
		f, body := ReadFields([]byte(members(n)))
		outer, err := ReadFields([]byte(`{"params":` + members(n) + "}"))
		if err != nil {
			t.Fatal(err)
		}
		inner, field := outer.Object("params")
		for _, err := range []error{body, field} {
			if code == "" && err != nil || code != "" && (err == nil || AsError(err).Code != code) {
				t.Errorf("%d members: %v, want %q", n, err, code)
			}
		}
		if code == "" && (len(f) != n || len(inner) != n) {
			t.Errorf("%d and %d members were read, want %d", len(f), len(inner), n)
		}
	}
}
