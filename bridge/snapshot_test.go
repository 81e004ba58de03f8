package bridge_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/bridge"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := launch(t, w.config(t, map[string]bridge.Channel{
		"orders": {Notify: true}, "audit": {Delivery: bridge.DeliveryJetStream, Envelope: bridge.EnvelopeJSON},
	})).ready(t)
	began := time.Now().Add(-time.Minute)
	for _, channel := range []string{"orders", "audit", "orders"} {
		testenv.Exec(t, w.pg, "SELECT pg_notify('"+channel+"', 'x')")
	}
	testenv.Wait(t, patience, "three events", func() bool { return r.Snapshot().Total.Published == 3 })
	s := r.Snapshot()
	if s.State != "publishing" || s.Database == "" || !s.Listening || s.Paused || s.Connects != 1 || s.Usage < 0 || s.Durable {
		t.Errorf("snapshot %+v", s)
	}
	if s.Events.Status != "CONNECTED" || s.Events.Version == "" || s.Requests.Status != "CONNECTED" {
		t.Errorf("NATS is %+v and %+v", s.Events, s.Requests)
	}
	if s.Total.Received != 3 || s.Total.Dropped != 0 || s.Total.Gaps != 2 {
		t.Errorf("in all %+v", s.Total)
	}
	all := r.Channels()
	if len(all) != 2 || all[0].Name != "audit" || all[1].Name != "orders" {
		t.Fatalf("channels %+v", all)
	}
	audit, orders := all[0], all[1]
	if audit.Delivery != "jetstream" || audit.Envelope != bridge.EnvelopeJSON || audit.Notify || audit.Published != 1 {
		t.Errorf("audit is %+v", audit)
	}
	if orders.Delivery != "core" || !orders.Notify || orders.Received != 2 || orders.Subject != "pgbridge.event.orders" || orders.Took <= 0 || orders.Latest.Before(began) {
		t.Errorf("orders is %+v", orders)
	}
	if len(orders.LastGaps) != 1 || orders.LastGaps[0].Reason != "started" || !orders.LastGaps[0].Since.IsZero() || orders.LastGaps[0].Until.Before(began) || orders.LastGaps[0].Dropped != -1 {
		t.Errorf("gaps %+v", orders.LastGaps)
	}
	testenv.Exec(t, w.pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%listener%' AND datname = current_database()")
	testenv.Wait(t, patience, "another gap", func() bool {
		last := r.Channels()[1].LastGaps
		return len(last) == 2 && last[1].Reason == "reconnected" && !last[1].Since.IsZero()
	})
	if err := r.Reload(map[string]bridge.Channel{"orders": {}}); err != nil {
		t.Fatal(err)
	}
	if all := r.Channels(); len(all) != 1 || all[0].Published != 2 {
		t.Errorf("after a reload %+v", all)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, err := bridge.New(w.config(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.LookAtSlots(t.Context()); err == nil {
		t.Error("a bridge that does not run knows slots")
	}
	pg := testenv.DedicatedPostgres(t, testenv.PGOptions{Settings: map[string]string{"wal_level": "logical"}})
	config := w.config(t, map[string]bridge.Channel{"billing": {Durable: true}})
	config.ConnString = pg.NewDatabase(t)
	conn, err := pgx.Connect(t.Context(), config.ConnString)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := bridge.Migrate(t.Context(), conn, 0); err != nil {
		t.Fatal(err)
	}
	config.Durable.Stream.Create = true
	testenv.Exec(t, config.ConnString, "SELECT pg_create_physical_replication_slot('standby', true)")
	r := launch(t, config).ready(t)
	testenv.Wait(t, patience, "the slot to be read", func() bool {
		all, err := r.LookAtSlots(t.Context())
		if err != nil || len(all) != 2 {
			return false
		}
		own, other := all[0], all[1]
		if !own.Own {
			own, other = other, own
		}
		return own.Own && own.Active && own.PID != 0 && own.Kind == "logical" && own.Database != "" && own.Status == "reserved" && own.SafeBytes == -1 &&
			!other.Own && other.Name == "standby" && !other.Active && other.KeptBytes > 0
	})
	if s := r.Snapshot(); !s.Durable || s.DurableState != "" {
		t.Errorf("snapshot %+v", s)
	}
}
