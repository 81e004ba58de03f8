package pgbridge_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOwnRowsAreReadInOnePlace holds that nobody takes rows from pgconn, which does not
// look how many values one has: internal/postgres does.
func TestOwnRowsAreReadInOnePlace(t *testing.T) {
	t.Parallel()
	takes := regexp.MustCompile(`\.(ReadAll\(\)|ResultReader\(\)|ExecParams\(|ExecPrepared\(|ExecStatement\()`)
	looked := 0
	for _, p := range packages(t) {
		if testOnly(p.ImportPath) || strings.HasPrefix(p.ImportPath, "deploy") {
			continue
		}
		for _, file := range packageFiles(t, p.ImportPath) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			looked++
			if found := takes.Find(text); found != nil && file != filepath.Join("internal", "postgres", "rows.go") {
				t.Errorf("%s has %s: see postgres.ReadRows", file, found)
			}
		}
	}
	if looked < 300 {
		t.Errorf("%d files: this test looks at nothing", looked)
	}
}

// packageFiles are those of a package that are no tests; the module itself has none.
func packageFiles(t *testing.T, name string) []string {
	t.Helper()
	if name == strings.TrimSuffix(module, "/") {
		return nil
	}
	return goFiles(t, name)
}
