package bridge_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/metrics"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// childConfig is what a bridge in a process of its own is told.
type childConfig struct {
	PG, NATS, Prefix string
	Channels         map[string]bridge.Channel
	QueueBytes       int
}

// child is a bridge in a process of its own.
type child struct{ *testenv.Child }

// spawn starts a bridge in a process of its own, which is killed when the test
// ends.
func spawn(t *testing.T, w *world, channels map[string]bridge.Channel, queueBytes int) child {
	t.Helper()
	return child{testenv.Spawn(t, childConfig{w.pg, w.nats, w.prefix, channels, queueBytes})}
}

// resident is the child's memory in bytes, as it finds it itself.
func (c child) resident(t *testing.T) (bytes int) {
	t.Helper()
	bytes, _ = c.asked(t)
	return bytes
}

// settled waits until the server has taken so many of the child's gaps.
func (c child) settled(t *testing.T, n int) {
	t.Helper()
	testenv.Wait(t, patience, "the gaps to be taken", func() bool {
		_, gaps := c.asked(t)
		return gaps >= n
	})
}

// asked has the child tell about itself.
func (c child) asked(t *testing.T) (bytes, gaps int) {
	t.Helper()
	said := func() []string {
		text, err := os.ReadFile(c.Log)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(string(text), toldLine)
		return parts[1:]
	}
	before := len(said())
	c.Signal(t, syscall.SIGUSR1)
	testenv.Wait(t, patience, "the child to tell about itself", func() bool {
		now := said()
		if len(now) == before {
			return false
		}
		line, _, whole := strings.Cut(now[len(now)-1], "\n")
		if whole {
			if _, err := fmt.Sscan(line, &bytes, &gaps); err != nil {
				t.Fatalf("the child tells of itself %q: %v", line, err)
			}
		}
		return whole
	})
	return bytes, gaps
}

const toldLine = "bytes resident, gaps taken: "

// tell writes this process's memory to the log at each SIGUSR1, and how many gaps of the
// bridge's arrived.
func tell(ctx context.Context, b *bridge.Bridge) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	defer signal.Stop(asked)
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			gaps := 0
			for _, c := range b.Channels() {
				gaps += int(c.Gaps)
			}
			fmt.Fprintf(os.Stderr, "%s%d %d\n", toldLine, ownMemory(), gaps)
		}
	}
}

// ownMemory is what this process keeps in memory. Where the system does not
// tell it as Linux does, it is what the Go runtime has and did not give back.
func ownMemory() uint64 {
	var size, resident uint64
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if _, err := fmt.Sscan(string(text), &size, &resident); err == nil {
			return resident * uint64(os.Getpagesize())
		}
	}
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

func serveChild(ctx context.Context, c childConfig) error {
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
		Stream: bridge.Stream{Create: true, DuplicateWindow: shortWindow}, Durable: bridge.Durable{Stream: bridge.Stream{Create: true}}, QueueBytes: c.QueueBytes, Logger: log,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	telling.Go(func() { tell(ctx, b) })
	return b.Run(ctx)
}
