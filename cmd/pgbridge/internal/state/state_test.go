package state

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/txrunner"
)

// TestReportFits leaves out what does not fit the answer, and says how much there is.
func TestReportFits(t *testing.T) {
	t.Parallel()
	const n, limit = 5000, 16 << 10
	s := Source{
		Bridge: func() bridge.Status { return bridge.Status{Replica: "r", State: "publishing"} },
		Runner: func() txrunner.Status {
			return txrunner.Status{Transactions: make([]txrunner.OpenTransaction, n)}
		},
		Problems: []func() []string{
			func() []string { return []string{"first", strings.Repeat("x", limit)} },
			func() []string { return []string{"first"} },
		},
	}
	body, err := s.Report(limit)
	if err != nil || len(body) > limit {
		t.Fatalf("%d bytes, %v", len(body), err)
	}
	var r status.Replica
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatal(err)
	}
	if r.Open != n || len(r.Problems) != 2 || r.Problems[0] != "first" {
		t.Errorf("%d open, problems %.40q", r.Open, r.Problems)
	}
}
