package pgbridge_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxTypes is how many types a reader can keep in mind.
const maxTypes = 35

// TestPublicPackagesShowNoInternalTypes holds that whoever imports a public
// package can name everything that it mentions.
func TestPublicPackagesShowNoInternalTypes(t *testing.T) {
	t.Parallel()
	for name, pkg := range exported(t) {
		for _, s := range internalTypesIn(pkg) {
			t.Errorf("%s shows %s", name, s)
		}
	}
}

// exported loads the public packages as the compiler has exported them.
func exported(t *testing.T) map[string]*types.Package {
	t.Helper()
	patterns := []string{"list", "-export", "-deps", "-json=ImportPath,Export"}
	for name := range public {
		if !strings.HasPrefix(name, "cmd/") {
			patterns = append(patterns, "./"+name)
		}
	}
	files := map[string]string{}
	for _, p := range goList[struct{ ImportPath, Export string }](t, patterns...) {
		files[p.ImportPath] = p.Export
	}
	imports := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(files[path])
	})
	all := map[string]*types.Package{}
	for _, pattern := range patterns[4:] {
		name := strings.TrimPrefix(pattern, "./")
		pkg, err := imports.Import(module + name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = pkg
	}
	return all
}

func goList[T any](t *testing.T, args ...string) []T {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	}
	var all []T
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var one T
		if err := d.Decode(&one); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// internalTypesIn lists the exported names of a package that mention a type of
// an internal one.
func internalTypesIn(pkg *types.Package) []string {
	w := walk{pkg: pkg, seen: map[types.Type]bool{}, shown: map[string]bool{}}
	for _, name := range pkg.Scope().Names() {
		if object := pkg.Scope().Lookup(name); object.Exported() {
			w.object(name, object)
		}
	}
	return slices.Sorted(maps.Keys(w.shown))
}

// walk goes through everything that can be reached by exported names.
type walk struct {
	pkg   *types.Package
	seen  map[types.Type]bool
	shown map[string]bool
}

func (w *walk) object(path string, o types.Object) {
	named, isType := o.Type().(*types.Named)
	if name, ok := o.(*types.TypeName); ok && !name.IsAlias() && isType {
		w.declared(path, named)
		return
	}
	w.mention(path, o.Type())
}

// declared goes through what a type of this package shows: its exported fields
// and methods, those it has from embedded types among them.
func (w *walk) declared(path string, named *types.Named) {
	if w.seen[named] {
		return
	}
	w.seen[named] = true
	w.mention(path, named.Underlying())
	methods := types.NewMethodSet(types.NewPointer(named))
	for method := range methods.Methods() {
		if method.Obj().Exported() {
			w.mention(path+"."+method.Obj().Name(), method.Type())
		}
	}
}

func (w *walk) mention(path string, t types.Type) {
	switch t := t.(type) {
	case *types.Alias:
		w.named(path, t.Obj(), nil)
		w.mention(path, types.Unalias(t))
	case *types.Named:
		w.named(path, t.Obj(), t)
		for arg := range t.TypeArgs().Types() {
			w.mention(path, arg)
		}
	case *types.Struct:
		for field := range t.Fields() {
			if field.Exported() || field.Embedded() {
				w.mention(path+"."+field.Name(), field.Type())
			}
		}
	case *types.Interface:
		for method := range t.Methods() {
			if method.Exported() {
				w.mention(path+"."+method.Name(), method.Type())
			}
		}
	case *types.Signature:
		w.mention(path, t.Params())
		w.mention(path, t.Results())
	case *types.Tuple:
		for v := range t.Variables() {
			w.mention(path, v.Type())
		}
	case *types.Map:
		w.mention(path, t.Key())
		w.mention(path, t.Elem())
	case interface{ Elem() types.Type }: // pointers, slices, arrays, channels
		w.mention(path, t.Elem())
	case *types.Union:
		for term := range t.Terms() {
			w.mention(path, term.Type())
		}
	}
}

// named notes the name of a type. An unexported one of this package shows what
// it has to whoever holds a value of it.
func (w *walk) named(path string, name *types.TypeName, t *types.Named) {
	switch {
	case name.Pkg() == nil: // error, comparable
	case strings.HasPrefix(name.Pkg().Path(), module) && strings.Contains(name.Pkg().Path(), "/internal/"):
		w.shown[fmt.Sprintf("%s, which mentions %s.%s", path, strings.TrimPrefix(name.Pkg().Path(), module), name.Name())] = true
	case name.Pkg() == w.pkg && !name.Exported() && t != nil:
		w.declared(path, t)
	}
}

// TestInternalTypesAreSeen keeps the walk honest: each of these names shows one.
func TestInternalTypesAreSeen(t *testing.T) {
	t.Parallel()
	fset := token.NewFileSet()
	check := func(path, source string, imports types.Importer) *types.Package {
		t.Helper()
		file, err := parser.ParseFile(fset, path+".go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		pkg, err := (&types.Config{Importer: imports}).Check(path, fset, []*ast.File{file}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return pkg
	}
	inner := check(module+"internal/inner", "package inner; type T struct{}; func (T) M() T { return T{} }", nil)
	outer := check(module+"outer", `package outer
		import "`+module+`internal/inner"
		type Alias = inner.T
		type Embeds struct{ inner.T }
		type Field struct{ F map[string][]*inner.T; hidden inner.T }
		type Fine struct{ hidden inner.T; Other Field }
		func (Fine) hidden2(inner.T) {}
		type Interface interface{ M(inner.T) }
		type Method struct{}
		func (*Method) M() (chan inner.T, error) { return nil, nil }
		type Promoted struct{ unexported }
		type unexported struct{ F inner.T }
		type unused struct{ F inner.T }
		func Func(...inner.T) {}
		func Hides() unexported2 { return unexported2{} }
		type unexported2 struct{}
		func (unexported2) M(inner.T) {}
		var Var func(func(inner.T))
		const Fine2 = 1
		type Generic[E any] []E
		type Instance struct { F Generic[inner.T] }
	`, importerOf(inner))
	var names []string
	for _, shown := range internalTypesIn(outer) {
		name, _, _ := strings.Cut(shown, ",")
		names = append(names, name)
	}
	want := []string{
		"Alias", "Embeds.M", "Embeds.T", "Field.F", "Func", "Hides.M", "Instance.F", "Interface.M", "Method.M",
		"Promoted.unexported.F", "Var",
	}
	if !slices.Equal(names, want) {
		t.Errorf("found %q, want %q", names, want)
	}
}

type oneImporter struct{ pkg *types.Package }

func importerOf(pkg *types.Package) oneImporter { return oneImporter{pkg} }

func (i oneImporter) Import(string) (*types.Package, error) { return i.pkg, nil }

// TestPackagesAreSmall holds that a package is one idea.
func TestPackagesAreSmall(t *testing.T) {
	t.Parallel()
	for _, p := range goList[struct {
		ImportPath, Dir string
		GoFiles         []string
	}](t, "list", "-json=ImportPath,Dir,GoFiles", "./...") {
		n := 0
		for _, file := range p.GoFiles {
			n += typesIn(t, filepath.Join(p.Dir, file))
		}
		if name := strings.TrimPrefix(p.ImportPath, module); n > maxTypes {
			t.Errorf("%s has %d types, want %d at the most: it is more than one idea", name, n, maxTypes)
		}
	}
}

func typesIn(t *testing.T, file string) (n int) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range parsed.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			n += len(g.Specs)
		}
	}
	return n
}

// TestWordsOfTheWireStandOnce holds that the bodies of requests and replies are
// internal/api's, so that server and client cannot differ.
func TestWordsOfTheWireStandOnce(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{
		"client", "copier", "cursors", "txrunner", "txrunner/internal/jobs",
		"internal/execution", "internal/pinned", "internal/service", "internal/session",
	} {
		for _, file := range goFiles(t, folder) {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				if f, ok := n.(*ast.Field); ok && f.Tag != nil && strings.Contains(f.Tag.Value, `json:"`) {
					t.Errorf("%s has a field with the tag %s: it belongs into internal/api", file, f.Tag.Value)
				}
				return true
			})
		}
	}
}

// goFiles are those of a folder that are no tests.
func goFiles(t *testing.T, folder string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil || len(all) == 0 {
		t.Fatalf("%s has no Go files: %v", folder, err)
	}
	return slices.DeleteFunc(all, func(file string) bool { return strings.HasSuffix(file, "_test.go") })
}

// TestFailuresAreTriedAgainWhereThatIsAskedFor holds that the machine which looks at every
// change tries failed tests again, up to three of them, and that make test by itself does not.
func TestFailuresAreTriedAgainWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	asked := regexp.MustCompile(`(?m)^export (RERUNS=[1-9])\b`).FindSubmatch(script)
	if asked == nil {
		t.Fatal(".ci/run asks for no RERUNS")
	}
	tests := map[string]bool{"RERUNS=0": false, string(asked[1]): true}
	for _, target := range []string{"test", "race"} {
		for setting, again := range tests {
			out, err := exec.Command("make", "-n", target, setting).CombinedOutput()
			if err != nil {
				t.Fatalf("make -n %s %s: %v\n%s", target, setting, err, out)
			}
			tries := strings.Contains(string(out), "--rerun-fails="+strings.TrimPrefix(setting, "RERUNS=")+" ") &&
				strings.Contains(string(out), "--rerun-fails-max-failures=6 ")
			if tries != again {
				t.Errorf("make %s %s tries failed tests again: %t, want %t\n%s", target, setting, tries, again, out)
			}
		}
	}
}

// TestNoProgramIsCommitted holds that what is built stays out of the repository.
func TestNoProgramIsCommitted(t *testing.T) {
	t.Parallel()
	const most = 256 << 10
	out, err := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(files) < 100 {
		t.Fatalf("git knows %d files: this test looks at nothing", len(files))
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.Size() > most {
			t.Errorf("%s has %d bytes: what is built, or fetched, does not belong here", file, info.Size())
		}
	}
}
