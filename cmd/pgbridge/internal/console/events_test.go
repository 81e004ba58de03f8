package console

import "testing"

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                "",
		"a b":             "a b",
		"Größe 漢字":        "Größe 漢字",
		"a\tb\n":          `a\tb\n`,
		"\x1b[31m\x00":    `\x1b[31m\x00`,
		"\xff":            `\xff`,
		"\u202eevil":      `\u202eevil`,
		`{"a": "\u00e9"}`: `{"a": "\u00e9"}`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %s, want %s", in, got, want)
		}
	}
}
