package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// levels are the logger's methods, and so the levels.
var levels = []string{"Debug", "Info", "Warn", "Error"}

// logged is a line that the program can write.
type logged struct{ message, level, place string }

// forwards is the file in which a message goes through a function of our own, warn,
// whose calls are looked at in its place.
const forwards = "internal/natsconn/quiet.go"

// logLines finds every call of a logger in the program's source: a method with a
// level's name on what is called log or logger, or a call of a variable that such a
// method was put into. What it does not understand is a fault.
func logLines(t *testing.T) []logged {
	t.Helper()
	var all []logged
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (slices.Contains([]string{"bench", "testenv", "harness", "chaos", "oracle", "examples"}, entry.Name()) || strings.HasPrefix(entry.Name(), ".") && len(entry.Name()) > 2):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, forwards):
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			all = append(all, linesIn(t, set, d)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func linesIn(t *testing.T, set *token.FileSet, d ast.Decl) []logged {
	t.Helper()
	held := map[string][]string{} // levels that a variable may hold
	ast.Inspect(d, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok {
			for i, right := range a.Rhs {
				if level := levelOf(right); level != "" {
					name := a.Lhs[i].(*ast.Ident).Name
					held[name] = append(held[name], level)
				}
			}
		}
		return true
	})
	var all []logged
	ast.Inspect(d, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		var at []string
		switch f := call.Fun.(type) {
		case *ast.SelectorExpr:
			if level := levelOf(f); level != "" {
				at = []string{level}
			}
		case *ast.Ident:
			at = held[f.Name]
		}
		if len(at) == 0 {
			return true
		}
		place := set.Position(call.Pos()).String()
		message, ok := constant(call.Args[0])
		if !ok {
			t.Errorf("%s: the message is no constant phrase", place)
		}
		for _, level := range at {
			all = append(all, logged{message, level, place})
		}
		return true
	})
	return all
}

// levelOf returns the level at which a method logs, empty if it is no logger's.
func levelOf(e ast.Expr) string {
	method, ok := e.(*ast.SelectorExpr)
	if !ok || !slices.Contains(levels, method.Sel.Name) && method.Sel.Name != "warn" {
		return ""
	}
	var on string
	switch x := method.X.(type) {
	case *ast.Ident:
		on = x.Name
	case *ast.SelectorExpr:
		on = x.Sel.Name
	}
	if on = strings.ToLower(on); on != "log" && on != "logger" {
		return ""
	}
	return strings.ToLower(method.Sel.Name)
}

// constant returns a message; of one that begins with a phrase, that and an ellipsis.
func constant(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		s, ok := constant(e.X)
		return s + "…", ok
	}
	return "", false
}

// TestLogIsDocumented compares the table with the source: every message from info
// on, with its levels.
func TestLogIsDocumented(t *testing.T) {
	t.Parallel()
	var real, documented []string
	for _, l := range logLines(t) {
		if l.level != "debug" {
			real = append(real, fmt.Sprintf("| %s | `%s` |", l.level, l.message))
		}
	}
	for _, row := range regexp.MustCompile("(?m)^(\\| (?:info|warn|error) \\| `[^`]+` \\|) [^|]{10,} \\|$").FindAllStringSubmatch(document(t, "log.md"), -1) {
		documented = append(documented, row[1])
	}
	slices.Sort(real)
	real = slices.Compact(real)
	for _, l := range real {
		if !slices.Contains(documented, l) {
			t.Errorf("not documented: %s", l)
		}
	}
	for _, l := range documented {
		if !slices.Contains(real, l) {
			t.Errorf("documented, and nothing logs it: %s", l)
		}
	}
	if len(real) < 40 {
		t.Errorf("%d messages: this test looks at nothing", len(real))
	}
}
