package webconsole

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/wait"
	"github.com/pgbridge/pgbridge/txrunner"
)

func at(seconds int, received, requests uint64, counts ...uint64) measure {
	m := measure{at: time.Unix(int64(seconds), 0), runner: &txrunner.Snapshot{}}
	m.bridge = bridge.Snapshot{Total: bridge.Counts{Received: received}}
	m.bridge.QueueBytes = map[bridge.Delivery]int64{bridge.DeliveryCore: 3, bridge.DeliveryJetStream: 4}
	m.runner.Answered = txrunner.Answered{Requests: requests, Bounds: []time.Duration{time.Second, 2 * time.Second}, Counts: counts}
	return m
}

func TestHistory(t *testing.T) {
	t.Parallel()
	var h history
	h.add(at(0, 100, 0, 0, 0))
	if h.latest() != nil || len(h.since(0)) != 0 {
		t.Error("one look is a sample")
	}
	h.add(at(5, 150, 10, 10, 10))
	s := h.latest()
	if s == nil || s.Received != 10 || s.Requests != 2 || s.Queue != 7 || s.RequestP50 != 0.5 || s.PublishP99 != -1 {
		t.Errorf("sample %+v", s)
	}
	h.add(at(10, 0, 10, 10, 10)) // a counter that began anew
	if s := h.latest(); s.Received != 0 || s.RequestP50 != -1 {
		t.Errorf("sample %+v", s)
	}
	for i := range 2 * kept {
		h.add(at(15+5*i, 0, 0, 0, 0))
	}
	if all := h.since(0); len(all) != kept || all[0].At >= all[kept-1].At {
		t.Errorf("%d samples are kept, want %d in order", len(all), kept)
	}
	if later := h.since(h.latest().At - 1); len(later) != 1 {
		t.Errorf("%d samples are later, want 1", len(later))
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	d := distribution{bounds: []float64{1, 2, 4}, counts: []uint64{0, 10, 20}, all: 40}
	for part, want := range map[float64]float64{0.25: 2, 0.125: 1.5, 0.5: 4, 0.99: 4} {
		if got := d.quantile(part); got != want {
			t.Errorf("quantile(%g) = %g, want %g", part, got, want)
		}
	}
	if got := (distribution{}).quantile(0.5); got != -1 {
		t.Errorf("of nothing: %g, want -1", got)
	}
}

// However many ask, it is found out once in a while.
func TestLookIsShared(t *testing.T) {
	t.Parallel()
	var looks atomic.Int64
	begun, found := make(chan struct{}), make(chan struct{})
	l := newLook(time.Hour, func(ctx context.Context) (int64, error) {
		n := looks.Add(1)
		if n == 1 {
			close(begun)
			<-found
		}
		return n, ctx.Err()
	})
	var all sync.WaitGroup
	get := func(ctx context.Context) {
		if n, err := l.get(ctx); n != 1 || err != nil {
			t.Errorf("look %d: %v", n, err)
		}
	}
	first, leave := context.WithCancel(t.Context())
	all.Go(func() { get(first) })
	<-begun
	leave() // who goes away does not take the others' answer along
	for range 100 {
		all.Go(func() { get(t.Context()) })
	}
	close(found)
	all.Wait()
	l.at = l.at.Add(-time.Hour)
	if n, _ := l.get(t.Context()); n != 2 {
		t.Errorf("later it is look %d, want 2", n)
	}
}

func TestLookHasALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLook(time.Second, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		if _, err := l.get(t.Context()); !errors.Is(err, context.DeadlineExceeded) || problem(err) == "" {
			t.Errorf("it ended with %v", err)
		}
	})
}

// Of a bounded number of scripts PostgreSQL is asked at a time, whoever looks at how many.
func TestLooksAtScriptsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		d := &details{turn: make(turn, 1), known: map[string]*detail{}, find: func(_ context.Context, name string) (txrunner.ScriptState, bool) {
			asked++
			return txrunner.ScriptState{}, name != "none"
		}}
		look := func(n int) (crowded int) {
			for i := range n {
				if _, err := d.of(t.Context(), strconv.Itoa(i)); errors.Is(err, errCrowded) {
					crowded++
				}
			}
			return crowded
		}
		for range 2 { // what is known already is shown
			if crowded := look(2 * maxDetails); crowded != maxDetails || asked != maxDetails {
				t.Errorf("PostgreSQL was asked of %d scripts, %d were refused; want %d of both", asked, crowded, maxDetails)
			}
		}
		wait.For(t.Context(), detailsFor)
		if crowded := look(maxDetails); crowded != 0 || asked != 2*maxDetails {
			t.Errorf("later it was asked of %d, and %d were refused", asked-maxDetails, crowded)
		}
		wait.For(t.Context(), detailsFor)
		if _, err := d.of(t.Context(), "none"); !errors.Is(err, errNoScript) || len(d.known) != 0 {
			t.Errorf("of a script that is not there: %v, %d known", err, len(d.known))
		}
	})
}
