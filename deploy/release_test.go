//go:build tools

package deploy_test

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestRelease makes a release for one platform, and looks at each file of it.
//
//nolint:paralleltest // first, so that the images' programs find everything compiled
func TestRelease(t *testing.T) {
	dist := t.TempDir()
	makeRelease(t, dist)
	base := "pgbridge_v0.0.1-test_linux_" + runtime.GOARCH
	listsModules(t, filepath.Join(dist, base+".cdx.json"))
	program := unpack(t, filepath.Join(dist, base+".tar.gz"), base)
	if out, err := exec.Command(program, "version").Output(); err != nil || !strings.HasPrefix(string(out), "pgbridge v0.0.1-test ") {
		t.Errorf("version prints %q, %v", out, err)
	}
	entries, err := os.ReadDir(dist)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := []string{"NOTES.md", "SHA256SUMS", base + ".cdx.json", base + ".tar.gz"}
	if !slices.Equal(got, want) {
		t.Errorf("a release is %q, want %q", got, want)
	}
	checksumsAreRight(t, dist, want)
	changelog := file(t, "../CHANGELOG.md")
	_, unreleased, _ := strings.Cut(changelog, "## [Unreleased]\n")
	unreleased, _, _ = strings.Cut(unreleased, "\n## ")
	if notes := file(t, filepath.Join(dist, "NOTES.md")); strings.TrimSpace(notes) != strings.TrimSpace(unreleased) {
		t.Errorf("the notes are\n%s", notes)
	}
}

// TestReleaseIsForEachPlatform wants the platforms that a release is for, and code that
// compiles for macOS: nothing is linked, since Linux's archive is the one that is made.
func TestReleaseIsForEachPlatform(t *testing.T) {
	t.Parallel()
	platforms := regexp.MustCompile(`(?m)^PLATFORMS +\?= (.*)$`).FindStringSubmatch(file(t, "../Makefile"))
	if want := "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64"; platforms == nil || platforms[1] != want {
		t.Fatalf("make release is for %q, want %q", platforms, want)
	}
	cmd := exec.Command("go", "vet", "./cmd/pgbridge")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0", "GOOS=darwin", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s for darwin/arm64: %v\n%s", cmd, err, out)
	}
}

// TestReleaseWithoutNotesIsRefused asks for a version that no file speaks of.
func TestReleaseWithoutNotesIsRefused(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "scripts/release.sh", "v9.9.9", t.TempDir())
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "another version than v9.9.9") {
		t.Errorf("release: %v\n%s", err, out)
	}
}

func makeRelease(t *testing.T, dist string) {
	t.Helper()
	cmd := exec.Command("make", "release", "VERSION=v0.0.1-test", "DIST="+dist, "PLATFORMS=linux/"+runtime.GOARCH)
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
}

// unpack wants the program and what one has to read, and returns the program's path.
func unpack(t *testing.T, archive, base string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	compressed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "pgbridge")
	var names []string
	for entries := tar.NewReader(compressed); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimPrefix(entry.Name, base))
		if entry.Name == base+"/pgbridge" {
			content, err := io.ReadAll(entries)
			if err != nil || entry.Mode&0o111 == 0 {
				t.Fatalf("the program has mode %o, %v", entry.Mode, err)
			}
			if err := os.WriteFile(program, content, 0o700); err != nil { //nolint:gosec // it is run
				t.Fatal(err)
			}
		}
	}
	if want := []string{"/", "/CHANGELOG.md", "/LICENSE", "/README.md", "/pgbridge"}; !slices.Equal(names, want) {
		t.Errorf("%s holds %q, want %q", filepath.Base(archive), names, want)
	}
	return program
}

// listsModules wants the modules of go.mod that the program is made of.
func listsModules(t *testing.T, path string) {
	t.Helper()
	var list struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal([]byte(file(t, path)), &list); err != nil {
		t.Fatal(err)
	}
	if c := list.Metadata.Component; list.BOMFormat != "CycloneDX" || c.Name != "github.com/pgbridge/pgbridge" || c.Version != "v0.0.1-test" {
		t.Errorf("%s lists %s of %s %s", path, list.BOMFormat, c.Name, c.Version)
	}
	for _, module := range []string{"github.com/jackc/pgx/v5", "github.com/lib/pq", "github.com/nats-io/nats-server/v2", "std"} {
		if !slices.ContainsFunc(list.Components, func(c struct{ Name, Version, PURL string }) bool {
			return c.Name == module && strings.HasPrefix(c.PURL, "pkg:golang/"+module+"@")
		}) {
			t.Errorf("%s does not list %s", path, module)
		}
	}
}

// checksumsAreRight wants a sum for each archive and each list.
func checksumsAreRight(t *testing.T, dist string, files []string) {
	t.Helper()
	var want []string
	for _, name := range files {
		if strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".json") {
			want = append(want, fmt.Sprintf("%x  %s", sha256.Sum256([]byte(file(t, filepath.Join(dist, name)))), name))
		}
	}
	got := strings.Split(strings.TrimSpace(file(t, filepath.Join(dist, "SHA256SUMS"))), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("SHA256SUMS is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
