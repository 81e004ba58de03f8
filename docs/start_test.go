package docs_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/pgserver"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// newcomer is somebody who types what start.md says, in a folder that is a clone as far
// as the commands can tell.
type newcomer struct {
	t      *testing.T
	folder string
	env    []string
	change *strings.Replacer // of what differs on this machine
	server *exec.Cmd
	said   *os.File // by the server
}

func newNewcomer(t *testing.T) *newcomer {
	t.Helper()
	database := testenv.Postgres(t).Server()
	u, err := url.Parse(database.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	port, err1 := pgserver.FreePort()
	monitor, err2 := pgserver.FreePort()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	psql, err := database.Binaries().Tool("psql")
	if err != nil {
		t.Fatal(err)
	}
	n := &newcomer{t: t, folder: t.TempDir()}
	bus := fmt.Sprint("nats://127.0.0.1:", port)
	password, _ := u.User.Password()
	n.env = append(testenv.Environ(), "PATH="+filepath.Dir(psql)+string(os.PathListSeparator)+os.Getenv("PATH"), "PGBRIDGE_NATS_URL="+bus,
		"PGHOST="+u.Hostname(), "PGPORT="+u.Port(), "PGUSER="+u.User.Username(), "PGPASSWORD="+password, "PGSSLMODE=disable", fmt.Sprint("PGBRIDGE_HTTP=127.0.0.1:", monitor))
	u.Path = "/app"
	n.change = strings.NewReplacer("postgres://localhost/app", u.String(), "nats://127.0.0.1:4222", bus)
	examples, err := filepath.Abs("../examples")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(examples, filepath.Join(n.folder, "examples")); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *newcomer) command(block string) *exec.Cmd {
	c := exec.Command("bash", "-e", "-o", "pipefail", "-c", n.change.Replace(block))
	c.Dir, c.Env = n.folder, n.env
	return c
}

// build does what make build does, without a link that is not cached.
func (n *newcomer) build(block string) {
	if strings.TrimSpace(block) != "make build" {
		n.t.Fatalf("start.md builds with %q", block)
	}
	out, err := exec.Command("go", "build", "-o", filepath.Join(n.folder, "bin", "pgbridge"), "../cmd/pgbridge").CombinedOutput()
	if err != nil {
		n.t.Fatalf("build: %v\n%s", err, out)
	}
}

// serve starts what runs until the end.
func (n *newcomer) serve(block string) {
	var err error
	if n.said, err = os.Create(filepath.Join(n.t.TempDir(), "log")); err != nil {
		n.t.Fatal(err)
	}
	n.server = n.command("exec " + block)
	n.server.Stderr = n.said
	if err := n.server.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = n.server.Process.Signal(syscall.SIGTERM)
		_ = n.server.Wait()
		n.said.Close()
		if n.t.Failed() {
			log, _ := os.ReadFile(n.said.Name())
			n.t.Logf("serve said: %s", log)
		}
	})
	testenv.Wait(n.t, time.Minute, "serve to answer", func() bool { return n.command("bin/pgbridge ls").Run() == nil })
}

// cutShort reports whether head had read enough before a command had said all.
func cutShort(text string, err error) bool {
	const brokenPipe = 128 + int(syscall.SIGPIPE)
	var exit *exec.ExitError
	return strings.Contains(text, "| head") && errors.As(err, &exit) && exit.ExitCode() == brokenPipe
}

// TestStartHere types every command of start.md, and wants every line that it shows.
func TestStartHere(t *testing.T) {
	t.Parallel()
	n := newNewcomer(t)
	last := ""
	blocks := regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$").FindAllStringSubmatch(read(t, "start.md"), -1)
	if len(blocks) < 15 {
		t.Fatalf("start.md has %d blocks", len(blocks))
	}
	for _, block := range blocks {
		switch kind, text := block[1], block[2]; kind {
		case "sh make":
			n.build(text)
		case "sh serve":
			n.serve(text)
		case "sh", "sh fails":
			out, err := n.command(text).CombinedOutput()
			if cutShort(text, err) {
				err = nil
			}
			if last = string(out); (err != nil) != (kind == "sh fails") {
				t.Fatalf("%s: %v\n%s", text, err, out)
			}
		case "text":
			for line := range strings.Lines(text) {
				line = strings.TrimSpace(line)
				shown := strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
				if !regexp.MustCompile(shown).MatchString(last) {
					t.Errorf("start.md shows %q, and there is\n%s", line, last)
				}
			}
		default:
			t.Errorf("a block of the kind %q", kind)
		}
	}
}
