package durable

import (
	"slices"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// terms are those of a session's channels, and of channels that its predecessors
// had. The log ended where the system says when the session began.
func terms(chosen *routes, saved *row, system *wal.System, confirmed wal.LSN) map[string]term {
	all, end := map[string]term{}, system.Flushed
	if saved != nil {
		for channel, t := range saved.terms {
			t.From = saved.begins(channel, system)
			if t.Until > confirmed {
				all[channel] = t
			}
		}
		for _, channel := range saved.channels {
			if t := saved.terms[channel]; !slices.Contains(chosen.channels, channel) {
				all[channel] = term{Subject: t.Subject, Envelope: t.Envelope, From: saved.begins(channel, system), Until: end}
			}
		}
	}
	for _, channel := range chosen.channels {
		r := chosen.byPrefix[plainPrefix+channel]
		t := term{Subject: r.Subject, Envelope: r.Envelope, From: end}
		if saved != nil && slices.Contains(saved.channels, channel) {
			t.From = saved.begins(channel, system)
		}
		if before := all[channel]; before.Until != 0 && before.Until <= t.From {
			t.Until = before.Until
		}
		all[channel] = t
	}
	return all
}

// begins is where a channel of the row begins. The row was written behind that place, so
// the place is in this history, too, unless the row was copied to another cluster, where
// it means nothing.
func (r *row) begins(channel string, system *wal.System) wal.LSN {
	last, err := parseID(r.id)
	if owed := r.owed[channel] == api.ReasonStarted; !owed && (err != nil || last.system != system.ID) {
		return 0
	}
	return min(r.terms[channel].From, system.Flushed)
}

// carried is a channel in a session.
type carried struct {
	route *event.Route
	term  term
}

// carry finds the routes of all channels that have a term. One that is not
// configured any more is left out where the stream does not take it: nobody can
// have published it then.
func (s *session) carry(all map[string]term, subjects []string) map[string]*carried {
	byPrefix := make(map[string]*carried, 2*len(all))
	for channel, t := range all {
		route := s.chosen.byPrefix[plainPrefix+channel]
		if route == nil {
			var err error
			route, err = event.NewRoute(channel, s.Prefix, event.RouteOptions{Subject: t.Subject, Envelope: t.Envelope, Stored: true, Durable: true})
			if err != nil || len(stream.Missing(subjects, route.Subjects())) > 0 {
				s.Log.Warn("a channel that was removed ends at once, for the stream does not take it", zap.String("channel", channel), zap.Error(err))
				continue
			}
		}
		c := &carried{route, t}
		byPrefix[plainPrefix+channel], byPrefix[headerPrefix+channel] = c, c
	}
	return byPrefix
}
