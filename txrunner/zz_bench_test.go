package txrunner_test

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

func BenchmarkTPCB(b *testing.B) {
	w := newWorld(b, map[string]string{"tpcb": `UPDATE pgbench_accounts SET abalance = abalance + @delta WHERE aid = @aid;
SELECT abalance FROM pgbench_accounts WHERE aid = @aid;
UPDATE pgbench_tellers SET tbalance = tbalance + @delta WHERE tid = @tid;
UPDATE pgbench_branches SET bbalance = bbalance + @delta WHERE bid = @bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (@tid, @bid, @aid, @delta, CURRENT_TIMESTAMP);
`})
	w.sql(`CREATE TABLE pgbench_accounts AS SELECT i AS aid, 0 AS abalance FROM generate_series(1,10000) i; CREATE UNIQUE INDEX ON pgbench_accounts(aid);
CREATE TABLE pgbench_tellers AS SELECT i AS tid, 0 AS tbalance FROM generate_series(1,100) i; CREATE UNIQUE INDEX ON pgbench_tellers(tid);
CREATE TABLE pgbench_branches AS SELECT i AS bid, 0 AS bbalance FROM generate_series(1,100) i; CREATE UNIQUE INDEX ON pgbench_branches(bid);
CREATE TABLE pgbench_history(tid int,bid int,aid int,delta int,mtime timestamp)`)
	w.serve()
	var bad atomic.Int64
	b.SetParallelism(4)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m, err := w.client.Request("pgbridge.run.tpcb", fmt.Appendf(nil, `{"params":{"aid":%d,"bid":%d,"tid":%d,"delta":%d}}`, 1+rand.IntN(10000), 1+rand.IntN(100), 1+rand.IntN(100), 5), patience)
			if err != nil || m.Header.Get("Nats-Service-Error") != "" {
				bad.Add(1)
			}
		}
	})
	if bad.Load() > 0 {
		b.Fatal(bad.Load())
	}
}
