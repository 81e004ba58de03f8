package bridge_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// pair are two replicas, of which the first publishes.
type pair [2]*running

func (p *pair) swap() { p[0], p[1] = p[1], p[0] }

// newPair launches a trial with two replicas.
func newPair(t *testing.T) (*trial, *pair) {
	t.Helper()
	x := newTrial(t, newWorld(t), nil)
	return x, &pair{x.bridge, x.standby(t)}
}

// publisher waits until one of them publishes and the other could go on without a
// gap, and makes that one the first.
func (x *trial) publisher(t *testing.T, p *pair) {
	t.Helper()
	testenv.Wait(t, patience, "one replica to publish and one to stand by", func() bool {
		if p[1].Status().State == "publishing" {
			p.swap()
		}
		return p[0].Status().State == "publishing" && len(p[0].Problems()) == 0 &&
			p[1].Status().State == "standby" && len(p[1].Problems()) == 0
	})
	x.bridge = p[0]
	x.flows(t)
}

// settle is publisher after the last fault: what a replica says of itself has to last
// for longer than it takes to notice that a session is gone.
func (x *trial) settle(t *testing.T, p *pair) {
	t.Helper()
	var since time.Time
	testenv.Wait(t, patience, "one replica to publish for a while", func() bool {
		before := p[0]
		x.publisher(t, p)
		if since.IsZero() || p[0] != before {
			since = time.Now()
		}
		return time.Since(since) > 2*time.Second
	})
}

// terminate ends backends of a replica in PostgreSQL, and waits until they are gone.
func (x *trial) terminate(t *testing.T, condition string) {
	t.Helper()
	var pids []int32
	testenv.Wait(t, patience, "a backend with "+condition, func() bool {
		pids = testenv.Value[[]int32](t, x.pg, `SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity a
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND `+condition)
		return len(pids) > 0
	})
	testenv.Exec(t, x.pg, "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", pids)
	testenv.Wait(t, patience, "the backends to end", func() bool {
		return !testenv.Value[bool](t, x.pg, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY ($1::int[]))", pids)
	})
}

const holdsLock = `EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted)`

func listenerOf(r *running) string {
	return "application_name LIKE '% listener " + r.Status().Replica + "'"
}

// One replica after the other is restarted, or loses its sessions: nothing is
// missing in the stream, and nothing is announced. In core NATS that is mostly so where
// the publishing one can say how far it is.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault func(*testing.T, *trial, *pair)
		core  bool // without a gap, too
	}{
		{"restarted", func(t *testing.T, x *trial, p *pair) {
			if err := p[0].stop(); err != nil {
				t.Fatal(err)
			}
			p[0] = x.standby(t)
		}, true},
		{"the publishing listener", func(t *testing.T, x *trial, p *pair) { x.terminate(t, listenerOf(p[0])) }, true},
		{"the standby's listener", func(t *testing.T, x *trial, p *pair) { x.terminate(t, listenerOf(p[1])) }, true},
		{"the lock's session", func(t *testing.T, x *trial, _ *pair) { x.terminate(t, holdsLock) }, false},
		{"both sessions", func(t *testing.T, x *trial, p *pair) { x.terminate(t, "("+holdsLock+" OR "+listenerOf(p[0])+")") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x, p := newPair(t)
			for range 3 {
				x.settle(t, p)
				tt.fault(t, x, p)
			}
			x.settle(t, p)
			r := x.finishInPlace(t)
			if n := r["audit"].missing; n != 0 {
				t.Errorf("%d events are missing in the stream", n)
			}
			// In core NATS each of the three faults may be announced, and then what is
			// missing lies in its window.
			if gaps := r["orders"].gaps[1:]; tt.core && len(gaps) > 3 {
				t.Errorf("%d events are missing in core NATS, gaps %s", r["orders"].missing, show(gaps))
			}
		})
	}
}

// Notifications that cannot be told from each other are each stored once, whether the
// publishing process is killed or frozen.
func TestEqualPayloadsAcrossTakeovers(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			channels := map[string]bridge.Channel{"refresh": {Delivery: bridge.DeliveryJetStream}}
			first := spawn(t, w, channels, 0)
			w.heard.awaitGap(t, "refresh", api.ReasonStarted)
			second := launch(t, w.config(t, channels)).standingBy(t)
			w.notifyEqual(t, 500)
			first.Signal(t, signal)
			w.notifyEqual(t, 500)
			second.is(t, "publishing")
			w.notifyEqual(t, 500)
			if signal == syscall.SIGSTOP {
				began := time.Now()
				first.Signal(t, syscall.SIGCONT)
				w.awaitSession(t, "child", began)
			}
			w.notifyEqual(t, 500)
			testenv.Wait(t, patience, "every event to be stored", func() bool { return len(w.messages(t)) > 2000 })
			events := 0
			for _, m := range w.messages(t) {
				if m.Subject == "pgbridge.event.refresh" {
					events++
				}
			}
			if gaps := len(w.messages(t)) - events; events != 2000 || gaps != 1 {
				t.Errorf("the stream has %d events of 2000 that were committed, and %d gaps; want all, and the one of the start", events, gaps)
			}
		})
	}
}

// notifyEqual commits empty notifications one by one.
func (w *world) notifyEqual(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.pg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for range n {
		if _, err := conn.Exec(ctx, "NOTIFY refresh"); err != nil {
			t.Fatal(err)
		}
	}
}
