package publish

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestStreamStatesAreAsDrawn reads the package comment: each arrow is a
// transition, and each transition an arrow.
func TestStreamStatesAreAsDrawn(t *testing.T) {
	t.Parallel()
	var all []string
	for _, tr := range streamTransitions() {
		all = append(all, tr.from.String()+" | "+tr.on.String()+" | "+tr.to.String())
	}
	testenv.WantDrawn(t, "doc.go", all)
}

// TestStreamStates: whatever happens, a publisher knows of the lease what it was
// told last, and of the end too, which a new lease makes unknown.
func TestStreamStates(t *testing.T) {
	t.Parallel()
	for _, s := range []streamState{idle, following, searching, publishing} {
		for _, o := range []streamOccasion{leaseBegan, leaseEnded, endRead, endUnknown} {
			leased, known := s.leased(), s.knowsEnd()
			switch o {
			case leaseBegan:
				known = known && leased
				leased = true
			case leaseEnded:
				leased = false
			case endRead:
				known = true
			case endUnknown:
				known = false
			}
			if got := s.after(o); got.leased() != leased || got.knowsEnd() != known {
				t.Errorf("%s after %s is %s, want leased %t and the end known %t", s, o, got, leased, known)
			}
		}
	}
}
