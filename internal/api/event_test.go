package api

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// The clock is PostgreSQL's, and can be wrong.
func TestGapAtAnyTime(t *testing.T) {
	t.Parallel()
	for micros, want := range map[int64]string{
		0:             "1970-01-01T00:00:00Z",
		math.MaxInt64: "9999-12-31T23:59:59.999999Z",
		math.MinInt64: "0000-01-01T00:00:00Z",
	} {
		at := time.UnixMicro(micros)
		var got struct {
			Since, Until string
			CatchUp      struct{ Since string } `json:"catch_up"`
		}
		g := Gap{Since: &at, Until: at, CatchUp: &CatchUp{Since: &at}}
		if err := json.Unmarshal(g.Body(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Since != want || got.Until != want || got.CatchUp.Since != want {
			t.Errorf("%d: %+v, want %s", micros, got, want)
		}
		if *g.Since != at || *g.CatchUp.Since != at {
			t.Errorf("%d: the gap itself has changed", micros)
		}
	}
}
