package pgbridge_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pgbridge/pgbridge/"

// public says which public packages each of them may import:
//
//	cmd/pgbridge → bridge | copier, cursors → txrunner → internal/*
var public = map[string][]string{
	"cmd/pgbridge": {"bridge", "copier", "cursors", "txrunner"},
	"bridge":       nil,
	"copier":       {"txrunner"},
	"cursors":      {"txrunner"},
	"txrunner":     nil,
}

// listed is a package as go list describes it, with paths in this module cut short.
type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		for _, list := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			for i := range list {
				list[i] = strings.TrimPrefix(list[i], module)
			}
		}
		all = append(all, p)
	}
}

// forbidden says why importer must not import imported; empty means that it may.
func forbidden(importer, imported string) string {
	allowed, fromPublic := public[importer]
	_, isPublic := public[imported]
	switch {
	case imported == "internal/testenv" && !testOnly(importer):
		return "testenv is for tests"
	case strings.HasPrefix(imported, "github.com/lib/pq") && importer != "bridge" && importer != "internal/postgres" && !testOnly(importer):
		return "lib/pq is for the listener"
	case isPublic && strings.HasPrefix(importer, "internal/") && !testOnly(importer):
		return "internal packages know nothing of the public ones"
	case isPublic && fromPublic && !slices.Contains(allowed, imported):
		return "imports point right"
	}
	return ""
}

// testOnly tells the packages that no part of the program imports: they serve
// tests, measurements and examples.
func testOnly(name string) bool {
	return name == "internal/testenv" || name == "internal/bench" || strings.HasPrefix(name, "examples/")
}

func TestImportsPointRight(t *testing.T) {
	t.Parallel()
	all := packages(t)
	for _, p := range all {
		for _, imported := range p.Imports {
			if why := forbidden(p.ImportPath, imported); why != "" {
				t.Errorf("%s imports %s: %s", p.ImportPath, imported, why)
			}
			if testOnly(imported) && !testOnly(p.ImportPath) {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, imported)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if _, isPublic := public[imported]; isPublic && strings.HasPrefix(p.ImportPath, "internal/") && !testOnly(p.ImportPath) {
				t.Errorf("a test of %s imports %s: internal packages know nothing of the public ones", p.ImportPath, imported)
			}
		}
	}
	if !slices.ContainsFunc(all, func(p listed) bool { return p.ImportPath == "bridge" }) {
		t.Fatal("go list did not find bridge: this test looks at nothing")
	}
}

// TestPackagesHaveAPlace keeps the picture complete: whoever adds a package
// says where it stands.
func TestPackagesHaveAPlace(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		_, isPublic := public[p.ImportPath]
		top, _, _ := strings.Cut(p.ImportPath, "/")
		if !isPublic && !slices.Contains([]string{"internal", "examples", "deploy", "docs"}, top) && p.ImportPath != path.Clean(module) {
			t.Errorf("%s has no place in the import graph", p.ImportPath)
		}
	}
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	tests := []struct {
		importer, imported string
		want               bool
	}{
		{"cmd/pgbridge", "bridge", false},
		{"cmd/pgbridge", "internal/natsconn", false},
		{"copier", "txrunner", false},
		{"cursors", "txrunner", false},
		{"bridge", "internal/service", false},
		{"bridge", "github.com/lib/pq", false},
		{"internal/postgres", "github.com/lib/pq", false},
		{"bridge", "txrunner", true},
		{"bridge", "cmd/pgbridge", true},
		{"copier", "cursors", true},
		{"cursors", "copier", true},
		{"copier", "bridge", true},
		{"txrunner", "copier", true},
		{"txrunner", "github.com/lib/pq", true},
		{"internal/rows", "bridge", true},
		{"internal/service", "txrunner", true},
		{"cmd/pgbridge", "internal/testenv", true},
	}
	for _, tt := range tests {
		if why := forbidden(tt.importer, tt.imported); (why != "") != tt.want {
			t.Errorf("forbidden(%s, %s) = %q, want forbidden: %t", tt.importer, tt.imported, why, tt.want)
		}
	}
}
