package ledger

import "testing"

func TestKeyOf(t *testing.T) {
	t.Parallel()
	const size = 100
	for _, kind := range []Kind{Small, Large, Equal, Empty} {
		e := Event{ID: 4711, Kind: kind}
		if got := KeyOf(payload(e.ID, kind, size), size); got != e.Key() {
			t.Errorf("KeyOf(payload of %s) = %q, want %q", kind, got, e.Key())
		}
	}
	for _, damaged := range []string{payload(1, Large, size)[:50], payload(1, Large, size) + "x", "12x4", "refres", "x"} {
		if got := KeyOf(damaged, size); got[0] != '"' {
			t.Errorf("KeyOf(%q) = %s, want no event's key", damaged, got)
		}
	}
}
