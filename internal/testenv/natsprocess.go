package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/pgbridge/pgbridge/internal/pgserver"
)

// natsChildEnv makes a test binary a nats-server: it names the configuration
// file. Main looks at it.
const natsChildEnv = "PGBRIDGE_TESTENV_NATS_CONFIG"

// NATSChild is a nats-server with JetStream in a process of its own, which can
// be killed. Its methods are for one goroutine at a time.
type NATSChild struct {
	port    int
	dir     string
	process *pgserver.Process
}

// NATSProcess starts a nats-server as a child process on a free loopback port.
// The configuration, in nats-server's own syntax, is added to one that holds
// the port and the store; it may be empty. The package's TestMain must be
// Main. The server ends with the test.
func NATSProcess(t testing.TB, config string) *NATSChild {
	t.Helper()
	n := &NATSChild{port: freePort(t), dir: t.TempDir()}
	own := fmt.Sprintf("listen: \"127.0.0.1:%d\"\nserver_name: test\njetstream { store_dir: %q }\nlogfile: %q\n",
		n.port, filepath.Join(n.dir, "store"), n.logFile())
	if err := os.WriteFile(n.configFile(), []byte(own+config+"\n"), 0o600); err != nil {
		t.Fatalf("write nats-server's configuration: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("nats-server's log ends with\n%s", n.logTail())
		}
		n.Kill(t)
	})
	n.Start(t)
	return n
}

func (n *NATSChild) configFile() string { return filepath.Join(n.dir, "nats.conf") }
func (n *NATSChild) logFile() string    { return filepath.Join(n.dir, "nats.log") }

// URL returns nats://127.0.0.1:port. It stays the same over kills.
func (n *NATSChild) URL() string { return "nats://" + n.Addr() }

// Addr returns host:port, for a Proxy.
func (n *NATSChild) Addr() string { return fmt.Sprintf("127.0.0.1:%d", n.port) }

// Connect opens a connection that ends with the test.
func (n *NATSChild) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connectNATS(t, n.URL(), opts)
}

// Start starts a stopped or killed server again, on the same port and store,
// and waits until it accepts clients.
func (n *NATSChild) Start(t testing.TB) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test binary: %v", err)
	}
	cmd := pgserver.Account{}.Command(n.dir, program)
	cmd.Env = append(cmd.Env, natsChildEnv+"="+n.configFile())
	if n.process, err = pgserver.StartProcess(cmd); err != nil {
		t.Fatal(err)
	}
	if !poll(natsLimit, func() bool { return ended(n.process) || greets(n.Addr(), "INFO ") }) || ended(n.process) {
		t.Fatalf("start nats-server on port %d: it does not accept clients\n%s", n.port, n.logTail())
	}
}

// Stop lets the server shut down in order.
func (n *NATSChild) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if err := n.process.End(ctx, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server with SIGKILL.
func (n *NATSChild) Kill(t testing.TB) {
	t.Helper()
	if n.process == nil {
		return
	}
	if err := n.process.Kill(); err != nil {
		t.Errorf("kill nats-server: %v", err)
	}
}

func (n *NATSChild) logTail() string {
	log, err := os.ReadFile(n.logFile())
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	return string(log[max(0, len(log)-4096):])
}

func ended(p *pgserver.Process) bool {
	select {
	case <-p.Exited():
		return true
	default:
		return false
	}
}

// greets tells whether a server accepts a connection and begins it with the
// prefix.
func greets(addr, prefix string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	got := make([]byte, len(prefix))
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	n, _ := conn.Read(got) // an error is a short answer
	return bytes.Equal(got[:n], []byte(prefix))
}

// runNATSChild is the main function of the child process. nats-server itself
// ends the process on SIGTERM.
func runNATSChild(configFile string) {
	opts, err := server.ProcessConfigFile(configFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		os.Exit(2)
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats-server:", err)
		os.Exit(2)
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	os.Exit(0)
}
