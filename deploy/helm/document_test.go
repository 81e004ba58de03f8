package helm_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// TestDocumentedFilesWork renders the values that docs/kubernetes.md shows, and builds
// its kustomization beside the base, with the addition for scripts.
func TestDocumentedFilesWork(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	var values, kustomizations []string
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		if strings.Contains(block[1], "configMapGenerator:") {
			kustomizations = append(kustomizations, block[1])
		} else {
			values = append(values, block[1])
		}
	}
	if len(values) != 2 || len(kustomizations) != 2 {
		t.Fatalf("%d values and %d kustomizations are shown, want 2 each", len(values), len(kustomizations))
	}
	var rendered []object
	for _, v := range values {
		objects := mustRender(t, v)
		pod := object(find(t, objects, "Deployment pgbridge").at("spec", "template", "spec").(map[string]any))
		isConfigured(t, objects, pod)
		rendered = append(rendered, objects...)
	}
	rendered = append(rendered, kustomize(t, kustomizations[0], kustomizations[1])...)
	if err := decode(t, "oldest.mod", rendered); err != nil {
		t.Error(err)
	}
}

// kustomize builds a kustomization in a folder where the document has it.
func kustomize(t *testing.T, first, more string) []object {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, "pgbridge/deploy/kustomize/base"), os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	var whole, addition map[string]any
	for text, into := range map[string]*map[string]any{first: &whole, more: &addition} {
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	whole["configMapGenerator"] = append(whole["configMapGenerator"].([]any), addition["configMapGenerator"].([]any)...)
	whole["patches"] = addition["patches"]
	shop := filepath.Join(root, "shop")
	config, err := os.ReadFile(filepath.Join(base, "pgbridge.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"kustomization.yaml": asYAML(t, whole), "pgbridge.yaml": string(config) + "\nscripts: /scripts\n",
		"postgres-password": "secret", "nats.creds": "secret",
		"scripts/account/credit.sql": "SELECT @id::int", "scripts/transfer.sql": "SELECT 1",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(shop, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(shop, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), shop)
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects := parse(t, "kustomize", string(text))
	deployment := find(t, objects, "Deployment pgbridge")
	pod := object(deployment.at("spec", "template", "spec").(map[string]any))
	isConfigured(t, objects, pod)
	if image := object(pod.at("containers").([]any)[0].(map[string]any)).text("image"); image != "registry.example.com/pgbridge:v0.1.0" {
		t.Errorf("the image is %s", image)
	}
	return objects
}
