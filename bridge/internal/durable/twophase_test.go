package durable

import (
	"strings"
	"testing"

	"github.com/pgbridge/pgbridge/internal/testenv"
)

// A slot that gives what is only prepared would have events missing that commit later.
func TestSlotThatGivesWhatIsPreparedIsNotOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, dedicated(t), testenv.NATS(t).URL())
	name := SlotName("pgbridge", testenv.Value[uint32](t, w.url, "SELECT oid FROM pg_database WHERE datname = current_database()"))
	w.exec("SELECT pg_create_logical_replication_slot($1, 'pgoutput', false, true)", name)
	feed := w.run([]string{"a"})
	testenv.Wait(t, patience, "the slot to be named", func() bool { return strings.Contains(feed.Problem.Current(), "two_phase") })
	w.exec("SELECT pg_drop_replication_slot($1)", name)
	testenv.Wait(t, patience, "the channel's events to be kept", func() bool { return feed.Problem.Current() == "" && feed.Unkept() == "" })
	w.exec("BEGIN; SELECT pgbridge.notify('a', 'prepared'); PREPARE TRANSACTION 'two_phase'")
	w.exec("COMMIT PREPARED 'two_phase'")
	w.await("prepared")
	if err := feed.stop(); err != nil {
		t.Fatal(err)
	}
}
