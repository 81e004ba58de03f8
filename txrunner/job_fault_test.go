package txrunner_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// problem waits until the runner names a problem with all the words.
func problem(t *testing.T, r *harness.Running, words ...string) {
	t.Helper()
	testenv.Wait(t, harness.Patience, "a problem with "+strings.Join(words, ", "), func() bool {
		all := strings.Join(r.Problems(), "\n")
		for _, word := range words {
			if !strings.Contains(all, word) {
				return false
			}
		}
		return true
	})
}

func ready(t *testing.T, r *harness.Running) {
	t.Helper()
	testenv.Wait(t, harness.Patience, "the runner to be ready", func() bool { return len(r.Problems()) == 0 })
}

func TestJobsNeedTheTable(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts + "; DROP SCHEMA pgbridge CASCADE")
	config := w.Config()
	withJobs(&config)
	r := harness.Launch(t, config)
	problem(t, r, "jobs:", "pgbridge migrate")
	id := w.submit("add", `{"params": {"n": 1}}`, "")
	w.rows("run.add", `{"params": {"n": 0}}`) // requests are served
	if info := w.consumerInfo(); info.Delivered.Consumer != 0 {
		t.Errorf("%d deliveries without the table", info.Delivered.Consumer)
	}
	w.Migrate()
	ready(t, r)
	harness.Equal(t, "the job", code(w.result("add", id)), "ok")

	w.SQL("DROP TABLE pgbridge.message_id") // while jobs are taken
	id = w.submit("add", `{"params": {"n": 1}}`, "")
	problem(t, r, "jobs:", "pgbridge migrate")
	w.Migrate()
	harness.Equal(t, "the job", code(w.result("add", id)), "ok")
	harness.Equal(t, "failed", counted(t, r, "failed"), 0)
}

func TestJobsNeedTheStreams(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	config := w.Config()
	config.Jobs = &txrunner.Jobs{}
	r := harness.Launch(t, config)
	problem(t, r, "jobs: stream PGBRIDGE_JOBS", "set create")
	create := func(c jetstream.StreamConfig) {
		t.Helper()
		// The server may still be removing the folder of a deleted stream.
		testenv.Wait(t, harness.Patience, "the stream to be created", func() bool {
			_, err := w.js.CreateStream(t.Context(), c)
			return err == nil
		})
	}
	create(jetstream.StreamConfig{Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.run.one"}, Retention: jetstream.WorkQueuePolicy})
	problem(t, r, "PGBRIDGE_JOBS", "does not hold pgbridge.job.run.>")
	if err := w.js.DeleteStream(t.Context(), "PGBRIDGE_JOBS"); err != nil {
		t.Fatal(err)
	}
	create(jetstream.StreamConfig{Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.>"}})
	problem(t, r, "PGBRIDGE_JOBS", "limits", "work queue")
	if err := w.js.DeleteStream(t.Context(), "PGBRIDGE_JOBS"); err != nil {
		t.Fatal(err)
	}
	queue := jetstream.StreamConfig{Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.>"}, Retention: jetstream.WorkQueuePolicy, MaxMsgs: 5}
	create(queue)
	problem(t, r, "PGBRIDGE_JOBS", "discard is old")
	queue.Discard = jetstream.DiscardNew
	if _, err := w.js.UpdateStream(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	problem(t, r, "jobs: stream PGBRIDGE_RESULTS", "set create")
	id := w.submit("add", `{"params": {"n": 1}}`, "")
	create(jetstream.StreamConfig{Name: "PGBRIDGE_RESULTS", Subjects: []string{"pgbridge.result.>"}})
	harness.Equal(t, "the job", code(w.result("add", id)), "ok")
	ready(t, r)
}

// A consumer that leaves the bodies out would have jobs fail that are good; one that is
// paused brings none.
func TestJobsNeedTheirConsumer(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"given": "SELECT @n::int"})
	s, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.run.>"}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable: "pgbridge_jobs", FilterSubject: "pgbridge.job.run.>", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, HeadersOnly: true,
	}); err != nil {
		t.Fatal(err)
	}
	config := w.Config()
	withJobs(&config)
	r := harness.Launch(t, config)
	id := w.submit("given", `{"params": {"n": 1}}`, "")
	problem(t, r, "jobs: stream PGBRIDGE_JOBS: consumer", "headers_only")
	if err := s.DeleteConsumer(t.Context(), "pgbridge_jobs"); err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "the job", code(w.result("given", id)), "ok")
	ready(t, r)
	if _, err := s.PauseConsumer(t.Context(), "pgbridge_jobs", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	id = w.submit("given", `{"params": {"n": 1}}`, "")
	problem(t, r, "jobs: stream PGBRIDGE_JOBS: consumer", "paused")
	if _, err := s.ResumeConsumer(t.Context(), "pgbridge_jobs"); err != nil {
		t.Fatal(err)
	}
	harness.Equal(t, "the job behind it", code(w.result("given", id)), "ok")
	ready(t, r)
}

// An operator's own subject lies within one that is missing; JetStream refuses a
// stream with both.
func TestJobStreamWithASubjectOfItsOperators(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"transfer": "SELECT 1"})
	_, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.run.transfer", "other"}, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Serve(withJobs)
	harness.Equal(t, "subjects", strings.Join(w.info("PGBRIDGE_JOBS").Config.Subjects, " "), "other pgbridge.job.run.>")
	w.result("transfer", w.submit("transfer", "", ""))
}

func TestJobsNeedJetStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"add": add})
	w.NATS = testenv.NATS(t, func(o *server.Options) { o.JetStream = false })
	config := w.Config()
	withJobs(&config)
	r := harness.Launch(t, config)
	problem(t, r, "jobs: stream PGBRIDGE_JOBS", "JetStream")
}

// A job is acknowledged only after its result: while the stream of results is
// away it is not, and it is not applied a second time afterwards.
func TestJobsWaitForTheResultStream(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	r := w.Serve(func(c *txrunner.Config) { c.Jobs = &txrunner.Jobs{Stream: txrunner.JobStream{Create: true}} }, w.results)
	if err := w.js.DeleteStream(t.Context(), "PGBRIDGE_RESULTS"); err != nil {
		t.Fatal(err)
	}
	ids := []string{w.submit("add", `{"params": {"n": 1}}`, ""), w.submit("add", `{"params": {"n": -500}}`, "poor")}
	problem(t, r, "jobs: stream PGBRIDGE_RESULTS")
	harness.Equal(t, "jobs in the stream", w.info("PGBRIDGE_JOBS").State.Msgs, uint64(2))
	w.results(nil)
	harness.Equal(t, "the job", w.result("add", ids[0]).Body, `{"results":[{"columns":[{"name":"balance","type":"numeric"},{"name":"caller","type":"text"}],`+
		`"rows":[[101,""]],"command":"UPDATE 1","rows_affected":1}],"attempts":1}`)
	harness.Equal(t, "the other", code(w.result("add", ids[1])), "sql_error")
	w.settled()
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "101")
}

// results makes the stream of results.
func (w *world) results(*txrunner.Config) {
	w.T.Helper()
	testenv.Wait(w.T, harness.Patience, "the stream to be created", func() bool {
		_, err := w.js.CreateStream(w.T.Context(), jetstream.StreamConfig{Name: "PGBRIDGE_RESULTS", Subjects: []string{"pgbridge.result.>"}})
		return err == nil
	})
}

// consumerInfo looks at the consumer of the jobs.
func (w *world) consumerInfo() *jetstream.ConsumerInfo {
	w.T.Helper()
	c, err := w.js.Consumer(w.T.Context(), "PGBRIDGE_JOBS", "pgbridge_jobs")
	if err != nil {
		w.T.Fatal(err)
	}
	return c.CachedInfo()
}

// Jobs wait for PostgreSQL, and no attempt is used up.
func TestJobsWaitForPostgreSQL(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	w := newJobWorld(t, map[string]string{"once": "INSERT INTO done VALUES (@n); SELECT pg_advisory_xact_lock_shared(7)"})
	w.Postgres = pg.NewDatabase(t)
	w.Migrate()
	w.SQL("CREATE TABLE done (n int)")
	holder, err := pgx.Connect(t.Context(), w.Postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())                                          // not before, by the garbage collector
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(7)"); err != nil { // until PostgreSQL dies
		t.Fatal(err)
	}
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts, c.Jobs.Concurrency = 1, 2 })
	var ids []string
	submit := func(n string) { ids = append(ids, w.submit("once", `{"params": {"n": `+n+`}}`, "")) }
	submit("1")
	submit("2")
	w.active(2, "lock_shared")
	pg.Kill(t) // while two are under way
	submit("3")
	testenv.Wait(t, harness.Patience, "jobs to be handed back", func() bool { return counted(t, r, "waiting") >= 2 })
	problem(t, r, "PostgreSQL")
	pg.Start(t)
	for _, id := range ids {
		a := w.result("once", id)
		harness.Equal(t, "a job", code(a), "ok")
		harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
	}
	w.settled()
	harness.Equal(t, "jobs applied", harness.Value[string](w.World, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM done"), "1 2 3")
	harness.Equal(t, "failed", counted(t, r, "failed")+counted(t, r, "retried"), 0)
}

// A busy script makes its jobs wait, and no attempt is used up.
func TestJobsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"hold": "-- concurrency: 1\nSELECT pg_sleep(@seconds)"})
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Attempts = 1 })
	holding := w.async("run.hold", `{"params": {"seconds": 7}}`)
	w.active(1, "pg_sleep")
	id := w.submit("hold", `{"params": {"seconds": 0}}`, "")
	a := w.result("hold", id)
	harness.Equal(t, "the job", code(a), "ok")
	harness.Equal(t, "Pgbridge-Attempts", a.Header.Get("Pgbridge-Attempts"), "1")
	harness.Equal(t, "the holder", code(<-holding), "ok")
	if counted(t, r, "waiting") == 0 {
		t.Error("the job did not wait")
	}
}

func TestJobsSurviveARestartOfNATS(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add, "slow": "UPDATE account SET balance = balance + 1 WHERE id = 2; SELECT pg_sleep(4)"})
	w.Client = w.NATS.Connect(t, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	var err error
	if w.js, err = jetstream.New(w.Client); err != nil {
		t.Fatal(err)
	}
	w.SQL(accounts)
	r := w.Serve(withJobs)
	slow := w.submit("slow", ``, "")
	w.active(1, "pg_sleep")
	w.NATS.Stop(t)
	w.NATS.Start(t)
	testenv.Wait(t, harness.Patience, "the client to be back", func() bool { return w.Client.Stats().Reconnects > 0 })
	ready(t, r)
	harness.Equal(t, "the job after", code(w.result("add", w.submit("add", `{"params": {"n": 1}}`, "after"))), "ok")
	harness.Equal(t, "the job under way", code(w.result("slow", slow)), "ok")
	w.settled()
	harness.Equal(t, "the balances", harness.Value[string](w.World, "SELECT string_agg(balance::text, ' ' ORDER BY id) FROM account"), "101 101")
}

// A stream that is deleted and made anew counts from 1 again, and its jobs are
// not taken for those of the old one.
func TestJobsOfANewStream(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	r := w.Serve(withJobs)
	for i := range 3 {
		w.result("add", w.submit("add", `{"params": {"n": 1}}`, ""))
		w.settled()
		if i == 2 {
			break
		}
		created := w.info("PGBRIDGE_JOBS").Created
		if err := w.js.DeleteStream(t.Context(), "PGBRIDGE_JOBS"); err != nil {
			t.Fatal(err)
		}
		testenv.Wait(t, harness.Patience, "the stream to be made anew", func() bool {
			s, err := w.js.Stream(t.Context(), "PGBRIDGE_JOBS")
			return err == nil && s.CachedInfo().Created.After(created)
		})
	}
	ready(t, r)
	harness.Equal(t, "the balance", harness.Value[string](w.World, "SELECT balance::text FROM account WHERE id = 1"), "103")
}

// The id of a job is kept for as long as the job may come again.
func TestIDsOfWaitingJobsAreKept(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add})
	w.SQL(accounts)
	r := w.Serve(withJobs)
	w.result("add", w.submit("add", `{"params": {"n": 1}}`, "done"))
	w.rows("run.add", `{"params": {"n": 1}}`, "Nats-Msg-Id", "request")
	w.settled()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	left := func() string {
		return harness.Value[string](w.World, "SELECT coalesce(string_agg(id, ' ' ORDER BY id), '') FROM pgbridge.message_id")
	}
	age := func() { w.SQL("UPDATE pgbridge.message_id SET created_at = now() - interval '30 minutes'") }
	keep := func(c *txrunner.Config) { c.KeepMessageIDs = time.Minute }
	age()
	w.leaveJob()
	r = w.Serve(withJobs, keep)
	testenv.Wait(t, harness.Patience, "the request's id to go", func() bool { return left() == "done" })
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	s, err := w.js.Stream(t.Context(), "PGBRIDGE_JOBS")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Serve(keep)
	w.Serve(withJobs, keep)
	testenv.Wait(t, harness.Patience, "the job's id to go", func() bool { return left() == "" })
}

// Jobs that take long leave requests their connections.
func TestJobsDoNotHoldUpRequests(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"wait": "SELECT pg_advisory_xact_lock(7)", "now": "SELECT 1"})
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.RunConnections, c.Jobs.Concurrency = 1, 2 })
	lock := w.serveLock(t)
	lock.take()
	for range 3 {
		w.submit("wait", ``, "")
	}
	w.active(2, "pg_advisory_xact_lock")
	harness.Equal(t, "rows", w.rows("run.now", ``), "[[1]]")
	lock.leave()
	w.settled()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
}

// A result that was stored when messages could be larger is not tried for ever.
func TestJobResultThatFitsNoMore(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"big": "SELECT repeat('x', 900000)"})
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "PGBRIDGE_JOBS", Subjects: []string{"pgbridge.job.>"}, Retention: jetstream.WorkQueuePolicy, Duplicates: 100 * time.Millisecond,
	}); err != nil {
		t.Fatal(err)
	}
	w.Serve(withJobs)
	w.result("big", w.submit("big", ``, "big"))
	w.settled()
	w.SQL("UPDATE pgbridge.message_id SET reply = repeat('x', 2000000)")
	results, err := w.js.Stream(t.Context(), "PGBRIDGE_RESULTS")
	if err == nil {
		err = results.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "the job to be taken for another one", func() bool {
		ack, err := w.js.Publish(t.Context(), "pgbridge.job.run.big", nil, jetstream.WithMsgID("big"))
		return err == nil && !ack.Duplicate
	})
	a := w.result("big", "big")
	harness.Equal(t, "the result", code(a), "too_large")
	if !strings.Contains(a.Error.Message, "was done") {
		t.Errorf("message %q", a.Error.Message)
	}
	w.settled()
}

// A result that the stream takes no message for is none, and keeps nobody else's job
// waiting.
func TestJobResultThatTheStreamDoesNotTake(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"big": "SELECT repeat('x', 5000)", "small": "SELECT 1"})
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "PGBRIDGE_RESULTS", Subjects: []string{"pgbridge.result.>"}, MaxMsgSize: 2000,
	}); err != nil {
		t.Fatal(err)
	}
	r := w.Serve(withJobs)
	a := w.result("big", w.submit("big", ``, "big"))
	harness.Equal(t, "the result", code(a), "too_large")
	w.settled()
	harness.Equal(t, "the small one", code(w.result("small", w.submit("small", ``, ""))), "ok")
	if n := r.Logs.FilterMessage("taking no jobs").Len(); n != 0 {
		t.Errorf("no jobs were taken %d times", n)
	}
}

func TestJobConfiguration(t *testing.T) {
	t.Parallel()
	config := txrunner.Config{Jobs: &txrunner.Jobs{
		Stream: txrunner.JobStream{Name: "a.b", Replicas: 7}, Results: txrunner.ResultStream{Name: "*", MaxAge: -1, Replicas: -1},
		Concurrency: -1, Attempts: -1,
	}}
	err := config.Validate()
	if err == nil {
		t.Fatal("Validate() = nil")
	}
	for _, key := range []string{
		"jobs.concurrency", "jobs.attempts", "streams.jobs.name", "streams.jobs.replicas",
		"streams.results.name", "streams.results.replicas", "streams.results.max_age",
	} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("Validate() = %v, want it to name %s", err, key)
		}
	}
	config.Jobs = &txrunner.Jobs{Results: txrunner.ResultStream{Name: "PGBRIDGE_JOBS"}}
	if err := config.Validate(); err == nil {
		t.Error("one stream for jobs and results was accepted")
	}
}

// leaveJob puts a job into the stream that nobody takes.
func (w *world) leaveJob() {
	w.T.Helper()
	s, err := w.js.Stream(w.T.Context(), "PGBRIDGE_JOBS")
	if err != nil {
		w.T.Fatal(err)
	}
	config := s.CachedInfo().Config
	config.Subjects = append(config.Subjects, "pgbridge.job.other.>")
	if _, err := w.js.UpdateStream(w.T.Context(), config); err != nil {
		w.T.Fatal(err)
	}
	if _, err := w.js.Publish(w.T.Context(), "pgbridge.job.other.later", nil); err != nil {
		w.T.Fatal(err)
	}
}

// A look at the streams does not find that NATS refuses the asking for jobs.
func TestJobsThatMayNotBeAskedFor(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"add": add}, func(o *server.Options) {
		o.Users = []*server.User{{Username: "anybody"}, {Username: "pgbridge", Password: "p", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.CONSUMER.MSG.NEXT.>"}},
		}}}
		o.NoAuthUser = "anybody"
	})
	w.SQL(accounts)
	config := w.Config()
	withJobs(&config)
	config.Transactions = harness.Requests(t, "nats://pgbridge:p@"+w.NATS.Addr())
	r := harness.Launch(t, config)
	const words = "NATS forbids asking the consumer: publish $JS.API.CONSUMER.MSG.NEXT.PGBRIDGE_JOBS.pgbridge_jobs"
	problem(t, r, "jobs:", words)
	taking := func() int { return r.Logs.FilterMessage("taking jobs").Len() }
	before := 0
	looks, err := w.Client.SubscribeSync("$JS.API.STREAM.INFO.PGBRIDGE_JOBS")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if i == 1 { // a look that was under way has ended
			before = taking()
		}
		if _, err := looks.NextMsg(harness.Patience); err != nil {
			t.Fatal(err)
		}
		problem(t, r, "jobs:", words)
	}
	harness.Equal(t, "that it takes jobs again", taking(), before)
	if err := config.Transactions.ForceReconnect(); err != nil { // what it may do can be another
		t.Fatal(err)
	}
	testenv.Wait(t, harness.Patience, "another attempt", func() bool { return taking() > before })
}
