package tally

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func series(t *Tally, all []Counts, now time.Time) map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range t.Split(all, now) {
		m[c.Name] = c.Values[0]
	}
	return m
}

func of(values ...uint64) []Counts {
	all := make([]Counts, len(values))
	for i, v := range values {
		all[i] = Counts{Name: string(rune('a' + i)), Values: []uint64{v, v}}
	}
	return all
}

func TestFewHaveASeriesEach(t *testing.T) {
	t.Parallel()
	got := series(New(3, 2), of(1, 2, 3), time.Unix(0, 0))
	if want := map[string]uint64{"a": 1, "b": 2, "c": 3}; !maps.Equal(got, want) {
		t.Errorf("Split = %v, want %v", got, want)
	}
}

func TestTheBusiestLead(t *testing.T) {
	t.Parallel()
	got := series(New(2, 2), of(1, 30, 2, 20), time.Unix(0, 0))
	if want := map[string]uint64{"b": 30, "d": 20, Rest: 3}; !maps.Equal(got, want) {
		t.Errorf("Split = %v, want %v", got, want)
	}
}

// TestTrafficMoves has one that was quiet become the busiest: it gets a series,
// which holds what it counts from then on.
func TestTrafficMoves(t *testing.T) {
	t.Parallel()
	tally, now := New(1, 2), time.Unix(0, 0)
	series(tally, of(10, 1), now)
	got := series(tally, of(11, 500), now.Add(time.Second))
	if want := map[string]uint64{"a": 11, Rest: 500}; !maps.Equal(got, want) {
		t.Errorf("a second later %v, want %v", got, want)
	}
	now = now.Add(rankEvery)
	series(tally, of(11, 500), now)
	got = series(tally, of(12, 507), now.Add(time.Second))
	if want := map[string]uint64{"b": 7, Rest: 501}; !maps.Equal(got, want) {
		t.Errorf("after the next ranking %v, want %v", got, want)
	}
}

func TestOneThatIsCalledRestIsInIt(t *testing.T) {
	t.Parallel()
	got := series(New(9, 1), []Counts{{Rest, []uint64{5}}, {"a", []uint64{2}}}, time.Unix(0, 0))
	if want := map[string]uint64{"a": 2, Rest: 5}; !maps.Equal(got, want) {
		t.Errorf("Split = %v, want %v", got, want)
	}
}

// TestNothingIsCountedTwiceOrLost holds for any traffic that the series grow by
// what is counted, that none ever falls, and that they are few.
func TestNothingIsCountedTwiceOrLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(0, 4).Draw(t, "most")
		tally, now := New(most, 2), time.Unix(0, 0)
		counts := map[string]uint64{}
		shown := map[string]uint64{} // the last value of each series there ever was
		var total uint64
		for range rapid.IntRange(1, 30).Draw(t, "scrapes") {
			for range rapid.IntRange(0, 5).Draw(t, "busy") {
				counts[fmt.Sprint(rapid.IntRange(0, 8).Draw(t, "name"))] += rapid.Uint64Range(0, 100).Draw(t, "more")
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			var all []Counts
			total = 0
			for _, name := range slices.Sorted(maps.Keys(counts)) {
				all = append(all, Counts{name, []uint64{counts[name], 2 * counts[name]}})
				total += counts[name]
			}
			got := tally.Split(all, now)
			if len(got) > most+1 {
				t.Fatalf("%d series, want %d at most", len(got), most+1)
			}
			for _, c := range got {
				if c.Values[0] < shown[c.Name] || c.Values[1] != 2*c.Values[0] {
					t.Fatalf("%s fell from %d to %d", c.Name, shown[c.Name], c.Values)
				}
				shown[c.Name] = c.Values[0]
			}
		}
		var sum uint64
		for _, n := range shown {
			sum += n
		}
		if sum != total {
			t.Fatalf("the series add up to %d, want %d", sum, total)
		}
	})
}
