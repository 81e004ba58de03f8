package console

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"
)

func TestBarLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		done, total int64
		took        time.Duration
		want        string
	}{
		{0, 0, 0, "0 B, 0 B/s"},
		{2_500_000, 0, 2 * time.Second, "2.5 MB, 1.2 MB/s"},
		{0, 1000, time.Second, "[" + strings.Repeat(".", barWidth) + "]   0%  0 B of 1.0 kB, 0 B/s, ? left"},
		{500, 1000, time.Second, "[" + strings.Repeat("#", 15) + strings.Repeat(".", 15) + "]  50%  500 B of 1.0 kB, 500 B/s, 1s left"},
		{-500, 1000, time.Second, "[" + strings.Repeat(".", barWidth) + "]   0%  0 B of 1.0 kB, -500 B/s, ? left"},
		{math.MaxInt64 / 2, math.MaxInt64, 1e9 * time.Second, "[" + strings.Repeat("#", 15) + strings.Repeat(".", 15) + "]  50%  4611686.0 TB of 9223372.0 TB, 4.6 GB/s, 277777h46m40s left"},
		{2000, 1000, time.Second, "[" + strings.Repeat("#", barWidth) + "] 100%  1.0 kB of 1.0 kB, 2.0 kB/s, 0s left"},
	} {
		if got := barLine(tt.done, tt.total, tt.took, "", 0); got != tt.want {
			t.Errorf("barLine(%d, %d, %s) = %q, want %q", tt.done, tt.total, tt.took, got, tt.want)
		}
	}
	if got, want := barLine(5, 20, time.Second, "scripts", 0), "["+strings.Repeat("#", 7)+strings.Repeat(".", 23)+"]  25%  5 of 20 scripts, 5/s, 3s left"; got != want {
		t.Errorf("barLine() = %q, want %q", got, want)
	}
	for n, want := range map[int64]string{999: "999 B", 1000: "1.0 kB", 999_960: "1.0 MB", 1_000_000_000: "1.0 GB", 5_000_000_000_000_000: "5000.0 TB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

// A line that is wider than the terminal goes on in the next one, and stays there when
// it is drawn again.
func TestBarFits(t *testing.T) {
	t.Parallel()
	for columns, want := range map[int]string{
		80: "[###############...............]  50%  999.5 MB of 2.0 GB, 499.8 MB/s, 2s left",
		60: "[#####......]  50%  999.5 MB of 2.0 GB, 499.8 MB/s, 2s left",
		50: " 50%  999.5 MB of 2.0 GB, 499.8 MB/s, 2s left",
		20: " 50%  999.5 MB of …",
	} {
		got := barLine(999_500_000, 1_999_000_000, 2*time.Second, "", columns)
		if got != want || cells(got) >= columns {
			t.Errorf("on %d columns %q, want %q", columns, got, want)
		}
	}
	if got := barLine(123_456_789, 0, time.Second, "", 10); got != "123.5 MB…" {
		t.Errorf("on 10 columns %q", got)
	}
}

func TestBarIsRemoved(t *testing.T) {
	t.Parallel()
	var nothing *Bar
	nothing.Add(1)
	nothing.Stop()
	nothing.Set(1, 2)
	if StartCount(&bytes.Buffer{}, 1, "rows") != nil {
		t.Error("a bar is drawn where nobody looks")
	}
	var out bytes.Buffer
	b := StartBar(&out, 10, time.Now())
	b.Add(5)
	b.Stop()
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("the terminal shows %q", out.String())
	}
}
