package listen

import (
	"testing"
	"testing/synctest"
	"time"
)

// A connection is not given up while what waits before the answer is read.
func TestWatchCutsASilentConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &connection{}
		cut := make(chan time.Time, 1)
		began := time.Now()
		go c.watch(nil, func() { cut <- time.Now() })
		for range 60 {
			<-time.After(time.Second)
			c.signs.Add(1)
		}
		if took := (<-cut).Sub(began); took < 65*time.Second || took > 70*time.Second {
			t.Errorf("a connection silent after a minute was cut after %s, want 65 s to 70 s", took)
		}
	})
}

func TestWatchEndsWithTheAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answered := make(chan struct{})
		time.AfterFunc(commandTimeout-1, func() { close(answered) })
		(&connection{}).watch(answered, func() { t.Error("an answered command was cut off") })
	})
}
