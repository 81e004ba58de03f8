package subject

import "strings"

// Covers reports whether every subject that matches the pattern narrow also
// matches the pattern wide. A subject without wildcards is a pattern that
// matches itself alone.
func Covers(wide, narrow string) bool {
	w, n := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i, token := range w {
		switch {
		case token == ">":
			return len(n) > i
		case i >= len(n) || n[i] == ">":
			return false
		case token != "*" && token != n[i]:
			return false
		}
	}
	return len(w) == len(n)
}

// Overlaps reports whether some subject matches both patterns.
func Overlaps(a, b string) bool {
	s, t := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(s), len(t)) {
		switch {
		case s[i] == ">" || t[i] == ">":
			return true
		case s[i] != t[i] && s[i] != "*" && t[i] != "*":
			return false
		}
	}
	return len(s) == len(t)
}
