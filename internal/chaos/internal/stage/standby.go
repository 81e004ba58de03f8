package stage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/internal/testenv"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// attach makes a standby of the primary, which commits wait for from then on.
func (s *Stage) attach(t testing.TB) error {
	if !s.config.Standby {
		return nil
	}
	start := testenv.Standby
	settings := map[string]string{"track_commit_timestamp": "on", "hot_standby_feedback": "on", "max_prepared_transactions": "20"}
	if s.config.Synced {
		start = testenv.BareStandby
		settings["primary_slot_name"], settings["sync_replication_slots"] = "standby", "on"
		testenv.Exec(t, s.URL(), "SELECT pg_create_physical_replication_slot('standby')")
	}
	s.standby = start(t, s.PG(), settings)
	ctx, cancel := context.WithTimeout(t.Context(), readyLimit)
	defer cancel()
	for streams := false; !streams; {
		if err := s.Query(ctx, "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND application_name NOT LIKE 'chaos%')", &streams); err != nil {
			return fmt.Errorf("wait for the standby: %w", err)
		}
		if !wait.For(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait for the standby: %w", ctx.Err())
		}
	}
	testenv.Exec(t, s.URL(), "ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'")
	testenv.Exec(t, s.URL(), "SELECT pg_reload_conf()")
	if s.config.Synced {
		return s.follow(t)
	}
	return nil
}

// follow waits until the slots of durable channels have followed to the standby, and has
// the primary send nothing from them from then on that the standby does not have.
func (s *Stage) follow(t testing.TB) error {
	ctx, cancel := context.WithTimeout(t.Context(), readyLimit)
	defer cancel()
	for testenv.Value[int](t, s.standby.URL(), "SELECT count(*) FROM pg_replication_slots WHERE synced AND NOT temporary") == 0 {
		// The standby waits until a slot has come beyond where it began to copy it.
		if err := s.Exec(ctx, "SELECT pg_log_standby_snapshot(), pg_logical_emit_message(true, 'other', '')"); err != nil {
			return fmt.Errorf("wait for the slot to follow: %w", err)
		}
		if !wait.For(ctx, 100*time.Millisecond) {
			return fmt.Errorf("wait for the slot to follow: %w", ctx.Err())
		}
	}
	testenv.Exec(t, s.URL(), "ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
	testenv.Exec(t, s.URL(), "SELECT pg_reload_conf()")
	return nil
}

// Promote makes the standby the primary, and the replicas' settings lead to it. The old
// primary is killed before, or lives on for a while, with the replicas' connections to
// it or without. The standby has the slots as they were when it was made, as a copy of
// the disk has them, or has none, as pg_basebackup makes it, or has them as they are.
// Then there is a new standby.
func (s *Stage) Promote(t testing.TB, alive, cut, slots bool, meanwhile time.Duration) error {
	old := s.PG()
	if !alive {
		old.Kill(t)
	}
	testenv.Exec(t, s.standby.URL(), "SELECT pg_promote(true, 60)")
	testenv.Exec(t, s.standby.URL(), "ALTER SYSTEM RESET synchronous_standby_names")
	if s.config.Synced {
		testenv.Exec(t, s.standby.URL(), "ALTER SYSTEM RESET synchronized_standby_slots")
	}
	testenv.Exec(t, s.standby.URL(), "SELECT pg_reload_conf()")
	if !slots && !s.config.Synced {
		testenv.Exec(t, s.standby.URL(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
	}
	s.primary.Store(s.standby)
	for _, r := range s.Replicas {
		r.Postgres.Lead(s.PG().Addr())
		if cut {
			r.Postgres.Cut()
		}
	}
	wait.For(t.Context(), meanwhile)
	if err := end(old, alive); err != nil {
		return fmt.Errorf("end the old primary: %w", err)
	}
	return s.attach(t)
}

// end stops a primary that nobody needs any more; its data go when the stage does.
func end(old *testenv.PG, alive bool) error {
	if !alive {
		return nil
	}
	return old.Server().Kill()
}
