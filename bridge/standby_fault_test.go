package bridge_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A NOTIFY whose commit waits for a synchronous standby holds every other one up.
// That is no dead link: the replica keeps its sessions, the lock and what it
// received, and says what it waits for.
func TestCommitWaitsForStandby(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	db := pg.NewDatabase(t)
	w := worldOn(t, db)
	channels := map[string]bridge.Channel{"orders": {}, "audit": {Delivery: bridge.DeliveryJetStream}}
	r := launch(t, w.config(t, channels)).ready(t)
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	x := &trial{world: w, bridge: r}

	last := waitForNobody(t, pg, db)
	channels["late"] = bridge.Channel{} // wants a marker, which waits behind the writer
	if err := r.Reload(channels); err != nil {
		t.Fatal(err)
	}
	r.hasProblem(t, "waits for a synchronous standby")
	testenv.Wait(t, patience, "the lock to outlast what is allowed for one query", func() bool {
		return testenv.Value[bool](t, db, `SELECT coalesce(max(clock_timestamp() - query_start) > '8 s', false) FROM pg_stat_activity
			WHERE application_name = 'pgbridge' AND state = 'active' AND wait_event_type = 'Lock'`)
	})
	r.is(t, "publishing")
	configure(t, pg, "ALTER SYSTEM RESET synchronous_standby_names")
	w.heard.awaitEvent(t, "pgbridge.event.orders", last())
	w.heard.awaitGap(t, "late", api.ReasonStarted)
	r.ready(t)
	testenv.Exec(t, db, "SELECT pg_notify('orders', 'after')")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "after")
	if n := len(w.heard.gaps(t, "orders")); n != 1 {
		t.Errorf("gaps %s; want the one of the start", show(w.heard.gaps(t, "orders")))
	}
	if x.held() != 1 || x.connected() != 1 {
		t.Errorf("took the lock %d times and connected %d times, want once each", x.held(), x.connected())
	}
}

// waitForNobody has every commit wait for a standby that does not exist, and
// returns when one with a notification does. The function that it returns waits
// for the end of that and tells the payload.
func waitForNobody(t *testing.T, pg *testenv.PG, db string) (last func() string) {
	t.Helper()
	// Without a write a commit waits for nobody, even if it notifies.
	testenv.Exec(t, db, "CREATE TABLE written (payload text)")
	configure(t, pg, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(ctx, db)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	enough, done := make(chan struct{}), make(chan string, 1)
	var writing sync.WaitGroup
	t.Cleanup(func() { cancel(); writing.Wait() })
	writing.Go(func() {
		defer conn.Close(context.Background())
		for n := 0; ; n++ { // the server does not heed the setting at once
			payload := fmt.Sprint("w-", n)
			if _, err := conn.Exec(ctx, "WITH w AS (INSERT INTO written VALUES ($1) RETURNING *) SELECT pg_notify('orders', w.payload) FROM w", payload); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
			select {
			case <-enough:
				done <- payload
				return
			default:
			}
		}
	})
	testenv.Wait(t, patience, "a commit to wait for the standby", func() bool {
		return testenv.Value[bool](t, pg.URL(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')")
	})
	close(enough)
	return func() string { return <-done }
}

func configure(t *testing.T, pg *testenv.PG, sql string) {
	t.Helper()
	testenv.Exec(t, pg.URL(), sql)
	testenv.Exec(t, pg.URL(), "SELECT pg_reload_conf()")
}

// Markers do not wait for standbys themselves, so a replica becomes ready, and
// what others commit without waiting arrives.
func TestMarkersWaitForNoStandby(t *testing.T) {
	t.Parallel()
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{})
	db := pg.NewDatabase(t)
	last := waitForNobody(t, pg, db)
	testenv.Exec(t, pg.URL(), "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	last() // committed here alone
	w := worldOn(t, db)
	launch(t, w.config(t, map[string]bridge.Channel{"orders": {}})).ready(t)
	testenv.Exec(t, db, "SELECT set_config('synchronous_commit', 'local', true), pg_notify('orders', 'local')")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "local")
}
