package txrunner_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// TestWaitingJobsAreCounted has jobs wait behind one that waits for a lock.
func TestWaitingJobsAreCounted(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"wait": "LOCK TABLE gate IN ACCESS EXCLUSIVE MODE"})
	w.SQL("CREATE TABLE gate ()")
	w.consumer(time.Minute)
	ctx := context.Background()
	holder, err := pgx.Connect(ctx, w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(ctx)
	if _, err := holder.Exec(ctx, "BEGIN; LOCK TABLE gate"); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "b", "c"} {
		w.submit("wait", "", id)
	}
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Concurrency = 1 })
	testenv.Wait(t, harness.Patience, "a job to run", func() bool { return metric(t, r, "pgbridge_jobs_running") == 1 })
	harness.Equal(t, "jobs", metric(t, r, "pgbridge_jobs_waiting")+metric(t, r, "pgbridge_jobs_unacknowledged"), 3)
	if age := metric(t, r, "pgbridge_jobs_oldest_seconds"); age <= 0 || age > 600 {
		t.Errorf("the oldest is %v s old", age)
	}
	if _, err := holder.Exec(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "all jobs to be done", func() bool { return metric(t, r, "pgbridge_jobs_total") == 3 })
	harness.Equal(t, "attempts", metric(t, r, "pgbridge_job_attempts_total"), 3)
	harness.Equal(t, "runs", metric(t, r, "pgbridge_runs_total"), 3)
}
