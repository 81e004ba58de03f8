package txrunner_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

func TestSnapshotOfTransactions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"put": "UPDATE t SET n = n + @by WHERE n = 1;"})
	w.SQL("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
	r := w.Serve()
	first := w.Works("begin", "{}").Text("tx")
	w.Works(first+".run.put", `{"params": {"by": 0}}`)
	second := w.Works("as.alice.begin", "{}").Text("tx")
	blocked := w.Request(w.Client, second+".run.put", `{"params": {"by": 0}}`)

	var s txrunner.Snapshot
	var backends map[uint32]txrunner.Backend
	testenv.Wait(t, harness.Patience, "the second transaction to wait for the first", func() bool {
		if s = r.Snapshot(); len(s.Transactions) != 2 || !s.Transactions[1].Busy {
			return false
		}
		var err error
		backends, err = r.LookAtBackends(context.Background(), []uint32{s.Transactions[0].PID, s.Transactions[1].PID})
		return err == nil && len(backends[s.Transactions[1].PID].Blockers) == 1
	})
	one, two := s.Transactions[0], s.Transactions[1]
	if len(one.Key) != 12 || one.Caller != "" || one.Script != "put" || one.State != "active" || one.Busy || !one.Expires.Before(one.LifeEnds) {
		t.Errorf("the first is %+v", one)
	}
	if two.Caller != "alice" || two.Script != "put" || !two.Busy || !two.Expires.Equal(two.LifeEnds) || two.LifeEnds.Before(two.Begun) {
		t.Errorf("the second is %+v", two)
	}
	if b := backends[two.PID]; b.Blockers[0] != one.PID || b.WaitType != "Lock" || b.State != "active" {
		t.Errorf("its backend is %+v", b)
	}
	if b := backends[one.PID]; b.State != "idle in transaction" || len(b.Blockers) > 0 {
		t.Errorf("the first one's is %+v", b)
	}
	text, _ := json.Marshal(s)
	for _, tx := range []string{first, second} {
		if key := tx[strings.LastIndexByte(tx, '.')+1:]; strings.Contains(string(text), key) {
			t.Errorf("the snapshot holds the key to a transaction: %s", text)
		}
	}
	i := slices.IndexFunc(s.Pools, func(p txrunner.Connections) bool { return p.Purpose == "pinned" })
	if i < 0 || s.Pools[i].Used != 2 || s.Pools[i].Limit < 16 {
		t.Errorf("pools %+v", s.Pools)
	}
	w.Works(first+".rollback", "")
	blocked.Next().Good(t)
	w.Works(second+".commit", "")
	if s = r.Snapshot(); len(s.Transactions) != 0 {
		t.Errorf("left are %+v", s.Transactions)
	}
}

func TestSnapshotOfScripts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{
		"one":    "-- Gives what it got.\n-- timeout: 3s\n-- read_only: true\nSELECT @n::int AS n, 'x' AS t;",
		"divide": "SELECT 1 / @by::int AS n;",
		"faulty": "SELECT * FROM nowhere;",
	})
	r := w.Serve()
	w.Works("run.one", `{"params": {"n": 1}}`)
	w.Works("run.one", `{"params": {"n": 2}}`)
	w.Fails("sql_error", "run.divide", `{"params": {"by": 0}}`)
	w.Fails("invalid_request", "run.divide", `{}`)
	w.Fails("not_found", "run.another", `{}`)

	all := r.Scripts()
	if names := []string{all[0].Name, all[1].Name, all[2].Name}; !slices.Equal(names, []string{"divide", "faulty", "one"}) {
		t.Fatalf("scripts %q", names)
	}
	divide, one := all[0].Answered, all[2].Answered
	if one.Requests != 2 || one.Failed != 0 || one.Took <= 0 || one.Latest.IsZero() || one.Counts[len(one.Counts)-1] != 2 {
		t.Errorf("one: %+v", one)
	}
	if divide.Failed != 2 || divide.Errors["sql_error"] != 1 || divide.Errors["invalid_request"] != 1 || len(divide.Last) != 2 || divide.Last[0].SQLState != "22012" {
		t.Errorf("divide: %+v", divide)
	}
	if s := r.Snapshot(); s.Answered.Requests != 4 || s.Answered.Failed != 2 || s.Scripts != 3 {
		t.Errorf("all: %+v", s.Answered)
	}
	d, ok := r.LookAtScript(context.Background(), "one")
	if !ok || d.Problem != "" || !strings.Contains(d.Text, "SELECT @n::int") || d.Description != "Gives what it got." {
		t.Errorf("one is %+v", d)
	}
	if !slices.Equal(d.Settings, []string{"read_only: true", "timeout: 3s"}) {
		t.Errorf("settings %q", d.Settings)
	}
	if len(d.Parameters) != 1 || !slices.Equal(d.Parameters[0].Types, []string{"int4"}) || len(d.Columns) != 2 || d.Columns[0].Name != "n" {
		t.Errorf("parameters %v, columns %v", d.Parameters, d.Columns)
	}
	if d, ok := r.LookAtScript(context.Background(), "faulty"); !ok || !strings.Contains(d.Problem, "nowhere") {
		t.Errorf("faulty is %+v", d)
	}
	if _, ok := r.LookAtScript(context.Background(), "another"); ok {
		t.Error("there is a script that is not there")
	}
}

func TestSnapshotOfJobs(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, map[string]string{"wait": "SELECT pg_advisory_xact_lock(@key::int);", "divide": "SELECT 1 / @by::int;"})
	r := w.Serve(withJobs, func(c *txrunner.Config) { c.Jobs.Concurrency = 1 })
	tx := w.Works("begin", "{}").Text("tx")
	w.Works(tx+".run.wait", `{"params": {"key": 7}}`)
	for range 3 {
		w.submit("wait", `{"params": {"key": 7}}`, "")
	}
	var b *txrunner.JobsState
	testenv.Wait(t, harness.Patience, "a job to run and others to wait", func() bool {
		var err error
		b, err = r.LookAtJobs(context.Background())
		return err == nil && b.UnderWay == 1 && b.Waiting == 2 && len(r.Snapshot().Jobs.Running) == 1
	})
	if one := r.Snapshot().Jobs.Running[0]; one.Script != "wait" || one.Kind != "run" || one.Begun.IsZero() || b.Oldest.IsZero() {
		t.Errorf("running %+v, backlog %+v", one, b)
	}
	w.Works(tx+".rollback", "")
	w.submit("divide", `{"params": {"by": 0}}`, "")
	testenv.Wait(t, harness.Patience, "all to end", func() bool { return r.Snapshot().Jobs.Outcomes["failed"] == 1 })
	jobs := r.Snapshot().Jobs
	if last := jobs.Ended[len(jobs.Ended)-1]; last.Script != "divide" || last.Outcome != "failed" || last.Code != "sql_error" || last.Ended.IsZero() {
		t.Errorf("the last is %+v", last)
	}
	if jobs.Outcomes["done"] != 3 || jobs.Limit != 1 || jobs.Problem != "" {
		t.Errorf("jobs %+v", jobs)
	}
	if n := r.Snapshot().Answered.Requests; n != 5 {
		t.Errorf("%d runs are counted, want 5: four jobs and one request", n)
	}
}
