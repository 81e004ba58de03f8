// Package deploy_test checks what is deployed: that the image and the
// configuration are what the program takes, and that the permissions given as
// examples are enough and no more.
package deploy_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestDockerfile(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, _ := bytes.Cut(file, []byte("\nFROM scratch\n"))
	for _, line := range []string{"USER 65532:65532", `ENTRYPOINT ["/pgbridge"]`} {
		if !bytes.Contains(last, []byte(line)) {
			t.Errorf("the last stage has no line %s", line)
		}
	}
	module, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	wanted := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(module)
	used := regexp.MustCompile(`(?m)^FROM --platform=\S+ golang:(\d+\.\d+)[.@]`).FindSubmatch(file)
	if used == nil || string(used[1]) != string(wanted[1]) {
		t.Errorf("the image is built with %q, go.mod wants %q", used, wanted)
	}
}

func TestConfigurationIsAccepted(t *testing.T) {
	t.Parallel()
	out, err := pgbridge(t, build(t), "check", "--offline", "-c", "kustomize/base/pgbridge.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
}

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pgbridge")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/pgbridge").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// pgbridge is a command that sees nothing of the tests' environment.
func pgbridge(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	return cmd
}
