package copier_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// What people see of a copy follows it to its end, which is what is counted.
func TestSnapshotOfCopies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{
		scripts: map[string]string{"load": "COPY t FROM STDIN;", "numbers": "COPY (SELECT n FROM generate_series(1, 10) n) TO STDOUT;"},
		schema:  "CREATE TABLE t (n int)",
	})
	opening := w.Works("copy.load", "{}")
	data := opening.Text("data")
	w.Works(data, "1\n2\n", "Pgbridge-Seq", "1")
	var one txrunner.WorkState
	testenv.Wait(t, harness.Patience, "a copy with two rows", func() bool {
		all := w.runner.Snapshot().Transactions
		if len(all) != 1 || len(all[0].Work) != 1 {
			return false
		}
		one = all[0].Work[0]
		return one.Rows == 2
	})
	if one.Kind != "copy in" || one.Script != "load" || one.Bytes != 4 || one.Begun.IsZero() || one.TotalBytes != -1 {
		t.Errorf("the copy is %+v", one)
	}
	if n := w.runner.Snapshot().Answered.Requests; n != 0 {
		t.Errorf("%d requests are counted before the copy's end", n)
	}
	bad := w.Ask(data, "x\n", "Pgbridge-Seq", "2")
	if bad.Error == nil { // the chunk was taken before PostgreSQL refused the row
		bad = w.Ask(data, "", "Pgbridge-Seq", "3")
	}
	bad.Wants(t, "sql_error")
	w.download("copy.numbers", "{}")
	testenv.Wait(t, harness.Patience, "both ends to be counted", func() bool { return w.runner.Snapshot().Answered.Requests == 2 })
	if s := w.runner.Snapshot(); s.Answered.Failed != 1 || s.Answered.Last[0].SQLState != "22P02" || len(s.Transactions) != 0 {
		t.Errorf("answered %+v, open %+v", s.Answered, s.Transactions)
	}
}
