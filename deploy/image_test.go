//go:build tools

package deploy_test

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	imageVersion  = "v9.8.7"
	imageRevision = "0123456789abcdef0123456789abcdef01234567"
)

// TestImage builds the image's last stage around programs that make build made,
// and runs an event and a request through it as Kubernetes would run it: nothing
// can be written, nothing is privileged.
func TestImage(t *testing.T) {
	t.Parallel()
	d := deploy(t, "nats.conf", `
  user: pgbridge
  password: change me
  requests: {user: pgbridge-requests, password: change me}`)
	d.run(t, "migrate", "-c", d.config, "--nats", d.url, "--set", "nats.user=admin", "--set", "postgres.url="+d.owner, "--set", "postgres.password_file=")
	inContainer(t, d)
	image := buildImage(t, "amd64")
	if out := podman(t, slices.Concat(confined(), []string{image, "version"})...); !strings.HasPrefix(out, "pgbridge "+imageVersion+" ") {
		t.Errorf("version prints %q, want %s", out, imageVersion)
	}
	serveImage(t, image, filepath.Dir(d.config))
	awaitPublishing(t, d.web+"/readyz")
	makeConsumers(t, d.url, "nats.conf")
	readerHearsWriter(t, d.url)
	cashierRuns(t, d.url)
}

// TestImageIsForEachPlatform looks at what the image holds and says of itself.
func TestImageIsForEachPlatform(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			image := buildImage(t, arch)
			describesItself(t, image, arch)
			holdsNoMore(t, image, arch)
		})
	}
}

func describesItself(t *testing.T, image, arch string) {
	t.Helper()
	var found []struct {
		Architecture, Os string
		Config           struct {
			User   string
			Labels map[string]string
		}
	}
	if err := json.Unmarshal([]byte(podman(t, "image", "inspect", image)), &found); err != nil || len(found) != 1 {
		t.Fatalf("inspect: %v, %d images", err, len(found))
	}
	i := found[0]
	if i.Os != "linux" || i.Architecture != arch || i.Config.User != "65532:65532" {
		t.Errorf("the image is for %s/%s and user %q, want linux/%s and 65532:65532", i.Os, i.Architecture, i.Config.User, arch)
	}
	for label, want := range map[string]string{"version": imageVersion, "revision": imageRevision, "title": "pgbridge", "licenses": "Apache-2.0"} {
		if got := i.Config.Labels["org.opencontainers.image."+label]; got != want {
			t.Errorf("the label %s is %q, want %q", label, got, want)
		}
	}
}

// holdsNoMore wants the program, which is static, the authorities, and no shell.
func holdsNoMore(t *testing.T, image, arch string) {
	t.Helper()
	container := strings.TrimSpace(podman(t, "create", "--platform", "linux/"+arch, image))
	t.Cleanup(func() { podman(t, "rm", container) })
	var files []string
	archive := tar.NewReader(strings.NewReader(podman(t, "export", container)))
	for {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if entry.Typeflag == tar.TypeDir {
			continue
		}
		files = append(files, entry.Name)
		if entry.Name == "pgbridge" {
			isStatic(t, archive, arch)
		}
	}
	slices.Sort(files)
	if want := []string{"etc/ssl/certs/ca-certificates.crt", "pgbridge"}; !slices.Equal(files, want) {
		t.Errorf("the image holds %q, want %q", files, want)
	}
}

func isStatic(t *testing.T, program io.Reader, arch string) {
	t.Helper()
	b, err := io.ReadAll(program)
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if f.Machine != machine {
		t.Errorf("the program is for %s, want %s", f.Machine, machine)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("the program is not static")
	}
}

// buildImage makes the image for a platform. No registry is asked: in place of the
// Dockerfile's first stage there is a folder with what that stage makes, by the
// same command.
func buildImage(t *testing.T, arch string) string {
	t.Helper()
	dockerfile := file(t, "Dockerfile")
	first, last, found := strings.Cut(dockerfile, "\nFROM scratch\n")
	if !found || strings.Count(dockerfile, "\nFROM ") != 2 || !regexp.MustCompile(`(?m)^FROM --platform=\$BUILDPLATFORM golang:[\d.]+@sha256:[0-9a-f]{64} AS build$`).MatchString(first) {
		t.Fatal("the Dockerfile is not a stage from golang, pinned by its digest, and one from scratch")
	}
	arguments := regexp.MustCompile(`(?m)^RUN (make build .*)$`).FindStringSubmatch(first)
	if arguments == nil {
		t.Fatal("the first stage does not RUN make build")
	}
	dir := t.TempDir()
	program := programs()[arch](arguments[1])
	if program.err != nil {
		t.Fatalf("%s: %v\n%s", arguments[1], program.err, program.output)
	}
	for _, folder := range []string{"src/bin", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "src/bin/pgbridge"), program.content, 0o755); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "etc/ssl/certs"), "ca-certificates.crt", file(t, "/etc/ssl/certs/ca-certificates.crt"))
	write(t, dir, "Dockerfile", "FROM scratch AS build\nCOPY . /\nFROM scratch\n"+last)
	name := fmt.Sprintf("localhost/pgbridge-test-%s-%s:%d", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), arch, os.Getpid())
	podman(t, "build", "--layers=false", "--platform", "linux/"+arch, "--build-arg", "VERSION="+imageVersion, "--build-arg", "REVISION="+imageRevision, "-t", name, dir)
	t.Cleanup(func() { podman(t, "image", "rm", name) })
	return name
}

// built is what make build made.
type built struct {
	content, output []byte
	err             error
}

// programs makes the program of each platform once: builds side by side would compile
// everything as often.
var programs = sync.OnceValue(func() map[string]func(command string) built {
	makers := map[string]func(string) built{}
	for _, arch := range []string{"amd64", "arm64"} {
		var once sync.Once
		var made built
		makers[arch] = func(command string) built {
			once.Do(func() { made = makeProgram(arch, command) })
			return made
		}
	}
	return makers
})

func makeProgram(arch, command string) built {
	dir, err := os.MkdirTemp("", "pgbridge-image")
	if err != nil {
		return built{err: err}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "pgbridge")
	words := strings.Fields(strings.NewReplacer("$TARGETOS", "linux", "$TARGETARCH", arch, "$VERSION", imageVersion).Replace(command))
	cmd := exec.Command(words[0], append(words[1:], "BIN="+path)...)
	cmd.Dir = ".."
	output, err := cmd.CombinedOutput()
	if err != nil {
		return built{output: output, err: err}
	}
	content, err := os.ReadFile(path)
	return built{content: content, err: err}
}

// confined is podman's run with what the restricted pod security standard asks for.
// The limits are lower than the default, which not every machine lets podman set.
func confined() []string {
	return []string{
		"run", "--rm", "--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all",
		"--security-opt", "no-new-privileges", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
	}
}

// inContainer has the configuration's paths be those in the container.
func inContainer(t *testing.T, d deployment) {
	t.Helper()
	dir := filepath.Dir(d.config)
	write(t, dir, "pgbridge.yaml", strings.ReplaceAll(file(t, d.config), dir+"/", "/etc/pgbridge/"))
	readable(t, dir)
}

// readable lets user 65532 read the files of a folder.
func readable(t *testing.T, folder string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chmod(path, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serveImage runs the image until the test ends, and wants a clean end. The folder is
// what the container sees as /etc/pgbridge, the options are podman's.
func serveImage(t *testing.T, image, folder string, options ...string) {
	t.Helper()
	name := strings.TrimSuffix(filepath.Base(image), fmt.Sprint(":", os.Getpid())) + fmt.Sprint("-", os.Getpid())
	args := slices.Concat(confined(), []string{"--name", name, "-v", folder + ":/etc/pgbridge:ro"}, options, []string{image})
	cmd := podmanCommand(args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		podman(t, "stop", "--time", "40", name) // SIGTERM, and 40 s
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("the container ended with %v:\n%s", err, &log)
		}
	})
}

func podmanCommand(args ...string) *exec.Cmd {
	if runc, err := exec.LookPath("/usr/sbin/runc"); err == nil {
		args = append([]string{"--runtime", runc}, args...)
	}
	return exec.Command("podman", args...)
}

func podman(t *testing.T, args ...string) string {
	t.Helper()
	cmd := podmanCommand(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("podman %s: %v\n%s", args[0], err, &stderr)
	}
	return string(out)
}
