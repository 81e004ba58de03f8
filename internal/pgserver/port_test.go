package pgserver

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// wanted, in the environment, makes this test a process that wants a certain port.
const wanted = "PGBRIDGE_TEST_WANTED_PORT"

// A port that one process was given is not another's while the first lives.
func TestAPortIsOneProcesss(t *testing.T) {
	t.Parallel()
	if port := os.Getenv(wanted); port != "" {
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("got it: %t", reserved(n))
		return
	}
	if err := SharePorts(); err != nil {
		t.Fatal(err)
	}
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), wanted+"="+strconv.Itoa(port))
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "got it: false") {
		t.Errorf("another process could have port %d, too: %v\n%s", port, err, out)
	}
}
