package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// answering has somebody answer to discovery, and returns what is made of that as soon as
// it is what is expected or more: on a busy machine answers can be too late.
func answering(t *testing.T, answers []string, expected int) (got map[string]string) {
	t.Helper()
	s := testenv.NATS(t)
	forger := s.Connect(t)
	if _, err := forger.Subscribe("$SRV.INFO.pgbridge", func(m *nats.Msg) {
		for _, answer := range answers {
			_ = m.Respond([]byte(answer))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := forger.Flush(); err != nil {
		t.Fatal(err)
	}
	nc := s.Connect(t)
	testenv.Wait(t, time.Minute, fmt.Sprintf("%d of %d answers", expected, len(answers)), func() bool {
		got = Others(t.Context(), nc, "p", nil)
		return len(got) >= expected
	})
	return got
}

func replica(id, server, more string) string {
	return fmt.Sprintf(`{"id": %q, "description": %q, "metadata": {"prefix": "p", "part": "events", "server": %q}}`, id, more, server)
}

// Who may publish to inboxes can answer as often as they like.
func TestAnswersAreCounted(t *testing.T) {
	t.Parallel()
	var answers []string
	for i := range 3 * maxOthers {
		answers = append(answers, replica(fmt.Sprint("forged", i), "s", ""))
	}
	if n := len(answering(t, answers, maxOthers)); n != maxOthers {
		t.Errorf("%d of %d answers are kept, want %d", n, len(answers), maxOthers)
	}
}

func TestAnswersAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxName+1)
	got := answering(t, []string{
		"", "null", "[]", "{", `{"id": 7}`, replica(long, "s", ""), replica("server", long, ""), replica("answer", "s", strings.Repeat("x", maxAnswer)),
		`{"id": "no part", "metadata": {"prefix": "p"}}`, `{"id": "another prefix", "metadata": {"prefix": "q", "part": "events"}}`,
		replica("honest", "s", ""),
	}, 1)
	if len(got) != 1 || got["honest"] != "s" {
		t.Errorf("what is kept: %q", got)
	}
}
