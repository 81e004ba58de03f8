package txrunner

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// purgeIDs deletes old message ids until ctx ends.
func (r *Runner) purgeIDs(ctx context.Context) error {
	for {
		if err := r.purge(ctx); err != nil && ctx.Err() == nil && postgres.SQLState(err) != "42P01" && postgres.SQLState(err) != "3F000" {
			r.config.Logger.Warn("old message ids stay for now", zap.Error(err), zap.Duration("backoff", purgePause))
		}
		if !sleep(ctx, purgePause) {
			return nil
		}
	}
}

// purge deletes the message ids that were kept long enough, a few at a time.
func (r *Runner) purge(ctx context.Context) error {
	if err := r.purgeKind(ctx, "f", "infinity"); err != nil {
		return err
	}
	if before := r.jobs.purgeable(ctx); before != "" {
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
	conn, err := r.runs.pool.Acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Release()
	keep := append(milliseconds(r.config.KeepMessageIDs), " milliseconds"...)
	var tag pgconn.CommandTag
	f := flow{session: sessionOf(conn.Conn().PgConn())}
	f.open(ctx)
	defer f.close()
	f.neutral()
	f.own(stepShow, purgeIDsSQL, []byte(r.config.Prefix), keep, []byte(jobs), []byte(before))
	err = f.sync(func(s step, result any) (err error) {
		if r, ok := result.(*pgconn.ResultReader); ok && s.kind == stepShow {
			tag, err = r.Close()
		}
		return err
	})
	return tag.RowsAffected(), err
}
