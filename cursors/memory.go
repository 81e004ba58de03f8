package cursors

import (
	"sync"

	"github.com/pgbridge/pgbridge/internal/budget"
)

// memory is what the cursors of one transaction hold: the pages that may be asked
// for again, and rows that were read ahead. It counts against the budget of all
// requests until the transaction ends, which may be while a request is served. It is
// safe for concurrent use.
type memory struct {
	mu     sync.Mutex // guards the rest
	hold   *budget.Hold
	closed bool
}

// set says how many bytes there are, before they are taken. Less is always
// possible; the error is for the client.
func (m *memory) set(bytes int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	return m.hold.Set(bytes)
}

// grow asks for more.
func (m *memory) grow(bytes int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	return m.hold.Grow(bytes)
}

func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold.Close()
	m.closed = true
}
