package cursors_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgbridge/pgbridge/cursors"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/txrunner"
)

// gathered returns the runner's metrics without labels by their names.
func gathered(t *testing.T, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		all[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return all
}

// TestCursorsAreCounted opens cursors that end in different ways: read to the end,
// closed, with their transaction.
func TestCursorsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"numbers": "SELECT g FROM generate_series(1, 10) g"})
	r := w.Serve(func(c *txrunner.Config) { c.Extensions = []txrunner.Extension{cursors.New()} })
	check := func(when string, open, opened, rows float64) {
		t.Helper()
		all := gathered(t, r)
		for name, want := range map[string]float64{"pgbridge_cursors": open, "pgbridge_cursors_opened_total": opened, "pgbridge_cursor_rows_total": rows} {
			if all[name] != want {
				t.Errorf("%s: %s = %v, want %v", when, name, all[name], want)
			}
		}
	}
	check("at first", 0, 0, 0)
	w.Works("cursor.numbers", `{"count": 100}`)
	check("read at once", 0, 1, 10)
	tx := w.Works("cursor.numbers", `{"count": 3, "name": "a"}`).Tx
	w.Works(tx+".cursor.numbers", `{"count": 4, "name": "b"}`)
	check("two open", 2, 3, 17)
	w.Works(tx+".fetch", `{"cursor": "a", "count": 2}`)
	w.Works(tx+".close", `{"cursor": "a"}`)
	check("one closed", 1, 3, 19)
	w.Ask(tx+".rollback", ``)
	check("rolled back", 0, 3, 19)
	harness.Equal(t, "transactions begun", gathered(t, r)["pgbridge_transactions_begun_total"], 2)
}
