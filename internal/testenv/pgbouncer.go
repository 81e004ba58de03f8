package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/pgserver"
)

// Bouncer is a pgbouncer in front of a PG.
type Bouncer struct {
	port    int
	process *pgserver.Process
}

// PgBouncer starts a pgbouncer in transaction mode in front of a server, for
// all its databases and for the superuser. It ends with the test.
func PgBouncer(t testing.TB, pg *PG) *Bouncer {
	t.Helper()
	return startBouncer(t, pg, "pool_mode = transaction\nignore_startup_parameters = extra_float_digits, options\n")
}

// SessionPgBouncer is [PgBouncer] in session mode, with the defaults for everything
// else.
func SessionPgBouncer(t testing.TB, pg *PG) *Bouncer {
	t.Helper()
	return startBouncer(t, pg, "pool_mode = session\n")
}

func startBouncer(t testing.TB, pg *PG, settings string) *Bouncer {
	t.Helper()
	program, err := findPgBouncer()
	if err != nil {
		t.Fatal(err)
	}
	account, err := pgserver.ServerAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := account.TempDir("pgbridge-pgbouncer-*")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bouncer{port: freePort(t)}
	t.Cleanup(func() { b.close(t, dir) })
	if err := b.configure(pg, dir, settings); err != nil {
		t.Fatalf("configure pgbouncer: %v", err)
	}
	if err := account.Own(dir); err != nil {
		t.Fatal(err)
	}
	if b.process, err = pgserver.StartProcess(account.Command(dir, program, filepath.Join(dir, "pgbouncer.ini"))); err != nil {
		t.Fatal(err)
	}
	b.waitReady(t, dir)
	return b
}

// Reroute returns a URL of the server behind with the pooler in place of its
// host and port.
func (b *Bouncer) Reroute(t testing.TB, serverURL string) string {
	t.Helper()
	return reroute(t, serverURL, b.Addr())
}

// Addr returns host:port.
func (b *Bouncer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

func findPgBouncer() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer", "/usr/local/bin/pgbouncer"} {
		if path, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New("find pgbouncer: it is neither on PATH nor in /usr/sbin; install it with scripts/ensure-test-tools.sh (Debian: apt-get install pgbouncer, macOS: brew install pgbouncer)")
}

func (b *Bouncer) configure(pg *PG, dir, settings string) error {
	users := fmt.Sprintf("%s %s\n", quoteUser(pg.server.Superuser()), quoteUser(pg.server.Password()))
	config := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
logfile = %s
auth_type = scram-sha-256
auth_file = %s
%s`, pg.Port(), b.port, filepath.Join(dir, "log"), filepath.Join(dir, "users.txt"), settings)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "users.txt"), []byte(users), 0o600),
		os.WriteFile(filepath.Join(dir, "pgbouncer.ini"), []byte(config), 0o600))
}

// quoteUser quotes as pgbouncer's auth_file wants it.
func quoteUser(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (b *Bouncer) waitReady(t testing.TB, dir string) {
	t.Helper()
	accepts := func() bool {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}
	if !poll(startLimit, func() bool { return ended(b.process) || accepts() }) || ended(b.process) {
		log, err := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("start pgbouncer on port %d: it accepts no clients (%v)\n%s", b.port, err, log)
	}
}

func (b *Bouncer) close(t testing.TB, dir string) {
	var err error
	if b.process != nil {
		err = b.process.Kill() // its versions disagree on which signal waits for clients
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		t.Errorf("close pgbouncer: %v", err)
	}
}
