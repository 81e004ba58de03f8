package budget

// Hold is what one piece of work, such as a request or a stream, holds of a
// budget. Its methods are for one goroutine at a time. A nil Hold takes as much
// as it likes.
type Hold struct {
	budget *Budget
	owner  string
	bytes  int64
}

// Grow takes n more bytes, before they are allocated. After an error, ErrFull or
// ErrTooLarge, it holds what it held.
func (h *Hold) Grow(n int) error {
	if h == nil || n <= 0 {
		return nil
	}
	if h.bytes+int64(n) > h.budget.Most() {
		return ErrTooLarge
	}
	if err := h.budget.take(h.owner, int64(n)); err != nil {
		return err
	}
	h.bytes += int64(n)
	return nil
}

// GrowUpTo takes as much as there is, from least to want bytes more, and returns
// how much that is. It is for what can do with less, such as windows.
func (h *Hold) GrowUpTo(least, want int) (int, error) {
	if h == nil {
		return want, nil
	}
	for n := max(least, want); ; n = max(least, n/2) {
		err := h.Grow(n)
		if err == nil {
			return n, nil
		}
		if n <= least {
			return 0, err
		}
	}
}

// Set makes it hold n bytes altogether. Holding less always works.
func (h *Hold) Set(n int) error {
	if h == nil {
		return nil
	}
	if int64(n) > h.bytes {
		return h.Grow(n - int(h.bytes))
	}
	h.Shrink(int(h.bytes) - n)
	return nil
}

// Shrink gives n bytes back.
func (h *Hold) Shrink(n int) {
	if h == nil || n <= 0 {
		return
	}
	given := min(int64(n), h.bytes)
	h.budget.give(h.owner, given)
	h.bytes -= given
}

// Bytes returns how many bytes it holds.
func (h *Hold) Bytes() int {
	if h == nil {
		return 0
	}
	return int(h.bytes)
}

// Close gives everything back. It may be called more than once, and the Hold be
// used again.
func (h *Hold) Close() { h.Shrink(h.Bytes()) }

// Hold returns an account of owner's, with nothing in it yet. It must be closed.
func (b *Budget) Hold(owner string) *Hold {
	if b == nil {
		return nil
	}
	return &Hold{budget: b, owner: owner}
}
