//go:build docs

package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestJavaScript needs node and, in the folder that PGBRIDGE_TEST_NODE names,
// the NATS client: make check-docs sees to both.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	modules, err := filepath.Abs(filepath.Join(os.Getenv("PGBRIDGE_TEST_NODE"), "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("subscribe.mjs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // node looks for modules beside the script
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "subscribe.mjs"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	bus := testenv.NATS(t)
	e := run(t, bus, exec.Command("node", filepath.Join(dir, "subscribe.mjs")))
	e.awaits(t, "listening")
	database := startBridge(t, bus)
	e.awaits(t, `(?m)^gap \(started\): read again what was committed from the beginning to `)
	testenv.Exec(t, database, "SELECT pg_notify('orders', 'hello')")
	e.awaits(t, `(?m)^event hello$`)
}
