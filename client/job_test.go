package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/client/operate"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
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

// TestForgedJobResult has somebody, who may leave jobs of another script, have the stream's
// acknowledgement sent to where a job's result goes, before there is one and once it is kept.
func TestForgedJobResult(t *testing.T) {
	t.Parallel()
	nc := testenv.NATS(t).Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{"PGBRIDGE_JOBS": "pgbridge.job.>", "PGBRIDGE_RESULTS": "pgbridge.result.>"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(nc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const result = "pgbridge.result.slow.one"
	said, err := nc.SubscribeSync(result)
	if err != nil {
		t.Fatal(err)
	}
	forge := func() {
		t.Helper()
		if err := nc.PublishRequest("pgbridge.job.run.other", result, nil); err != nil {
			t.Fatal(err)
		}
		if m, err := said.NextMsg(harness.Patience); err != nil || !strings.Contains(string(m.Data), `"PGBRIDGE_JOBS"`) {
			t.Fatalf("the stream's acknowledgement: %v, %v", m, err)
		}
	}
	job, err := c.Job(t.Context(), client.Script{Name: "slow", MessageID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	forge()
	o, err := operate.New(nc, operate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := o.Results(t.Context(), 10); err != nil || len(list) != 0 {
		t.Errorf("Results() = %+v, %v, want none", list, err)
	}
	if _, err := o.Result(t.Context(), "one"); !errors.Is(err, operate.ErrNoJob) {
		t.Errorf("Result() = %v, want %v", err, operate.ErrNoJob)
	}
	failed := &nats.Msg{Subject: result, Header: nats.Header{
		"Pgbridge-Job": {"one"}, "Nats-Service-Error-Code": {"422"}, "Nats-Service-Error": {"refused"},
	}, Data: []byte(`{"error": {"code": "sql_error", "message": "refused"}}`)}
	if _, err := js.PublishMsg(t.Context(), failed); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	var failure *client.Error
	if reply, err := job.Wait(ctx); !errors.As(err, &failure) || failure.Code != client.CodeSQLError {
		t.Errorf("Wait() = %+v, %v, want the error", reply, err)
	}
}

func TestJobsAreOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	if _, err := w.client(client.Options{}).Job(w.ctx(), transfer("1")); err == nil || !strings.Contains(err.Error(), "are jobs turned on?") {
		t.Errorf("Job() = %v", err)
	}
}
