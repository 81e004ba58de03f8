package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// metricsLimit is the aim for an answer of /metrics, metricsSize for how long it is.
	metricsLimit = 100.0 // ms
	metricsSize  = 5.0   // MB
	scrapes      = 21
	callers      = 32 // at a time, to have every script counted
)

// metrics prints how long /metrics takes and how long it is with many channels and as
// many scripts, each of which has had something to count.
func (l *lab) metrics(ctx context.Context, o options) (err error) {
	port, err := freePort()
	if err != nil {
		return err
	}
	folder := filepath.Join(l.dir, "scripts")
	if err := manyScripts(folder, o.channels); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	config := manyConfig(port, o.channels, "a", core) + "scripts: " + folder + "\n"
	c, err := l.launchFile(filepath.Join(l.dir, "pgbridge.yaml"), l.url, config, func() error { return awaitReady(ctx, port) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := l.useAll(ctx, o.channels); err != nil {
		return err
	}
	var took []float64
	var size int64
	for range scrapes {
		began := time.Now()
		if size, err = scrape(ctx, port); err != nil {
			return err
		}
		took = append(took, float64(time.Since(began).Microseconds())/1000)
	}
	what := fmt.Sprintf("%d channels and as many scripts: /metrics", o.channels)
	l.report.add(&figure{What: what + ", answered in", Value: median(took), Unit: "ms", AtMost: metricsLimit})
	l.report.add(&figure{What: what + ", length", Value: float64(size) / 1e6, Unit: "MB", AtMost: metricsSize})
	return nil
}

func manyScripts(folder string, n int) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for i := range n {
		name := filepath.Join(folder, fmt.Sprintf("a_script_with_a_name_of_the_usual_length_%d.sql", i))
		if err := os.WriteFile(name, []byte("SELECT 1;\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// useAll sends an event on each channel and runs each script, and waits for the last
// event.
func (l *lab) useAll(ctx context.Context, n int) error {
	if _, err := l.since(ctx, time.Now(), fmt.Sprint("a", n-1)); err != nil {
		return err
	}
	last, err := l.nc.SubscribeSync(fmt.Sprint("pgbridge.event.a", n-1))
	if err != nil {
		return err
	}
	defer last.Unsubscribe()
	if err := l.queryRow(ctx, fmt.Sprintf("SELECT count(pg_notify('a' || g, 'once')) FROM generate_series(0, %d) g", n-1), nil); err != nil {
		return err
	}
	if _, err := last.NextMsg(time.Minute); err != nil {
		return fmt.Errorf("an event on each channel: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for first := range callers {
		group.Go(func() error {
			for i := first; i < n && ctx.Err() == nil; i += callers {
				m, err := l.nc.Request(fmt.Sprintf("pgbridge.run.a_script_with_a_name_of_the_usual_length_%d", i), nil, time.Minute)
				if err == nil && m.Header.Get("Nats-Service-Error-Code") != "" {
					err = errors.New(strings.TrimSpace(string(m.Data)))
				}
				if err != nil {
					return fmt.Errorf("script %d: %w", i, err)
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// scrape asks for the metrics and returns how long they are.
func scrape(ctx context.Context, port int) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", port), nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Accept-Encoding", "identity") // its length is what counts
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("/metrics answers %s", response.Status)
	}
	return io.Copy(io.Discard, response.Body)
}
