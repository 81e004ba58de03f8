package event

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
)

func TestGapBody(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 1, time.FixedZone("", 2*60*60))
	tests := []struct {
		loss Loss
		want string
	}{
		{Loss{Reason: api.ReasonStarted, Dropped: UnknownCount},
			`{"channel":"orders","reason":"started","since":null,"until":"2026-11-22T10:00:00.000001Z","dropped":null}`},
		{Loss{Reason: api.ReasonOverflow, Since: at.Add(-time.Hour), Dropped: 3},
			`{"channel":"orders","reason":"overflow","since":"2026-11-22T09:00:00.000000001Z","until":"2026-11-22T10:00:00.000001Z","dropped":3}`},
	}
	for _, tt := range tests {
		g := tt.loss.Gap("orders", at)
		if got := string(g.Body()); got != tt.want {
			t.Errorf("body() = %s, want %s", got, tt.want)
		}
		if back := LossOf(&g); back.Reason != tt.loss.Reason || back.Dropped != tt.loss.Dropped || !back.Since.Equal(tt.loss.Since) {
			t.Errorf("loss() = %+v, want %+v", back, tt.loss)
		}
	}
}

// PostgreSQL's clock can have been set back during a loss, and the next primary's can be
// behind: then nothing is known of the time before.
func TestGapOverAClockThatWentBack(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	l := Loss{Reason: api.ReasonReconnected, Since: until.Add(time.Minute), Dropped: UnknownCount}
	if g := l.Gap("orders", until); g.Since != nil || !g.Until.Equal(l.Since) {
		t.Errorf("the window is from %v to %s, want null and %s", g.Since, g.Until, l.Since)
	}
	l.Since = until
	if g := l.Gap("orders", until); g.Since == nil || !g.Since.Equal(until) {
		t.Errorf("the window begins at %v, want %s", g.Since, until)
	}
}

func TestMergedLoss(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		first, second Loss
		reason        api.Reason
		dropped       int64
	}{
		{Loss{Reason: api.ReasonOverflow, Dropped: 2}, Loss{Reason: api.ReasonOverflow, Dropped: 3}, api.ReasonOverflow, 5},
		{Loss{Reason: api.ReasonOverflow, Dropped: 2}, Loss{Reason: api.ReasonReconnected, Dropped: UnknownCount}, api.ReasonReconnected, UnknownCount},
		{Loss{Reason: api.ReasonReconnected, Dropped: UnknownCount}, Loss{Reason: api.ReasonOverflow, Dropped: 3}, api.ReasonOverflow, UnknownCount},
	}
	for _, tt := range tests {
		l, second := tt.first, tt.second
		l.Since = since
		second.Since = since.Add(time.Hour)
		l.Merge(second)
		if l.Reason != tt.reason || l.Dropped != tt.dropped {
			t.Errorf("%+v merged with %+v = %+v, want reason %s and dropped %d", tt.first, tt.second, l, tt.reason, tt.dropped)
		}
		if !l.Since.Equal(since) {
			t.Errorf("merged since %s, want the first's", l.Since)
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
	c := Clock{Server: server.Add(sentToRead), Sent: local}
	now := server.Add(sentToRead + later)
	got := c.Bound(local.Add(sentToRead + later))
	if got.Before(now) || got.After(now.Add(sentToRead)) {
		t.Errorf("bound() = %s, want %s to %s later", got, now, sentToRead)
	}
}
