package pinned

import "slices"

// Show has [Transactions.List] tell of work until hide is called, or the
// transaction ends.
func (t *Transaction) Show(w *Work) (hide func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.works = append(t.works, w)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.works = slices.DeleteFunc(t.works, func(one *Work) bool { return one == w })
	}
}
