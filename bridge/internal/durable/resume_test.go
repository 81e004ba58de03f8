package durable

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/api"
)

func at(timeline uint32, commit, message wal.LSN) position {
	return position{system: "7", timeline: timeline, commit: commit, message: message, hash: "0123456789abcdef"}
}

// promoted is a server on timeline 2, which began at 500.
func promoted(t *testing.T) *wal.System {
	t.Helper()
	s := &wal.System{ID: "7", Timeline: 2, Flushed: 1000}
	if err := s.SetHistory([]byte("1\t0/1F4\tno reason\n")); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResume(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	saved := func(sequence uint64, p position) *row {
		return &row{created: "then", sequence: sequence, id: p.id(), committed: since, channels: []string{"a"}}
	}
	tailAt := func(sequence uint64, p position) tail {
		return tail{created: "then", last: sequence, sequence: sequence, id: p.id()}
	}
	unavailable := []gapFor{{channel: "a", reason: api.ReasonNATSUnavailable, since: since}}
	old, beyond, foreign := at(1, 300, 290), at(2, 900, 890), at(2, 900, 890)
	foreign.system = "8"
	tests := []struct {
		name    string
		k       known
		until   *position
		compare bool
		gaps    []gapFor
		refused bool
	}{
		{name: "first start", k: known{tail: tail{created: "then"}, confirmed: 800},
			gaps: []gapFor{{channel: "a", reason: api.ReasonStarted, after: 1000}}},
		{name: "all is confirmed", k: known{tail: tailAt(9, at(2, 700, 690)), row: saved(9, at(2, 700, 690)), confirmed: 800}},
		{name: "the stream is ahead of the slot", k: known{tail: tailAt(9, beyond), row: saved(5, at(2, 700, 690)), confirmed: 800}, until: &beyond},
		{name: "the last message expired", k: known{tail: tail{created: "then", last: 9}, row: saved(9, beyond), confirmed: 800}, until: &beyond},
		{name: "an older one is left", k: known{tail: tail{created: "then", last: 9, sequence: 3, id: at(2, 850, 840).id()}, row: saved(9, beyond), confirmed: 800}, until: &beyond},
		{name: "the row is behind", k: known{tail: tailAt(9, beyond), row: saved(8, at(2, 850, 840)), confirmed: 800}, until: &beyond},
		{name: "of the old timeline, before the promotion", k: known{tail: tailAt(9, old), row: saved(9, old), confirmed: 200}, until: &old},
		{name: "of the old timeline, after the promotion", k: known{tail: tailAt(9, at(1, 600, 590)), row: saved(9, at(1, 600, 590)), confirmed: 400}, compare: true},
		{name: "the old side of a split", k: known{tail: tailAt(9, at(3, 600, 590)), row: saved(9, old), confirmed: 800}, refused: true},
		{name: "an operator takes it", k: known{tail: tailAt(9, at(3, 600, 590)), row: saved(9, old), confirmed: 800, accept: true}, compare: true},
		{name: "another cluster", k: known{tail: tailAt(9, foreign), row: saved(9, old), confirmed: 800}, refused: true},
		{name: "a restored copy", k: known{tail: tailAt(9, at(2, 1000, 990)), row: saved(9, old), confirmed: 800}, refused: true},
		{name: "a stream made anew", k: known{tail: tail{created: "now"}, row: saved(9, beyond), confirmed: 800}, gaps: unavailable},
		{name: "a stream rolled back, the slot has the rest", k: known{tail: tailAt(5, beyond), row: saved(9, at(2, 950, 940)), confirmed: 800}, until: &beyond},
		{name: "a stream rolled back behind the slot", k: known{tail: tailAt(5, at(2, 700, 690)), row: saved(9, beyond), confirmed: 800}, gaps: unavailable},
		{name: "a gap is owed", k: known{tail: tailAt(9, old), row: &row{created: "then", sequence: 9, id: old.id(), committed: since, channels: []string{"a"},
			owed: map[string]api.Reason{"a": api.ReasonSlotLost}}, confirmed: 800}, gaps: []gapFor{{channel: "a", reason: api.ReasonSlotLost, since: since}}},
		{name: "a channel is new", k: known{tail: tailAt(9, old), row: &row{created: "then", sequence: 9, id: old.id(), channels: []string{"b"}}, confirmed: 800},
			gaps: []gapFor{{channel: "a", reason: api.ReasonStarted, after: 1000}}},
	}
	for _, tt := range tests {
		tt.k.system, tt.k.channels = promoted(t), []string{"a"}
		p, err := resume(tt.k)
		if refused := errors.Is(err, ErrSplit); refused != tt.refused || err != nil && !refused {
			t.Errorf("%s: error %v, want refused: %t", tt.name, err, tt.refused)
			continue
		}
		if !reflect.DeepEqual(p.until, tt.until) || p.compare != tt.compare || !reflect.DeepEqual(p.gaps, tt.gaps) {
			t.Errorf("%s: until %v, compare %t, gaps %v; want %v, %t, %v", tt.name, p.until, p.compare, p.gaps, tt.until, tt.compare, tt.gaps)
		}
	}
}

func TestIDsAreRead(t *testing.T) {
	t.Parallel()
	p := at(3, 1<<40, 7)
	if got, err := parseID(p.id()); err != nil || got != p {
		t.Errorf("parseID(%s) = %v, %v", p.id(), got, err)
	}
	if want := "7.3.0000010000000000.0000000000000007.0123456789abcdef"; p.id() != want {
		t.Errorf("id() = %s, want %s", p.id(), want)
	}
	for _, bad := range []string{"", "7.3.1.1", "7.x.1.1.a", "7.3.g.1.a", "7.3.1.1.", ".3.1.1.a", "7.3.1.1.a.b"} {
		if _, err := parseID(bad); err == nil {
			t.Errorf("parseID(%q) succeeds", bad)
		}
	}
}

func TestComparisonFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := promoted(t)
	gap := at(2, 700, 690)
	gap.hash = gapHash("a")
	c := compareWith([]position{at(2, 900, 890), gap, at(1, 300, 290)}, s)
	if c.lost || c.end != 900 || !c.given(at(1, 300, 290)) || c.given(at(1, 300, 291)) || !c.missed() || !c.given(at(2, 900, 890)) || c.missed() {
		t.Errorf("comparison = %+v", c)
	}
	for _, p := range []position{at(1, 500, 499), at(2, 1000, 999), at(3, 900, 890)} {
		if c := compareWith([]position{p}, s); !c.lost {
			t.Errorf("%s can still come, in a history that does not have it", p.id())
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("pgbridge:a", []byte("\x00\x00\x00\x0a{\"a\": \"b\"}payload"))
	f.Add("pgbridge:a", []byte("\xff\xff\xff\xff"))
	f.Add("pgbridge.a", []byte("x"))
	f.Fuzz(func(t *testing.T, prefix string, content []byte) {
		if !wanted([]byte(prefix)) {
			return
		}
		header, payload, err := decode(prefix, content)
		if err != nil {
			return
		}
		if len(payload) > len(content) {
			t.Fatalf("payload of %d bytes in %d", len(payload), len(content))
		}
		for name := range header {
			if !validName(name) {
				t.Fatalf("header %q", name)
			}
		}
	})
}
