package jobs

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/wait"
)

// maxStarts is how many runs of a job may end with their session, or with the process
// that they were in, before the job is given up: it would go on to take one replica
// after the other down.
const maxStarts = 5

const (
	// startSQL counts one more. What was counted before the server was started anew
	// is forgotten: its end was the runs' end.
	startSQL = `INSERT INTO pgbridge.message_id AS m (prefix, caller, kind, script, id, request, reply)
	VALUES ($1, $2, $3, $4, $5, ` + postgres.InstanceSQL + `, '1')
	ON CONFLICT (prefix, caller, kind, script, id) DO UPDATE SET request = EXCLUDED.request, reply =
		CASE WHEN m.request OPERATOR(pg_catalog.=) EXCLUDED.request THEN (m.reply::integer OPERATOR(pg_catalog.+) 1)::pg_catalog.text ELSE '1' END
	RETURNING reply`
	// crashedSQL tells whether the server has crashed in the last milliseconds: it
	// forgets its statistics then.
	crashedSQL = `SELECT 'yes' FROM pg_catalog.pg_stat_bgwriter WHERE stats_reset OPERATOR(pg_catalog.>)
	(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1::pg_catalog.float8 OPERATOR(pg_catalog./) 1000::pg_catalog.float8))`
	takeBackSQL = `UPDATE pgbridge.message_id SET reply = GREATEST(reply::integer OPERATOR(pg_catalog.-) 1, 0)::pg_catalog.text
	WHERE prefix OPERATOR(pg_catalog.=) $1::pg_catalog.text AND caller OPERATOR(pg_catalog.=) $2::pg_catalog.text AND kind OPERATOR(pg_catalog.=) $3::pg_catalog.text
	AND script OPERATOR(pg_catalog.=) $4::pg_catalog.text AND id OPERATOR(pg_catalog.=) $5::pg_catalog.text`
)

// begin counts a run that is about to start and returns how many have not come to an
// end, with this one. Only a job that was delivered before is counted: the others
// would pay for it.
func (j *Jobs) begin(ctx context.Context, one *job) (starts int, err error) {
	starts, err = j.askNumber(ctx, startSQL, one.keyOf(kindJobStarts).Key()...)
	one.counted = err == nil
	return starts, err
}

// ended takes the count of a run back that began so long ago, unless the run's session has ended under it. One that
// was not counted is then, if PostgreSQL can be asked: being away is nobody's fault.
func (j *Jobs) ended(ctx context.Context, one *job, ago time.Duration, failure *service.Error) {
	var err error
	lost := sessionEnded(failure) && !j.cut(ctx, ago, failure)
	switch {
	case one.counted && !lost:
		err = j.takeBack(ctx, one)
	case lost && !one.counted:
		_, err = j.begin(context.WithoutCancel(ctx), one)
	}
	if err != nil {
		j.log.Debug("the starts of a job are counted wrong", zap.String("script", one.script), zap.Error(err))
	}
}

// takeBack takes a count back, as soon as PostgreSQL can be asked.
func (j *Jobs) takeBack(ctx context.Context, one *job) (err error) {
	for {
		_, err = j.ask(context.WithoutCancel(ctx), takeBackSQL, one.keyOf(kindJobStarts).Key()...)
		if err == nil || service.FromPostgres(err, false).Code != service.CodeUnavailable || !wait.For(ctx, gatePause) {
			one.counted = err != nil
			return err
		}
	}
}

// maxAsked is how often a server is asked that ends connections without a word.
const maxAsked = 100

// cut reports whether it was the link that ended under a run that has begun so long
// ago, and not the session: it ended without a word from the server, and that has not
// crashed since, or cannot be reached. A server that recovers from a crash, which a
// job can cause, can be, and says so.
func (j *Jobs) cut(ctx context.Context, ago time.Duration, failure *service.Error) bool {
	if failure.SQLState != "" {
		return false
	}
	for range maxAsked {
		crashed, err := j.ask(context.WithoutCancel(ctx), crashedSQL, strconv.AppendInt(nil, ago.Milliseconds(), 10))
		var dial *net.OpError
		var report *pgconn.PgError
		switch {
		case err == nil:
			return crashed == nil
		case errors.As(err, &report):
			return false
		case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, context.DeadlineExceeded):
			return true
		}
		wait.For(ctx, gatePause) // a connection that was idle has ended, too, or the server is about to say why
	}
	return false
}

// sessionEnded reports whether a run failed because its connection ended while it ran.
func sessionEnded(failure *service.Error) bool {
	var refused *pgconn.ConnectError
	switch {
	case failure == nil, failure.Code != service.CodeUnavailable && failure.Code != service.CodeUnknown:
		return false
	case errors.As(failure, &refused), pgconn.SafeToRetry(failure), execution.Stopped(failure):
		return false
	}
	return true
}

// givenUp is the last word on a job whose runs do not come to an end.
func givenUp() *service.Error {
	e := service.Errorf(service.CodeUnavailable, "given up: %d runs have ended with their session, or with the process that they were in", maxStarts)
	e.Retryable = false
	return e
}

// owned looks whether a job with this id was committed before an error becomes the last
// word: then the stored reply is the result, or the error is that the id was used.
// known is false where the id is nobody's.
func (j *Jobs) owned(ctx context.Context, one *job) (body []byte, known bool, err error) {
	if one.refused != nil {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	s, err := j.acquire(ctx)
	if err != nil {
		return nil, false, err
	}
	defer s.GiveBack(false)
	if body, known, err = one.key.Stored(ctx, s); unstorable(err) {
		return nil, false, nil
	}
	return body, known, err
}
