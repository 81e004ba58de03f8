package params

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParams(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("[1]"), 0o600); err != nil {
		t.Fatal(err)
	}
	params, err := Read([]string{"a=x=y", "b:=[null]", "c=@" + file, "d:=@-", "e="}, strings.NewReader(`{"in": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Param{{"a", "x=y", false}, {"b", "[null]", true}, {"c", "[1]", false}, {"d", `{"in": 1}`, true}, {"e", "", false}}
	if !slices.Equal(params, want) {
		t.Errorf("parameters %v, want %v", params, want)
	}
	for _, tt := range []struct {
		value string
		types []string
		want  string
	}{
		{"1", []string{"int4"}, `"1"`}, {"1", []string{"jsonb"}, `1`}, {"x", []string{"json"}, `"x"`}, {`"x"`, []string{"json"}, `"x"`},
		{"[1]", []string{"int4[]"}, `[1]`}, {"{1}", []string{"int4[]"}, `"{1}"`}, {"1", []string{"int4[]"}, `"1"`},
		{"[1]", []string{"jsonb", "text"}, `"[1]"`}, {"[1]", nil, `"[1]"`}, {"[1]", []string{"jsonb", "int4[]"}, `[1]`},
	} {
		got, err := Param{Value: tt.value}.Encode(tt.types)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s as %v: %s (%v), want %s", tt.value, tt.types, got, err, tt.want)
		}
	}
}
