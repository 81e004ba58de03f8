package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// Sizes of the chart in pixels.
const (
	chartWidth = 760
	barsAt     = 330 // where bars begin
	barsWidth  = 300 // of the longest
	barHeight  = 13
	rowHeight  = 46
	topHeight  = 54
)

// charted are the figures on the chart, from its top.
var charted = []struct{ what, beside, label string }{
	{"throughput, core", aBareLoop, "events on core NATS"},
	{"throughput, jetstream", aBareLoop, "events on JetStream, one server"},
	{"throughput, jetstream on three servers", aBareLoop, "events on JetStream, three servers"},
	{"from COMMIT to subscriber, median", aBareLoop, "from COMMIT to the subscriber, median"},
	{"TPC-B by request, 8 clients", "a bare NATS service in two round trips", "TPC-B by request, 8 clients"},
	{"TPC-B by request, 8 clients", "pgbench -M prepared", "TPC-B by request, 8 clients"},
	{"SELECT by key, requesters: 8", "nats micro with pgxpool", "a row by its key, 8 requesters"},
	{"SELECT by key, requesters: 64", "nats micro with pgxpool", "a row by its key, 64 requesters"},
	{"pages of 1000 by request and reply", "psql with FETCH_COUNT", "pages of 1,000 rows"},
	{"a cursor's stream", "psql with FETCH_COUNT", "a cursor's stream"},
	{"copy out", `psql's \copy`, "copy out"},
	{"copy in", `psql's \copy`, "copy in"},
}

// chart draws those figures as SVG, in whose rows the longer bar is the better one: of
// two times the shorter has the longer bar.
func (r *report) chart() []byte {
	var compared []*figure
	for _, row := range charted {
		for _, f := range r.Figures {
			if f.What == row.what && f.Beside == row.beside && f.Value > 0 && f.Other > 0 {
				drawn := *f
				drawn.What = row.label
				compared = append(compared, &drawn)
			}
		}
	}
	var b bytes.Buffer
	height := topHeight + rowHeight*len(compared) + 8
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="pgbridge's figures beside others from the same run">
<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.ours { fill: #2563eb }
.other { fill: #b6bfc9 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9198a1 } .ours { fill: #58a6ff } .other { fill: #57606a } }
</style>
`, chartWidth, height, chartWidth, height)
	label(&b, 8, 20, "", "pgbridge, and what it is compared to in the same run: the longer bar is the better one")
	label(&b, 8, 38, "small", fmt.Sprintf("%s, %d cores shared by all, %s, PostgreSQL %s with fsync on", r.Date, r.Cores, strings.TrimSpace(r.Processor+" "+r.System), r.PostgreSQL))
	for i, f := range compared {
		y := topHeight + i*rowHeight
		ours, other := f.Value, f.Other
		if smaller(f.Unit) {
			ours, other = f.Other, f.Value // the other way round: 1/a to 1/b is b to a
		}
		longest := max(ours, other)
		label(&b, 8, y+12, "", f.What)
		label(&b, 8, y+27, "small", "beside "+f.Beside)
		bar(&b, y, "ours", ours/longest, number(f.Value)+" "+f.Unit)
		bar(&b, y+barHeight+3, "other", other/longest, number(f.Other)+" "+f.Unit)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// smaller reports whether the smaller number is the better one.
func smaller(unit string) bool { return unit == "s" || unit == "ms" || unit == "µs" || unit == "MiB" }

func label(b *bytes.Buffer, x, y int, class, text string) {
	fmt.Fprintf(b, `<text x="%d" y="%d"`, x, y)
	if class != "" {
		fmt.Fprintf(b, ` class="%s"`, class)
	}
	b.WriteByte('>')
	_ = xml.EscapeText(b, []byte(text)) // writing to memory does not fail
	b.WriteString("</text>\n")
}

func bar(b *bytes.Buffer, y int, class string, share float64, text string) {
	width := max(2, int(share*barsWidth))
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" rx="2" class="%s"/>`+"\n", barsAt, y, width, barHeight, class)
	label(b, barsAt+width+6, y+barHeight-2, "small", text)
}
