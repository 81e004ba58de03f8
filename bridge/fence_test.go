package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

// markers listens to the markers.
func (w *world) markers(t *testing.T) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.pg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(ctx, `LISTEN "`+w.prefix+`.marker"`); err != nil {
		t.Fatal(err)
	}
	return conn
}

// closed waits for a marker in which the publishing replica says that it publishes
// nothing more with core NATS.
func closed(t *testing.T, markers *pgx.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		n, err := markers.WaitForNotification(ctx)
		if err != nil {
			t.Fatalf("wait for a marker that promises that nothing more is published: %v", err)
		}
		word, rest, _ := strings.Cut(n.Payload, " ")
		if strings.Contains(rest, " publishing ") && strings.HasSuffix(word, ",0") {
			return
		}
	}
}

// A replica that is killed while nothing is under way leaves no gap in core NATS: what
// is committed before another one takes over comes from there, each event once.
func TestDeathBetweenEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	channels := map[string]bridge.Channel{"orders": {}}
	first := spawn(t, w, channels, 0)
	w.heard.awaitGap(t, "orders", api.ReasonStarted)
	second := launch(t, w.config(t, channels)).standingBy(t)
	testenv.Exec(t, w.pg, "SELECT pg_notify('orders', 'before')")
	w.heard.awaitEvent(t, "pgbridge.event.orders", "before")
	closed(t, w.markers(t))
	first.Signal(t, syscall.SIGKILL)
	const events = 20
	for n := range events {
		testenv.Exec(t, w.pg, "SELECT pg_notify('orders', $1)", fmt.Sprint("after ", n))
	}
	second.is(t, "publishing")
	w.heard.awaitEvent(t, "pgbridge.event.orders", fmt.Sprint("after ", events-1))
	got := w.heard.events("pgbridge.event.orders")
	if len(got) != 1+events {
		t.Errorf("%d events came, want the %d that were committed", len(got), 1+events)
	}
	for n, body := range got[1:] {
		if want := fmt.Sprint("after ", n); body != want {
			t.Fatalf("event %d is %q, want %q", n, body, want)
		}
	}
	if gaps := w.heard.gaps(t, "orders"); len(gaps) != 1 {
		t.Errorf("gaps %s; want the one of the start", show(gaps))
	}
}
