package bridge

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestMarkerRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		moment := rapid.Custom(func(t *rapid.T) time.Time {
			return time.UnixMicro(rapid.Int64Range(1, 1<<53).Draw(t, "µs")).UTC()
		})
		m := marker{
			replica: randomHex(4), number: rapid.Uint64().Draw(t, "number"), epoch: randomHex(epochBytes),
			publishing: rapid.Bool().Draw(t, "publishing"), time: moment.Draw(t, "time"),
		}
		if rapid.Bool().Draw(t, "done known") {
			m.done = moment.Draw(t, "done")
		}
		got, err := parseMarker(m.head() + formatMicros(m.time))
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
		gap := (&loss{since: m.done, dropped: unknownCount}).gap("c", m.time)
		if body := gap.body(); !json.Valid(body) {
			t.Errorf("gap %s is not JSON", body)
		}
		if strings.Trim(strings.ToLower(m.epoch), "0123456789abcdef") != "" {
			t.Errorf("epoch %q is not hexadecimal", m.epoch)
		}
	})
}
