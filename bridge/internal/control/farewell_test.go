package control

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A session that is at work when the replica stops finishes that, and then says as its
// last word how far the replica has published: else whoever takes over would have to
// announce a gap.
func TestLastWordComesAfterWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	c, url := newControl(t)
	proxy := testenv.NewProxy(t, testenv.NATS(t).Addr())
	nc, err := nats.Connect("nats://"+proxy.Addr(), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c.Events = nc
	words := listenTo(t, c, url)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.session(ctx, func() {}) }()
	testenv.Wait(t, patience, "the replica to publish", c.Lease.Valid)
	if q := c.Seq.Core; !q.Resume(q.Generation(), q.Over()) { // as a publisher does
		t.Fatal("nothing is to be taken over")
	}
	proxy.Freeze()
	testenv.Wait(t, patience, "the session to wait for NATS", func() bool {
		return testenv.Value[bool](t, url, `SELECT coalesce(bool_or(state = 'idle' AND clock_timestamp() - state_change > '700 ms'), false)
			FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%pg_try_advisory_lock%'`)
	})
	stop()
	proxy.Thaw()
	if err := <-ended; err != nil {
		t.Errorf("session() = %v, want nil at a stop", err)
	}
	testenv.Wait(t, patience, "the last word", func() bool {
		for range len(words) {
			if strings.HasSuffix(<-words, ",true") {
				return true
			}
		}
		return false
	})
}

// listenTo hands every marker to the sequencer, and what it says besides who sent it
// to the test, when it is committed.
func listenTo(t *testing.T, c *Control, url string) (words <-chan string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "LISTEN marker"); err != nil {
		t.Fatal(err)
	}
	said, done := make(chan string, 1024), make(chan struct{})
	go func() {
		defer close(done)
		defer conn.Close(context.Background())
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return
			}
			word, _, _ := strings.Cut(n.Payload, " ")
			said <- word
			c.Seq.Notification(n.Channel, n.Payload, int(n.PID))
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return said
}
