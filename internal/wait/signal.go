package wait

// Signal wakes one waiter. It remembers that it was raised, once: raising it
// twice before the waiter looks is the same as raising it once, so the waiter
// looks at everything that may have changed when it receives from it.
type Signal chan struct{}

// NewSignal returns a signal that is not raised.
func NewSignal() Signal { return make(Signal, 1) }

// Raise wakes the waiter, or the next one. It never blocks and is safe for
// concurrent use.
func (s Signal) Raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}
