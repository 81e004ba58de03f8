package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// manyLimit is the aim for each figure of many channels.
const manyLimit = 2.0 // seconds

// manyChannels prints how long it takes with many channels until pgbridge is ready,
// has other channels after a reload, and is back after the listener's connection
// was lost: from the cause to an event on the last channel.
func (l *lab) manyChannels(ctx context.Context, o options) error {
	for _, delivery := range []string{core, jetStream} {
		for _, each := range []time.Duration{0, time.Millisecond} {
			if err := l.js.DeleteStream(ctx, stream); err != nil && !strings.Contains(err.Error(), "not found") {
				return err
			}
			if err := l.many(ctx, o.channels, delivery, each); err != nil {
				return fmt.Errorf("%s, %s each way: %w", delivery, each, err)
			}
		}
	}
	return nil
}

func (l *lab) many(ctx context.Context, n int, delivery string, each time.Duration) (err error) {
	u, err := url.Parse(l.url)
	if err != nil {
		return err
	}
	line, err := testenv.NewDelay(u.Host, each)
	if err != nil {
		return err
	}
	defer line.Close()
	u.Host = line.Addr()
	port, err := freePort()
	if err != nil {
		return err
	}
	file := filepath.Join(l.dir, "pgbridge.yaml")
	began := time.Now()
	c, err := l.launchFile(file, u.String(), manyConfig(port, n, "a", delivery), func() error { return awaitReady(ctx, port) })
	if err != nil {
		return err
	}
	ready := time.Since(began)
	defer func() {
		if stopped := c.stop(); err != nil {
			err = fmt.Errorf("%w; its log: %.2000s", err, c.log)
		} else {
			err = stopped
		}
	}()
	first, err1 := l.since(ctx, began, fmt.Sprint("a", n-1))
	reload, err2 := l.after(ctx, fmt.Sprint("b", n-1), func() error {
		return errors.Join(os.WriteFile(file, []byte(manyConfig(port, n, "b", delivery)), 0o600), c.command.Process.Signal(syscall.SIGHUP))
	})
	back, err3 := l.after(ctx, fmt.Sprint("b", n-1), func() error {
		return l.queryRow(ctx, "SELECT bool_and(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE '%listener%'", nil)
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	for _, took := range []struct {
		what string
		time.Duration
	}{{"ready", ready}, {"first event", first}, {"reload", reload}, {"back after a loss", back}} {
		l.report.add(&figure{What: fmt.Sprintf("%d channels, %s, %s each way to PostgreSQL: %s", n, delivery, each, took.what), Value: took.Seconds(), Unit: "s", AtMost: manyLimit})
	}
	l.report.add(&figure{What: fmt.Sprintf("%d channels, %s: resident memory", n, delivery), Value: c.memory(), Unit: "MiB"})
	return nil
}

// manyConfig is a configuration with n channels of a name and a number each.
func manyConfig(port, n int, name, delivery string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "http: 127.0.0.1:%d\nlog: {level: info}\nchannels:\n", port)
	for i := range n {
		fmt.Fprintf(&b, "  %s%d: {delivery: %s}\n", name, i, delivery)
	}
	return b.String()
}

// after does something and returns how long it takes until an event comes out.
func (l *lab) after(ctx context.Context, channel string, do func() error) (time.Duration, error) {
	began := time.Now()
	if err := do(); err != nil {
		return 0, err
	}
	return l.since(ctx, began, channel)
}

// since notifies until an event comes out at the other end, and returns how long
// that took.
func (l *lab) since(ctx context.Context, began time.Time, channel string) (time.Duration, error) {
	sub, err := l.nc.SubscribeSync("pgbridge.event." + channel)
	if err != nil {
		return 0, err
	}
	defer sub.Unsubscribe()
	for time.Since(began) < time.Minute {
		if err := l.queryRow(ctx, "SELECT pg_notify('"+channel+"', 'are you there')", nil); err != nil {
			return 0, err
		}
		if _, err := sub.NextMsg(20 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
			return time.Since(began), err
		}
	}
	return 0, errors.New("no event arrives on " + channel)
}

func awaitReady(ctx context.Context, port int) error {
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; wait.For(ctx, 10*time.Millisecond) {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", port))
		if err != nil {
			last = err.Error()
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if last = string(body); resp.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.Join(errors.New("not ready: "+last), ctx.Err())
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
