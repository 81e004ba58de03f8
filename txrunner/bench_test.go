package txrunner_test

import (
	"sync"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/txrunner"
)

// BenchmarkRequest is a SELECT by key, with the client's side of it: for one requester,
// and for many.
func BenchmarkRequest(b *testing.B) {
	for name, requesters := range map[string]int{"one": 1, "many": 64} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, map[string]string{"bykey": "-- read_only: true\nSELECT balance FROM account WHERE id = @id"})
			w.SQL("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL); INSERT INTO account SELECT i, 0 FROM generate_series(1, 1000) i")
			w.Migrate()
			w.Serve(func(c *txrunner.Config) { c.RunConnections = 8 })
			body := []byte(`{"params": {"id": 17}}`)
			work := make(chan struct{})
			var working sync.WaitGroup
			for range requesters {
				working.Go(func() {
					for range work {
						if _, err := w.Client.Request("pgbridge.run.bykey", body, 10*time.Second); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			working.Wait()
		})
	}
}
