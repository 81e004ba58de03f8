package testenv

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/pgbridge/pgbridge/internal/pgserver"
)

const natsLimit = 30 * time.Second // to start, to elect a leader

// NATSServer is a nats-server with JetStream that runs in this process. Its
// methods are for one goroutine at a time.
type NATSServer struct {
	options *server.Options
	log     *natsLog
	running *server.Server // nil when stopped
}

// NATS starts a server on a free loopback port, its store in a temporary
// folder. The hooks change its options first: users and permissions, TLS,
// limits. It ends with the test.
func NATS(t testing.TB, hooks ...func(*server.Options)) *NATSServer {
	t.Helper()
	n := newNATS(t, hooks...)
	if err := n.startOnFreePort(); err != nil {
		t.Fatal(err)
	}
	return n
}

func newNATS(t testing.TB, hooks ...func(*server.Options)) *NATSServer {
	t.Helper()
	n := &NATSServer{log: &natsLog{}, options: &server.Options{
		ServerName: "test",
		Host:       "127.0.0.1",
		JetStream:  true,
		StoreDir:   t.TempDir(),
		NoSigs:     true,
	}}
	for _, hook := range hooks {
		hook(n.options)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("nats-server's last words:\n%s", n.log)
		}
		n.stop()
	})
	return n
}

// startOnFreePort tries again where another process took the port between the
// search for it and the start.
func (n *NATSServer) startOnFreePort() error {
	if n.options.Port != 0 {
		return n.start()
	}
	var err error
	for range 3 {
		if n.options.Port, err = pgserver.FreePort(); err != nil {
			return err
		}
		if err = n.start(); err == nil {
			return nil
		}
	}
	return err
}

// URL returns nats://127.0.0.1:port, without credentials. It stays the same
// over stops.
func (n *NATSServer) URL() string {
	return fmt.Sprintf("nats://127.0.0.1:%d", n.options.Port)
}

// Addr returns host:port, for a Proxy.
func (n *NATSServer) Addr() string { return fmt.Sprintf("127.0.0.1:%d", n.options.Port) }

// Stop shuts the server down. A server that does not run stays stopped.
func (n *NATSServer) Stop(t testing.TB) {
	t.Helper()
	n.stop()
}

// Start starts a stopped server again, on the same port and store.
func (n *NATSServer) Start(t testing.TB) {
	t.Helper()
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
}

// Reload has the running server take options that were changed, as a signal has it read its
// file again.
func (n *NATSServer) Reload(t testing.TB, change func(*server.Options)) {
	t.Helper()
	change(n.options)
	if err := n.running.ReloadOptions(n.options.Clone()); err != nil {
		t.Fatal(err)
	}
}

// Connect opens a connection that ends with the test.
func (n *NATSServer) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connectNATS(t, n.URL(), opts)
}

func connectNATS(t testing.TB, url string, opts []nats.Option) *nats.Conn {
	t.Helper()
	closed := make(chan struct{})
	opts = append(opts, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

func (n *NATSServer) start() error {
	if n.running != nil {
		return fmt.Errorf("start nats-server on port %d: it is running", n.options.Port)
	}
	s, err := server.NewServer(n.options.Clone())
	if err != nil {
		return fmt.Errorf("configure nats-server: %w", err)
	}
	s.SetLogger(n.log, false, false)
	n.log.clearFatal()
	s.Start()
	if fatal := n.log.fatal(); fatal != nil || !s.ReadyForConnections(natsLimit) {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("start nats-server on port %d: %w", n.options.Port, errors.Join(fatal, errors.New(n.log.String())))
	}
	n.running = s
	return nil
}

func (n *NATSServer) stop() {
	if n.running == nil {
		return
	}
	n.running.Shutdown()
	n.running.WaitForShutdown()
	n.running = nil
}

// natsLog keeps a server's last warnings and errors.
type natsLog struct {
	mu    sync.Mutex // guards the rest
	lines []string
	died  error
}

func (l *natsLog) add(format string, args []any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
	if len(l.lines) > 50 {
		l.lines = l.lines[1:]
	}
}

func (l *natsLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *natsLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.died
}

func (l *natsLog) clearFatal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.died = nil
}

// Fatalf is what nats-server calls where it cannot go on.
func (l *natsLog) Fatalf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.died = fmt.Errorf(format, args...)
}

func (l *natsLog) Errorf(format string, args ...any) { l.add(format, args) }
func (l *natsLog) Warnf(format string, args ...any)  { l.add(format, args) }
func (l *natsLog) Noticef(string, ...any)            {}
func (l *natsLog) Debugf(string, ...any)             {}
func (l *natsLog) Tracef(string, ...any)             {}
