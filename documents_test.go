package pgbridge_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guides are the documents that say which folder to open.
var guides = []string{"CONTRIBUTING.md", "docs/design.md"}

var (
	code       = regexp.MustCompile("`([^`\n]+)`")
	identifier = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)
)

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestGuidesNameWhatIsThere opens every path that the guides name, and looks for
// the names that stand beside a file in it.
func TestGuidesNameWhatIsThere(t *testing.T) {
	t.Parallel()
	paths := 0
	for _, guide := range guides {
		for _, passage := range passages(document(t, guide)) {
			var files, names []string
			for _, m := range code.FindAllStringSubmatch(passage, -1) {
				switch word := m[1]; {
				case isPath(word):
					paths++
					if _, err := os.Stat(word); err != nil {
						t.Errorf("%s names %s: %v", guide, word, err)
					} else if strings.HasSuffix(word, ".go") {
						files = append(files, document(t, word))
					}
				case identifier.MatchString(word):
					names = append(names, word)
				}
			}
			for _, name := range names {
				word := regexp.MustCompile(`\b` + name + `\b`)
				if len(files) > 0 && !slices.ContainsFunc(files, word.MatchString) {
					t.Errorf("%s names %s, which the files beside it do not have:\n%s", guide, name, passage)
				}
			}
		}
	}
	if paths < 50 {
		t.Errorf("found %d paths: this test looks at nothing", paths)
	}
}

// passages are rows, list items and paragraphs.
func passages(text string) []string {
	return regexp.MustCompile(`\n\n|\n\||\n- `).Split(text, -1)
}

// isPath reports whether a word in a guide is a file or folder of this tree.
func isPath(word string) bool {
	top, _, nested := strings.Cut(word, "/")
	info, err := os.Stat(top)
	return nested && err == nil && info.IsDir() && !strings.ContainsAny(word, " <*{")
}

// TestEveryFolderIsInTheGuides holds that whoever looks for a place finds all there
// are: in the layout, or for the parts of the bridge in the table of the design.
func TestEveryFolderIsInTheGuides(t *testing.T) {
	t.Parallel()
	layout, design := document(t, guides[0]), document(t, guides[1])
	for _, p := range packages(t) {
		name := p.ImportPath
		if strings.HasPrefix(name, "examples") || name == filepath.Clean(module) {
			continue
		}
		part, ofBridge := strings.CutPrefix(name, "bridge/internal/")
		if strings.Contains(layout, "`"+name+"`") || ofBridge && strings.Contains(design, "`"+part+"`") {
			continue
		}
		t.Errorf("%s is in no guide", name)
	}
}
