// Package budget divides a limited amount, of bytes or of connections, among
// owners who do not trust each other.
//
// It keeps two promises. What is held never exceeds the limit: memory is asked
// for before it is taken, and refused where there is none. And nobody keeps the
// others out: an owner may hold so much only that enough stays free for the next
// one. Alone it gets its share of the limit, 90 % by default; the more owners
// there are, the less each of them gets, and something stays free for whoever
// comes:
//
//	what an owner holds ≤ share / (1 - share) × what is free
//
// This is the dynamic threshold of shared-memory switches (Choudhury and Hahne,
// 1998). An owner with very little, a 64th of the limit, needs only find it free.
package budget

import (
	"errors"
	"sync"
)

// DefaultShare is how much of the limit one owner gets alone.
const DefaultShare = 0.9

// smallPart of the limit is what an owner gets as long as it is free.
const smallPart = 64

var (
	// ErrFull says that the others, or this owner, hold too much now. It goes
	// away by itself.
	ErrFull = errors.New("the memory for requests is in use")
	// ErrTooLarge says that no owner could ever hold that much.
	ErrTooLarge = errors.New("it needs more memory than requests may have")
)

// Budget is a number of bytes. Its methods are safe for concurrent use and do
// not block. A nil Budget has no limit.
type Budget struct {
	limit int64
	share float64

	mu   sync.Mutex // guards the rest
	used int64
	held map[string]int64 // by owner; nobody with nothing
}

// New returns a budget of limit bytes. Share is how much of it one owner may
// hold alone, above 0 and at most 1; 0 means DefaultShare, 1 that there is no
// sharing.
func New(limit int64, share float64) *Budget {
	return &Budget{limit: limit, share: shareOf(share), held: make(map[string]int64)}
}

func shareOf(share float64) float64 {
	if share <= 0 || share > 1 {
		return DefaultShare
	}
	return share
}

// Limit returns how many bytes there are, 0 for no limit.
func (b *Budget) Limit() int64 {
	if b == nil {
		return 0
	}
	return b.limit
}

// Used returns how many bytes are held.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Most returns how much one owner can hold where nobody else holds anything, and
// the largest int64 without a limit.
func (b *Budget) Most() int64 {
	if b == nil {
		return 1<<63 - 1
	}
	return most(b.limit, b.share)
}

// take adds n bytes to what owner holds.
func (b *Budget) take(owner string, n int64) error {
	if n > most(b.limit, b.share) {
		return ErrTooLarge
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !Fits(b.limit, b.used, b.held[owner], n, b.share) {
		return ErrFull
	}
	b.used += n
	b.held[owner] += n
	return nil
}

func (b *Budget) give(owner string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.held[owner] -= n; b.held[owner] == 0 {
		delete(b.held, owner)
	}
}

// Fits reports whether an owner who holds held of a limit, of which used is in
// use altogether, may have n more. All four count the same: bytes, connections,
// places in a queue.
func Fits[N int | int64](limit, used, held, n N, share float64) bool {
	free := limit - used
	switch {
	case n > free:
		return false
	case held+n <= max(1, limit/smallPart):
		return true
	}
	return float64(held+n)*(1-share) <= share*float64(free-n)+rounding
}

// most is how much fits who is alone.
func most(limit int64, share float64) int64 {
	return max(int64(share*float64(limit)), limit/smallPart)
}

// rounding is what a share's fraction may be wrong by.
const rounding = 1e-9
