package publish

import (
	"testing"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
)

// Where whoever notifies chooses the subject, not each that is refused has the others wait for
// three attempts: of a channel of which one was given up the next is at its first refusal.
func TestSubjectsOfOneChannelAreGivenUp(t *testing.T) {
	t.Parallel()
	var r refusals
	chosen, another := &event.Route{}, &event.Route{}
	for try := 1; try <= refusedTries; try++ {
		if enough := r.count("chosen.1", chosen); enough != (try == refusedTries) {
			t.Errorf("refusal %d of the first subject is enough: %t", try, enough)
		}
	}
	if !r.count("chosen.2", chosen) {
		t.Error("another subject of the channel is tried again")
	}
	if r.count("another.1", another) {
		t.Error("another channel's subject is given up at its first refusal")
	}
	r.renew()
	if r.count("chosen.3", chosen) {
		t.Error("on a new connection a subject is given up at its first refusal")
	}
}
