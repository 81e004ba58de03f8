package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are what the comments before a script's first statement say. The
// zero value of each means that they do not say it.
type Settings struct {
	Isolation   Isolation
	ReadOnly    *bool
	Deferrable  *bool
	Timeout     time.Duration // of a run as a whole
	Retries     *int          // after serialization failures and deadlocks
	Role        string        // the role's name, without quotes
	Concurrency int           // runs at a time on one replica
	Buckets     []string      // object stores that a copy may use
}

// Isolation is an isolation level in SQL's words.
type Isolation string

// The isolation levels.
const (
	ReadUncommitted Isolation = "read uncommitted" // to PostgreSQL read committed
	ReadCommitted   Isolation = "read committed"
	RepeatableRead  Isolation = "repeatable read"
	Serializable    Isolation = "serializable"
)

const (
	maxRetries     = 100
	maxConcurrency = 100_000
	maxNameBytes   = 63 // PostgreSQL cuts longer names
	known          = "bucket, concurrency, deferrable, isolation, read_only, retries, role, timeout"
)

// ParseIsolation reads an isolation level in SQL's words, with spaces or
// underscores between them.
func ParseIsolation(s string) (Isolation, error) {
	level := Isolation(strings.Join(strings.Fields(strings.ReplaceAll(s, "_", " ")), " "))
	switch level {
	case ReadUncommitted, ReadCommitted, RepeatableRead, Serializable:
		return level, nil
	}
	return "", fmt.Errorf("%q is no isolation level (%s, %s, %s)", s, ReadCommitted, RepeatableRead, Serializable)
}

// set takes one setting.
func (s *Settings) set(name, value string) (err error) {
	switch name {
	case "isolation":
		s.Isolation, err = ParseIsolation(value)
	case "read_only":
		s.ReadOnly, err = parseBool(value)
	case "deferrable":
		s.Deferrable, err = parseBool(value)
	case "timeout":
		s.Timeout, err = parseTimeout(value)
	case "retries":
		s.Retries = new(int)
		*s.Retries, err = parseInt(value, 0, maxRetries)
	case "role":
		s.Role, err = parseRole(value)
	case "concurrency":
		s.Concurrency, err = parseInt(value, 1, maxConcurrency)
	case "bucket":
		s.Buckets, err = parseBuckets(value)
	default:
		return fmt.Errorf("unknown setting (known are %s)", known)
	}
	return err
}

func parseBool(value string) (*bool, error) {
	switch value {
	case "true", "false":
		b := value == "true"
		return &b, nil
	}
	return nil, fmt.Errorf("%q is neither true nor false", value)
}

func parseTimeout(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Millisecond {
		return 0, fmt.Errorf("%q is no time of at least 1ms, such as 500ms, 2s or 1m30s", value)
	}
	return d, nil
}

func parseInt(value string, least, most int) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is no whole number from %d to %d", value, least, most)
	}
	return n, nil
}

// parseRole reads an identifier as SQL does: in lower case unless quoted.
func parseRole(value string) (string, error) {
	name := value
	if value != "" {
		switch t := lex(value, 0); {
		case t.end != len(value):
			name = ""
		case t.kind == word:
			name = strings.ToLower(value)
		case t.kind == quotedName && value[0] == '"':
			name = strings.ReplaceAll(value[1:len(value)-1], `""`, `"`)
		default:
			name = ""
		}
	}
	switch {
	case name == "":
		return "", fmt.Errorf("%q is no role's name; one that is not a plain word belongs in double quotes", value)
	case name == "none" || name == "public":
		return "", fmt.Errorf("%q is no role in PostgreSQL", name)
	case len(name) > maxNameBytes:
		return "", fmt.Errorf("%q has more than %d bytes", name, maxNameBytes)
	}
	return name, nil
}

// parseBuckets reads names of object stores with commas between them.
func parseBuckets(value string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(value, ",") {
		name = strings.TrimSpace(name)
		if !isElement(name) {
			return nil, fmt.Errorf("%q is no bucket's name: letters, digits, _ and - only", name)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// isElement reports whether s can be between two dots of a name.
func isElement(s string) bool {
	plain := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '_' || c == '-'
	}
	return s != "" && run(s, plain) == len(s)
}
