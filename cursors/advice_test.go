package cursors_test

import (
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
)

// Errors of a cursor's statement name its parameters, too.
func TestErrorsNameParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"vague": "SELECT @first::int, @second IS NULL",
		"two":   "SELECT @a::int4 + @b::int4 AS sum",
	})
	w.serve()
	e := w.Fails("sql_error", "cursor.vague", `{"params": {"first": 1, "second": 2}}`).Error
	harness.Equal(t, "message", e.Message, "could not determine data type of parameter @second")
	e = w.Fails("sql_error", "cursor.two", `{"params": {"a": 1, "b": "x"}}`).Error
	if !strings.HasPrefix(e.Where, "parameter @b") {
		t.Errorf("where = %q", e.Where)
	}
}
