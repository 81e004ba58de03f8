package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/internal/harness"
	"github.com/pgbridge/pgbridge/internal/testenv"
)

func TestTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	tx, err := c.Begin(w.ctx(), client.TxOptions{Isolation: "serializable", IdleTimeout: 20 * time.Second})
	w.ok(err)
	_, err = tx.Run(w.ctx(), transfer("1"))
	w.ok(err)
	w.ok(tx.Savepoint(w.ctx(), "before"))
	_, err = tx.Run(w.ctx(), transfer("100000"))
	if e := w.failure(err, client.CodeSQLError); e.Retryable {
		t.Errorf("retryable in a transaction: %+v", e)
	}
	_, err = tx.Run(w.ctx(), transfer("1"))
	harness.Equal(t, "a failed transaction", w.failure(err, client.CodeSQLError).SQLState, "25P02")
	w.ok(tx.RollbackTo(w.ctx(), "before"))
	w.ok(tx.Release(w.ctx(), "before"))
	expires, err := tx.Touch(w.ctx())
	w.ok(err)
	if left := time.Until(expires); left <= 0 || left > 21*time.Second || tx.Expires().IsZero() {
		t.Errorf("the lease ends in %s", left)
	}
	w.ok(tx.Commit(w.ctx()))
	harness.Equal(t, "transfers", w.count("transfer"), 1)
	w.failure(tx.Commit(w.ctx()), client.CodeGone)
	w.ok(tx.Rollback(w.ctx())) // it has ended: nothing to undo

	tx, err = c.Begin(w.ctx(), client.TxOptions{})
	w.ok(err)
	_, err = tx.Run(w.ctx(), client.Script{SQL: "DELETE FROM transfer"})
	w.ok(err)
	w.ok(tx.Rollback(w.ctx()))
	harness.Equal(t, "transfers", w.count("transfer"), 1)
	if _, err := tx.Run(w.ctx(), client.Script{Name: "transfer", MessageID: "x"}); err == nil {
		t.Error("a message id in a transaction was accepted")
	}
	w.WantIdle()
}

// TestServerLostInATransaction names what is gone.
func TestServerLostInATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	c := w.client(client.Options{})
	tx, err := c.Begin(w.ctx(), client.TxOptions{})
	w.ok(err)
	one := client.Script{SQL: "SELECT 1"}
	_, err = tx.Run(w.ctx(), one)
	w.ok(err)
	if testenv.TerminateBackend(t, w.Postgres, "%") == 0 {
		t.Fatal("no backend was terminated")
	}
	_, err = tx.Run(w.ctx(), one)
	w.failure(err, client.CodeUnavailable)
	_, err = tx.Run(w.ctx(), one)
	w.failure(err, client.CodeGone)

	tx, err = c.Begin(w.ctx(), client.TxOptions{})
	w.ok(err)
	w.ok(w.stop())
	if err := tx.Commit(w.ctx()); !errors.Is(err, client.ErrReplicaGone) {
		t.Errorf("Commit() = %v, want that the replica is gone", err)
	}
	w.ok(tx.Rollback(w.ctx()))
	w.WantIdle()
}

func TestRollbackCancels(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	tx, err := w.client(client.Options{}).Begin(w.ctx(), client.TxOptions{})
	w.ok(err)
	ctx, cancel := context.WithCancel(w.ctx())
	ended := make(chan error, 1)
	go func() {
		_, err := tx.Run(ctx, client.Script{SQL: "SELECT pg_sleep(60)"})
		ended <- err
	}()
	testenv.Wait(t, harness.Patience, "the statement to run", func() bool {
		return testenv.Value[int64](t, w.Postgres, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == 1
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || !errors.Is(err, client.ErrOutcomeUnknown) {
		t.Errorf("Run() = %v", err)
	}
	w.ok(tx.Rollback(w.ctx()))
	w.WantIdle()
}
