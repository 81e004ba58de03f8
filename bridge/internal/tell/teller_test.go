package tell

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pgbridge/pgbridge/internal/api/status"
	"github.com/pgbridge/pgbridge/internal/service"
)

// TestListChannels lists more channels than fit one answer.
func TestListChannels(t *testing.T) {
	t.Parallel()
	const n, limit = 1000, 8 << 10
	teller := &Teller{Limit: func() int { return limit }}
	var channels []status.Channel
	for i := range n {
		name := fmt.Sprintf("c%03d", n-1-i)
		channels = append(channels, status.Channel{Name: name, Subject: "pgbridge.event." + name, Gap: "pgbridge.gap." + name, Delivery: "core"})
	}
	teller.SetChannels(channels)
	body, listed := `{}`, 0
	for answers := 1; ; answers++ {
		answer, err := teller.listChannels(&service.Request{Data: []byte(body)})
		if err != nil || len(answer) > limit {
			t.Fatalf("%d bytes, %v", len(answer), err)
		}
		var list status.Channels
		if err := json.Unmarshal(answer, &list); err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Channels {
			if want := fmt.Sprintf("c%03d", listed); c.Name != want {
				t.Fatalf("channel %d is %s, want %s", listed, c.Name, want)
			}
			listed++
		}
		if list.Next == "" {
			if listed != n || answers < 2 {
				t.Errorf("%d channels in %d answers, want %d in more than one", listed, answers, n)
			}
			break
		}
		body = `{"after": "` + list.Next + `"}`
	}
	if _, err := teller.listChannels(&service.Request{Data: []byte(`{"before": "x"}`)}); err == nil {
		t.Error("an unknown field is taken")
	}
}
