package txrunner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
)

// What the database knows of jobs lies in the table of message ids: the ids of
// those that committed, and, as another kind, how often those that have not yet
// have failed. Only failures that came to be known are counted there: neither a
// process that died with a job nor a server that was away is the job's fault.
const (
	kindJob        = "job"
	kindJobFailure = "job-failures" // the reply is their number

	countFailureSQL = `INSERT INTO pgbridge.message_id AS m (prefix, caller, kind, script, id, request, reply)
	VALUES ($1, $2, $3, $4, $5, $6, '1')
	ON CONFLICT (prefix, caller, kind, script, id) DO UPDATE SET reply = (m.reply::integer + 1)::text
	RETURNING reply`
	failuresSQL = `SELECT reply FROM pgbridge.message_id
	WHERE prefix = $1 AND caller = $2 AND kind = $3 AND script = $4 AND id = $5`
	forgetFailuresSQL = `DELETE FROM pgbridge.message_id
	WHERE prefix = $1 AND caller = $2 AND kind = $3 AND script = $4 AND id = $5`

	// usableSQL touches no row, but PostgreSQL checks the table and the
	// permissions as if it would.
	usableSQL = `WITH i AS (INSERT INTO pgbridge.message_id (prefix, caller, kind, script, id, request)
		SELECT '', '', '', '', '', '' WHERE false),
	u AS (UPDATE pgbridge.message_id SET reply = reply WHERE false),
	d AS (DELETE FROM pgbridge.message_id WHERE false)
	SELECT '' FROM pgbridge.message_id LIMIT 0`

	storeTimeout = 5 * time.Second
)

// usable returns an error for people if job ids cannot be stored, and nil also
// where PostgreSQL cannot be asked just now: then no job is taken anyway.
func (j *jobs) usable(ctx context.Context) error {
	_, err := j.ask(ctx, usableSQL)
	var report *pgconn.PgError
	var failure *service.Error
	switch {
	case !errors.As(err, &report) || service.FromPostgres(err, false).Code == service.CodeUnavailable:
		return nil
	case errors.As(idError(report), &failure):
		return errors.New(failure.Message)
	}
	return fmt.Errorf("use the table pgbridge.message_id: SQLSTATE %s", report.Code)
}

// failures returns how often a job has failed before.
func (j *jobs) failures(ctx context.Context, one *job) (int, error) {
	return j.askNumber(ctx, failuresSQL, one.failureKey().key()...)
}

// countFailure counts another failure and returns how many there are now.
func (j *jobs) countFailure(ctx context.Context, one *job) (int, error) {
	key := one.failureKey()
	return j.askNumber(ctx, countFailureSQL, append(key.key(), []byte(key.request))...)
}

// forgetFailures lets a later job with the same id begin anew.
func (j *jobs) forgetFailures(ctx context.Context, one *job) error {
	_, err := j.ask(ctx, forgetFailuresSQL, one.failureKey().key()...)
	return err
}

// failureKey is where the failures of a job are counted.
func (one *job) failureKey() *messageID {
	key := *one.key
	key.kind = kindJobFailure
	return &key
}

func (j *jobs) askNumber(ctx context.Context, sql string, values ...[]byte) (int, error) {
	answer, err := j.ask(ctx, sql, values...)
	if err != nil || answer == nil {
		return 0, err
	}
	n, err := strconv.Atoi(string(answer))
	if err != nil {
		return 0, fmt.Errorf("count a job's failures: %w", err)
	}
	return n, nil
}

// ask executes a statement of our own and returns the first value of its first
// row, nil without one.
func (j *jobs) ask(ctx context.Context, sql string, values ...[]byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	conn, err := j.runner.work.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	f := flow{session: sessionOf(conn.Conn().PgConn())}
	f.open(ctx)
	defer f.close()
	f.neutral()
	f.own(stepShow, sql, values...)
	err = f.sync(func(s step, result any) error {
		if r, ok := result.(*pgconn.ResultReader); ok && s.kind == stepShow && r.NextRow() {
			answer = slices.Clone(r.Values()[0])
		}
		return nil
	})
	return answer, err
}
