package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func deliveries() []bridge.Delivery {
	return []bridge.Delivery{bridge.DeliveryCore, bridge.DeliveryJetStream}
}

// channelTokens returns names that PostgreSQL takes, and what they are in a subject.
func channelTokens() map[string]string {
	return map[string]string{
		"orders":                  "orders",
		"Orders":                  "Orders",
		"a.b":                     "a%2Eb",
		"a":                       "a",
		"with space":              "with%20space",
		`quo"te'd`:                "quo%22te%27d",
		"grün ☃ 💡":                "gr%C3%BCn%20%E2%98%83%20%F0%9F%92%A1",
		"per%cent":                "per%25cent",
		"a%2Eb":                   "a%252Eb",
		"*":                       "%2A",
		"a.>":                     "a%2E%3E",
		"$JS":                     "%24JS",
		"-_":                      "-_",
		`back\slash;--`:           "back%5Cslash%3B--",
		strings.Repeat("n", 63):   strings.Repeat("n", 63),
		strings.Repeat("☃", 63/3): strings.Repeat("%E2%98%83", 63/3),
	}
}

func TestChannelNames(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries() {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			channels := map[string]bridge.Channel{}
			for name := range channelTokens() {
				channels[name] = bridge.Channel{Delivery: delivery}
			}
			launch(t, w.config(t, channels)).ready(t)
			writer := newWriter(t, w.pg, "")
			for name, token := range channelTokens() {
				writer.channel, writer.commits = name, nil
				writer.write(t, 3, 2, 0)
				subject := "pgbridge.event." + token
				w.heard.awaitEvent(t, subject, "2-")
				if missing := judge(t, writer.commits, w.heard.events(subject), nil); missing != 0 {
					t.Errorf("channel %q: %d events missing", name, missing)
				}
				w.heard.awaitGap(t, token, api.ReasonStarted)
				checkChannel(t, w.heard, name, token)
			}
		})
	}
}

// checkChannel checks everything that was heard of a channel for its name.
func checkChannel(t *testing.T, heard *audience, name, token string) {
	t.Helper()
	for _, g := range heard.gaps(t, token) {
		if g.Channel != name {
			t.Errorf("gap on the token %s = %+v, want channel %q", token, g, name)
		}
	}
	for _, m := range heard.all() {
		isGap := m.Subject == "pgbridge.gap."+token
		if !isGap && m.Subject != "pgbridge.event."+token {
			continue
		}
		want := name
		if !isGap && name == token {
			want = ""
		}
		if got := m.Header.Get("Pgbridge-Channel"); got != want {
			t.Errorf("%s has the header Pgbridge-Channel: %q, want %q", m.Subject, got, want)
		}
	}
}

func TestChannelNamesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{
		"", strings.Repeat("n", 64), strings.Repeat("☃", 22), "pgbridge.marker", "nul\x00", "latin\xe9",
	} {
		_, err := bridge.New(w.config(t, map[string]bridge.Channel{"orders": {}, name: {}}))
		if got, want := keys(err), []string{"channels." + name}; !slices.Equal(got, want) {
			t.Errorf("New with the channel %q = %v, which names the keys %q, want %q", name, err, got, want)
		}
	}
	_, err := bridge.New(w.config(t, map[string]bridge.Channel{
		"a": {Envelope: "xml", Delivery: "pigeon"}, "b": {Subject: "b..c"}, strings.Repeat("n", 64): {},
	}))
	want := []string{"channels.a.delivery", "channels.a.envelope", "channels.b.subject", "channels." + strings.Repeat("n", 64)}
	if got := keys(err); !slices.Equal(got, want) {
		t.Errorf("New with four faults names the keys %q, want %q", got, want)
	}
}

// keys returns the keys of all configuration errors that err joins, sorted.
func keys(err error) []string {
	var found []string
	switch e := err.(type) {
	case nil:
	case *bridge.ConfigError:
		found = append(found, e.Key)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			found = append(found, keys(one)...)
		}
	default:
		found = keys(errors.Unwrap(err))
	}
	slices.Sort(found)
	return found
}

func TestPayloads(t *testing.T) {
	t.Parallel()
	payloads := append(everyCodePointClass(t), "", " ", "\r\n", strings.Repeat("x", 7999), strings.Repeat("☃", 7998/3), `{"half": `)
	for _, delivery := range deliveries() {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			launch(t, w.config(t, map[string]bridge.Channel{
				"raw":    {Delivery: delivery},
				"json":   {Delivery: delivery, Envelope: bridge.EnvelopeJSON},
				"events": {Delivery: delivery, Envelope: bridge.EnvelopeCloudEvents},
			})).ready(t)
			writer := newWriter(t, w.pg, "")
			for _, channel := range []string{"raw", "json", "events"} {
				for _, p := range append(payloads, "the end") {
					writer.notify(t, channel, p)
				}
			}
			want := append(slices.Clone(payloads), "the end")
			if got := w.await(t, "pgbridge.event.raw", len(want)); !slices.Equal(got, want) {
				t.Errorf("%d raw payloads came back changed", len(difference(got, want)))
			}
			for channel, field := range map[string]string{"json": "payload", "events": "data"} {
				var got []string
				for _, body := range w.await(t, "pgbridge.event."+channel, len(want)) {
					got = append(got, decode(t, body)[field].(string))
				}
				if !slices.Equal(got, want) {
					t.Errorf("%d payloads came back changed in the envelope of %s: %q", len(difference(got, want)), channel, difference(got, want))
				}
			}
		})
	}
}

// everyCodePointClass returns payloads that between them hold every code point
// below U+0800, a sample of all others with the borders of each class, and
// thus every byte that UTF-8 and PostgreSQL allow.
func everyCodePointClass(t *testing.T) []string {
	var b strings.Builder
	for r := rune(1); r < 0x800; r++ {
		b.WriteRune(r)
	}
	for r := rune(0x800); r <= utf8.MaxRune; r += 499 {
		if utf8.ValidRune(r) {
			b.WriteRune(r)
		}
	}
	for lead := rune(1); lead <= 16; lead++ { // one of each plane, so of each lead byte too
		b.WriteRune(lead<<16 + 0x3F)
	}
	for _, r := range []rune{0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x10FFFF, 0x2028, 0x2029} {
		b.WriteRune(r)
	}
	var seen [256]bool
	for _, c := range []byte(b.String()) {
		seen[c] = true
	}
	for c, ok := range seen {
		if allowed := c != 0 && c != 0xC0 && c != 0xC1 && c < 0xF5; ok != allowed {
			t.Fatalf("byte %#x is used: %v, want %v", c, ok, allowed)
		}
	}
	var payloads []string
	for rest := b.String(); rest != ""; {
		n := min(len(rest), 7999)
		for n < len(rest) && !utf8.RuneStart(rest[n]) {
			n--
		}
		payloads = append(payloads, rest[:n])
		rest = rest[n:]
	}
	return payloads
}

func difference(got, want []string) []string {
	var d []string
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			d = append(d, got[i])
		}
	}
	return d
}

func TestSubjectTemplates(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 64) // 128 bytes
	cases := []struct{ payload, region, deep string }{
		{`{"region":"eu"}`, "eu", "_"},
		{`{"region":"eu.west *>"}`, "eu%2Ewest%20%2A%3E", "_"},
		{`{"region":"grün"}`, "gr%C3%BCn", "_"},
		{`{"region":7}`, "7", "_"},
		{`{"region" : -1.50e+3 }`, "-1%2E50e%2B3", "_"},
		{`{"region":123456789012345678901234567890}`, "123456789012345678901234567890", "_"},
		{`{"region":true}`, "true", "_"},
		{`{"region":null}`, "_", "_"},
		{`{"region":""}`, "_", "_"},
		{`{"region":{}}`, "_", "_"},
		{`{"region":["eu"]}`, "_", "_"},
		{`{"Region":"eu"}`, "_", "_"},
		{`{"region":"` + long + `"}`, strings.Repeat("%C3%BC", 64), "_"},
		{`{"region":"` + long + `x"}`, "_", "_"},
		{`{"region":"\u0000\n"}`, "%00%0A", "_"},
		{`{"region":"$SYS"}`, "%24SYS", "_"},
		{`{"place":{"city":"Ulm"}}`, "_", "Ulm"},
		{`{"region":"eu","place":{"city":{"name":"Ulm"}}}`, "eu", "_"},
		{`{"region":"eu","place":"Ulm"}`, "eu", "_"},
		{`{"region":"eu"`, "_", "_"},
		{`{"region":"eu"} {}`, "_", "_"},
		{`["region"]`, "_", "_"},
		{`"region"`, "_", "_"},
		{`region`, "_", "_"},
		{``, "_", "_"},
	}
	for _, delivery := range deliveries() {
		t.Run(string(delivery), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.heard = listen(t, w.nats, "pgbridge", "audit.>", "fixed")
			launch(t, w.config(t, map[string]bridge.Channel{
				"a.b": {Delivery: delivery, Subject: "audit.{payload.region}.{channel}.{payload.place.city}"},
				"c":   {Delivery: delivery, Subject: "fixed"},
			})).ready(t)
			writer := newWriter(t, w.pg, "")
			want := map[string][]string{}
			for _, tt := range cases {
				writer.notify(t, "a.b", tt.payload)
				subject := "audit." + tt.region + ".a%2Eb." + tt.deep
				want[subject] = append(want[subject], tt.payload)
			}
			writer.notify(t, "c", "x")
			w.heard.awaitEvent(t, "fixed", "x")
			for subject, payloads := range want {
				if got := w.await(t, subject, len(payloads)); !slices.Equal(got, payloads) {
					t.Errorf("on %s came %q, want %q", subject, got, payloads)
				}
			}
			for _, m := range w.heard.all() {
				if strings.HasPrefix(m.Subject, "audit.") && m.Header.Get("Pgbridge-Channel") != "a.b" {
					t.Errorf("%s has the header Pgbridge-Channel: %q", m.Subject, m.Header.Get("Pgbridge-Channel"))
				}
			}
		})
	}
}

func TestSubjectTemplatesRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, subject := range []string{
		".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "ü", "a\x00", "a\r\nb", "a.{", "a.}", "a.{channel", "a.{channel}b", "x{channel}",
		"{}", "{payload}", "{payload.}", "{payload.a..b}", "{payload.a.}", "{Channel}", "{channel.a}", "{{channel}}",
		"$JS.API.{channel}", "$SYS", "_R_", "_R_.{channel}", "_INBOX.{channel}", "pgbridge.event.orders", "pgbridge.{payload.verb}", "{payload.prefix}.run.x",
		strings.Repeat("a", 3000), strings.Repeat("{payload.a}.", 10) + "a",
	} {
		_, err := bridge.New(w.config(t, map[string]bridge.Channel{"orders": {Subject: subject}}))
		if got, want := keys(err), []string{"channels.orders.subject"}; !slices.Equal(got, want) {
			t.Errorf("New with the template %.60q = %v, which names the keys %q, want %q", subject, err, got, want)
		}
	}
}

// notify commits one notification.
func (w *writer) notify(t testing.TB, channel, payload string) {
	t.Helper()
	// Without describing the statement first, so that text goes as it is.
	if _, err := w.conn.Exec(context.Background(), "SELECT pg_notify($1, $2)", pgx.QueryExecModeExec, channel, payload); err != nil {
		t.Fatal(err)
	}
}

// await returns the bodies on a subject once there are n.
func (w *world) await(t testing.TB, subject string, n int) []string {
	t.Helper()
	testenv.Wait(t, patience, fmt.Sprintf("%d events on %s", n, subject), func() bool { return len(w.heard.events(subject)) >= n })
	return w.heard.events(subject)
}

// heardOn is await with headers.
func (w *world) heardOn(t testing.TB, subject string, n int) []*nats.Msg {
	t.Helper()
	w.await(t, subject, n)
	return slices.DeleteFunc(slices.Clone(w.heard.all()), func(m *nats.Msg) bool { return m.Subject != subject })
}
