package operate

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// Whoever leaves a job chooses its headers: those that cannot be read, or look like what
// JetStream says of a message, hide no job.
func TestJobsWithAnyHeaders(t *testing.T) {
	t.Parallel()
	bus := testenv.NATS(t)
	nc := bus.Connect(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for name, subject := range map[string]string{"PGBRIDGE_JOBS": "pgbridge.job.>", "PGBRIDGE_FAILED": "pgbridge.failed.>"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}, AllowDirect: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, header := range []string{
		"NATS/1.0\r\nNats-Msg-Id: first\r\n\r\n",
		"NATS/1.0\r\nnonsense\r\nNats-Msg-Id: a\r\n\r\n",
		"NATS/1.0\r\nNats-Sequence: 1\r\nNats-Subject: elsewhere\r\n\r\n",
		"NATS/1.0\r\nStatus: 404\r\n\r\n",
		"NATS/1.0\r\nNats-Msg-Id: last\r\n\r\n",
	} {
		testenv.PublishRaw(t, bus.Addr(), "pgbridge.job.run.x", "", header, "")
	}
	want := []string{"first", "", "", "", "last"}
	testenv.Wait(t, time.Minute, "the jobs to be stored", func() bool {
		s, err := js.Stream(t.Context(), "PGBRIDGE_JOBS")
		return err == nil && s.CachedInfo().State.Msgs == uint64(len(want))
	})
	o, err := New(nc, Options{})
	if err != nil {
		t.Fatal(err)
	}
	jobs, total, err := o.Jobs(t.Context(), 100)
	if err != nil || total != len(want) || len(jobs) != len(want) {
		t.Fatalf("Jobs() = %+v, %d, %v, want %d", jobs, total, err, len(want))
	}
	for i, job := range jobs {
		if job.ID != want[i] || job.Sequence != uint64(i+1) || job.Script != "x" {
			t.Errorf("job %d is %+v, want the id %q", i, job, want[i])
		}
	}
	for _, id := range []string{"last", "2", "3"} { // those without an id are known by their place
		if err := o.Remove(t.Context(), id); err != nil {
			t.Errorf("Remove(%s) = %v", id, err)
		}
	}
	if err := o.Remove(t.Context(), "2"); !errors.Is(err, ErrNoJob) {
		t.Errorf("Remove(2) = %v", err)
	}
}
