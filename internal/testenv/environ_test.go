package testenv

import (
	"slices"
	"testing"
)

func TestEnvironIsForPgbridge(t *testing.T) {
	t.Setenv("PGBRIDGE_TEST_POSTGRES", "/somewhere")
	t.Setenv("PGBRIDGE_PREFIX", "shop")
	if all := Environ(); slices.Contains(all, "PGBRIDGE_TEST_POSTGRES=/somewhere") || !slices.Contains(all, "PGBRIDGE_PREFIX=shop") {
		t.Errorf("a pgbridge of its own is given %q", all)
	}
}
