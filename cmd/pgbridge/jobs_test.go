package main

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// TestJobs lists, shows, tries again and removes jobs.
func TestJobs(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	jobs := func(args ...string) result {
		t.Helper()
		return call(t, nil, append(append([]string{"jobs"}, args...), "--nats", s.bus.URL())...)
	}
	wantResult(t, jobs("ls"), exitFailed, "", "read the stream PGBRIDGE_JOBS")
	wantResult(t, call(t, nil, append([]string{"migrate", "--set", "jobs=true"}, s.args()...)...), exitOK, "", "")
	leave := func(code int, id string, args ...string) {
		t.Helper()
		wantResult(t, s.run(t, append([]string{"--job", "--id", id, "transfer"}, args...)...), code, "", "")
	}
	leave(exitOK, "unwanted", "source:=1", "target:=2", "amount:=100", "--no-wait")
	wantResult(t, jobs("ls"), exitOK, "unwanted  transfer  waiting", "")
	wantResult(t, jobs("ls", "--json"), exitOK, `"id":"unwanted","kind":"run","script":"transfer","state":"waiting","sequence":1`, "")
	wantResult(t, jobs("rm", "unwanted"), exitOK, "", "job unwanted is removed")
	wantResult(t, jobs("rm", "unwanted"), exitFailed, "", "job unwanted: no such job")

	// Whoever leaves a job chooses its id, another's too.
	leave(exitOK, "ours", "source:=1", "target:=2", "amount:=100", "--no-wait")
	js, err := jetstream.New(s.bus.Connect(t))
	if err != nil {
		t.Fatal(err)
	}
	theirs := &nats.Msg{Subject: "pgbridge.job.run.else", Header: nats.Header{"Pgbridge-Job": {"ours"}}}
	if _, err := js.PublishMsg(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	wantResult(t, jobs("rm", "ours"), exitFailed, "", "several jobs have this id: pgbridge.job.run.transfer, pgbridge.job.run.else")

	// One that has just failed can still be among those that are not done.
	leave(exitOK, "both", "source:=1", "target:=2", "amount:=100", "--no-wait")
	if _, err := js.Publish(t.Context(), "pgbridge.failed.transfer.both", nil); err != nil {
		t.Fatal(err)
	}
	wantResult(t, jobs("rm", "both"), exitOK, "", "job both is removed")
	wantResult(t, jobs("rm", "both"), exitFailed, "", "job both: no such job")

	stream, err := js.Stream(t.Context(), "PGBRIDGE_JOBS")
	if err == nil {
		err = stream.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}

	s.serve(t, "--set", "jobs=true")
	leave(exitOK, "good.one", "source=1", "target=2", "amount=1")
	leave(exitFailed, "poor", "source=3", "target=2", "amount=5") // the third account holds nothing
	wantResult(t, jobs("result", "good.one"), exitOK, `"command":"UPDATE 1"`, "")
	wantResult(t, jobs("result", "poor"), exitFailed, "", "sql_error")
	wantResult(t, jobs("result", "never"), exitFailed, "", "job never: no such job")
	wantResult(t, jobs("ls"), exitOK, "good.one  transfer  done", "")
	wantResult(t, jobs("ls"), exitOK, "sql_error: new row", "")

	wantResult(t, jobs("retry", "good.one"), exitFailed, "", "no such job")
	testenv.Exec(t, s.url, "UPDATE account SET balance = 10 WHERE id = 3")
	wantResult(t, jobs("retry", "poor"), exitOK, "", "") // it is kept before its result says that it failed
	testenv.Wait(t, timeLimit, "the job to be done", func() bool { return jobs("result", "poor").code == exitOK })
	if got := s.balances(t); got != "999.00 256.00 5.00" {
		t.Errorf("balances %s", got)
	}
	// It was done once, under its own id.
	wantResult(t, jobs("retry", "poor"), exitFailed, "", "no such job")
	if r := jobs("ls", "--json"); strings.Count(r.stdout, `"id":"poor"`) != 1 || !strings.Contains(r.stdout, `"id":"poor","kind":"","script":"transfer","state":"done"`) {
		t.Errorf("jobs ls says %s", r.stdout)
	}
	leave(exitFailed, "forget", "source=3", "target=2", "amount=500")
	wantResult(t, jobs("rm", "forget"), exitOK, "", "job forget is removed")
	wantResult(t, jobs("retry", "forget"), exitFailed, "", "no such job")
}
