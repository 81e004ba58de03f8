// Package processors has Go use as many processors as its work needs.
//
// Go runs goroutines on up to GOMAXPROCS threads, one for each core by default. What
// mostly waits for others, as pgbridge does, pays for those that it does not need: whenever
// a goroutine becomes ready while another one runs, a second thread is woken to look
// whether there is more, and finds nothing. With two of them a lone request took 232 µs of
// processor time, and 146 µs with one. So the process begins with one, and gets more while
// those that it has are at work all the time.
package processors

import (
	"context"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	every  = 100 * time.Millisecond // a look at how much was used
	hot    = 3                      // looks one after the other that find those busy which there are
	looks  = 20                     // before some are given up
	busy   = 0.9                    // of the time that they have: then more are wanted
	enough = 0.75                   // the same, on average: fewer must not be used more than that
)

// most is how many there may be; zero: as many as there are.
var most atomic.Int64

// Most returns how many processors Go may use, however many it uses at the moment.
func Most() int {
	if n := most.Load(); n > 0 {
		return int(n)
	}
	return runtime.GOMAXPROCS(0)
}

// Govern decides how many Go uses until ctx ends, which is no error. It does nothing where
// the environment variable GOMAXPROCS does. A process calls it once at a time.
func Govern(ctx context.Context) error {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	g := governor{allowed: allowed, use: func(n int) { runtime.GOMAXPROCS(n) }}
	g.begin()
	defer func() {
		most.Store(0)
		allowed()
	}()
	used, at := used(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		used, at = g.look(used, at)
	}
}

// allowed returns how many there may be now, which changes with the limits of a container,
// and has Go use them.
func allowed() int {
	runtime.SetDefaultGOMAXPROCS()
	return runtime.GOMAXPROCS(0)
}

// used is the processor time of this process so far.
func used() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it takes no other arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// governor decides by how much was used.
type governor struct {
	allowed func() int // how many there may be, all of which are used then
	use     func(int)

	now  int
	hot  int     // looks up to now that found them busy
	sum  float64 // of what was used, by look
	left int     // looks until some may be given up
}

func (g *governor) begin() {
	most.Store(int64(g.allowed()))
	g.set(1)
}

func (g *governor) set(n int) {
	g.now, g.hot, g.sum, g.left = n, 0, 0, looks
	g.use(n)
}

// look compares what was used since the last look, and returns what it has seen for the
// next one.
func (g *governor) look(before time.Duration, at time.Time) (time.Duration, time.Time) {
	total, now := used(), time.Now()
	g.decide(float64(total-before) / float64(now.Sub(at)))
	return total, now
}

// decide takes how many processors were at work of late.
func (g *governor) decide(used float64) {
	if used <= busy*float64(g.now) {
		g.hot = 0
	} else if g.hot++; g.hot >= hot {
		n := g.allowed()
		most.Store(int64(n))
		g.set(min(2*g.now, n))
		return
	}
	g.sum += used
	if g.left--; g.left > 0 {
		return
	}
	n := 1
	for enough*float64(n) < g.sum/looks {
		n *= 2
	}
	if n < g.now {
		g.set(n)
		return
	}
	g.sum, g.left = 0, looks
}
