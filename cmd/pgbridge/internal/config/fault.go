package config

import (
	"slices"
	"strings"
)

// Fault is one thing wrong with the configuration.
type Fault struct {
	Origin string // file, variable or flag; empty for a default
	Key    string // may be empty
	Err    error
}

// Error puts the place before the reason.
func (f Fault) Error() string {
	parts := []string{f.Origin, f.Key, f.Err.Error()}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// Error holds every fault of a configuration.
type Error struct{ Faults []Fault }

// Error puts each fault on a line of its own.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Joined takes the result of errors.Join apart.
func Joined(err error) []error {
	if err == nil {
		return nil
	}
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, err := range several.Unwrap() {
			all = append(all, Joined(err)...)
		}
		return all
	}
	return []error{err}
}
