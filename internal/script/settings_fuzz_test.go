package script

import (
	"slices"
	"strings"
	"testing"
)

// FuzzSettings wants every value of a setting to be taken within its bounds or
// to be a fault of its own line.
func FuzzSettings(f *testing.F) {
	for _, setting := range []string{
		"isolation: serializable", "isolation: read_committed", "read_only: yes", "deferrable: off", "timeout: 1500ms",
		"timeout: 9999999h", "retries: 3", "retries: -1", "role: \"a\"\"b\"", "role: none", "concurrency: 99999999999999999999",
		"bucket: a, b", "bucket: ,", "unknown: 1", "timeout:", ": 1", "role: \x00",
	} {
		name, value, _ := strings.Cut(setting, ":")
		f.Add(name, value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if strings.ContainsAny(name+value, "\r\n") {
			return // it would end the comment
		}
		source := "-- " + name + ":" + value + "\nSELECT 1"
		s, err := Parse("a", "a.sql", []byte(source))
		if err != nil {
			checkFaults(t, source, err)
			return
		}
		checkSettings(t, &s.Settings)
	})
}

func checkSettings(t *testing.T, s *Settings) {
	t.Helper()
	levels := []Isolation{"", ReadUncommitted, ReadCommitted, RepeatableRead, Serializable}
	for what, ok := range map[string]bool{
		"isolation":   slices.Contains(levels, s.Isolation),
		"timeout":     s.Timeout >= 0,
		"retries":     s.Retries == nil || *s.Retries >= 0 && *s.Retries <= maxRetries,
		"role":        len(s.Role) <= maxNameBytes && !strings.Contains(s.Role, "\x00"),
		"concurrency": s.Concurrency >= 0 && s.Concurrency <= maxConcurrency,
		"bucket":      !slices.Contains(s.Buckets, ""),
	} {
		if !ok {
			t.Errorf("%s is out of bounds: %+v", what, s)
		}
	}
}
