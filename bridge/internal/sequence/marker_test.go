package sequence

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/bridge/internal/queue"
)

func TestMarkerRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		moment := rapid.Custom(func(t *rapid.T) time.Time {
			return time.UnixMicro(rapid.Int64Range(1, 1<<53).Draw(t, "µs")).UTC()
		})
		m := Marker{
			replica: RandomHex(4), number: rapid.Uint64().Draw(t, "number"), epoch: RandomHex(epochBytes),
			publishing: rapid.Bool().Draw(t, "publishing"), time: moment.Draw(t, "time"),
		}
		if rapid.Bool().Draw(t, "done known") {
			m.done = moment.Draw(t, "done")
		}
		got, err := parseMarker(m.Head() + formatMicros(m.time))
		if err != nil || got != m {
			t.Fatalf("parseMarker() = %+v, %v, want %+v", got, err, m)
		}
	})
}

func TestParseMarkerRefuses(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		"",
		"hello",
		"r 1 0123456789abcdef standby 0",
		"r 1 0123456789abcdef standby 0 1 1",
		" 1 0123456789abcdef standby 0 1",
		"r -1 0123456789abcdef standby 0 1",
		"r 1 0123 standby 0 1",
		`r 1 01234","id":"xx standby 0 1`,
		"r 1 0123456789abcd\r\n standby 0 1",
		"r 1 0123456789abcdef standby x 1",
		"r 1 0123456789abcdef standby 0 x",
		"r 1 0123456789abcdef standby 0 9223372036854775807",
		"r 1 0123456789abcdef standby -99999999999999999 1",
	} {
		if m, err := parseMarker(payload); err == nil {
			t.Errorf("parseMarker(%q) = %+v, want an error", payload, m)
		}
	}
}

// What other versions say is understood, and what this one says is by them: the fields
// and their order are what replicas agree on while they are updated.
func TestMarkersOfOtherVersions(t *testing.T) {
	t.Parallel()
	const rest = " 7 0123456789abcdef publishing 0 1900000000000000"
	for _, tt := range []struct {
		name, field string
		want        word
	}{
		{"before replicas told how far they are", "ab", word{mute: true}},
		{"a standby, or one that begins to publish", "ab/", word{}},
		{"before intents", "ab/0,9,e,/f,,false", word{told: true, stream: queue.Proof{Seq: 9, Position: "e"}, core: queue.Proof{Position: "f"}}},
		{"before intents, the last word", "ab/0,9,e,/f,,true", word{told: true, stream: queue.Proof{Seq: 9, Position: "e"}, core: queue.Proof{Position: "f"},
			settled: true, intent: intent{told: true}}},
	} {
		m, err := parseMarker(tt.field + rest)
		if err != nil || m.replica != "ab" || m.word != tt.want {
			t.Errorf("%s: parseMarker() = %+v, %v, want %+v", tt.name, m, err, tt.want)
		}
	}
	said := Marker{replica: "ab", number: 7, word: word{told: true, core: queue.Proof{Position: "f"}, intent: intent{told: true, within: 100 * time.Millisecond}}}
	if got, want := strings.Fields(said.Head())[0], "ab/0,0,,/f,,100"; got != want {
		t.Errorf("a marker says %q, want %q: those before intents take anything but true as no last word", got, want)
	}
}

// FuzzMarker: whatever anybody sends on the marker channel, what a marker
// carries can be published.
func FuzzMarker(f *testing.F) {
	f.Add("r 1 0123456789abcdef publishing 1900000000000000 1900000000000001")
	f.Add("r 18446744073709551615 ffffffffffffffff standby 0 0")
	f.Add("a b c d e f")
	f.Fuzz(func(t *testing.T, payload string) {
		m, err := parseMarker(payload)
		if err != nil {
			return
		}
		gap := (&event.Loss{Since: m.done, Dropped: event.UnknownCount}).Gap("c", m.time)
		if body := gap.Body(); !json.Valid(body) {
			t.Errorf("gap %s is not JSON", body)
		}
		if strings.Trim(strings.ToLower(m.epoch), "0123456789abcdef") != "" {
			t.Errorf("epoch %q is not hexadecimal", m.epoch)
		}
	})
}
