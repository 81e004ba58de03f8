//go:build tools

package deploy_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

const unitFile = "systemd/pgbridge.service"

// exposure is what systemd-analyze security may say of the unit, in tenths: the
// network and the system's own files are what is left.
const exposure = "11"

func TestUnitIsHardened(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+exposure, unitFile).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	dir := t.TempDir()
	write(t, dir, "pgbridge.service", strings.ReplaceAll(file(t, unitFile), "/usr/local/bin/pgbridge", "/bin/true"))
	if out, err := exec.Command("systemd-analyze", "verify", filepath.Join(dir, "pgbridge.service")).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestUnitAllowsEnough runs pgbridge with the unit's arguments, environment and
// credentials and with no system call but those that the unit allows.
func TestUnitAllowsEnough(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	testenv.Exec(t, pg.URL(), "CREATE ROLE pgbridge LOGIN PASSWORD 'change me'")
	auth := newOperator(t)
	conf, files := auth.next(t, 1)
	bus := testenv.NATSProcess(t, conf)
	port, err := pgserver.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	folder, credentials := t.TempDir(), t.TempDir()
	write(t, folder, "pgbridge.yaml", fmt.Sprintf(`
postgres: {url: "postgres://pgbridge@%s/postgres?sslmode=disable"}
nats: {url: "%s"}
channels: {orders: {delivery: jetstream}}
sql: true
http: 127.0.0.1:%d
`, pg.Addr(), bus.URL(), port))
	write(t, credentials, "postgres-password", "change me\n")
	write(t, credentials, "nats.creds", string(files["nats.creds"]))
	write(t, folder, "seccomp.json", seccomp(t))
	readable(t, folder)
	readable(t, credentials)

	options := []string{"-v", credentials + ":/run/credentials/pgbridge.service:ro", "--security-opt", "seccomp=" + filepath.Join(folder, "seccomp.json")}
	for _, e := range unitLines(t, "Environment") {
		options = append(options, "--env", strings.ReplaceAll(e, "%d", "/run/credentials/pgbridge.service"))
	}
	if command := unitLines(t, "ExecStart"); !slices.Equal(command, []string{"/usr/local/bin/pgbridge serve -c /etc/pgbridge/pgbridge.yaml"}) {
		t.Errorf("the unit runs %q, the image something else", command)
	}
	serveImage(t, buildImage(t, "amd64"), folder, options...)
	awaitPublishing(t, fmt.Sprintf("http://127.0.0.1:%d/readyz", port))

	nc, err := nats.Connect(bus.URL(), auth.observer(1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	events, err := nc.SubscribeSync("pgbridge.event.orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, pg.URL(), "SELECT pg_notify('orders', 'hello')")
	if m, err := events.NextMsg(patience); err != nil || string(m.Data) != "hello" {
		t.Errorf("the event is %v, %v", m, err)
	}
	answer, err := nc.Request("pgbridge.run", []byte(`{"sql": "SELECT 1 AS one"}`), time.Minute)
	if err != nil || !strings.Contains(string(answer.Data), `"results"`) {
		t.Errorf("the answer is %v, %v", answer, err)
	}
}

// unitLines returns the values of a setting of the unit.
func unitLines(t *testing.T, setting string) []string {
	t.Helper()
	var values []string
	for _, m := range regexp.MustCompile(`(?m)^`+setting+`=(.*)$`).FindAllStringSubmatch(file(t, unitFile), -1) {
		values = append(values, m[1])
	}
	return values
}

// seccomp is the unit's filter of system calls as runc takes it.
func seccomp(t *testing.T) string {
	t.Helper()
	var allowed []string
	for _, line := range unitLines(t, "SystemCallFilter") {
		names, denied := strings.CutPrefix(line, "~")
		for _, name := range strings.Fields(names) {
			calls := systemCalls(t, name)
			if denied {
				allowed = slices.DeleteFunc(allowed, func(c string) bool { return slices.Contains(calls, c) })
			} else {
				allowed = append(allowed, calls...)
			}
		}
	}
	profile, err := json.Marshal(map[string]any{
		"defaultAction": "SCMP_ACT_ERRNO",
		"syscalls":      []any{map[string]any{"names": allowed, "action": "SCMP_ACT_ALLOW"}},
	})
	if err != nil || len(allowed) < 100 {
		t.Fatalf("%v, %d system calls are allowed", err, len(allowed))
	}
	return string(profile)
}

// systemCalls lists what a set such as @system-service stands for.
func systemCalls(t *testing.T, name string) []string {
	t.Helper()
	if !strings.HasPrefix(name, "@") {
		return []string{name}
	}
	out, err := exec.Command("systemd-analyze", "--no-pager", "syscall-filter", name).Output()
	if err != nil {
		t.Fatalf("systemd-analyze syscall-filter %s: %v", name, err)
	}
	var calls []string
	for _, line := range strings.Split(string(out), "\n")[1:] {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			calls = append(calls, systemCalls(t, line)...)
		}
	}
	return calls
}
