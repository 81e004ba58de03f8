package subject

import (
	"fmt"
	"regexp"
	"strings"
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`)

const maxPrefixBytes = 64

// IsName reports whether a text is tokens of letters, digits, _ and - joined by dots, as
// prefixes and the names of scripts are.
func IsName(text string) bool { return namePattern.MatchString(text) }

// CheckPrefix says why a text cannot be the first tokens of pgbridge's subjects; nil
// means that it can.
func CheckPrefix(prefix string) error {
	if IsName(prefix) && len(prefix) <= maxPrefixBytes {
		return nil
	}
	return fmt.Errorf("%q: want tokens of A-Z a-z 0-9 _ - joined by dots, at most %d bytes", prefix, maxPrefixBytes)
}

// StreamName is the default name of a prefix's stream of some kind, as
// PGBRIDGE_EVENTS is of EVENTS.
func StreamName(prefix, kind string) string {
	return strings.ToUpper(strings.ReplaceAll(prefix, ".", "_")) + "_" + kind
}
