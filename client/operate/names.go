package operate

import "strings"

// streamName is what pgbridge calls a stream unless it is told otherwise.
func streamName(prefix, kind string) string {
	return strings.ToUpper(strings.ReplaceAll(prefix, ".", "_")) + "_" + kind
}
