package bridge_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/bridge/internal/control"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// stranger makes a database user without any privilege of its own, and returns a
// URL with which it logs in.
func stranger(t *testing.T, pg string) (name, login string) {
	t.Helper()
	name = fmt.Sprintf("mallory_%d", time.Now().UnixNano())
	testenv.Exec(t, pg, "CREATE ROLE "+name+" LOGIN PASSWORD 'mallory'")
	t.Cleanup(func() { testenv.Exec(t, pg, "DROP ROLE "+name) })
	u, err := url.Parse(pg)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(name, "mallory")
	return name, u.String()
}

// forger floods the marker channel with what says that another replica
// publishes, has published everything so far, and begins the same epoch.
type forger struct {
	quit chan struct{}
	done sync.WaitGroup
	end  func()
	sent int // readable once ended
}

func forge(t *testing.T, login string) *forger {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, login)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{quit: make(chan struct{})}
	f.end = sync.OnceFunc(func() { close(f.quit); f.done.Wait(); conn.Close(ctx) })
	t.Cleanup(f.end)
	f.done.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-f.quit:
				return
			case <-pace.C:
			}
			f.flood(ctx, conn)
		}
	})
	return f
}

func (f *forger) flood(ctx context.Context, conn *pgx.Conn) {
	now := time.Now().UnixMicro()
	for _, payload := range []string{
		fmt.Sprintf("stranger %d 0123456789abcdef publishing %d %d", f.sent, now, now),
		fmt.Sprintf("stranger %d 0123456789abcdef standby 0 %d", f.sent, now),
	} {
		if _, err := conn.Exec(ctx, "SELECT pg_notify('pgbridge.marker', $1)", payload); err == nil {
			f.sent++
		}
	}
}

// A user who may only NOTIFY cannot make an event vanish, whatever it sends.
func TestForgedMarkersChangeNothing(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	_, login := stranger(t, x.pg)
	forgers := []*forger{forge(t, login), forge(t, login)}
	before := x.heardOf("orders")
	testenv.Wait(t, patience, "events to pass", func() bool { return x.heardOf("orders") > before+1000 })
	for _, r := range x.finish(t) {
		if r.missing != 0 || len(r.gaps) != 1 {
			t.Errorf("%s: %d missing, gaps %s; want none and the gap of the start", r.channel, r.missing, show(r.gaps))
		}
	}
	for _, f := range forgers {
		if f.end(); f.sent < 50 {
			t.Errorf("only %d markers were forged", f.sent)
		}
	}
}

// Nor where one replica takes over from another.
func TestTakeoverUnderForgedMarkers(t *testing.T) {
	t.Parallel()
	server := testenv.NATS(t)
	w := worldWith(t, server)
	way := newLinks(t, w, server)
	x := newTrial(t, w, nil, way.through(t, w))
	first, second := x.bridge, x.standby(t)
	_, login := stranger(t, x.pg)
	forge(t, login)
	x.flows(t)
	testenv.Exec(t, x.pg, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	x.flows(t)
	way.freeze()
	x.bridge = second.ready(t)
	x.flows(t)
	way.thaw()
	first.standingBy(t)
	x.finishInPlace(t, api.ReasonTakeover)
}

// To somebody who holds the locks by which replicas offer to publish, and looks like one,
// none leaves publishing: whoever offers has to be a replica.
func TestForgedOffers(t *testing.T) {
	t.Parallel()
	x := newTrial(t, newWorld(t), nil)
	_, login := stranger(t, x.pg)
	forge(t, login)
	conn, err := pgx.Connect(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	key := control.LockKey(x.prefix)
	if _, err := conn.Exec(t.Context(), "SELECT pg_advisory_lock_shared($1), pg_advisory_lock_shared($1 + 1)", key+1); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x.flows(t)
		x.terminate(t, listenerOf(x.bridge))
	}
	x.flows(t)
	x.finish(t)
	if n := x.bridge.logs.FilterMessage("leaves publishing to a replica that has missed nothing").Len(); n > 0 {
		t.Errorf("it left publishing to nobody %d times", n)
	}
}

// Whoever holds the lock in a replica's stead is named.
func TestLockInForeignHands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	name, login := stranger(t, w.pg)
	r := launch(t, w.config(t, map[string]bridge.Channel{"orders": {}})).ready(t)
	key := testenv.Value[int64](t, w.pg, `SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
		WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config, err := pgx.ParseConfig(login)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = "burglar"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	waiting := make(chan error, 1)
	go func() { waiting <- take(ctx, conn.PgConn(), key) }()
	testenv.Wait(t, patience, "the stranger to wait for the lock", func() bool {
		return testenv.Value[bool](t, w.pg, "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)", int(conn.PgConn().PID()))
	})
	testenv.Exec(t, w.pg, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())")
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{fmt.Sprint(conn.PgConn().PID()), name, "burglar"} {
		r.hasProblem(t, word)
	}
	if p := strings.Join(r.Problems(), "\n"); !strings.Contains(p, "publishing lock: held by backend") {
		t.Errorf("Problems() = %s", p)
	}
	conn.Close(ctx)
	r.ready(t)
}

// A prepared transaction that has it belongs to no session: its name and user are told.
func TestLockInAPreparedTransaction(t *testing.T) {
	t.Parallel()
	server := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"max_prepared_transactions": "4"}})
	w := worldOn(t, server.NewDatabase(t))
	name, login := stranger(t, w.pg)
	config := w.config(t, map[string]bridge.Channel{"orders": {}})
	gid := "forgotten by " + name
	testenv.Exec(t, login, fmt.Sprintf("BEGIN; SELECT pg_advisory_xact_lock(%d); PREPARE TRANSACTION '%s'", control.LockKey(config.Prefix), gid))
	r := launch(t, config)
	r.hasProblem(t, fmt.Sprintf("held by the prepared transaction %q of user %q", gid, name))
	testenv.Exec(t, w.pg, fmt.Sprintf("ROLLBACK PREPARED '%s'", gid))
	r.ready(t)
}

func take(ctx context.Context, conn *pgconn.PgConn, key int64) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("SELECT pg_advisory_lock(%d)", key)).ReadAll()
	return err
}
