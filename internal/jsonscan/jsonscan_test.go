package jsonscan_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"github.com/pgbridge/pgbridge/internal/jsonscan"
)

// members decodes an object by its members, the last of equal keys wins.
func members(t *testing.T, text []byte) map[string]any {
	t.Helper()
	all := make(map[string]any)
	jsonscan.Members(text, func(key, value []byte) bool {
		var name string
		var v any
		if err := json.Unmarshal(key, &name); err != nil {
			t.Fatalf("the key %s of %s: %v", key, text, err)
		}
		if err := json.Unmarshal(value, &v); err != nil {
			t.Fatalf("the value %s of %s: %v", value, text, err)
		}
		all[name] = v
		return true
	})
	return all
}

func FuzzMembers(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a" : [1, {"b": "}"}] , "c":null}`, `{"a":"\"", "a\n": -1.5e3, "a": {}}`,
		`{"\u0061":"\\"}`, `[1]`, `null`, `{"a":tr`, `{"a"`, `{"a":`, `{`, `"a`, "{\"a\":\t[\r\n]}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]any
		if json.Unmarshal(text, &want) != nil || want == nil {
			jsonscan.Members(text, func(_, _ []byte) bool { return true }) // must not panic
			return
		}
		if !jsonscan.IsObject(text) {
			t.Fatalf("IsObject(%s) = false", text)
		}
		if got := members(t, text); !reflect.DeepEqual(got, want) {
			t.Errorf("the members of %s are %v, want %v", text, got, want)
		}
	})
}

func TestMembersStop(t *testing.T) {
	t.Parallel()
	n := 0
	jsonscan.Members([]byte(`{"a":1,"b":2}`), func(_, _ []byte) bool { n++; return false })
	if n != 1 {
		t.Errorf("yield was called %d times, want 1", n)
	}
}

func ExampleMembers() {
	jsonscan.Members([]byte(`{"a": [1, 2], "b": {}}`), func(key, value []byte) bool {
		fmt.Println(string(bytes.Trim(key, `"`)), string(value))
		return true
	})
	// Output:
	// a [1, 2]
	// b {}
}
