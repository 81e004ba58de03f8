package verdict

import (
	"slices"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/ledger"
)

func at(second int) time.Time { return time.Unix(int64(second), 0) }

// committed are events of one channel, a second apart: their keys in order.
func committed(kinds ...ledger.Kind) []ledger.Event {
	var events []ledger.Event
	for i, kind := range kinds {
		events = append(events, ledger.Event{ID: int64(i + 1), Channel: "c", Kind: kind, Committed: at(i + 1)})
	}
	return events
}

func came(keys ...string) []harvest.Item {
	var items []harvest.Item
	for _, key := range keys {
		items = append(items, harvest.Item{Channel: "c", Key: key})
	}
	return items
}

// gap covers the seconds from one to another, both included.
func gap(since, until int) harvest.Item {
	from := at(since)
	return harvest.Item{Channel: "c", Gap: &api.Gap{Channel: "c", Reason: api.ReasonTakeover, Since: &from, Until: at(until)}}
}

// caughtUp is a gap behind a script, which told all of it or not.
func caughtUp(since, until int, complete bool) []harvest.Item {
	g := gap(since, until)
	g.Gap.CatchUp = &api.CatchUp{Complete: complete}
	return []harvest.Item{g}
}

// told are rows of a script.
func told(keys ...string) []harvest.Item {
	rows := came(keys...)
	for i := range rows {
		rows[i].Row = true
	}
	return rows
}

func forgotten() harvest.Item {
	return harvest.Item{Channel: "c", Gap: &api.Gap{Channel: "c", Reason: api.ReasonHistoryLost}}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	const s, e = ledger.Small, ledger.Equal
	tests := []struct {
		name     string
		expected []ledger.Event
		got      []harvest.Item
		rules    Rules
		want     []string // kinds of findings
	}{
		{"all of it", committed(s, e, s, e, e), came("1", "equal", "3", "equal", "equal"), Rules{}, nil},
		{"one is missing", committed(s, s, s), came("1", "3"), Rules{}, []string{"lost"}},
		{"the last is missing", committed(s, s), came("1"), Rules{}, []string{"lost"}},
		{"one of those alike is missing", committed(s, e, e, s), came("1", "equal", "4"), Rules{}, []string{"lost"}},
		{"one comes twice", committed(s, s), came("1", "1", "2"), Rules{}, []string{"repeated"}},
		{"one comes twice, much later", committed(s, s, s), came("1", "2", "3", "1"), Rules{}, []string{"repeated"}},
		{"of those alike the announced one is missing", committed(s, e, e, s), slices.Concat(came("1"), []harvest.Item{gap(2, 2)}, came("equal", "4")), Rules{}, nil},
		{"of those alike the last is missing, which is announced", committed(s, e, e, s), slices.Concat(came("1", "equal"), []harvest.Item{gap(2, 3)}, came("4")), Rules{}, nil},
		{"one of those alike comes twice", committed(s, e, s), came("1", "equal", "equal", "3"), Rules{}, []string{"repeated"}},
		{"two change places", committed(s, s, s), came("2", "1", "3"), Rules{}, []string{"disorder"}},
		{"two that change places, one of them alike others", committed(s, e), came("equal", "1"), Rules{}, []string{"lost", "repeated"}},
		{"nobody sent it", committed(s), came("1", "9"), Rules{}, []string{"invented"}},
		{"a gap covers it", committed(s, s, s), slices.Concat(came("1"), []harvest.Item{gap(2, 2)}, came("3")), Rules{}, nil},
		{"a gap covers another time", committed(s, s, s), slices.Concat(came("1"), []harvest.Item{gap(3, 4)}, came("3")), Rules{}, []string{"lost"}},
		{"a gap comes too late", committed(s, s, s), slices.Concat(came("1", "3"), []harvest.Item{gap(1, 4)}), Rules{}, []string{"lost"}},
		{"a gap at the end", committed(s, s), slices.Concat(came("1"), []harvest.Item{gap(2, 2)}), Rules{}, nil},
		{"a gap does not help", committed(s, s, s), slices.Concat(came("1"), []harvest.Item{gap(2, 2)}, came("3")), Rules{Uncovered: true}, []string{"lost"}},
		{"no gap is allowed", committed(s), slices.Concat(came("1"), []harvest.Item{gap(2, 2)}), Rules{Allowed: func(api.Gap) bool { return false }}, []string{"gap"}},
		{"a database forgot it and says so", committed(s), slices.Concat(came("1", "9"), []harvest.Item{forgotten()}), Rules{Forgotten: true}, nil},
		{"a database forgot one of those alike", committed(s), slices.Concat(came("1", "equal"), []harvest.Item{forgotten()}), Rules{Forgotten: true}, nil},
		{"a database forgot it", committed(s), slices.Concat([]harvest.Item{forgotten()}, came("1", "9")), Rules{Forgotten: true}, []string{"invented"}},
		{"a link held it back", committed(s, s, e), came("2", "1", "equal", "equal"), Rules{Late: func(harvest.Item) bool { return true }}, nil},
		{"a link held it back, and it comes twice", committed(s, s), came("2", "1", "1"), Rules{Late: func(harvest.Item) bool { return true }}, []string{"repeated"}},
		{"nobody was there", committed(s, s), came("2"), Rules{Away: func(from, to time.Time) bool { return from.Equal(at(1)) && to.Equal(at(1)) }}, nil},
		{"a script tells it", committed(s, e, s), slices.Concat(came("1"), told("2"), caughtUp(2, 2, true), came("3")), Rules{}, nil},
		{"a script tells it and more, twice", committed(s, e, s), slices.Concat(came("1"), told("1", "2"), told("1", "2"), caughtUp(1, 2, true), came("3")), Rules{}, nil},
		{"a script does not tell it, and says so", committed(s, s, s), slices.Concat(came("1"), caughtUp(2, 2, false), came("3")), Rules{}, nil},
		{"a script does not tell it", committed(s, s, s), slices.Concat(came("1"), caughtUp(2, 2, true), came("3")), Rules{}, []string{"uncaught"}},
		{"one of two scripts does not tell it", committed(s, s, s), slices.Concat(came("1"), caughtUp(2, 2, true), caughtUp(2, 2, false), came("3")), Rules{}, []string{"uncaught"}},
		{"a script tells it, and no gap", committed(s, s, s), slices.Concat(came("1"), told("2"), came("3")), Rules{}, []string{"lost"}},
		{"a script tells it too late", committed(s, s, s), slices.Concat(came("1"), caughtUp(2, 2, true), came("3"), told("2")), Rules{}, []string{"disorder"}},
		{"no script was run", committed(s, s), slices.Concat(came("1"), []harvest.Item{gap(2, 2)}), Rules{CatchesUp: func(string) bool { return true }}, []string{"unread"}},
		{"a script does not help", committed(s, s), slices.Concat(came("1"), told("2"), caughtUp(2, 2, true)), Rules{Uncovered: true}, []string{"lost"}},
		{"a script tells what nobody sent", committed(s), slices.Concat(came("1"), told("9")), Rules{}, []string{"invented"}},
		{"nobody was there when a script told it", committed(s, s), slices.Concat(came("1"), caughtUp(2, 2, true)), Rules{Away: func(from, to time.Time) bool { return from.Equal(at(2)) && to.IsZero() }}, nil},
	}
	for _, tt := range tests {
		var kinds []string
		for _, f := range Compare(tt.expected, tt.got, tt.rules).Findings {
			kinds = append(kinds, f.Kind)
		}
		if slices.Sort(kinds); !slices.Equal(slices.Compact(kinds), tt.want) {
			t.Errorf("%s: findings %v, want %v", tt.name, kinds, tt.want)
		}
	}
}

func TestFalseGaps(t *testing.T) {
	t.Parallel()
	r := Compare(committed(ledger.Small, ledger.Small, ledger.Small), slices.Concat([]harvest.Item{gap(0, 0)}, came("1"), []harvest.Item{gap(2, 2)}, came("3")), Rules{})
	if r.False != 1 || r.Announced != 1 || r.Arrived != 2 || r.Gaps[api.ReasonTakeover] != 2 {
		t.Errorf("Compare() = %+v, want 2 gaps, one of them false, and 2 of 3 events", r)
	}
}
