package sequence

import (
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/api"
)

// judge compares what was committed on a channel with what was published.
// Nothing is repeated or reordered, and between two events with something
// missing between them stands a gap that covers it, with the right count
// where it has one. Behind a gap may come what it speaks of, from a replica that has
// it: then the gap covers the rest as well.
func (s *simulation) judge(t *rapid.T, channel string) {
	next := 0 // the write expected next
	var gaps, before []*api.Gap
	for _, e := range s.sent[channel] {
		if e.gap != nil {
			gaps = append(gaps, e.gap)
			continue
		}
		i := e.write - 1
		if i < next {
			t.Log(strings.Join(s.log, "\n"))
			t.Fatalf("%s: event %d came again or too late, %d was due", channel, i, next)
		}
		s.judgeGaps(t, channel, s.writes[channel][next:i], gaps, before)
		before = slices.DeleteFunc(append(before, gaps...), func(g *api.Gap) bool { return g.Until.Before(s.writes[channel][i].at) })
		next, gaps = i+1, nil
	}
}

func (s *simulation) judgeGaps(t *rapid.T, channel string, missing []simWrite, gaps, before []*api.Gap) {
	for i, w := range missing {
		if !slices.ContainsFunc(slices.Concat(gaps, before), func(g *api.Gap) bool { return covers(g, w.at) }) {
			t.Log(strings.Join(s.log, "\n"))
			t.Fatalf("%s: event %d of those missing, of %s, is not covered by %s", channel, i, w.at.Format(time.StampMilli), showGaps(gaps))
		}
	}
	counted, exact := 0, true
	for _, g := range gaps {
		if g.Dropped == nil {
			exact = false
			continue
		}
		counted += int(*g.Dropped)
	}
	if s.alone() && counted > len(missing) || exact && counted < len(missing) {
		t.Fatalf("%s: %d events are missing, the gaps count %d: %s", channel, len(missing), counted, showGaps(gaps))
	}
}

// alone: with several replicas one may publish what another has dropped and
// announced.
func (s *simulation) alone() bool { return len(s.replicas) == 1 }

func covers(g *api.Gap, at time.Time) bool {
	return (g.Since == nil || !at.Before(*g.Since)) && !at.After(g.Until)
}

func showGaps(gaps []*api.Gap) string {
	var text string
	for _, g := range gaps {
		text += string(g.Body()) + " "
	}
	return text
}
