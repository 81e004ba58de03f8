package client_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{runner: func(c *txrunner.Config) {
		c.Jobs = &txrunner.Jobs{Concurrency: 2, Attempts: 2, Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
	}})
	c := w.client(client.Options{})
	s := transfer("1")
	s.MessageID = "once"
	for i := range 2 { // the second time it is done already
		job, err := c.Job(w.ctx(), s)
		w.ok(err)
		if job.ID != "once" || job.Duplicate != (i == 1) || job.Stream != "PGBRIDGE_JOBS" || job.Sequence != 1 {
			t.Errorf("the job is %+v", job)
		}
		reply, err := job.Wait(w.ctx())
		w.ok(err)
		harness.Equal(t, "command", reply.Results[1].Command, "UPDATE 1")
	}
	harness.Equal(t, "transfers", w.count("transfer"), 1)

	job, err := c.Job(w.ctx(), transfer("100000"))
	w.ok(err)
	_, err = job.Wait(w.ctx())
	w.failure(err, client.CodeSQLError)

	js, err := jetstream.New(w.Client)
	w.ok(err)
	store, err := js.CreateObjectStore(w.ctx(), jetstream.ObjectStoreConfig{Bucket: "imports"})
	w.ok(err)
	_, err = store.PutString(w.ctx(), "new.csv", orders(100))
	w.ok(err)
	job, err = c.CopyJob(w.ctx(), client.Script{Name: "import_orders"}, client.Object{Bucket: "imports", Name: "new.csv"}, client.CopyOptions{})
	w.ok(err)
	n, err := job.Copied(w.ctx())
	w.ok(err)
	harness.Equal(t, "rows", n.Rows, 100)

	if _, err := w.client(client.Options{Caller: "alice"}).Job(w.ctx(), s); err == nil {
		t.Error("a job has a caller")
	}
}

func TestJobsAreOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	if _, err := w.client(client.Options{}).Job(w.ctx(), transfer("1")); err == nil || !strings.Contains(err.Error(), "are jobs turned on?") {
		t.Errorf("Job() = %v", err)
	}
}
