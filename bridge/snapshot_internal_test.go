package bridge

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
)

// Whoever shows a gap writes it as JSON, whatever PostgreSQL's clock said.
func TestGapsCanBeWritten(t *testing.T) {
	t.Parallel()
	since := time.Date(-4000, 1, 1, 0, 0, 0, 0, time.UTC)
	gap := newGap(&api.Gap{Since: &since, Until: time.Date(294276, 12, 31, 0, 0, 0, 0, time.UTC)})
	if _, err := json.Marshal(gap); err != nil || gap.Since.Year() != 0 || gap.Until.Year() != 9999 {
		t.Errorf("%+v: %v", gap, err)
	}
}
