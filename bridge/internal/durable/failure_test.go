package durable

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
)

// A server that is silent for too long has longer the next time, and no longer than ever
// once the session ended otherwise.
func TestSilentServerIsGivenTime(t *testing.T) {
	t.Parallel()
	silent := fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	var f Feed
	for i, step := range []struct {
		err  error
		want time.Duration
	}{
		{errors.New("cut"), 15 * time.Second}, {silent, 30 * time.Second}, {silent, time.Minute}, {silent, 2 * time.Minute},
		{silent, 4 * time.Minute}, {silent, 4 * time.Minute}, {errLease, 15 * time.Second},
	} {
		if f.hear(step.err); f.silence != step.want {
			t.Errorf("after failure %d the server has %s, want %s", i+1, f.silence, step.want)
		}
	}
}

// Only the same failure of the server's own at the same place, over and over, is
// the slot's.
func TestFailuresOfTheSlotAreCounted(t *testing.T) {
	t.Parallel()
	server := func(state string) error { return fmt.Errorf("read: %w", &pgconn.PgError{Code: state}) }
	type failed struct {
		err error
		at  wal.LSN
	}
	for name, tt := range map[string]struct {
		all  []failed
		want bool
	}{
		"thrice at one place":     {[]failed{{server("XX000"), 7}, {server("XX000"), 7}, {server("XX000"), 7}}, true},
		"twice":                   {[]failed{{server("XX000"), 7}, {server("XX000"), 7}}, false},
		"at different places":     {[]failed{{server("XX000"), 7}, {server("XX000"), 8}, {server("XX000"), 9}}, false},
		"different ones":          {[]failed{{server("XX000"), 7}, {server("42704"), 7}, {server("XX000"), 7}}, false},
		"another one between":     {[]failed{{server("XX000"), 7}, {server("XX000"), 7}, {errors.New("cut"), 7}, {server("XX000"), 7}}, false},
		"of an administrator":     {[]failed{{server("57P01"), 7}, {server("57P01"), 7}, {server("57P01"), 7}}, false},
		"out of memory":           {[]failed{{server("53200"), 7}, {server("53200"), 7}, {server("53200"), 7}, {server("53200"), 7}}, false},
		"a publication not there": {[]failed{{server("42704"), 0}, {server("42704"), 0}, {server("42704"), 0}}, true},
	} {
		var f Feed
		for _, one := range tt.all {
			f.count(one.err, 5, one.at)
		}
		if got := f.failure.of(slot{confirmed: 5}); got != tt.want {
			t.Errorf("%s: given up %t, want %t", name, got, tt.want)
		}
		if f.failure.of(slot{confirmed: 6}) {
			t.Errorf("%s: a slot is given up that another replica has made anew, or comes on with", name)
		}
	}
}

// A server that has no memory is given time, and not for ever.
func TestServerWithoutMemoryIsGivenTime(t *testing.T) {
	t.Parallel()
	f := failure{state: outOfMemory, at: 7, confirmed: 5, times: givenUpAfter, since: time.Now().Add(-outOfMemoryAtMost / 2)}
	if f.of(slot{confirmed: 5}) {
		t.Error("the slot is given up, though the server may have memory again")
	}
	f.since = f.since.Add(-outOfMemoryAtMost)
	if !f.of(slot{confirmed: 5}) {
		t.Error("the slot is kept for ever")
	}
}
