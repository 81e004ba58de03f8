package cursors_test

import (
	"testing"

	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/txrunner"
)

// What people see of a transaction's cursors follows what becomes of them.
func TestSnapshotOfCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"all": "SELECT n FROM generate_series(1, @to::int) n;"})
	r := w.Serve(func(c *txrunner.Config) { c.Extensions = []txrunner.Extension{cursors.New()} })
	work := func() []txrunner.WorkState {
		t.Helper()
		all := r.Snapshot().Transactions
		if len(all) != 1 {
			t.Fatalf("transactions %+v", all)
		}
		return all[0].Work
	}
	tx := w.Works("begin", "{}").Text("tx")
	w.Works(tx+".cursor.all", `{"params": {"to": 100}, "name": "a", "count": 10}`)
	w.Works(tx+".cursor.all", `{"params": {"to": 100}, "name": "b", "count": 0}`)
	w.Works(tx+".fetch", `{"cursor": "a", "count": 15, "page": 1}`)
	seen := map[string]txrunner.WorkState{}
	for _, one := range work() {
		seen[one.Name] = one
	}
	a, b := seen["a"], seen["b"]
	if len(seen) != 2 || a.Rows != 25 || a.Bytes == 0 || a.Kind != "cursor" || a.Script != "all" || a.TotalRows != -1 || a.Begun.IsZero() || b.Rows != 0 {
		t.Errorf("cursors %+v", seen)
	}
	w.Works(tx+".close", `{"cursor": "a"}`)
	if left := work(); len(left) != 1 || left[0].Name != "b" {
		t.Errorf("left %+v", left)
	}
	s := w.streamed(tx, `{"cursor": "b", "count": 20}`, true)
	if len(s.rows) != 100 {
		t.Fatalf("%d rows, want 100", len(s.rows))
	}
	testenv.Wait(t, harness.Patience, "the rows of the stream", func() bool { w := work(); return len(w) == 1 && w[0].Rows == 100 })
	w.Works(tx+".rollback", "")
}
