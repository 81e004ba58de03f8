package txrunner_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

const trialAccounts = 200

var trialScripts = map[string]string{"move": `-- isolation: serializable
UPDATE account SET balance = balance - @amount WHERE id = @source;
UPDATE account SET balance = balance + @amount WHERE id = @target;
INSERT INTO applied VALUES (@job);
`}

// Two processes move money and are killed again and again: every job is applied
// once, has one result, and no money is lost or made.
func TestJobsSurviveKills(t *testing.T) {
	t.Parallel()
	trialJobs := 10_000
	if testing.Short() {
		trialJobs = 3_000
	}
	w := newJobWorld(t, trialScripts)
	w.SQL(fmt.Sprintf(`CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
		INSERT INTO account SELECT g, 1000 FROM generate_series(1, %d) g;
		CREATE TABLE applied (job int NOT NULL)`, trialAccounts))
	w.consumer(time.Second)
	submitMany(t, w, trialJobs)

	kills := killAndRestart(t, w, trialJobs)
	t.Logf("%d processes killed", kills)
	if kills < 4 {
		t.Errorf("%d processes were killed, want at least 4 to prove anything", kills)
	}
	harness.Equal(t, "sum of all balances", harness.Value[int](w.World, "SELECT sum(balance)::int FROM account"), trialAccounts*1000)
	harness.Equal(t, "jobs applied", harness.Value[string](w.World, "SELECT count(*) || ' ' || count(DISTINCT job) || ' ' || min(job) || ' ' || max(job) FROM applied"),
		fmt.Sprintf("%d %d 0 %d", trialJobs, trialJobs, trialJobs-1))
	checkTrialResults(t, w, trialJobs)
}

// submitMany publishes the jobs, every other one with an id of its own.
func submitMany(t *testing.T, w *world, n int) {
	t.Helper()
	for i := range n {
		source, target := rand.IntN(trialAccounts)+1, rand.IntN(trialAccounts)+1
		body := fmt.Sprintf(`{"params": {"job": %d, "source": %d, "target": %d, "amount": %d}}`, i, source, target, rand.IntN(100))
		var opts []jetstream.PublishOpt
		if i%2 == 0 {
			opts = append(opts, jetstream.WithMsgID(fmt.Sprintf("job %d", i)))
		}
		if _, err := w.js.PublishAsync("pgbridge.job.run.move", []byte(body), opts...); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-time.After(harness.Patience):
		t.Fatal("the jobs were not stored in time")
	}
	harness.Equal(t, "jobs stored", w.info("PGBRIDGE_JOBS").State.Msgs, uint64(n))
}

// killAndRestart keeps two processes, kills one of them every few hundred jobs,
// and returns how many it killed when no jobs are left.
func killAndRestart(t *testing.T, w *world, trialJobs int) (kills int) {
	t.Helper()
	jobs := txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}, Attempts: 1000}
	running := []*testenv.Child{w.spawn(jobs), w.spawn(jobs)}
	some := func() int { return 100 + rand.IntN(trialJobs/10) }
	next := trialJobs - some()
	testenv.Wait(t, 5*harness.Patience, "all jobs to be done", func() bool {
		left := int(w.info("PGBRIDGE_JOBS").State.Msgs)
		if left < next {
			i := rand.IntN(2)
			running[i].Kill()
			running[i] = w.spawn(jobs)
			kills++
			next = left - some()
		}
		return left == 0
	})
	return kills
}

func checkTrialResults(t *testing.T, w *world, trialJobs int) {
	t.Helper()
	state := w.info("PGBRIDGE_RESULTS").State
	harness.Equal(t, "results", state.Msgs, uint64(trialJobs))
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	results, err := w.js.OrderedConsumer(ctx, "PGBRIDGE_RESULTS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := results.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for range state.Msgs {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(msg.Data()), `{"results":[{"command":"UPDATE 1","rows_affected":1},`) || msg.Headers().Get("Pgbridge-Job") == "" {
			t.Fatalf("%s: %v %s", msg.Subject(), msg.Headers(), msg.Data())
		}
	}
}
