package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestInit writes the first files, which check finds good and serve serves.
func TestInit(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "shop")
	wantResult(t, call(t, nil, "init", folder), exitOK, filepath.Join(folder, "scripts", "hello.sql")+"\n", "")
	path := filepath.Join(folder, "pgbridge.yaml")
	wantResult(t, call(t, nil, "check", "-c", path, "--offline"), exitOK, "1 can be parsed", "")

	url, bus := testenv.Postgres(t).NewDatabase(t), testenv.NATS(t)
	environ := []string{"PGBRIDGE_POSTGRES_URL=" + url, "PGBRIDGE_NATS_URL=" + bus.URL()}
	wantResult(t, call(t, environ, "check", "-c", path), exitOK, "1, PostgreSQL takes them", "")
	c := start(t, "serve", "-c", path, "--postgres", url, "--server", bus.URL(), "--set", "http=127.0.0.1:0")
	waitReady(t, httpAddress(t, c))
	wantResult(t, call(t, environ, "run", "hello", "name=world"), exitOK, `"hello, world"`, "")
	wantResult(t, call(t, environ, "notify", "orders", "hello"), exitOK, "", "")

	// What is there stays as it is, and nothing is written beside it.
	for _, name := range []string{"compose.yaml", "scripts/hello.sql"} {
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(t, path, "mine")
	wantResult(t, call(t, nil, "init", folder), exitFailed, "", "pgbridge.yaml is there already: nothing was written")
	if _, err := os.Stat(filepath.Join(folder, "compose.yaml")); err == nil {
		t.Error("compose.yaml was written though another file was there")
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "mine" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}

// TestInitFiles holds that what comments suggest is understood as well, and that the
// compose file mounts and sets what there is.
func TestInitFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	wantResult(t, call(t, nil, "init", folder), exitOK, "", "")
	path := filepath.Join(folder, "pgbridge.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A key in a comment has a colon; what cannot stand beside another is left out.
	text := regexp.MustCompile(`(?m)^( *)# ([a-z_]+: .*)$`).ReplaceAllString(string(content), "$1$2")
	text = regexp.MustCompile(`(?m)^ *(durable|subject|creds|embedded|password_file): .*$`).ReplaceAllString(text, "")
	rewrite(t, path, text)
	wantResult(t, call(t, nil, "check", "-c", path, "--offline"), exitOK, "", "")

	compose, err := os.ReadFile(filepath.Join(folder, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Command     []string
			Environment map[string]string
			Volumes     []string
		}
	}
	if err := yaml.Unmarshal(compose, &file); err != nil {
		t.Fatal(err)
	}
	ours := file.Services["pgbridge"]
	var environ []string
	for name, value := range ours.Environment {
		environ = append(environ, name+"="+value)
	}
	wantResult(t, call(t, environ, "check", "-c", path, "--offline"), exitOK, "", "")
	for _, volume := range ours.Volumes {
		from, _, _ := strings.Cut(volume, ":")
		if _, err := os.Stat(filepath.Join(folder, from)); err != nil {
			t.Error(err)
		}
	}
}
