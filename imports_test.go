package pgbridge_test

import (
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pgbridge/pgbridge/"

// public says which public packages each of them may import:
//
//	cmd/pgbridge → client/operate → client | bridge | copier, cursors → txrunner → internal/*
var public = map[string][]string{
	"cmd/pgbridge":   {"client", "client/operate", "bridge", "copier", "cursors", "txrunner"},
	"client":         nil,
	"client/operate": {"client"},
	"bridge":         nil,
	"copier":         {"txrunner"},
	"cursors":        {"txrunner"},
	"txrunner":       nil,
}

// driver says which packages may import lib/pq, which is for the listener only.
var driver = []string{"bridge/internal/listen", "internal/postgres"}

// wire says which internal packages the client may import.
var wire = []string{"internal/api", "internal/api/describe", "internal/subject", "internal/wait"}

// owner is the public package to which a package below its internal folder
// belongs; any other is its own.
func owner(name string) string {
	parent, _, nested := strings.Cut(name, "/internal/")
	if _, isPublic := public[parent]; nested && isPublic {
		return parent
	}
	return name
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
	all := goList[listed](t, "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	for i := range all {
		p := &all[i]
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		for _, list := range [][]string{p.Imports, p.TestImports, p.XTestImports} {
			for j := range list {
				list[j] = strings.TrimPrefix(list[j], module)
			}
		}
	}
	return all
}

// forbidden says why importer must not import imported; empty means that it may.
func forbidden(importer, imported string) string {
	allowed, fromPublic := public[owner(importer)]
	_, isPublic := public[imported]
	switch {
	case (imported == "internal/testenv" || imported == "internal/harness") && !testOnly(importer):
		return "it is for tests"
	case strings.HasPrefix(imported, "github.com/lib/pq") && !slices.Contains(driver, importer) && !testOnly(importer):
		return "lib/pq is for the listener"
	case isPublic && strings.HasPrefix(importer, "internal/") && !testOnly(importer):
		return "internal packages know nothing of the public ones"
	case isPublic && imported == owner(importer):
		return "what belongs to a package does not import it"
	case importer == "bridge/internal/sequence" && slices.ContainsFunc([]string{"net", "database/", "github.com/jackc/", "github.com/nats-io/"},
		func(prefix string) bool { return strings.HasPrefix(imported, prefix) }):
		return "the sequencer does no I/O"
	case isPublic && fromPublic && !slices.Contains(allowed, imported):
		return "imports point right"
	case owner(importer) == "client" && strings.HasPrefix(imported, "internal/") && !slices.Contains(wire, imported):
		return "a client knows the words of the wire only"
	}
	return ""
}

// testOnly tells the packages that no part of the program imports: they serve
// tests, measurements and examples.
func testOnly(name string) bool {
	return name == "internal/testenv" || name == "internal/harness" || name == "internal/bench" || name == "internal/oracle" ||
		name == "internal/chaos" || strings.HasPrefix(name, "internal/chaos/") || strings.HasPrefix(name, "examples/")
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
		_, isPublic := public[owner(p.ImportPath)]
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
		{"bridge", "bridge/internal/listen", false},
		{"bridge/internal/listen", "github.com/lib/pq", false},
		{"internal/postgres", "github.com/lib/pq", false},
		{"bridge", "github.com/lib/pq", true},
		{"bridge/internal/sequence", "github.com/lib/pq", true},
		{"bridge/internal/sequence", "github.com/nats-io/nats.go", true},
		{"bridge/internal/sequence", "net", true},
		{"bridge/internal/queue", "bridge", true},
		{"bridge/internal/queue", "txrunner", true},
		{"bridge", "txrunner", true},
		{"bridge", "cmd/pgbridge", true},
		{"copier", "cursors", true},
		{"cursors", "copier", true},
		{"copier", "bridge", true},
		{"txrunner", "copier", true},
		{"txrunner", "github.com/lib/pq", true},
		{"internal/rows", "bridge", true},
		{"internal/service", "txrunner", true},
		{"cmd/pgbridge", "client", false},
		{"client", "internal/api", false},
		{"client/internal/chunks", "internal/service", true},
		{"client", "internal/natsconn", true},
		{"client", "txrunner", true},
		{"cmd/pgbridge", "internal/testenv", true},
		{"copier", "internal/harness", true},
		{"internal/harness", "txrunner", false},
		{"cmd/pgbridge/internal/config", "bridge", false},
		{"txrunner/internal/session", "copier", true},
	}
	for _, tt := range tests {
		if why := forbidden(tt.importer, tt.imported); (why != "") != tt.want {
			t.Errorf("forbidden(%s, %s) = %q, want forbidden: %t", tt.importer, tt.imported, why, tt.want)
		}
	}
}
