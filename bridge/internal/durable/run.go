package durable

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/bridge/internal/wal"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// Run carries events until ctx ends, and returns nil then. It waits for servers
// that are away, for ever.
func (f *Feed) Run(ctx context.Context) error {
	retry := wait.Retry{Backoff: wait.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}}
	for f.await(ctx) && retry.Wait(ctx) {
		err := f.session(ctx, retry.Proved)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errLease), errors.Is(err, errReload):
			retry.Proved()
			f.Problem.Clear(f.Log)
		default:
			f.comparing = errors.Is(err, errNotFound)
			f.Problem.Set(f.Log, err)
		}
	}
	return nil
}

// session is one attempt: it ends with an error, or with ctx.
func (f *Feed) session(ctx context.Context, proved func()) error {
	conn, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	s := &session{Feed: f, conn: conn, chosen: f.routes.Load(), log: &log{js: f.JetStream, nc: f.NC, config: f.Stream}}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	reader, err := s.start(ctx)
	if err != nil { // nothing of the slot was read yet: another one would fail likewise
		return err
	}
	defer reader.Close()
	err = s.run(ctx, reader, proved)
	f.count(err, s.confirmed, reader.Position())
	f.hear(err)
	return err
}

// await waits until there is something to do for this replica.
func (f *Feed) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		r := f.routes.Load()
		some := r != nil && len(r.channels) > 0
		if some && f.Lease() {
			if f.leased.IsZero() {
				f.leased = time.Now()
			}
			return true
		}
		f.leased = time.Time{}
		f.Problem.Clear(f.Log)
		f.keepsNothing()
		f.forgetLag()
		pause := leasePoll
		if !some {
			pause = time.Hour // until there are some
		}
		wait.ForOr(ctx, pause, f.Changed)
	}
	return false
}

// hear notes whether the server was silent for too long.
func (f *Feed) hear(err error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		f.silence = firstSilence
		return
	}
	f.silence = min(2*max(f.silence, firstSilence), maxSilence)
}

// count notes a failure that may be the slot's own.
func (f *Feed) count(err error, confirmed, at wal.LSN) {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !ofTheSlot(refused.Code) {
		f.failure = failure{}
		return
	}
	if f.failure.state != refused.Code || f.failure.at != at {
		f.failure = failure{state: refused.Code, at: at, since: time.Now()}
	}
	f.failure.confirmed = confirmed
	f.failure.times++
}

// ofTheSlot reports whether the server may fail so for ever at one place: a
// defect or a limit of its own, or a publication that was not there once.
func ofTheSlot(state string) bool {
	switch state {
	case "42704", outOfMemory, "54000", "58P01", "XX000", "XX001", "XX002":
		return true
	}
	return false
}
