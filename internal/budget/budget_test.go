package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOneOwnerLeavesRoom(t *testing.T) {
	t.Parallel()
	b := New(1000, 0)
	var greedy []*Hold
	for {
		h := b.Hold("greedy")
		if err := h.Grow(10); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatalf("Grow() = %v, want %v", err, ErrFull)
			}
			break
		}
		greedy = append(greedy, h)
	}
	if got := b.Used(); got != 900 {
		t.Errorf("one owner got %d of 1000, want 900", got)
	}
	other := b.Hold("other")
	if err := other.Grow(90); err != nil {
		t.Errorf("another owner is refused: %v", err)
	}
	if err := other.Grow(901); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Grow(901) = %v, want %v", err, ErrTooLarge)
	}
	for _, h := range append(greedy, other) {
		h.Close()
		h.Close()
	}
	if b.Used() != 0 || len(b.held) != 0 {
		t.Errorf("%d bytes of %d owners are left", b.Used(), len(b.held))
	}
}

// TestSomethingIsFreeForWhoComes has any number of owners take all they can.
func TestSomethingIsFreeForWhoComes(t *testing.T) {
	t.Parallel()
	for owners := 1; owners <= 12; owners++ {
		b := New(64<<20, 0)
		for more := true; more; {
			more = false
			for i := range owners {
				more = b.Hold(fmt.Sprint(i)).Grow(100_000) == nil || more
			}
		}
		if err := b.Hold("newcomer").Grow(256 << 10); err != nil {
			t.Errorf("with %d greedy owners a newcomer gets nothing: %v", owners, err)
		}
	}
}

func TestNeverOverTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 10_000).Draw(t, "limit")
		b := New(limit, rapid.Float64Range(0, 1).Draw(t, "share"))
		holds := make([]*Hold, 6)
		for i := range holds {
			holds[i] = b.Hold(fmt.Sprint(i / 2))
		}
		for range 100 {
			h := holds[rapid.IntRange(0, len(holds)-1).Draw(t, "hold")]
			before, n := h.Bytes(), rapid.IntRange(0, 5000).Draw(t, "bytes")
			if err := h.Set(n); err != nil && h.Bytes() != before {
				t.Fatalf("a refused Set left %d of %d bytes", h.Bytes(), before)
			} else if err != nil && n <= before {
				t.Fatalf("Set(%d) of %d bytes: %v", n, before, err)
			}
			sum := 0
			for _, h := range holds {
				sum += h.Bytes()
			}
			if used := b.Used(); used != int64(sum) || used > limit {
				t.Fatalf("%d bytes are used and %d held, of %d", used, sum, limit)
			}
		}
	})
}

func TestGrowUpTo(t *testing.T) {
	t.Parallel()
	b := New(1000, 1)
	if err := b.Hold("other").Grow(700); err != nil {
		t.Fatal(err)
	}
	h := b.Hold("window")
	if got, err := h.GrowUpTo(10, 800); got != 200 || err != nil {
		t.Errorf("GrowUpTo(10, 800) = %d, %v with 300 free, want 200", got, err)
	}
	if got, err := h.GrowUpTo(101, 200); got != 0 || !errors.Is(err, ErrFull) {
		t.Errorf("GrowUpTo(101, 200) = %d, %v with 100 free, want %v", got, err, ErrFull)
	}
}

func TestNoBudget(t *testing.T) {
	t.Parallel()
	var b *Budget
	h := b.Hold("anyone")
	if got, err := h.GrowUpTo(1, 1<<40); got != 1<<40 || err != nil {
		t.Errorf("GrowUpTo() = %d, %v", got, err)
	}
	if err := errors.Join(h.Grow(1<<40), h.Set(1)); err != nil {
		t.Error(err)
	}
	h.Close()
}

func TestSlotsAreShared(t *testing.T) {
	t.Parallel()
	s := NewSlots(8, 0)
	taken := func(owner string) func() {
		t.Helper()
		release, err := s.Acquire(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		return release
	}
	ended, end := context.WithCancelCause(t.Context())
	refusal := errors.New("too long")
	end(refusal)
	for range 8 {
		taken("greedy")
	}
	if _, err := s.Acquire(ended, "greedy"); !errors.Is(err, refusal) {
		t.Errorf("the ninth of one owner: %v, want that it waits", err)
	}
	release := taken("second")
	if _, err := s.Acquire(ended, "third"); !errors.Is(err, refusal) {
		t.Errorf("the tenth of nine: %v", err)
	}
	release()
	release() // has no effect
	taken("third")
	if s.Waiting() != 0 {
		t.Errorf("%d wait", s.Waiting())
	}
}

// TestEachGetsWhatThereIs counts what one owner gets, and that another one comes
// then.
func TestEachGetsWhatThereIs(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0.5, 0.75, 0.9, 0.99, 1} {
		for n := range 200 {
			s := NewSlots(n+1, share)
			for range n + 1 {
				if s.enter("one") != nil {
					t.Errorf("%d slots with a share of %g: one owner does not get them all", n+1, share)
				}
			}
			if s.enter("one"); s.Waiting() != 1 {
				t.Errorf("%d slots with a share of %g: one owner gets one more", n+1, share)
			}
			if share < 1 {
				<-s.enter("another").granted // past the one who waits
			} else if s.Total() != n+1 {
				t.Errorf("%d slots with a share of 1 are %d", n+1, s.Total())
			}
		}
	}
}

func TestFewestFirst(t *testing.T) {
	t.Parallel()
	s := NewSlots(1, 1)
	release, err := s.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	first, second, other := s.enter("a"), s.enter("a"), s.enter("b")
	release()
	<-other.granted // both hold none: who was not served yet
	again := s.enter("b")
	s.release("b")
	<-first.granted // it was served before b was
	s.release("a")
	<-again.granted
	s.release("b")
	<-second.granted
	s.release("a")
	if len(s.owners) != 0 || s.used != 0 {
		t.Errorf("%d owners are left, %d slots used", len(s.owners), s.used)
	}
}

func TestSlotsUnderLoad(t *testing.T) {
	t.Parallel()
	s := NewSlots(3, 1)
	var mu sync.Mutex
	inside := 0
	var all sync.WaitGroup
	for i := range 30 {
		all.Go(func() {
			for range 200 {
				release, err := s.Acquire(t.Context(), fmt.Sprint(i%4))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if inside++; inside > 3 {
					t.Errorf("%d hold one of 3 slots", inside)
				}
				mu.Unlock()
				mu.Lock()
				inside--
				mu.Unlock()
				release()
			}
		})
	}
	all.Wait()
	if len(s.owners) != 0 || s.used != 0 {
		t.Errorf("%d owners are left, %d slots used", len(s.owners), s.used)
	}
}
