package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/client/operate"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestStatus asks two replicas, one of which has a problem and one a transaction.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	wantResult(t, call(t, nil, "status", "--nats", s.bus.URL()), exitFailed, "", "nobody answers on pgbridge.status")
	s.serve(t, "--channel", "orders")
	start(t, append([]string{"serve", "--set", "http=off"}, s.args("--channel", "orders")...)...)
	testenv.Wait(t, timeLimit, "a standby that is ready", func() bool {
		r := call(t, nil, "status", "--nats", s.bus.URL())
		return r.code == exitOK && strings.Contains(r.stdout, "  standby ")
	})
	c, err := client.New(s.bus.Connect(t), client.Options{Caller: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := c.Begin(t.Context(), client.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Run(t.Context(), client.Script{Name: "account", Params: client.Params{"id": 1}}); err != nil {
		t.Fatal(err)
	}
	r := call(t, nil, "status", "--nats", s.bus.URL(), "--json")
	var replicas []operate.Replica
	decoder := json.NewDecoder(strings.NewReader(r.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&replicas); err != nil || len(replicas) != 2 || r.code != exitOK {
		t.Fatalf("code %d, %v: %s", r.code, err, r.stdout)
	}
	states, open := map[string]int{}, []operate.Transaction{}
	for _, one := range replicas {
		states[one.State]++
		open = append(open, one.Transactions...)
		if one.Open != len(one.Transactions) || one.Channels != 1 || one.Scripts != s.count(t) || len(one.Problems) > 0 {
			t.Errorf("a replica says %+v", one)
		}
	}
	if states["publishing"] != 1 || states["standby"] != 1 {
		t.Errorf("the replicas are %v", states)
	}
	pid := testenv.Value[int64](t, s.url, "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()")
	if len(open) != 1 || open[0].Caller != "ada" || open[0].Script != "account" || open[0].State != "active" || open[0].Busy || int64(open[0].PID) != pid || !open[0].ExpiresAt.After(open[0].BegunAt) {
		t.Fatalf("transactions %+v, want one of backend %d", open, pid)
	}
	id := tx.Subject()[strings.LastIndexByte(tx.Subject(), '.')+1:]
	if strings.Contains(r.stdout, id) {
		t.Errorf("the status shows the key to a transaction:\n%s", r.stdout)
	}
	wantResult(t, call(t, nil, "status", "--nats", s.bus.URL()), exitOK, open[0].Key, "")
	wantResult(t, call(t, nil, "status", "--every", "0s"), exitUsage, "", "--every")

	s.write(t, "faulty", "SELECT 'open")
	testenv.Wait(t, timeLimit, "the problem in the status", func() bool {
		r := call(t, nil, "status", "--nats", s.bus.URL())
		return r.code == exitFailed && strings.Contains(r.stdout, "is not ready: ") && strings.Contains(r.stdout, "faulty.sql")
	})
	watch := start(t, "status", "--watch", "--every", "10ms", "--nats", s.bus.URL(), "--json")
	testenv.Wait(t, timeLimit, "some showings", func() bool { return strings.Count(watch.stdout.String(), "\n") > 3 })
	watch.signal(t, 2)
	if code := watch.code(t); code != exitOK {
		t.Errorf("--watch ends with %d", code)
	}
}
