package session

import (
	"fmt"
	"maps"
	"slices"
)

// defaults are what every session begins with, and what RESET ALL and DISCARD ALL
// go back to. They make PostgreSQL print values as clients expect them.
// https://www.postgresql.org/docs/current/runtime-config-client.html
type defaults map[string]string

func defaultsFor(limits Limits) defaults {
	return defaults{
		"array_nulls":                         "on", // a null in an array is no text
		"datestyle":                           "ISO, YMD",
		"timezone":                            "UTC",
		"intervalstyle":                       "iso_8601",
		"bytea_output":                        "hex",
		"extra_float_digits":                  "1",
		"standard_conforming_strings":         "on", // scripts are split by it
		"pgbridge.caller":                     "",
		"statement_timeout":                   string(Milliseconds(limits.Statement + ServerMargin)),
		"idle_in_transaction_session_timeout": string(Milliseconds(limits.Idle + ServerMargin)),
	}
}

// statements set them for the session. RESET ALL does not go back to what they
// set, so they have to follow each. None takes a snapshot, so that a transaction
// that begins behind them can still choose its isolation.
func (d defaults) statements() []string {
	sets := make([]string, 0, len(d))
	for _, name := range slices.Sorted(maps.Keys(d)) {
		sets = append(sets, fmt.Sprintf("SET %s TO '%s'", name, d[name]))
	}
	return sets
}
