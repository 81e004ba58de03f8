package typegen

import (
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/client"
)

func TestPascal(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"account": "Account", "orders.search": "OrdersSearch", "by-name_x": "ByNameX", "2nd": "X2nd", "größe": "GrE", "-": "X", "id": "Id", "a1b": "A1b",
	} {
		if got := pascal(name); got != want {
			t.Errorf("pascal(%q) = %s, want %s", name, got, want)
		}
	}
	n := names{}
	for _, want := range []string{"A", "A2", "A3"} {
		if got := n.unique("A"); got != want {
			t.Errorf("unique() = %s, want %s", got, want)
		}
	}
}

// What a description holds ends no comment.
func TestDescriptionsStayComments(t *testing.T) {
	t.Parallel()
	d := &client.Description{Info: client.ScriptInfo{Name: "x", Kind: client.KindRun, Description: "a */ b\r\u2028\nimport \"os\""}}
	for l, want := range map[Language]string{
		TypeScript: "/**\n * a * / b\n * import \"os\"\n */\n",
		Go:         "//\n// a * / b\n// import \"os\"\n",
		JSONSchema: `"description": "a */ b\r\u2028\nimport \"os\""`,
	} {
		got, err := Write(l, "p", []*client.Description{d})
		if text := strings.ReplaceAll(string(got), " \n", "\n"); err != nil || !strings.Contains(strings.ReplaceAll(text, " \n", "\n"), want) {
			t.Errorf("%s: %v\n%q\nwant %q", l, err, got, want)
		}
	}
	if _, err := Write("cobol", "p", nil); err == nil {
		t.Error("types were written in another language")
	}
}

// Nor is what stands for a name anything else.
func TestNamesAreNoCode(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"x\nfunc init() { panic(1) }", "x`", "", "a..b", "x */ y", "x\u2028y", "$x", "größe"} {
		for _, l := range []Language{TypeScript, Go, JSONSchema} {
			d := &client.Description{Info: client.ScriptInfo{Name: name, Kind: client.KindRun}}
			if got, err := Write(l, "p", []*client.Description{d}); err == nil {
				t.Errorf("%s: the script %q is written as\n%s", l, name, got)
			}
		}
	}
	for _, name := range []string{"a`\n}\nfunc init() {", "a\"b", ""} {
		d := &client.Description{Info: client.ScriptInfo{Name: "x", Kind: client.KindRun}, Parameters: []client.Parameter{{Name: name}}}
		if got, err := Write(Go, "p", []*client.Description{d}); err == nil {
			t.Errorf("the parameter %q is written as\n%s", name, got)
		}
	}
	d := &client.Description{Info: client.ScriptInfo{Name: "a.b-c_1", Kind: client.KindRun}, Parameters: []client.Parameter{{Name: "größe_1$"}}}
	if _, err := Write(Go, "p", []*client.Description{d}); err != nil {
		t.Error(err)
	}
}

func TestAccepted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ types, typescript, golang string }{
		{"int8", "number | string | null", "*int64"},
		{"numeric", "number | string | null", "*Numeric"},
		{"bool", "boolean | string | null", "*bool"},
		{"jsonb", "Json", "json.RawMessage"},
		{"uuid", "string | number | boolean | null", "*string"},
		{"text[]", "Nested<string | number | boolean> | string | null", "[]*string"},
		{"jsonb[]", "Nested<Json> | string | null", "[]json.RawMessage"},
		{"int4 int8", "number | string | null", "any"},
		{"int4 text", "(number | string | null) & (string | number | boolean | null)", "any"},
		{"", "unknown", "any"},
	} {
		d := &client.Description{Info: client.ScriptInfo{Kind: client.KindRun}}
		p := client.Parameter{Types: strings.Fields(c.types)}
		if got := typescriptParam(d, p); got != c.typescript {
			t.Errorf("%s in TypeScript: %s, want %s", c.types, got, c.typescript)
		}
		if got := golangParam(types(d, p)); got != c.golang {
			t.Errorf("%s in Go: %s, want %s", c.types, got, c.golang)
		}
		d.Info.Kind = client.KindCopyIn
		if len(p.Types) == 0 && typescriptParam(d, p) != "string | number | boolean | null" {
			t.Errorf("a COPY's parameter is %s", typescriptParam(d, p))
		}
	}
}
