package cursors

import "testing"

// A client that reads large rows of a script does not have those who read small ones of it
// wait for a few at a time from then on.
func TestLargestRowIsForgotten(t *testing.T) {
	t.Parallel()
	var known knownSizes
	read := func(rows, bytes, largest int) int64 {
		s := known.of("script")
		ahead := s.batch(10_000, 1<<20, 1<<20)
		s.learn(rows, bytes, largest)
		known.remember("script", s)
		return ahead
	}
	read(1000, 50_000, 60)
	before := read(1000, 50_000, 60)
	read(1, 1<<20, 1<<20)
	after := int64(0)
	for range 5 {
		after = read(1000, 50_000, 60)
	}
	if after < before/4 { // it was 16
		t.Errorf("%d rows are asked for at once, and were %d before", after, before)
	}
}
