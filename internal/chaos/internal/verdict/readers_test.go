package verdict

import (
	"slices"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/chaos/internal/harvest"
)

// stream has these ids, from sequence 1 on.
func stream(ids ...string) (items []harvest.Item) {
	for i, id := range ids {
		items = append(items, harvest.Item{Seq: uint64(i + 1), ID: id, Channel: "c", Key: id, At: at(i + 1)})
	}
	return items
}

func kinds(findings []Finding) (all []string) {
	for _, f := range findings {
		all = append(all, f.Kind)
	}
	return all
}

func TestHeard(t *testing.T) {
	t.Parallel()
	refused := []harvest.Item{{ID: "gap", Channel: "c", Gap: &api.Gap{}}}
	for name, tt := range map[string]struct {
		heard []harvest.Item
		want  []string
	}{
		"all":                        {stream("a", "b", "c"), nil},
		"all, some again and late":   {stream("b", "a", "b", "c", "a"), nil},
		"a gap that was refused":     {slices.Concat(stream("a", "b", "c"), refused), nil},
		"what was never stored":      {stream("a", "b", "c", "x"), []string{"invented"}},
		"not the first":              {stream("b", "c"), []string{"unheard"}},
		"not the last, but was away": {stream("a", "b"), nil},
	} {
		var s Stored
		s.Add(stream("a", "b", "c"))
		if got := kinds(Heard(&s, stream("a", "b", "c"), tt.heard, func(t time.Time) bool { return t.Equal(at(3)) })); !slices.Equal(got, tt.want) {
			t.Errorf("%s: findings %q, want %q", name, got, tt.want)
		}
	}
}

// given are messages by sequence and id.
func given(messages ...string) (all []harvest.Seen) {
	for _, m := range messages {
		all = append(all, harvest.Seen{Seq: uint64(m[0] - '0'), ID: m[1:]})
	}
	return all
}

func TestRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		seen    []harvest.Seen
		ordered bool
		purged  uint64
		want    []string
	}{
		"all":                      {given("1a", "2b", "3c"), true, 0, nil},
		"some again":               {given("1a", "2b", "1a", "3c"), false, 0, nil},
		"some again, out of order": {given("1a", "2b", "1a", "3c"), true, 0, []string{"disorder"}},
		"not the first":            {given("2b", "3c"), true, 0, []string{"unread"}},
		"not what was purged":      {given("3c"), true, 2, nil},
		"another one in its place": {given("1a", "2x", "3c"), true, 0, []string{"invented"}},
		"one more":                 {given("1a", "2b", "3c", "4d"), true, 0, []string{"invented"}},
	} {
		r := &harvest.Reader{Ordered: tt.ordered}
		for _, seen := range tt.seen {
			r.Note(seen)
		}
		s := Stored{Purged: tt.purged}
		s.Add(stream("a", "b", "c"))
		if got := kinds(Read(&s, stream("a", "b", "c"), r, r.Take())); !slices.Equal(got, tt.want) {
			t.Errorf("%s: findings %q, want %q", name, got, tt.want)
		}
	}
}
