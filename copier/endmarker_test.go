package copier

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestEndMarker(t *testing.T) {
	t.Parallel()
	text, csv := reading{format: script.Text}, reading{format: script.CSV, quote: '"', escape: '"', major: 17}
	bar := reading{format: script.CSV, quote: '|', escape: '|', major: 17}
	slash := reading{format: script.CSV, quote: '"', escape: '/', major: 17}
	sjis, big5 := reading{format: script.Text, encoding: "SJIS"}, reading{format: script.CSV, quote: '"', escape: '"', encoding: "BIG5"}
	for _, tt := range []struct {
		reading reading
		data    string
		good    bool
	}{
		{text, "1\ta\n2\tb\n", true},
		{text, "1\ta\n\\.\n", true},
		{text, "1\ta\n\\.\r\n", true},
		{text, "1\ta\n\\.", true},
		{text, "1\ta\n\\.\n2\tb\n", false},
		{text, "1\ta\r\n\\.\r\n2\tb\r\n", false},
		{text, "1\ta\r\\.\r2\tb\r", false},
		{text, "1\ta\\.\n2\tb\n", false}, // to PostgreSQL it ends here too
		{text, "\\.\n\n", false},
		{text, "1\t\\\\.\n2\tb\n", true}, // an escaped backslash
		{text, "1\t\\N\n2\t\\t\n", true},
		{text, "1\t\\\n2\n", true}, // an escaped newline
		{csv, "1,a\n\\.\n2,b\n", false},
		{csv, "\\.\r\n2,b\n", false},
		{csv, "1,a\n\\.\n", true},
		{csv, "1,a\\.\n2,b\n", true}, // not at the beginning of the line
		{csv, "1,\"x\n\\.\ny\"\n", true},
		{csv, "1,\"x\"\"\n\\.\ny\"\n", true},
		{csv, "1,\"x\"\n\\.\ny\n", false},
		{csv, "\\.,a\n\\\n", true},
		{bar, "1,\"\n\\.\n2,b\n", false},
		{bar, "1,|\n\\.\n|\n2,b\n", true},
		{slash, "1,\"/\"\n\\.\n\"\n", true},
		{slash, "1,\"//\"\n\\.\n\"\n", false},
		{sjis, "\x95\\.\n2\tb\n", true},    // the backslash is half of a character
		{sjis, "\x95\\\\.\n2\tb\n", false}, // the second one is not
		{sjis, "\xb1\\.\n2\tb\n", false},   // nor is it behind a character of one byte
		{reading{format: script.Text, encoding: "SJIS", ascii: true}, "\x95\\\\.\n2\tb\n", true},
		{big5, "1,a\n\xa5\\.\n\\.\n", true},
		{reading{format: script.CSV, quote: '"', escape: '"', major: 18}, "1,a\n\\.\n2,b\n", true},
		{reading{format: script.Binary}, "1\ta\n\\.\n2\tb\n", true},
	} {
		for _, size := range []int{1, 2, 3, len(tt.data)} {
			m := newEndMarker(tt.reading)
			good := true
			for rest := tt.data; rest != "" && good; {
				n := min(size, len(rest))
				good = m.check([]byte(rest[:n])) == nil
				rest = rest[n:]
			}
			if good != tt.good {
				t.Errorf("%s data %q in pieces of %d: good is %t, want %t", tt.reading.format, tt.data, size, good, tt.good)
			}
		}
	}
}

func TestMajorVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]int{"15.18 (Debian)": 15, "18beta1": 18, "": 0} {
		if got := majorVersion(version); got != want {
			t.Errorf("majorVersion(%q) = %d, want %d", version, got, want)
		}
	}
}

// TestEndMarkerIsPostgreSQLs asks PostgreSQL itself: it takes any data, and
// then a row that it refuses. Where it does not refuse it the data held an end,
// and the row behind it would be lost.
func TestEndMarkerIsPostgreSQLs(t *testing.T) {
	t.Parallel()
	conn, err := pgconn.Connect(t.Context(), testenv.Postgres(t).NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	copies := func(options, data string) bool {
		_, err := conn.CopyFrom(context.Background(), strings.NewReader(data), "COPY one FROM STDIN ("+options+")")
		if conn.IsClosed() {
			t.Fatal(err)
		}
		return err == nil
	}
	if _, err := conn.Exec(t.Context(), "CREATE TEMP TABLE one (a text)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	kinds := []struct {
		options string
		reading reading
		beyond  string // a row of two columns
	}{
		{"FORMAT text", reading{format: script.Text}, "\nx\ty\n"},
		{"FORMAT csv", reading{format: script.CSV, quote: '"', escape: '"'}, "\nx,y\n"},
		{"FORMAT csv, QUOTE '|', ESCAPE '/'", reading{format: script.CSV, quote: '|', escape: '/'}, "\nx,y\n"},
		{"FORMAT csv, QUOTE '.', ESCAPE '\\'", reading{format: script.CSV, quote: '.', escape: '\\'}, "\nx,y\n"},
		{"FORMAT text, ENCODING 'sjis'", reading{format: script.Text, encoding: "SJIS"}, "\nx\ty\n"},
		{"FORMAT csv, ENCODING 'big5'", reading{format: script.CSV, quote: '"', escape: '"', encoding: "BIG5"}, "\nx,y\n"},
	}
	found := 0
	rapid.Check(t, func(rt *rapid.T) {
		kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{"\\", ".", "\\.", "\n", "\n\\.\n", "\r\n", "\"", "|", "/", "a", "\xb0\\", "\x95\\"}), 1, 8)
		data := strings.Join(parts.Draw(rt, "data"), "")
		if !copies(kind.options, data) {
			return
		}
		ended := copies(kind.options, data+kind.beyond)
		if ended {
			found++
		}
		m := newEndMarker(kind.reading.on(conn))
		good := m.check([]byte(data)) == nil
		if !ended && !good {
			rt.Errorf("%s data %q is refused, and PostgreSQL takes all of it", kind.options, data)
		}
		if ended && good && m.check([]byte(kind.beyond)) == nil {
			rt.Errorf("%s data %q: what follows would be lost", kind.options, data)
		}
	})
	if found == 0 {
		t.Error("no data held an end: this test looks at nothing")
	}
}

// FuzzEndMarker cuts data in two: what is found must not depend on where.
func FuzzEndMarker(f *testing.F) {
	f.Add([]byte("1\ta\n\\.\n2\tb\n"), 3, true)
	f.Add([]byte("1,\"\n\\.\r\n\""), 5, false)
	f.Fuzz(func(t *testing.T, data []byte, at int, text bool) {
		if at < 0 || at > len(data) {
			return
		}
		r := reading{format: script.CSV, quote: '"', escape: '/', encoding: "SJIS"}
		if text {
			r.format = script.Text
		}
		whole := newEndMarker(r).check(data) == nil
		cut := newEndMarker(r)
		if pieces := cut.check(data[:at]) == nil && cut.check(data[at:]) == nil; pieces != whole {
			t.Errorf("%s data %q cut at %d: good is %t, whole %t", r.format, data, at, pieces, whole)
		}
	})
}
