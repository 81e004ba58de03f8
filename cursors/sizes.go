package cursors

import "sync"

const (
	// cautious is how many rows are asked for where nothing is known of their
	// size, so that few are read in vain when they are large.
	cautious = 64
	// batchBytes is what a batch may have at most when its rows are as
	// large as the largest one so far.
	batchBytes = 16 << 20
	// maxAhead is what is kept of rows that PostgreSQL has sent and the client
	// has not got.
	maxAhead = 64 << 20
	// forget is by how much less the largest row counts for the next cursor.
	forget = 4
	// maxBatch is the most rows asked for at once.
	maxBatch = 100_000
)

// sizes are what is known of a result's rows. The zero value is: nothing.
type sizes struct {
	average int // bytes, of the last batch
	largest int
}

// batch returns how many rows to ask for when at most so many are wanted and
// there is room for so many bytes. Some more than fit are asked for: another
// round trip costs more.
func (s sizes) batch(wanted int64, room, maxRow int) int64 {
	if s.largest == 0 {
		return min(wanted, int64(max(1, min(cautious, maxAhead/maxRow))))
	}
	fitting := room/s.average + room/(8*s.average) + 1
	return min(wanted, int64(fitting), int64(batchBytes/s.largest+1), maxBatch)
}

// learn takes what a batch's rows were like.
func (s *sizes) learn(rows, bytes, largest int) {
	if rows > 0 {
		s.average, s.largest = bytes/rows+1, max(s.largest, largest+1)
	}
}

// knownSizes remembers what the rows of scripts were like, so that the next
// cursor's first page takes one round trip. It is safe for concurrent use.
type knownSizes struct {
	mu      sync.Mutex // guards scripts
	scripts map[string]sizes
}

// of returns what is known of a script's rows; without a name that is nothing. What was
// the largest counts less from cursor to cursor, unless they are as large again: one
// client's parameter would have all others wait for a few rows at a time from then on.
func (k *knownSizes) of(script string) sizes {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.scripts[script]
	s.largest = max(s.average, s.largest/forget)
	return s
}

// remember keeps it. There are no more entries than there are scripts.
func (k *knownSizes) remember(script string, s sizes) {
	if script == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.scripts == nil {
		k.scripts = make(map[string]sizes)
	}
	k.scripts[script] = s
}
