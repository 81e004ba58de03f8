package webconsole

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/api/status"
)

const (
	replicasQuiet = 250 * time.Millisecond // no further answer for so long: all have answered
	maxReplicas   = 64                     // anybody may answer
	maxWord       = 256                    // bytes of what another process says of itself
	maxAnswer     = 64 << 10               // bytes of an answer that is read
	maxAnswers    = 1 << 20                // of those that wait to be read
	maxProblems   = 20
)

// Replica is what a replica says of itself. Anybody who may publish to inboxes can
// say the like.
type Replica struct {
	Replica, Version, State string
	StartedAt               time.Time
	Problems                []string
	Queue                   int64 // bytes
	Transactions            int
}

// replicas asks every replica that serves the prefix what it does.
func replicas(ctx context.Context, nc *nats.Conn, prefix string) []Replica {
	all := []Replica{}
	if nc == nil || !nc.IsConnected() {
		return all
	}
	answers, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return all
	}
	defer func() { _ = answers.Unsubscribe() }()
	if answers.SetPendingLimits(4*maxReplicas, maxAnswers) != nil {
		return all
	}
	if nc.PublishRequest(prefix+".status", answers.Subject, nil) != nil {
		return all
	}
	for range 4 * maxReplicas {
		waiting, cancel := context.WithTimeout(ctx, replicasQuiet)
		m, err := answers.NextMsgWithContext(waiting)
		cancel()
		if errors.Is(err, nats.ErrSlowConsumer) { // some were dropped
			continue
		}
		if err != nil || len(all) == maxReplicas {
			break
		}
		var said status.Replica
		if len(m.Data) <= maxAnswer && json.Unmarshal(m.Data, &said) == nil && said.Replica != "" {
			all = append(all, newReplica(&said))
		}
	}
	slices.SortFunc(all, func(a, b Replica) int { return cmp.Compare(a.Replica, b.Replica) })
	return all
}

func newReplica(said *status.Replica) Replica {
	r := Replica{
		Replica: word(said.Replica), Version: word(said.Version), State: word(said.State), StartedAt: api.Writable(said.StartedAt),
		Problems: []string{}, Transactions: said.Open,
	}
	for _, p := range said.Problems[:min(len(said.Problems), maxProblems)] {
		r.Problems = append(r.Problems, word(p))
	}
	for _, n := range said.QueueBytes {
		r.Queue += n
	}
	return r
}

func word(s string) string { return s[:min(len(s), maxWord)] }
