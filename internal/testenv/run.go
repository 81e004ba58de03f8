package testenv

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"
)

const runLimit = time.Minute // to return after its context ended

// Run runs a component until stop is called, which waits for it and returns
// what it returned, or until the test ends, which an error then fails. A
// failed test shows the component's log.
func Run(t testing.TB, logs *observer.ObservedLogs, component func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- component(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(runLimit):
			return fmt.Errorf("Run did not return within %s", runLimit)
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		if !t.Failed() {
			return
		}
		for _, e := range logs.All() {
			t.Log(e.Time.Format("15:04:05.000"), e.Level, e.Message, e.ContextMap())
		}
	})
	return stop
}
