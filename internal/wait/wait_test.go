package wait

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestForEndsWithTheTimeOrTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if !For(ctx, 20*time.Second) || time.Since(began) != 20*time.Second {
			t.Errorf("For(20s) returned after %s", time.Since(began))
		}
		if !For(ctx, 0) || !For(ctx, -time.Second) || time.Since(began) != 20*time.Second {
			t.Error("For(0) waited or reported an end")
		}
		if For(ctx, time.Hour) || time.Since(began) != time.Minute {
			t.Errorf("For(1h) returned after %s, want the end of the context", time.Since(began))
		}
		if For(ctx, 0) {
			t.Error("For(0) did not notice that the context had ended")
		}
	})
}

func TestWithinDoesNotWaitForWhatIsTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if Within(ctx, time.Hour) || time.Since(began) != 0 {
			t.Errorf("Within(1h) returned after %s, want at once", time.Since(began))
		}
		if !Within(ctx, time.Second) || time.Since(began) != time.Second {
			t.Errorf("Within(1s) returned after %s", time.Since(began))
		}
	})
}

func TestForOrIsWoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewSignal()
		began := time.Now()
		if ForOr(t.Context(), time.Second, s) || time.Since(began) != time.Second {
			t.Errorf("ForOr returned after %s without a signal", time.Since(began))
		}
		s.Raise()
		s.Raise()
		if !ForOr(t.Context(), time.Second, s) || time.Since(began) != time.Second {
			t.Error("ForOr missed a signal that was raised before")
		}
		if ForOr(t.Context(), time.Second, s) {
			t.Error("ForOr: a signal raised twice woke twice")
		}
		time.AfterFunc(time.Second, s.Raise)
		if !ForOr(t.Context(), time.Hour, s) || time.Since(began) != 3*time.Second {
			t.Errorf("ForOr returned after %s, want as soon as the signal is raised", time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if ForOr(ctx, time.Hour, s) {
			t.Error("ForOr: the end of the context looks like a signal")
		}
	})
}

func TestGraceFollowsTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		work, cancel := Grace(ctx, 5*time.Second)
		defer cancel()
		time.Sleep(time.Hour)
		stop()
		began := time.Now()
		<-work.Done()
		if time.Since(began) != 5*time.Second {
			t.Errorf("ended %s after the context, want 5s", time.Since(began))
		}
	})
}

func TestGraceEndsWhenItIsNotNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		work, cancel := Grace(ctx, time.Hour)
		stop()
		synctest.Wait()
		cancel() // and no goroutine stays, or synctest complains
		if !errors.Is(work.Err(), context.Canceled) {
			t.Errorf("Err() = %v after cancel", work.Err())
		}
	})
}

func TestBackoffGrowsToItsMaximum(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{First: time.Duration(rapid.Int64Range(1, 1e10).Draw(t, "first"))}
		b.Max = time.Duration(rapid.Int64Range(int64(b.First), 1e13).Draw(t, "max"))
		failures := rapid.IntRange(1, 1_000_000).Draw(t, "failures")
		full := b.Max
		if doubled := float64(b.First) * math.Pow(2, float64(failures-1)); doubled < float64(b.Max) {
			full = time.Duration(doubled)
		}
		if d := b.After(failures); d < full/2 || d > full {
			t.Fatalf("After(%d) = %s, want between %s and %s", failures, d, full/2, full)
		}
	})
	if d := (Backoff{First: time.Second, Max: time.Minute}).After(0); d != 0 {
		t.Errorf("After(0) = %s, want none", d)
	}
}

func TestBackoffIsRandom(t *testing.T) {
	t.Parallel()
	b := Backoff{First: time.Hour, Max: time.Hour}
	if first, second := b.After(1), b.After(1); first == second {
		t.Error("two waits are alike")
	}
}

func TestRetryBeginsAtOnceAndAnewWhenProved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := Retry{Backoff: Backoff{First: time.Second, Max: 4 * time.Second}}
		upTo := func(want ...time.Duration) {
			t.Helper()
			for i, full := range want {
				began := time.Now()
				if !r.Wait(t.Context()) {
					t.Fatal("Wait() = false though the context goes on")
				}
				if d := time.Since(began); d < full/2 || d > full {
					t.Errorf("wait %d took %s, want between %s and %s", i, d, full/2, full)
				}
			}
		}
		const second = time.Second
		upTo(0, second, 2*second, 4*second, 4*second)
		time.Sleep(time.Hour) // that a try took long proves nothing
		upTo(4 * second)
		for range 5 {
			r.Proved()
			time.Sleep(6 * second)
			upTo(0)
		}
		upTo(second)
	})
}

func TestRetryIsNoStorm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := Retry{Backoff: Backoff{First: time.Second, Max: time.Minute}}
		began, tries := time.Now(), 0
		for time.Since(began) < time.Minute && r.Wait(t.Context()) {
			tries++
			r.Proved()
		}
		if tries > 121 {
			t.Errorf("%d tries in a minute of something that proves itself and fails at once, want two a second at the most", tries)
		}
	})
}

// A short life is no reason to wait, a row of them is.
func TestRetryAtOnceWhateverTheAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := Retry{Backoff: Backoff{First: time.Second, Max: time.Minute}, Burst: 3}
		var waits []bool
		for range 5 {
			waits = append(waits, r.Next() > 0)
			r.Proved()
		}
		if want := []bool{false, false, false, false, true}; !slices.Equal(waits, want) {
			t.Errorf("waited: %t, want %t", waits, want)
		}
		time.Sleep(time.Minute)
		if d := r.Next(); d != 0 {
			t.Errorf("Next() = %s after a long life, want 0", d)
		}
	})
}

func TestRetrySoon(t *testing.T) {
	t.Parallel()
	r := Retry{Backoff: Backoff{First: time.Second, Max: time.Minute}}
	r.Next()
	for range 100 {
		r.Soon(time.Millisecond)
		if d := r.Next(); d != time.Millisecond {
			t.Fatalf("Next() = %s, want what Soon said", d)
		}
	}
	if d := r.Next(); d > time.Second {
		t.Errorf("Next() = %s, want the first wait", d)
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := Retry{Backoff: Backoff{First: time.Hour, Max: time.Hour}}
	if r.Wait(ctx) {
		t.Error("Wait() = true after the end of the context")
	}
}

func TestPollLooksLessOftenWhereItTakesLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		began := time.Now()
		var at []time.Duration
		Poll(ctx, time.Second, func() {
			at = append(at, time.Since(began))
			if len(at) == 2 {
				time.Sleep(4 * time.Second)
			}
			if len(at) == 4 {
				cancel()
			}
		})
		want := []time.Duration{time.Second, 2 * time.Second, 206 * time.Second, 207 * time.Second}
		if !slices.Equal(at, want) {
			t.Errorf("looked at %s, want %s", at, want)
		}
		Poll(t.Context(), 0, func() { t.Error("looked though it never should") })
	})
}

func TestSettledWantsToReadTwice(t *testing.T) {
	t.Parallel()
	s := NewSettled("a", func(a, b string) bool { return a == b })
	steps := []struct {
		read    string // empty: nothing could be read
		changed bool
		value   string
		latest  string
	}{
		{"a", false, "a", "a"},
		{"b", false, "a", "b"},
		{"c", false, "a", "c"},
		{"c", true, "c", "c"},
		{"c", false, "c", "c"},
		{"d", false, "c", "d"},
		{"c", false, "c", "c"},
		{"d", false, "c", "d"},
		{"", false, "c", "c"},
		{"d", false, "c", "d"},
		{"d", true, "d", "d"},
	}
	for i, step := range steps {
		changed := false
		if step.read == "" {
			s.Unread()
		} else {
			changed = s.Read(step.read)
		}
		if changed != step.changed || s.Value() != step.value || s.Latest() != step.latest {
			t.Errorf("step %d, %q: changed %t, value %q, latest %q, want %t, %q, %q",
				i, step.read, changed, s.Value(), s.Latest(), step.changed, step.value, step.latest)
		}
	}
}
