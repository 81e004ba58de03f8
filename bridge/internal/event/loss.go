package event

import (
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
)

// UnknownCount marks a loss whose size nobody knows.
const UnknownCount = -1

// Loss is a gap in the making.
type Loss struct {
	Reason  api.Reason
	Since   time.Time // zero: unknown
	Dropped int64     // or UnknownCount
}

// Merge adds a later loss of the same channel.
func (l *Loss) Merge(later Loss) {
	if l.Dropped == UnknownCount || later.Dropped == UnknownCount {
		l.Dropped, l.Reason = UnknownCount, later.Reason
	} else {
		l.Dropped += later.Dropped
	}
}

// Gap ends the loss at a moment of PostgreSQL's clock. Where that is before the loss began,
// the clock was set back, or another server's is behind: a window from one to the other
// would be empty, and what is missing can have been committed before the one and after the
// other.
func (l *Loss) Gap(channel string, until time.Time) api.Gap {
	g := api.Gap{Channel: channel, Reason: l.Reason, Until: ceilMicro(until)}
	switch since := l.Since.UTC(); {
	case l.Since.IsZero():
	case since.After(g.Until):
		g.Until = ceilMicro(since)
	default:
		g.Since = &since
	}
	if l.Dropped != UnknownCount {
		g.Dropped = &l.Dropped
	}
	return g
}

// ceilMicro rounds up to PostgreSQL's resolution, so that an upper bound stays one.
func ceilMicro(t time.Time) time.Time {
	return t.UTC().Add(time.Microsecond - 1).Truncate(time.Microsecond)
}

// LossOf is a gap as a loss again, after its own message was lost.
func LossOf(g *api.Gap) Loss {
	l := Loss{Reason: g.Reason, Dropped: UnknownCount}
	if g.Since != nil {
		l.Since = *g.Since
	}
	if g.Dropped != nil {
		l.Dropped = *g.Dropped
	}
	return l
}
