package txrunner

import (
	"context"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const purgeIDsSQL = `DELETE FROM pgbridge.message_id WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
	SELECT ctid FROM pgbridge.message_id
	WHERE prefix OPERATOR(pg_catalog.=) $1::pg_catalog.text AND pg_catalog.starts_with(kind, 'job') OPERATOR(pg_catalog.=) $3::boolean
	AND created_at OPERATOR(pg_catalog.<) LEAST(pg_catalog.now() OPERATOR(pg_catalog.-) $2::interval, $4::pg_catalog.timestamptz) LIMIT 1000))`

// purgeIDs deletes old message ids until ctx ends.
func (r *Runner) purgeIDs(ctx context.Context) error {
	for {
		if err := r.purge(ctx); err != nil && ctx.Err() == nil && postgres.SQLState(err) != "42P01" && postgres.SQLState(err) != "3F000" {
			r.config.Logger.Warn("old message ids were not deleted, retrying", zap.Error(err), zap.Duration("backoff", purgePause))
		}
		if !wait.For(ctx, purgePause) {
			return nil
		}
	}
}

// purge deletes the message ids that were kept long enough, a few at a time.
func (r *Runner) purge(ctx context.Context) error {
	if err := r.purgeKind(ctx, "f", "infinity"); err != nil {
		return err
	}
	if before := r.jobs.Purgeable(ctx); before != "" {
		return r.purgeKind(ctx, "t", before)
	}
	return nil
}

// purgeKind purges those of jobs, "t", or all others, "f", made before a time.
func (r *Runner) purgeKind(ctx context.Context, jobs, before string) error {
	for {
		n, err := r.purgeSome(ctx, jobs, before)
		if err != nil || n == 0 {
			return err
		}
	}
}

func (r *Runner) purgeSome(ctx context.Context, jobs, before string) (int64, error) {
	s, err := r.runs.Acquire(ctx, ownWork, session.Ourselves)
	if err != nil {
		return 0, err
	}
	defer s.GiveBack(false)
	if err := execution.TrustIDs(ctx, s); err != nil {
		return 0, err
	}
	keep := append(session.Milliseconds(r.config.KeepMessageIDs), " milliseconds"...)
	return s.Change(ctx, purgeIDsSQL, [][]byte{[]byte(r.config.Prefix), keep, []byte(jobs), []byte(before)})
}
