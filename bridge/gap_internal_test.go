package bridge

import (
	"testing"
	"time"
)

func TestGapBody(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 1, time.FixedZone("", 2*60*60))
	tests := []struct {
		loss loss
		want string
	}{
		{loss{reason: ReasonStarted, dropped: unknownCount},
			`{"channel":"orders","reason":"started","since":null,"until":"2026-11-22T10:00:00.000001Z","dropped":null}`},
		{loss{reason: ReasonOverflow, since: at.Add(-time.Hour), dropped: 3},
			`{"channel":"orders","reason":"overflow","since":"2026-11-22T09:00:00.000000001Z","until":"2026-11-22T10:00:00.000001Z","dropped":3}`},
	}
	for _, tt := range tests {
		g := tt.loss.gap("orders", at)
		if got := string(g.body()); got != tt.want {
			t.Errorf("body() = %s, want %s", got, tt.want)
		}
		if back := g.loss(); back.reason != tt.loss.reason || back.dropped != tt.loss.dropped || !back.since.Equal(tt.loss.since) {
			t.Errorf("loss() = %+v, want %+v", back, tt.loss)
		}
	}
}

func TestMergedLoss(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		first, second loss
		reason        Reason
		dropped       int64
	}{
		{loss{reason: ReasonOverflow, dropped: 2}, loss{reason: ReasonOverflow, dropped: 3}, ReasonOverflow, 5},
		{loss{reason: ReasonOverflow, dropped: 2}, loss{reason: ReasonReconnected, dropped: unknownCount}, ReasonReconnected, unknownCount},
		{loss{reason: ReasonReconnected, dropped: unknownCount}, loss{reason: ReasonOverflow, dropped: 3}, ReasonOverflow, unknownCount},
	}
	for _, tt := range tests {
		l, second := tt.first, tt.second
		l.since, l.after = since, 1
		second.since, second.after = since.Add(time.Hour), lossOpen
		l.merge(second)
		if l.reason != tt.reason || l.dropped != tt.dropped {
			t.Errorf("%+v merged with %+v = %+v, want reason %s and dropped %d", tt.first, tt.second, l, tt.reason, tt.dropped)
		}
		if !l.since.Equal(since) || l.after != lossOpen {
			t.Errorf("merged since %s, after %d, want the first's and the second's", l.since, l.after)
		}
	}
}

// A marker's time is read after it was sent, so counting from the moment it
// was sent never falls short of the server's clock.
func TestClockBound(t *testing.T) {
	t.Parallel()
	local := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	server := local.Add(-42 * time.Minute) // the two disagree
	const sentToRead, later = 3 * time.Second, 10 * time.Second
	c := clock{server: server.Add(sentToRead), sent: local}
	now := server.Add(sentToRead + later)
	got := c.bound(local.Add(sentToRead + later))
	if got.Before(now) || got.After(now.Add(sentToRead)) {
		t.Errorf("bound() = %s, want %s to %s later", got, now, sentToRead)
	}
}
