package sequence

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

func states() []State { return []State{Standby, Candidate, Publishing, Orphan, Returning} }

func occasions() []occasion {
	return []occasion{lockTaken, lockLost, ownMarkerBack, superseded, contradicted}
}

// TestStatesAreAsDrawn reads the drawings: each arrow is a transition, and each
// transition an arrow.
func TestStatesAreAsDrawn(t *testing.T) {
	t.Parallel()
	var all []string
	for _, tr := range transitions() {
		all = append(all, tr.from.String()+" | "+tr.on.String()+" | "+tr.to.String())
	}
	testenv.WantDrawn(t, "doc.go", all)
	testenv.WantDrawn(t, "../../../docs/design.md", all)
}

// TestStateTransitions: an occasion leads to one state, which is the table's.
func TestStateTransitions(t *testing.T) {
	t.Parallel()
	for _, s := range states() {
		for _, o := range occasions() {
			to := s
			for _, tr := range transitions() {
				if tr.from == s && tr.on == o {
					if to != s {
						t.Errorf("%s on %s leads to %s and to %s", s, o, to, tr.to)
					}
					to = tr.to
				}
			}
			if got := s.after(o); got != to {
				t.Errorf("%s after %s is %s, want %s", s, o, got, to)
			}
			if o == lockLost && (to == Publishing || to.awaitsMarker()) {
				t.Errorf("%s without the lock is %s", s, to)
			}
			if to == Publishing && s != Publishing && o != ownMarkerBack {
				t.Errorf("%s publishes on %s, before its own marker is back", s, o)
			}
			if o == superseded && to.queues() {
				t.Errorf("%s keeps queueing as %s though another replica publishes", s, to)
			}
		}
	}
}
