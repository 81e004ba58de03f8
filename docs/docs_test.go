// Package docs_test holds the documents to what they describe: messages,
// problems, links and snippets.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/natsconn"
	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// events opens the connection that a bridge wants; nobody has to be there.
func events(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := natsconn.Events(natsconn.Settings{URLs: []string{url}}, natsconn.Keeper{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// compare reports what is only documented or only real.
func compare(t *testing.T, what string, documented, real []string) {
	t.Helper()
	for _, d := range documented {
		if !slices.Contains(real, d) {
			t.Errorf("%s: %q is documented and does not exist", what, d)
		}
	}
	for _, r := range real {
		if !slices.Contains(documented, r) {
			t.Errorf("%s: %q is not documented", what, r)
		}
	}
}

// TestProblemsAreDocumented compares the parts in the table of problems with
// those that there are.
func TestProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "operations.md"), "### What the problems mean")
	table, _, _ = strings.Cut(table, "\n#")
	var documented, real []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Za-z, ]+): ").FindAllStringSubmatch(table, -1) {
		documented = append(documented, row[1])
	}
	for _, p := range part.All() {
		real = append(real, p.String())
	}
	compare(t, "problems", documented, real)
}

// TestSnippetsAreTheExamples finds every line of code that a document shows in
// one of the examples.
func TestSnippetsAreTheExamples(t *testing.T) {
	t.Parallel()
	examples := map[string]string{
		"go": read(t, "../examples/subscribe/main.go") + read(t, "../examples/consume/main.go") + read(t, "../examples/transfer/main.go"),
		"js": read(t, "../examples/javascript/subscribe.js") + read(t, "../examples/javascript/cursor.js"),
	}
	shown := 0
	for _, document := range []string{"../README.md", "events.md", "requests.md", "clients.md"} {
		for _, block := range regexp.MustCompile("(?s)```(go|js)\n(.*?)```").FindAllStringSubmatch(read(t, document), -1) {
			shown++
			for line := range strings.Lines(block[2]) {
				if line = strings.TrimSpace(line); !strings.Contains(examples[block[1]], line) {
					t.Errorf("%s shows %q, which no example has", document, line)
				}
			}
		}
	}
	if shown != 7 {
		t.Errorf("%d snippets, want 7", shown)
	}
}

// TestLinksLeadSomewhere follows the links between documents.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range append(documents, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md", "../deploy/README.md") {
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(t, document), -1) {
			if strings.HasPrefix(link[1], "https://") {
				continue
			}
			file, anchor, _ := strings.Cut(link[1], "#")
			target := document
			if file != "" {
				target = filepath.Join(filepath.Dir(document), file)
			}
			content := read(t, target)
			if anchor != "" && !slices.Contains(anchors(content), anchor) {
				t.Errorf("%s: %s has no heading #%s", document, target, anchor)
			}
		}
	}
}

// TestTheReadmeIsShort holds it to what one reads before trying.
func TestTheReadmeIsShort(t *testing.T) {
	t.Parallel()
	if lines := strings.Count(read(t, "../README.md"), "\n"); lines > 250 {
		t.Errorf("README.md has %d lines, at most 250 are read", lines)
	}
}

// TestTheIndexHasEveryDocument looks for each in README.md, which is what a visitor of
// this folder sees.
func TestTheIndexHasEveryDocument(t *testing.T) {
	t.Parallel()
	documents, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	index := read(t, "README.md")
	for _, document := range documents {
		if document != "README.md" && !strings.Contains(index, "]("+document+")") {
			t.Errorf("README.md does not lead to %s", document)
		}
	}
}

// anchors are what the headings of a document are called in links.
func anchors(content string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(content, -1) {
		plain := regexp.MustCompile(`[^a-z0-9_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}
