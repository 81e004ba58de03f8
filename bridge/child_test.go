package bridge_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
)

// childEnv makes a test binary a bridge: it holds the child's configuration.
const childEnv = "PGBRIDGE_TEST_BRIDGE"

// childConfig is what a bridge in a process of its own is told.
type childConfig struct {
	PG, NATS, Prefix string
	Channels         map[string]bridge.Channel
	QueueBytes       int
}

// child is a bridge in a process of its own.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   string
}

// spawn starts a bridge in a process of its own, which is killed when the test
// ends.
func spawn(t *testing.T, w *world, channels map[string]bridge.Channel, queueBytes int) *child {
	t.Helper()
	config, err := json.Marshal(childConfig{w.pg, w.nats, w.prefix, channels, queueBytes})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(program), log: t.TempDir() + "/log"}
	log, err := os.Create(c.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), childEnv+"="+string(config)), log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			text, _ := os.ReadFile(c.log)
			t.Logf("the child's log:\n%s", text)
		}
	})
	return c
}

func (c *child) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("send %s to the child: %v", sig, err)
	}
}

// kill ends the child with SIGKILL, and waits.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
	c.stdin.Close()
}

// resident is the child's memory in bytes.
func (c *child) resident(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(c.cmd.Process.Pid)).Output()
	if err != nil {
		t.Fatalf("ask for the child's memory: %v", err)
	}
	kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func serveChild(ctx context.Context) error {
	var c childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c); err != nil {
		return err
	}
	log, err := zap.NewDevelopment()
	if err != nil {
		return err
	}
	nc, err := nats.Connect(c.NATS, nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(-1),
		nats.ReconnectWait(50*time.Millisecond), nats.PingInterval(2*time.Second), nats.PermissionErrOnSubscribe(true))
	if err != nil {
		return err
	}
	defer nc.Close()
	b, err := bridge.New(bridge.Config{
		ConnString: c.PG, ApplicationName: "child", Events: nc, Prefix: c.Prefix, Channels: c.Channels,
		Stream: bridge.Stream{Create: true, DuplicateWindow: shortWindow}, QueueBytes: c.QueueBytes, Logger: log,
	})
	if err != nil {
		return err
	}
	return b.Run(ctx)
}
