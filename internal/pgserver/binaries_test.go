package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install makes a folder that looks like an installation.
func install(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindOrder(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	explicit := install(t, root, "explicit")
	fromEnv := install(t, root, "env with space")
	onPath := install(t, root, "path")
	install(t, root, "pg", "9", "bin")
	newest := install(t, root, "pg", "17", "bin")
	old := install(t, root, "pg", "14", "bin")

	env, path := fromEnv, filepath.Join(onPath, "postgres")
	f := finder{
		getenv: func(string) string { return env },
		lookPath: func(string) (string, error) {
			if path == "" {
				return "", errors.New("not on PATH")
			}
			return path, nil
		},
		patterns: []string{filepath.Join(root, "pg", "%s", "bin")},
	}
	check := func(what, want string, find func() (Binaries, error)) {
		t.Helper()
		if b, err := find(); err != nil || b.Dir != want {
			t.Errorf("%s: Dir = %q, %v, want %q", what, b.Dir, err, want)
		}
	}
	anywhere := func() (Binaries, error) { return f.find("") }
	check("explicit", explicit, func() (Binaries, error) { return f.find(explicit) })
	check("environment", fromEnv, anywhere)
	env = ""
	check("PATH", onPath, anywhere)
	path = ""
	check("newest", newest, anywhere)
	check("major 14", old, func() (Binaries, error) { return f.findMajor("14") })

	f.patterns = []string{filepath.Join(root, "nothing", "%s")}
	if _, err := f.find(""); err == nil || !strings.Contains(err.Error(), f.patterns[0][:len(root)]) || !strings.Contains(err.Error(), "install") {
		t.Errorf("nothing installed: error = %v, want where it looked and what to install", err)
	}
	if _, err := f.find(root); err == nil || !strings.Contains(err.Error(), root) {
		t.Errorf("explicit folder without programs: error = %v, want its name", err)
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]status{
		"41\n":                          {pid: 41},
		"41\n/d\n1\n5432\n/s\n*\n7 8\n": {pid: 41, shmID: 8},
		"41\n/d\n1\n5432\n/s\n*\n7 8\nready   \n": {pid: 41, shmID: 8, ready: true},
		"41\n/d\n1\n5432\n/s\n*\n7 8\nstandby \n": {pid: 41, shmID: 8},
	} {
		if got, err := parseStatus(content); err != nil || got != want {
			t.Errorf("parseStatus(%q) = %+v, %v, want %+v", content, got, err, want)
		}
	}
	if _, err := parseStatus(""); err == nil {
		t.Error("parseStatus of nothing: no error")
	}
}
