package testenv

import (
	"os"
	"slices"
	"strings"
)

// Environ is this process's environment for a pgbridge of its own: without what tests are
// told by PGBRIDGE_TEST_…, which pgbridge would refuse as settings that it does not know.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "PGBRIDGE_TEST_") })
}
