package txrunner_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/subject"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// newJobWorld has the table of message ids.
func newJobWorld(t *testing.T, scripts map[string]string, hooks ...func(*server.Options)) *world {
	t.Helper()
	w := newWorld(t, scripts, hooks...)
	w.Migrate()
	var err error
	if w.js, err = jetstream.New(w.Client, jetstream.WithPublishAsyncMaxPending(10_000)); err != nil {
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
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	s, err := w.js.Stream(ctx, stream)
	if err != nil {
		w.T.Fatalf("look at stream %s: %v", stream, err)
	}
	return s.CachedInfo()
}

// consumer makes the stream and the consumer as somebody who wants jobs of dead
// processes to be delivered again soon.
func (w *world) consumer(ackWait time.Duration) {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	s, err := w.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.>"}, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		w.T.Fatal(err)
	}
	if _, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "pgbridge_jobs", FilterSubject: "pgbridge.job.run.>", AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1,
	}); err != nil {
		w.T.Fatal(err)
	}
}

// submit publishes a job and returns its id.
func (w *world) submit(script, body, id string) string {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	msg := &nats.Msg{Subject: "pgbridge.job.run." + script, Data: []byte(body), Header: nats.Header{}}
	if id != "" {
		msg.Header.Set(nats.MsgIdHdr, id)
	}
	ack, err := w.js.PublishMsg(ctx, msg)
	if err != nil {
		w.T.Fatalf("publish a job: %v", err)
	}
	if id != "" {
		return id
	}
	return fmt.Sprintf("%d.%d", w.info(ack.Stream).Created.UnixNano(), ack.Sequence)
}

// word returns the last word on a job, nil while there is none.
func (w *world) word(script, id string) *harness.Reply {
	w.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	s, err := w.js.Stream(ctx, "PGBRIDGE_RESULTS")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		w.T.Fatal(err)
	}
	msg, err := s.GetLastMsgForSubject(ctx, "pgbridge.result."+script+"."+subject.Token(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		w.T.Fatal(err)
	}
	a := &harness.Reply{Header: msg.Header, Body: string(msg.Data)}
	if err := json.Unmarshal(msg.Data, a); err != nil {
		w.T.Fatalf("result %q of %s: %v", msg.Data, id, err)
	}
	return a
}

// result waits for the last word on a job.
func (w *world) result(script, id string) (a harness.Reply) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "the result of the job "+id, func() bool {
		found := w.word(script, id)
		if found != nil {
			a = *found
		}
		return found != nil
	})
	harness.Equal(w.T, "Pgbridge-Job", a.Header.Get("Pgbridge-Job"), id)
	return a
}

// settled waits until no job is left.
func (w *world) settled() {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "all jobs to be acknowledged", func() bool { return w.info("PGBRIDGE_JOBS").State.Msgs == 0 })
}

// counted returns how many deliveries of jobs came to an outcome.
func counted(t *testing.T, r *harness.Running, outcome string) int {
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
	w.SQL(accounts)
	r := w.Serve(withJobs)
	for i, id := range []string{"", "", "order 7/é.1", strings.Repeat("x", 256)} {
		id = w.submit("billing.add", `{"params": {"n": 1}}`, id)
		a := w.result("billing.add", id)
		harness.Equal(t, "the result", a.Body, fmt.Sprintf(`{"results":[{"columns":[{"name":"balance","type":"numeric"},{"name":"caller","type":"text"}],`+
			`"rows":[[%d,""]],"command":"UPDATE 1","rows_affected":1}],"attempts":1}`, 101+i))
		harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
	}
	w.settled()
	harness.Equal(t, "jobs done", counted(t, r, "done"), 4)
	harness.Equal(t, "workers that may wait", w.consumerInfo().Config.MaxWaiting, 16_384) // 512 are soon more than may
}

func TestJobIDsAreRunOnce(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	r := w.Serve(withJobs)
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
		testenv.Wait(t, harness.Patience, "the stream to forget the id", func() bool {
			ack, err := w.js.Publish(ctx, "pgbridge.job.run.add", []byte(`{"params": {"n": 1}}`), jetstream.WithMsgID("a"))
			return err == nil && !ack.Duplicate
		})
		w.settled()
		testenv.Wait(t, harness.Patience, "the job to be counted", func() bool { return counted(t, r, "done") == i+1 })
		if body := w.result("add", "a").Body; first == "" {
			first = body
		} else {
			harness.Equal(t, "the result again", body, first)
		}
	}
	testenv.Wait(t, harness.Patience, "the stream to forget the id", func() bool {
		ack, err := w.js.Publish(ctx, "pgbridge.job.run.add", []byte(`{"params": {"n": 2}}`), jetstream.WithMsgID("a"))
		return err == nil && !ack.Duplicate
	})
	testenv.Wait(t, harness.Patience, "another job with the id to be refused", func() bool { return counted(t, r, "failed") == 1 })
	harness.Equal(t, "the result stays", w.result("add", "a").Body, first)
	for i, body := range []string{`{"params"`, `{"params": {"n": "one"}}`, `{"unknown": 1}`} { // errors that come before the id is looked at
		testenv.Wait(t, harness.Patience, "the stream to forget the id", func() bool {
			ack, err := w.js.Publish(ctx, "pgbridge.job.run.add", []byte(body), jetstream.WithMsgID("a"))
			return err == nil && !ack.Duplicate
		})
		testenv.Wait(t, harness.Patience, "a broken job with the id to be refused", func() bool { return counted(t, r, "failed") == i+2 })
		harness.Equal(t, "the result stays", w.result("add", "a").Body, first)
	}
	w.rows("run.add", `{"params": {"n": 10}}`, "Nats-Msg-Id", "a") // a request's ids are others
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "111")
	harness.Equal(t, "results", w.info("PGBRIDGE_RESULTS").State.Msgs, uint64(1))
}

// The headers of a job are bounded as a request's are, and none of them is read then.
func TestJobWithManyHeaders(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	w.Serve(withJobs)
	w.result("add", w.submit("add", `{"params": {"n": 1}}`, "")) // the stream is there
	many := nats.Header{nats.MsgIdHdr: {"many"}}
	for i := range 64 {
		many.Set(fmt.Sprint("x-", i), "")
	}
	ack, err := w.js.PublishMsg(t.Context(), &nats.Msg{Subject: "pgbridge.job.run.add", Header: many, Data: []byte(`{"params": {"n": 1}}`)})
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%d.%d", w.info(ack.Stream).Created.UnixNano(), ack.Sequence)
	harness.Equal(t, "the result", code(w.result("add", id)), "invalid_request")
}

func TestJobsCountInTheMemoryOfRequests(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"length": "SELECT length(@p::text)"})
	w.Serve(withJobs, func(c *txrunner.Config) { c.RequestBytes, c.Share = 1<<20, 1 })
	body := func(n int) string { return fmt.Sprintf(`{"params": {"p": "%s"}}`, strings.Repeat("x", n)) }
	w.submit("length", body(300_000), "small")
	harness.Equal(t, "rows", string(w.result("length", "small").Results[0].Rows), "[[300000]]")
	w.submit("length", body(1_048_000), "large")
	harness.Equal(t, "a job larger than all memory there is", code(w.result("length", "large")), "too_large")
}

func TestPoisonJobs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add, "out": "COPY account TO STDOUT"})
	w.SQL(accounts)
	r := w.Serve(withJobs)
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
		harness.Equal(t, c.script+c.body, code(a), c.want)
		if a.Header.Get("Nats-Service-Error-Code") == "" || a.Header.Get("Pgbridge-Attempts") != "1" {
			t.Errorf("%s: headers %v", c.script, a.Header)
		}
	}
	// An id that is none, and a script's name that is too long for a subject.
	ack, err := w.js.Publish(t.Context(), "pgbridge.job.run.add", []byte(`{"params": {"n": 1}}`), jetstream.WithMsgID(strings.Repeat("x", 257)))
	if err != nil {
		t.Fatal(err)
	}
	serial := fmt.Sprintf("%d.%d", w.info("PGBRIDGE_JOBS").Created.UnixNano(), ack.Sequence)
	harness.Equal(t, "an id of 257 bytes", code(w.result("add", serial)), "invalid_request")
	w.submit(strings.Repeat("é", 700), ``, "long")
	w.settled()
	testenv.Wait(t, harness.Patience, "the jobs to be counted", func() bool { return counted(t, r, "failed") == len(bad)+2 })
	harness.Equal(t, "results", w.info("PGBRIDGE_RESULTS").State.Msgs, uint64(len(bad)+2))
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
		"slow":     "-- timeout: 500ms\nSELECT nextval('tries'), pg_sleep(60)",
	})
	w.SQL("CREATE SEQUENCE tries")
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 3 })
	tries := func() int { return harness.Value[int](w.World, "SELECT last_value::int FROM tries") }
	a := w.result("flaky", w.submit("flaky", ``, ""))
	harness.Equal(t, "flaky", code(a), "ok")
	harness.Equal(t, "its attempts", a.Header.Get("Pgbridge-Attempts"), "3")
	harness.Equal(t, "its runs", tries(), 3)
	harness.Equal(t, "deliveries that failed", counted(t, r, "retried"), 2)
	for round := range 2 { // a finished job's failures are forgotten with it
		id := fmt.Sprint("again ", round)
		a = w.result("hopeless", w.submit("hopeless", ``, id))
		harness.Equal(t, "hopeless", code(a), "conflict")
		harness.Equal(t, "its attempts", a.Header.Get("Pgbridge-Attempts"), "3")
		harness.Equal(t, "all runs", tries(), 3+3*(round+1))
	}
	a = w.result("slow", w.submit("slow", ``, ""))
	harness.Equal(t, "slow", code(a), "timeout")
	harness.Equal(t, "its attempts", a.Header.Get("Pgbridge-Attempts"), "3")
	w.settled()
	testenv.Wait(t, harness.Patience, "the failures to be forgotten", func() bool {
		return harness.Value[int](w.World, "SELECT count(*)::int FROM pgbridge.message_id WHERE kind = 'job-failures'") == 0
	})
}

// A job whose id somebody else is about to commit waits for the outcome: to give
// up would be to harness.Reply with an error what is then done.
func TestJobsWaitForTheirID(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": "-- timeout: 1s\n" + add})
	w.SQL(accounts)
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 1 })
	other := connect(t, w.Postgres)
	for _, sql := range []string{"BEGIN", `INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request)
		VALUES ('pgbridge', '', 'job', 'add', 'held', '')`} {
		if _, err := other.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.submit("add", `{"params": {"n": 1}}`, "held")
	testenv.Wait(t, harness.Patience, "the job to be tried and handed back", func() bool { return counted(t, r, "waiting") > 1 })
	if a := w.word("add", "held"); a != nil {
		t.Errorf("the result is %s before there can be one", a.Body)
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "the job", code(w.result("add", "held")), "ok")
}

// A long script is run once, though it takes several times what JetStream waits
// for an acknowledgement.
func TestLongJobs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"long": "SELECT nextval('tries'); SELECT pg_sleep(2)"})
	w.SQL("CREATE SEQUENCE tries")
	w.consumer(500 * time.Millisecond)
	w.Serve(withJobs)
	harness.Equal(t, "long", code(w.result("long", w.submit("long", ``, ""))), "ok")
	w.settled()
	harness.Equal(t, "runs", harness.Value[int](w.World, "SELECT last_value::int FROM tries"), 1)
}

// What somebody took and did not acknowledge in time is delivered again.
func TestJobsAreDeliveredAgain(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	w.consumer(500 * time.Millisecond)
	id := w.submit("add", `{"params": {"n": 1}}`, "")
	consumer, err := w.js.Consumer(t.Context(), "PGBRIDGE_JOBS", "pgbridge_jobs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Next(); err != nil { // and dies
		t.Fatal(err)
	}
	w.Serve(withJobs)
	a := w.result("add", id)
	harness.Equal(t, "the job", code(a), "ok")
	harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
}

func TestJobsAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"slow": "UPDATE account SET balance = balance + 1 WHERE id = 1; SELECT pg_sleep(@seconds)"})
	w.SQL(accounts)
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Concurrency = 1 })
	first := w.submit("slow", `{"params": {"seconds": 6}}`, "")
	second := w.submit("slow", `{"params": {"seconds": 0}}`, "")
	w.active(1, "pg_sleep")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "the job under way", code(w.result("slow", first)), "ok")
	if w.word("slow", second) != nil {
		t.Error("a job was begun after the stop")
	}
	w.Serve(withJobs)
	harness.Equal(t, "the other job", code(w.result("slow", second)), "ok")
}

// A job whose grace is over is rolled back and left to the next process.
func TestJobsOverTheGrace(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"slow": "UPDATE account SET balance = balance + 1 WHERE id = 1; SELECT pg_sleep(CASE nextval('tries') WHEN 1 THEN 60 ELSE 0 END)"})
	w.SQL(accounts + "; CREATE SEQUENCE tries")
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.StopGrace = 100 * time.Millisecond })
	id := w.submit("slow", ``, "")
	w.active(1, "pg_sleep")
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	w.Serve(withJobs)
	a := w.result("slow", id)
	harness.Equal(t, "the job", code(a), "ok")
	harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

// A job that takes its session with it, again and again, is given up, and the result
// says why.
func TestJobsThatEndTheirSessionAreGivenUp(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"suicide": "INSERT INTO tried VALUES (nextval('runs')); SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)", "add": add})
	w.SQL(accounts + "; CREATE SEQUENCE runs; CREATE TABLE tried (n int)")
	r := w.Serve(withJobs)
	a := w.result("suicide", w.submit("suicide", ``, "deadly"))
	harness.Equal(t, "the code", code(a), "unavailable")
	if !strings.Contains(a.Body, "given up: 5 runs") || a.Error.Retryable {
		t.Errorf("the result does not say why: %s", a.Body)
	}
	harness.Equal(t, "how often it was run", harness.Value[int](w.World, "SELECT last_value::int FROM runs"), 5)
	w.settled()
	testenv.Wait(t, harness.Patience, "the job to be counted", func() bool { return counted(t, r, "failed") == 1 })
	harness.Equal(t, "counts that are left", harness.Value[int](w.World, "SELECT count(*)::int FROM pgbridge.message_id WHERE kind <> 'job'"), 0)
}

// A subject can hold bytes that PostgreSQL stores in no text.
func TestJobsOfNamesThatAreNoText(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"one": "SELECT 1"})
	w.Serve(withJobs)
	w.submit("\xff", ``, "strange")
	w.submit("one", ``, "after")
	harness.Equal(t, "the code", code(w.result("%FF", "strange")), "not_found")
	harness.Equal(t, "the next", code(w.result("one", "after")), "ok")
	w.settled()
}
