package cursors

import "sync"

const (
	// cautious is how many rows are asked for where nothing is known of their
	// size, so that few are read in vain when they are large.
	cautious = 64
	// portionBytes is what a portion may have at most when its rows are as
	// large as the largest one so far.
	portionBytes = 16 << 20
	// maxHeld is what is kept of rows that PostgreSQL has sent and the client
	// has not got.
	maxHeld = 64 << 20
	// maxPortion is the most rows asked for at once.
	maxPortion = 100_000
)

// sizes are what is known of a result's rows. The zero value is: nothing.
type sizes struct {
	average int // bytes, of the last portion
	largest int
}

// portion returns how many rows to ask for when at most so many are wanted and
// there is room for so many bytes. Some more than fit are asked for: another
// round trip costs more.
func (s sizes) portion(wanted int64, room, maxRow int) int64 {
	if s.largest == 0 {
		return min(wanted, int64(max(1, min(cautious, maxHeld/maxRow))))
	}
	fitting := room/s.average + room/(8*s.average) + 1
	return min(wanted, int64(fitting), int64(portionBytes/s.largest+1), maxPortion)
}

// learn takes what a portion's rows were like.
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

// of returns what is known of a script's rows; without a name that is nothing.
func (k *knownSizes) of(script string) sizes {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.scripts[script]
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
