package pgbridge_test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxLines is how long a file may be that is no test.
const maxLines = 330

// TestFilesUseEachOtherOneWay holds that the files of a package have an order, from
// what a thing is to what is done with it: whoever reads one needs only those below.
func TestFilesUseEachOtherOneWay(t *testing.T) {
	t.Parallel()
	exports := map[string]string{}
	var own []sources
	for _, p := range goList[sources](t, "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly", "./...") {
		exports[p.ImportPath] = p.Export
		if name := strings.TrimPrefix(p.ImportPath, module); !p.DepOnly && !testOnly(name) {
			own = append(own, p)
		}
	}
	if len(own) < 30 {
		t.Fatalf("go list found %d packages: this test looks at nothing", len(own))
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range own {
		name := strings.TrimPrefix(p.ImportPath, module)
		if circle := inCircles(p.uses(t, fset, imports)); len(circle) > 0 {
			t.Errorf("%s: files use each other both ways: %q", name, circle)
		}
	}
}

// sources are a package's, as go list tells them.
type sources struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
	DepOnly                 bool
}

// uses says which other files of the package each file names something of.
func (p sources) uses(t *testing.T, fset *token.FileSet, imports types.Importer) map[string][]string {
	t.Helper()
	var files []*ast.File
	for _, file := range p.GoFiles {
		parsed, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, parsed)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, err := (&types.Config{Importer: imports}).Check(p.ImportPath, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	return usesBetween(fset, pkg, info.Uses)
}

func usesBetween(fset *token.FileSet, pkg *types.Package, named map[*ast.Ident]types.Object) map[string][]string {
	fileOf := func(at token.Pos) string { return filepath.Base(fset.Position(at).Filename) }
	uses := map[string][]string{}
	for identifier, object := range named {
		if object.Pkg() != pkg || !object.Pos().IsValid() {
			continue
		}
		from, to := fileOf(identifier.Pos()), fileOf(object.Pos())
		if from != to && !slices.Contains(uses[from], to) {
			uses[from] = append(uses[from], to)
		}
	}
	return uses
}

// inCircles are the files from which a way leads back to themselves.
func inCircles(uses map[string][]string) []string {
	var all []string
	for _, file := range slices.Sorted(maps.Keys(uses)) {
		seen := map[string]bool{}
		for next := slices.Clone(uses[file]); len(next) > 0; next = next[1:] {
			if !seen[next[0]] {
				seen[next[0]] = true
				next = append(next, uses[next[0]]...)
			}
		}
		if seen[file] {
			all = append(all, file)
		}
	}
	return all
}

// TestCirclesAreSeen keeps the test above honest.
func TestCirclesAreSeen(t *testing.T) {
	t.Parallel()
	uses := map[string][]string{"a": {"b", "d"}, "b": {"c"}, "c": {"b", "d"}, "e": {"a"}}
	if got := inCircles(uses); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("found %q, want b and c", got)
	}
}

// TestFilesAreShort holds that a file is read in one go.
func TestFilesAreShort(t *testing.T) {
	t.Parallel()
	for _, p := range goList[sources](t, "list", "-json=ImportPath,Dir,GoFiles", "./...") {
		for _, file := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), "\n"); n > maxLines {
				t.Errorf("%s/%s has %d lines, want %d at the most", strings.TrimPrefix(p.ImportPath, module), file, n, maxLines)
			}
		}
	}
}
