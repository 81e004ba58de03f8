package answers_test

import (
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/answers"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	var all answers.Answers
	if s := all.Of("nobody"); s.Requests != 0 || !s.Latest.IsZero() {
		t.Errorf("of a script that nobody ran: %+v", s)
	}
	all.Add("a", "", "", time.Millisecond)
	all.Add("a", "sql_error", "23505", 3*time.Second)
	all.Add("", "busy", "", time.Hour)
	a := all.Of("a")
	if a.Requests != 2 || a.Failed() != 1 || a.Errors["sql_error"] != 1 || a.Took != 3*time.Second+time.Millisecond || a.Longest != 3*time.Second || a.Latest.IsZero() {
		t.Errorf("a is %+v", a)
	}
	for i, bound := range answers.Bounds() {
		want := uint64(0)
		if bound >= time.Millisecond {
			want++
		}
		if bound >= 3*time.Second {
			want++
		}
		if a.Counts[i] != want {
			t.Errorf("up to %s: %d, want %d", bound, a.Counts[i], want)
		}
	}
	if s := all.All(); s.Requests != 3 || s.Failed() != 2 || s.Counts[len(s.Counts)-1] != 2 {
		t.Errorf("all are %+v", s)
	}
}

func TestAnswersRemembersTheNewestErrors(t *testing.T) {
	t.Parallel()
	var all answers.Answers
	for range answers.KeptErrors {
		all.Add("a", "timeout", "", 0)
	}
	all.Add("a", "sql_error", "40001", 0)
	a := all.Of("a")
	if len(a.Last) != answers.KeptErrors || a.Last[len(a.Last)-1].SQLState != "40001" || a.Last[0].Code != "timeout" {
		t.Errorf("remembers %+v", a.Last)
	}
	a.Last[0].Code = "changed"
	if all.Of("a").Last[0].Code == "changed" {
		t.Error("what was returned is shared")
	}
}
