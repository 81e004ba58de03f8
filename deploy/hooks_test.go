//go:build tools

package deploy_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestHooks does what Helm does at an installation and after it: it runs the chart's
// job that migrates, with nothing but what its hooks have made by then, and the pod of
// helm test, each with its own arguments and files.
func TestHooks(t *testing.T) {
	t.Parallel()
	database, err := url.Parse(testenv.Postgres(t).NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	bus := testenv.NATS(t)
	password, _ := database.User.Password()
	database.User = url.User(database.User.Username())
	chart := rendered(t, fmt.Sprintf(`
config:
  postgres: {url: %q}
  nats: {url: %q, creds: null}
  jobs: true
  streams: {jobs: {create: false}, results: {create: false}}
scripts: {orders/count.sql: "SELECT count(*) FROM pg_class"}
secret: {create: true, data: {postgres-password: %q}}
migrate: {enabled: true, natsUrl: %q}
`, database, bus.URL(), password, bus.URL()))
	program := build(t)
	installed := chart.objects(func(hook string) bool { return hook == "" })
	check := chart.find(t, "Pod", "pgbridge-check")

	if out, err := runPod(t, program, check.Spec.podSpec, installed); err == nil || !strings.Contains(out, "pgbridge migrate") {
		t.Fatalf("helm test before the migration: %v\n%s", err, out)
	}
	job := chart.find(t, "Job", "pgbridge-migrate")
	before := chart.objects(func(hook string) bool { return hook == "pre-install,pre-upgrade" })
	for range 2 { // an upgrade does it again
		if out, err := runPod(t, program, job.Spec.Template.Spec, before); err != nil {
			t.Fatalf("the job that migrates: %v\n%s", err, out)
		}
	}
	if out, err := runPod(t, program, check.Spec.podSpec, installed); err != nil {
		t.Errorf("helm test: %v\n%s", err, out)
	}
}

// manifest is one of Kubernetes' objects, as far as a pod's files and arguments go.
type manifest struct {
	Kind     string
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Data map[string]string
	Spec struct {
		podSpec
		Template struct{ Spec podSpec }
	}
}

type podSpec struct {
	Containers []struct {
		Args         []string
		VolumeMounts []struct{ Name, MountPath string }
	}
	Volumes []struct {
		Name      string
		ConfigMap *struct {
			Name  string
			Items []struct{ Key, Path string }
		}
		Secret *struct{ SecretName string }
	}
}

type manifests []manifest

// rendered is what the chart renders with values.
func rendered(t *testing.T, values string) (all manifests) {
	t.Helper()
	cmd := exec.Command("go", "run", "./render")
	cmd.Dir, cmd.Stdin = "helm", strings.NewReader(values)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("render the chart: %v\n%s", err, stderrOf(err))
	}
	for document := range strings.SplitSeq(string(out), "\n---\n") {
		var m manifest
		if err := yaml.Unmarshal([]byte(document), &m); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		all = append(all, m)
	}
	return all
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return ""
}

// objects are those whose hook is wanted, by kind and name; empty: of the release.
func (all manifests) objects(wanted func(hook string) bool) map[string]manifest {
	chosen := map[string]manifest{}
	for _, m := range all {
		if wanted(m.Metadata.Annotations["helm.sh/hook"]) {
			chosen[m.Kind+" "+m.Metadata.Name] = m
		}
	}
	return chosen
}

func (all manifests) find(t *testing.T, kind, name string) manifest {
	t.Helper()
	for _, m := range all {
		if m.Kind == kind && m.Metadata.Name == name {
			return m
		}
	}
	t.Fatalf("the chart renders no %s %s", kind, name)
	return manifest{}
}

// runPod runs the pod's container: its arguments, and the files that it mounts of these
// objects, in a folder that stands for the root.
func runPod(t *testing.T, program string, pod podSpec, objects map[string]manifest) (output string, err error) {
	t.Helper()
	root := t.TempDir()
	here := strings.NewReplacer("/etc/pgbridge", root+"/etc/pgbridge", "/run/secrets", root+"/run/secrets", "scripts: /", "scripts: "+root+"/")
	container := pod.Containers[0]
	for _, mount := range container.VolumeMounts {
		mountVolume(t, filepath.Join(root, mount.MountPath), here, pod, mount.Name, objects)
	}
	var args []string
	for _, arg := range container.Args {
		args = append(args, here.Replace(arg))
	}
	out, err := pgbridge(t, program, args...).CombinedOutput()
	return string(out), err
}

func mountVolume(t *testing.T, folder string, here *strings.Replacer, pod podSpec, name string, objects map[string]manifest) {
	t.Helper()
	for _, v := range pod.Volumes {
		if v.Name != name {
			continue
		}
		id, paths := "", map[string]string{}
		if v.Secret != nil {
			id = "Secret " + v.Secret.SecretName
		} else if v.ConfigMap != nil {
			id = "ConfigMap " + v.ConfigMap.Name
			for _, item := range v.ConfigMap.Items {
				paths[item.Key] = item.Path
			}
		}
		of, there := objects[id]
		if !there {
			t.Fatalf("the pod mounts %s, which there is not yet", id)
		}
		for key, content := range of.Data {
			if v.Secret != nil {
				content = decoded(t, content)
			}
			if paths[key] != "" {
				key = paths[key]
			}
			file := filepath.Join(folder, key)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Dir(file), filepath.Base(file), here.Replace(content))
		}
		return
	}
	t.Fatalf("there is no volume %s", name)
}

func decoded(t *testing.T, secret string) string {
	t.Helper()
	content, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
