// Package helm_test checks that the chart renders what Kubernetes takes, with
// every option, and the same as the Kustomize base. It is a module of its own,
// because nothing else needs Helm.
package helm_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pgbridge/pgbridge/deploy/helm/rendering"
)

const chartFolder = "pgbridge"

// object is one of Kubernetes', undecoded.
type object map[string]any

// render renders the chart with values, YAML, for a release named pgbridge.
func render(t *testing.T, values string) ([]object, error) {
	t.Helper()
	return renderAs(t, "pgbridge", values)
}

func renderAs(t *testing.T, release, values string) ([]object, error) {
	t.Helper()
	files, err := rendering.Files(chartFolder, release, values)
	if err != nil {
		return nil, err
	}
	var objects []object
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") {
			objects = append(objects, parse(t, name, text)...)
		}
	}
	slices.SortFunc(objects, func(a, b object) int { return strings.Compare(a.id(), b.id()) })
	return objects, nil
}

func mustRender(t *testing.T, values string) []object {
	t.Helper()
	objects, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func parse(t *testing.T, name, text string) []object {
	t.Helper()
	var objects []object
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		var o object
		if err := yaml.UnmarshalStrict([]byte(document), &o); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, document)
		}
		if len(o) > 0 {
			objects = append(objects, o)
		}
	}
	return objects
}

// at returns what is found on a path through objects, or nil.
func (o object) at(path ...string) any {
	var here any = map[string]any(o)
	for _, name := range path {
		fields, ok := here.(map[string]any)
		if !ok {
			return nil
		}
		here = fields[name]
	}
	return here
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o object) id() string { return o.text("kind") + " " + o.text("metadata", "name") }

// find returns the object with an id such as "Deployment pgbridge".
func find(t *testing.T, objects []object, id string) object {
	t.Helper()
	i := slices.IndexFunc(objects, func(o object) bool { return o.id() == id })
	if i < 0 {
		t.Fatalf("there is no %s", id)
	}
	return objects[i]
}

// as decodes an object strictly.
func as[T any](t *testing.T, o object) *T {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	into := new(T)
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", o.id(), err)
	}
	return into
}

func asYAML(t *testing.T, value any) string {
	t.Helper()
	text, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// program is pgbridge, made once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pgbridge")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/pgbridge")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	return dir, cmd.Run()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := program(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// check has pgbridge look at a configuration.
func check(t *testing.T, file string) {
	t.Helper()
	dir, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "pgbridge"), "check", "--offline", "-c", file)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// decode holds objects to the types of Kubernetes, as the module file has them.
func decode(t *testing.T, modfile string, objects []object) error {
	t.Helper()
	var documents []string
	for _, o := range objects {
		if !strings.HasPrefix(o.text("apiVersion"), "monitoring.coreos.com/") {
			documents = append(documents, asYAML(t, o))
		}
	}
	cmd := exec.Command("go", "run", "-modfile="+modfile, "./decode")
	cmd.Dir = filepath.Join("..", "kustomize")
	cmd.Stdin = strings.NewReader(strings.Join(documents, "\n---\n"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", modfile, err, out)
	}
	return nil
}
