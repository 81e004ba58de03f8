package bridge

import (
	"math/rand/v2"
	"time"
)

// backoff yields waits that double from 250 ms to 5 s, each shortened by up to
// half at random, so that replicas do not come back in step.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	d := min(250*time.Millisecond<<b.tries, 5*time.Second)
	if d < 5*time.Second {
		b.tries++
	}
	return d/2 + rand.N(d/2)
}

func (b *backoff) reset() { b.tries = 0 }
