package console

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

const (
	// narrowest is what a column keeps, if it has that much.
	narrowest = 8
	ellipsis  = "…"
)

// cells is how many places of a terminal a text takes. Whatever is no printable
// character must have been replaced before.
func cells(text string) int {
	n := 0
	for _, r := range text {
		n += cellsOf(r)
	}
	return n
}

func cellsOf(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r < 0x1100:
		return 1
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// cut shortens a text to so many places, and shows that it did.
func cut(text string, places int) string {
	if cells(text) <= places {
		return text
	}
	var b strings.Builder
	left := places - 1 // for the ellipsis
	for _, r := range text {
		if left -= cellsOf(r); left < 0 {
			break
		}
		b.WriteRune(r)
	}
	return b.String() + ellipsis
}

// fit makes the widest of a table's columns narrower until its lines take no more
// than total places, each column's rulers included. It returns false where that would
// leave less than can be read. A total of 0 is as much as is needed.
func fit(widths []int, total int) bool {
	sum := 0
	for _, w := range widths {
		sum += w + 3
	}
	excess := sum - 1 - total
	for total > 0 && excess > 0 {
		widest := slices.Max(widths)
		if widest <= narrowest {
			return false
		}
		// To the width of the next one, or as far as is needed.
		next, same := narrowest, 0
		for _, w := range widths {
			if w == widest {
				same++
			} else {
				next = max(next, w)
			}
		}
		step := min(widest-next, (excess+same-1)/same)
		for i, w := range widths {
			if w == widest {
				widths[i] -= step
			}
		}
		excess -= step * same
	}
	return true
}
