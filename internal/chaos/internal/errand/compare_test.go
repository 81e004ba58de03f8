package errand

import "testing"

func TestJudge(t *testing.T) {
	t.Parallel()
	errand := func(outcome Outcome, parts int) Errand {
		return Errand{Kind: CopyIn, ID: "7", Parts: parts, Outcome: outcome}
	}
	tests := []struct {
		name   string
		errand Errand
		rows   int
		faulty bool
	}{
		{"done", errand(Done, 3), 3, false},
		{"done, with nothing", errand(Done, 3), 0, true},
		{"done in part", errand(Done, 3), 2, true},
		{"done twice", errand(Done, 3), 6, true},
		{"not done", errand(NotDone, 3), 0, false},
		{"not done, and yet", errand(NotDone, 3), 3, true},
		{"perhaps, and not", errand(Maybe, 3), 0, false},
		{"perhaps, and done", errand(Maybe, 3), 3, false},
		{"perhaps, and in part", errand(Maybe, 3), 1, true},
		{"perhaps, and twice", errand(Maybe, 1), 2, true},
	}
	for _, tt := range tests {
		left := map[string]int{}
		if tt.rows > 0 {
			left["copy in 7"] = tt.rows
		}
		if _, findings := judge([]Errand{tt.errand}, left); (len(findings) > 0) != tt.faulty {
			t.Errorf("%s: %v, want a finding: %t", tt.name, findings, tt.faulty)
		}
	}
	if _, findings := judge(nil, map[string]int{"run 8": 1}); len(findings) != 1 {
		t.Errorf("rows of nobody: %v, want a finding", findings)
	}
}
