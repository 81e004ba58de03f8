package webconsole

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/txrunner"
)

// While PostgreSQL does not answer, any number of viewers can come and go: none is kept
// that has gone.
func TestNobodyWaitsForWhoHasGone(t *testing.T) {
	t.Parallel()
	begun, release := make(chan struct{}, 2), make(chan struct{})
	defer close(release)
	l := newLook(time.Hour, func(context.Context) (int, error) {
		begun <- struct{}{}
		<-release
		return 1, nil
	})
	d := &details{turn: make(turn, 1), known: map[string]*detail{}, find: func(context.Context, string) (s txrunner.ScriptState, found bool) {
		begun <- struct{}{}
		<-release
		return s, false
	}}
	asks := []func(context.Context) error{
		func(ctx context.Context) error { _, err := l.get(ctx); return err },
		func(ctx context.Context) error { _, err := d.of(ctx, "a"); return err },
	}
	for _, ask := range asks {
		go func() { _ = ask(context.Background()) }()
		<-begun
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for i, ask := range asks {
		ended := make(chan error, 1)
		go func() { ended <- ask(gone) }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%d: %v", i, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%d: who has gone waits", i)
		}
	}
}
