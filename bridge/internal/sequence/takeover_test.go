package sequence

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
	"github.com/pgbridge/pgbridge/internal/api"
)

// Of several gaps at a takeover each but the last names those behind it: whoever dies
// between two of them leaves the rest to the next replica.
func TestGapsOfATakeoverStandInLine(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &Sequencer{Core: queue.New(1 << 20), Stream: queue.New(1 << 20), Now: func() time.Time { return now }, WantMarker: func() {},
		epoch: &event.Epoch{ID: "00000000000000ff"}, done: now, channels: map[string]*channelState{}}
	for _, channel := range []string{"a", "b", "c"} {
		r, err := event.NewRoute(channel, "p", event.RouteOptions{Stored: true})
		if err != nil {
			t.Fatal(err)
		}
		s.channels[channel] = &channelState{route: r, stats: event.NewCounters(channel), heard: true,
			lost: &loss{Loss: event.Loss{Reason: api.ReasonReconnected, Since: now.Add(-time.Second)}}}
	}
	s.takeOver(Marker{number: 1}, now)
	items, _ := s.Stream.Take()
	if len(items) != 1 || items[0].Takeover == nil || len(items[0].Takeover.Lost) != 3 || len(items[0].Takeover.Found) != 3 {
		t.Fatalf("queued is %+v, want a takeover with the gaps of three channels", items)
	}
	for name, gaps := range map[string][]event.Item{"lost": items[0].Takeover.Lost, "found": items[0].Takeover.Found} {
		for i, gap := range gaps {
			losses, ok := gap.Open.Losses()
			if !ok || len(losses) != len(gaps)-1-i || gap.N != event.AtMarker {
				t.Errorf("%s: gap %d names %q, want the %d behind it", name, i+1, gap.Open, len(gaps)-1-i)
			}
			for n, l := range losses {
				if behind := gaps[i+1:]; !containsToken(behind, l.Token) || !l.Since.Equal(*gap.Gap.Since) {
					t.Errorf("%s: gap %d names %+v as loss %d, which is not behind it", name, i+1, l, n+1)
				}
			}
		}
	}
}

func containsToken(gaps []event.Item, token string) bool {
	for _, gap := range gaps {
		if gap.Route.Token == token {
			return true
		}
	}
	return false
}
