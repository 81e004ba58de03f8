package docs_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestCopySnippetsAreTheExamples finds every line that copy.md shows in the
// example that it is taken from.
func TestCopySnippetsAreTheExamples(t *testing.T) {
	t.Parallel()
	page := read(t, "copy.md")
	client := read(t, "../examples/copy/main.go")
	goBlocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(goBlocks) != 1 {
		t.Fatalf("%d Go snippets, want 1", len(goBlocks))
	}
	if !strings.Contains(client, goBlocks[0][1]) {
		t.Error("the Go client is not that of the example")
	}
	scripts := regexp.MustCompile("(?s)```sql\n-- (scripts/[a-z_]+\\.sql)\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(scripts) != 2 {
		t.Fatalf("%d scripts, want 2", len(scripts))
	}
	for _, s := range scripts {
		if shown, real := words(s[2]), words(read(t, "../examples/"+s[1])); !strings.HasPrefix(real, strings.TrimSuffix(shown, ";")) {
			t.Errorf("%s is shown as\n%s\nand is\n%s", s[1], shown, real)
		}
	}
}

// words is a script without comments, and with single spaces.
func words(script string) string {
	var kept []string
	for line := range strings.Lines(script) {
		if !strings.HasPrefix(line, "--") {
			kept = append(kept, line)
		}
	}
	joined := strings.Join(strings.Fields(strings.Join(kept, " ")), " ")
	joined = strings.NewReplacer("( ", "(", " )", ")").Replace(joined)
	before, _, _ := strings.Cut(joined, " WHERE (o.")
	return before
}
