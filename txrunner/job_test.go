package txrunner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// newJobWorld has the table of message ids.
func newJobWorld(t *testing.T, scripts map[string]string) *world {
	t.Helper()
	w := newWorld(t, scripts)
	w.migrate()
	var err error
	if w.js, err = jetstream.New(w.client, jetstream.WithPublishAsyncMaxPending(trialJobs)); err != nil {
		t.Fatal(err)
	}
	return w
}

// withJobs turns jobs on, and lets the streams be created.
func withJobs(c *txrunner.Config) {
	c.Jobs = &txrunner.Jobs{Stream: txrunner.JobStream{Create: true}, Results: txrunner.ResultStream{Create: true}}
}

// info looks at a stream.
func (w *world) info(stream string) *jetstream.StreamInfo {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := w.js.Stream(ctx, stream)
	if err != nil {
		w.t.Fatalf("look at stream %s: %v", stream, err)
	}
	return s.CachedInfo()
}

// consumer makes the stream and the consumer as somebody who wants jobs of dead
// processes to be delivered again soon.
func (w *world) consumer(ackWait time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := w.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.>"}, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "pgbridge_jobs", FilterSubject: "pgbridge.job.run.>", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1,
	}); err != nil {
		w.t.Fatal(err)
	}
}

// submit publishes a job and returns its id.
func (w *world) submit(script, body, id string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	msg := &nats.Msg{Subject: "pgbridge.job.run." + script, Data: []byte(body), Header: nats.Header{}}
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	ack, err := w.js.PublishMsg(ctx, msg)
	if err != nil {
		w.t.Fatalf("publish a job: %v", err)
	}
	if id != "" {
		return id
	}
	return fmt.Sprintf("%d.%d", w.info(ack.Stream).Created.UnixNano(), ack.Sequence)
}

// word returns the last word on a job, nil while there is none.
func (w *world) word(script, id string) *answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := w.js.Stream(ctx, "PGBRIDGE_RESULTS")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	msg, err := s.GetLastMsgForSubject(ctx, "pgbridge.result."+script+"."+subject.Token(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	a := &answer{header: msg.Header, body: string(msg.Data)}
	if err := json.Unmarshal(msg.Data, a); err != nil {
		w.t.Fatalf("result %q of %s: %v", msg.Data, id, err)
	}
	return a
}

// result waits for the last word on a job.
func (w *world) result(script, id string) (a answer) {
	w.t.Helper()
	testenv.Wait(w.t, patience, "the result of the job "+id, func() bool {
		found := w.word(script, id)
		if found != nil {
			a = *found
		}
		return found != nil
	})
	equal(w.t, "Pgbridge-Job", a.header.Get("Pgbridge-Job"), id)
	return a
}

// settled waits until no job is left.
func (w *world) settled() {
	w.t.Helper()
	testenv.Wait(w.t, patience, "all jobs to be acknowledged", func() bool { return w.info("PGBRIDGE_JOBS").State.Msgs == 0 })
}

// counted returns how many deliveries of jobs came to an outcome.
func counted(t *testing.T, r *running, outcome string) int {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r.Runner)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "pgbridge_jobs_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == outcome {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

const add = "UPDATE account SET balance = balance + @n WHERE id = 1 RETURNING balance, current_setting('pgbridge.caller') AS caller"

func TestJobs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"billing/add": add})
	w.sql(accounts)
	r := w.serve(withJobs)
	for i, id := range []string{"", "", "order 7/é.1", strings.Repeat("x", 256)} {
		id = w.submit("billing.add", `{"params": {"n": 1}}`, id)
		a := w.result("billing.add", id)
		equal(t, "the result", a.body, fmt.Sprintf(`{"results":[{"columns":[{"name":"balance","type":"numeric"},{"name":"caller","type":"text"}],`+
			`"rows":[[%d,""]],"command":"UPDATE 1","rows_affected":1}],"attempts":1}`, 101+i))
		equal(t, "Pgbridge-Attempts", a.header.Get("Pgbridge-Attempts"), "1")
	}
	w.settled()
	equal(t, "jobs done", counted(t, r, "done"), 4)
}

func TestJobIDsAreRunOnce(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.sql(accounts)
	r := w.serve(withJobs)
	ctx := t.Context()
	// The stream itself drops what it has seen within two minutes.
	s, err := w.js.Stream(ctx, "PGBRIDGE_JOBS")
	if err != nil {
		t.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Duplicates = 100 * time.Millisecond
	if _, err := w.js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	first := ""
	for i := range 3 {
		testenv.Wait(t, patience, "the stream to forget the id", func() bool {
			ack, err := w.js.Publish(ctx, "pgbridge.job.run.add", []byte(`{"params": {"n": 1}}`), jetstream.WithMsgID("a"))
			return err == nil && !ack.Duplicate
		})
		w.settled()
		testenv.Wait(t, patience, "the job to be counted", func() bool { return counted(t, r, "done") == i+1 })
		if body := w.result("add", "a").body; first == "" {
			first = body
		} else {
			equal(t, "the result again", body, first)
		}
	}
	testenv.Wait(t, patience, "the stream to forget the id", func() bool {
		ack, err := w.js.Publish(ctx, "pgbridge.job.run.add", []byte(`{"params": {"n": 2}}`), jetstream.WithMsgID("a"))
		return err == nil && !ack.Duplicate
	})
	testenv.Wait(t, patience, "another job with the id to be refused", func() bool { return counted(t, r, "failed") == 1 })
	equal(t, "the result stays", w.result("add", "a").body, first)
	w.rows("run.add", `{"params": {"n": 10}}`, "Nats-Msg-Id", "a") // a request's ids are others
	equal(t, "the balance", value[string](w, "SELECT balance::text FROM account WHERE id = 1"), "111")
	equal(t, "results", w.info("PGBRIDGE_RESULTS").State.Msgs, uint64(1))
}

func TestPoisonJobs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add, "out": "COPY account TO STDOUT"})
	w.sql(accounts)
	r := w.serve(withJobs)
	bad := []struct{ script, body, id, want string }{
		{"nothing.at.all", ``, "", "not_found"},
		{"add", `{"params"`, "", "invalid_request"},
		{"add", `{}`, "b", "invalid_request"},
		{"add", `{"sql": "SELECT 1"}`, "", "invalid_request"},
		{"out", ``, "", "invalid_request"},
		{"add", `{"params": {"n": "one"}}`, "", "sql_error"},
		{"add", `{"params": {"n": -500}}`, "", "sql_error"},
	}
	for _, c := range bad {
		a := w.result(c.script, w.submit(c.script, c.body, c.id))
		equal(t, c.script+c.body, code(a), c.want)
		if a.header.Get("Nats-Service-Error-Code") == "" || a.header.Get("Pgbridge-Attempts") != "1" {
			t.Errorf("%s: headers %v", c.script, a.header)
		}
	}
	// An id that is none, and a script's name that is too long for a subject.
	ack, err := w.js.Publish(t.Context(), "pgbridge.job.run.add", []byte(`{"params": {"n": 1}}`), jetstream.WithMsgID(strings.Repeat("x", 257)))
	if err != nil {
		t.Fatal(err)
	}
	serial := fmt.Sprintf("%d.%d", w.info("PGBRIDGE_JOBS").Created.UnixNano(), ack.Sequence)
	equal(t, "an id of 257 bytes", code(w.result("add", serial)), "invalid_request")
	w.submit(strings.Repeat("é", 700), ``, "long")
	w.settled()
	testenv.Wait(t, patience, "the jobs to be counted", func() bool { return counted(t, r, "failed") == len(bad)+2 })
	equal(t, "results", w.info("PGBRIDGE_RESULTS").State.Msgs, uint64(len(bad)+2))
	if _, err := w.js.Publish(t.Context(), "pgbridge.job.explode", nil); err == nil {
		t.Error("a job that nobody can take was stored")
	}
}

func TestJobsAreTriedAgain(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{
		"flaky": `-- isolation: read committed
SELECT nextval('tries') AS try; DO $$ BEGIN IF currval('tries') < 3 THEN RAISE serialization_failure; END IF; END $$`,
		"hopeless": `DO $$ BEGIN PERFORM nextval('tries'); RAISE deadlock_detected; END $$`,
		"slow":     "-- timeout: 50ms\nSELECT nextval('tries'), pg_sleep(60)",
	})
	w.sql("CREATE SEQUENCE tries")
	r := w.serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 3 })
	tries := func() int { return value[int](w, "SELECT last_value::int FROM tries") }
	a := w.result("flaky", w.submit("flaky", ``, ""))
	equal(t, "flaky", code(a), "ok")
	equal(t, "its attempts", a.header.Get("Pgbridge-Attempts"), "3")
	equal(t, "its runs", tries(), 3)
	equal(t, "deliveries that failed", counted(t, r, "retried"), 2)
	for round := range 2 { // a finished job's failures are forgotten with it
		id := fmt.Sprint("again ", round)
		a = w.result("hopeless", w.submit("hopeless", ``, id))
		equal(t, "hopeless", code(a), "conflict")
		equal(t, "its attempts", a.header.Get("Pgbridge-Attempts"), "3")
		equal(t, "all runs", tries(), 3+3*(round+1))
	}
	a = w.result("slow", w.submit("slow", ``, ""))
	equal(t, "slow", code(a), "timeout")
	equal(t, "its attempts", a.header.Get("Pgbridge-Attempts"), "3")
	w.settled()
	testenv.Wait(t, patience, "the failures to be forgotten", func() bool {
		return value[int](w, "SELECT count(*)::int FROM pgbridge.message_id WHERE kind = 'job-failures'") == 0
	})
}

// A job whose id somebody else is about to commit waits for the outcome: to give
// up would be to answer with an error what is then done.
func TestJobsWaitForTheirID(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": "-- timeout: 100ms\n" + add})
	w.sql(accounts)
	r := w.serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 1 })
	other := connect(t, w.pg)
	for _, sql := range []string{"BEGIN", `INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request)
		VALUES ('pgbridge', '', 'job', 'add', 'held', '')`} {
		if _, err := other.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.submit("add", `{"params": {"n": 1}}`, "held")
	testenv.Wait(t, patience, "the job to be tried and handed back", func() bool { return counted(t, r, "waiting") > 1 })
	if a := w.word("add", "held"); a != nil {
		t.Errorf("the result is %s before there can be one", a.body)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	equal(t, "the job", code(w.result("add", "held")), "ok")
}

// A long script is run once, though it takes several times what JetStream waits
// for an acknowledgement.
func TestLongJobs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"long": "SELECT nextval('tries'); SELECT pg_sleep(2)"})
	w.sql("CREATE SEQUENCE tries")
	w.consumer(500 * time.Millisecond)
	w.serve(withJobs)
	equal(t, "long", code(w.result("long", w.submit("long", ``, ""))), "ok")
	w.settled()
	equal(t, "runs", value[int](w, "SELECT last_value::int FROM tries"), 1)
}

// What somebody took and did not acknowledge in time is delivered again.
func TestJobsAreDeliveredAgain(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.sql(accounts)
	w.consumer(500 * time.Millisecond)
	id := w.submit("add", `{"params": {"n": 1}}`, "")
	consumer, err := w.js.Consumer(t.Context(), "PGBRIDGE_JOBS", "pgbridge_jobs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(); err != nil { // and dies
		t.Fatal(err)
	}
	w.serve(withJobs)
	a := w.result("add", id)
	equal(t, "the job", code(a), "ok")
	equal(t, "Pgbridge-Attempts", a.header.Get("Pgbridge-Attempts"), "1")
}

func TestJobsAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"slow": "UPDATE account SET balance = balance + 1 WHERE id = 1; SELECT pg_sleep(@seconds)"})
	w.sql(accounts)
	r := w.serve(withJobs, func(c *txrunner.Config) { c.Jobs.Concurrency = 1 })
	first := w.submit("slow", `{"params": {"seconds": 1}}`, "")
	second := w.submit("slow", `{"params": {"seconds": 0}}`, "")
	w.active(1, "pg_sleep")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	equal(t, "the job under way", code(w.result("slow", first)), "ok")
	if w.word("slow", second) != nil {
		t.Error("a job was begun after the stop")
	}
	w.serve(withJobs)
	equal(t, "the other job", code(w.result("slow", second)), "ok")
}

// A job whose grace is over is rolled back and left to the next process.
func TestJobsOverTheGrace(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"slow": "UPDATE account SET balance = balance + 1 WHERE id = 1; SELECT pg_sleep(CASE nextval('tries') WHEN 1 THEN 60 ELSE 0 END)"})
	w.sql(accounts + "; CREATE SEQUENCE tries")
	r := w.serve(withJobs, func(c *txrunner.Config) { c.StopGrace = 100 * time.Millisecond })
	id := w.submit("slow", ``, "")
	w.active(1, "pg_sleep")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.serve(withJobs)
	a := w.result("slow", id)
	equal(t, "the job", code(a), "ok")
	equal(t, "Pgbridge-Attempts", a.header.Get("Pgbridge-Attempts"), "1")
	equal(t, "the balance", value[string](w, "SELECT balance::text FROM account WHERE id = 1"), "101")
}
