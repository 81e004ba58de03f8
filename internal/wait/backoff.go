package wait

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait after failures: First after one, twice that
// after two and so on, Max at the most. Each wait is shortened by up to half at
// random, so that those who failed together do not come back together.
type Backoff struct {
	First, Max time.Duration
}

// After returns the wait after so many failures in a row; none after no failure.
func (b Backoff) After(failures int) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := b.First
	for ; failures > 1 && d < b.Max; failures-- {
		d *= 2
	}
	d = min(d, b.Max)
	return d/2 + rand.N(d/2+1)
}

// Retry paces the tries at one thing that may fail again and again:
//
//	for retry.Wait(ctx) {
//		err := try(ctx, retry.Proved)
//	}
//
// The first try is at once, and so is the first one after the thing has proved
// itself. The time that a try took says nothing: what hangs for a minute and
// fails has proved nothing. A Retry is for one goroutine.
type Retry struct {
	Backoff
	// Burst is how often in a row something that proved itself and failed again
	// within First is tried again at once. Zero means never.
	Burst int

	failures int
	short    int           // lives in a row that proved themselves and were shorter than First
	soon     time.Duration // the next wait, where it is known; 0: it is not
	last     time.Time     // when a try began
}

// Next returns how long to wait before the next try, which it takes to begin
// then. Something that proved itself and failed again within First, more often
// than Burst, is made to wait, too, so that the tries cannot become a storm.
func (r *Retry) Next() time.Duration {
	d := r.soon
	if d == 0 {
		d = r.paced()
	}
	r.soon = 0
	r.last = time.Now().Add(d)
	return d
}

func (r *Retry) paced() time.Duration {
	if r.failures == 0 {
		if r.short++; time.Since(r.last) >= r.First {
			r.short = 0
		}
		if r.short > r.Burst {
			r.failures++
		}
	}
	d := r.After(r.failures)
	r.failures++
	return d
}

// Soon says that the thing said when it will be there: the next try begins after
// d, and the failure before it does not count.
func (r *Retry) Soon(d time.Duration) { r.soon = d }

// Wait waits until it is time for the next try, and reports false when ctx
// ended first.
func (r *Retry) Wait(ctx context.Context) bool { return For(ctx, r.Next()) }

// Proved says that the thing worked: failures before that no longer count.
func (r *Retry) Proved() { r.failures = 0 }
