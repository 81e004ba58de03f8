package copier

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/script"
)

func TestEndMarker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		format script.Format
		sql    string
		data   string
		good   bool
	}{
		{script.Text, "", "1\ta\n2\tb\n", true},
		{script.Text, "", "1\ta\n\\.\n", true},
		{script.Text, "", "1\ta\n\\.\r\n", true},
		{script.Text, "", "1\ta\n\\.", true},
		{script.Text, "", "1\ta\n\\.\n2\tb\n", false},
		{script.Text, "", "1\ta\r\n\\.\r\n2\tb\r\n", false},
		{script.Text, "", "1\ta\r\\.\r2\tb\r", false},
		{script.Text, "", "1\ta\\.\n2\tb\n", false}, // to PostgreSQL it ends here too
		{script.Text, "", "\\.\n\n", false},
		{script.Text, "", "1\t\\\\.\n2\tb\n", true}, // an escaped backslash
		{script.Text, "", "1\t\\N\n2\t\\t\n", true},
		{script.Text, "", "1\t\\\n2\n", true}, // an escaped newline
		{script.CSV, "", "1,a\n\\.\n2,b\n", false},
		{script.CSV, "", "\\.\r\n2,b\n", false},
		{script.CSV, "", "1,a\n\\.\n", true},
		{script.CSV, "", "1,a\\.\n2,b\n", true}, // not at the beginning of the line
		{script.CSV, "", "1,\"x\n\\.\ny\"\n", true},
		{script.CSV, "", "1,\"x\"\"\n\\.\ny\"\n", true},
		{script.CSV, "", "1,\"x\"\n\\.\ny\n", false},
		{script.CSV, "", "\\.,a\n\\\n", true},
		{script.CSV, "COPY t FROM STDIN (FORMAT csv, QUOTE '|')", "1,\"\n\\.\n2,b\n", false},
		{script.Binary, "", "1\ta\n\\.\n2\tb\n", true},
	} {
		for _, size := range []int{1, 2, 3, len(tt.data)} {
			m := newEndMarker(tt.format, tt.sql, "15.18 (Debian)")
			good := true
			for rest := tt.data; rest != "" && good; {
				n := min(size, len(rest))
				good = m.check([]byte(rest[:n])) == nil
				rest = rest[n:]
			}
			if good != tt.good {
				t.Errorf("%s data %q in pieces of %d: good is %t, want %t", tt.format, tt.data, size, good, tt.good)
			}
		}
	}
	if newEndMarker(script.CSV, "", "18.4") != nil {
		t.Error(`a line \. in CSV is looked for where PostgreSQL takes it as data`)
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
		format := script.CSV
		if text {
			format = script.Text
		}
		whole := newEndMarker(format, "", "15").check(data) == nil
		cut := newEndMarker(format, "", "15")
		if pieces := cut.check(data[:at]) == nil && cut.check(data[at:]) == nil; pieces != whole {
			t.Errorf("%s data %q cut at %d: good is %t, whole %t", format, data, at, pieces, whole)
		}
	})
}
