package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/subject"
)

// What the database knows of jobs lies in the table of message ids: the ids of
// those that committed, and, as other kinds, how often those that have not yet have
// failed, and how many of their runs have not come to an end. That a server was away
// is no job's fault.
const (
	kindJob        = "job"
	kindJobFailure = "job-failures" // the reply is their number
	kindJobStarts  = "job-starts"   // the reply is their number, the request the server's start

	countFailureSQL = `INSERT INTO pgbridge.message_id AS m (prefix, caller, kind, script, id, request, reply)
	VALUES ($1, $2, $3, $4, $5, $6, '1')
	ON CONFLICT (prefix, caller, kind, script, id) DO UPDATE SET reply = (m.reply::integer OPERATOR(pg_catalog.+) 1)::pg_catalog.text
	RETURNING reply`
	failuresSQL = `SELECT reply FROM pgbridge.message_id
	WHERE prefix OPERATOR(pg_catalog.=) $1::pg_catalog.text AND caller OPERATOR(pg_catalog.=) $2::pg_catalog.text AND kind OPERATOR(pg_catalog.=) $3::pg_catalog.text
	AND script OPERATOR(pg_catalog.=) $4::pg_catalog.text AND id OPERATOR(pg_catalog.=) $5::pg_catalog.text`
	forgetFailuresSQL = `DELETE FROM pgbridge.message_id
	WHERE prefix OPERATOR(pg_catalog.=) $1::pg_catalog.text AND caller OPERATOR(pg_catalog.=) $2::pg_catalog.text AND kind OPERATOR(pg_catalog.=) $3::pg_catalog.text
	AND script OPERATOR(pg_catalog.=) $4::pg_catalog.text AND id OPERATOR(pg_catalog.=) $5::pg_catalog.text`

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
func (j *Jobs) usable(ctx context.Context) error {
	_, err := j.ask(ctx, execution.TrustedIDsSQL)
	if err == nil {
		_, err = j.ask(ctx, usableSQL)
	}
	var report *pgconn.PgError
	var failure *service.Error
	switch {
	case !errors.As(err, &report) || service.FromPostgres(err, false).Code == service.CodeUnavailable:
		return nil
	case errors.As(execution.IDError(report), &failure):
		return errors.New(failure.Message)
	}
	return fmt.Errorf("use the table pgbridge.message_id: SQLSTATE %s", report.Code)
}

// failures returns how often a job has failed before.
func (j *Jobs) failures(ctx context.Context, one *job) (int, error) {
	return j.askNumber(ctx, failuresSQL, one.failureKey().Key()...)
}

// countFailure counts another failure and returns how many there are now.
func (j *Jobs) countFailure(ctx context.Context, one *job) (int, error) {
	key := one.failureKey()
	return j.askNumber(ctx, countFailureSQL, append(key.Key(), []byte(key.Request))...)
}

// forgetFailures lets a later job with the same id begin anew.
func (j *Jobs) forgetFailures(ctx context.Context, one *job) error {
	_, failures := j.ask(ctx, forgetFailuresSQL, one.failureKey().Key()...)
	_, starts := j.ask(ctx, forgetFailuresSQL, one.keyOf(kindJobStarts).Key()...)
	return errors.Join(failures, starts)
}

// newKey names a job in the database. A subject can hold what that cannot, which is no
// script's name.
func (j *Jobs) newKey(one *job, id string) (*execution.MessageID, error) {
	script := one.script
	if !service.Storable(script) {
		script = subject.Token(script)
	}
	return execution.NewMessageID(j.config.Prefix, "", kindJob, script, id, one.msg.Data)
}

// errUnstorable is the last word on a job of which nothing can be counted.
var errUnstorable = service.Errorf(service.CodeInvalidRequest, "the id, or the script's name, is none that the database can hold")

// unstorable reports whether an error says that a job's key is none that the table can
// hold, now or ever: it is too long for an index, or has characters that the database's
// encoding lacks. Whoever leaves jobs chooses both, so that is no reason to wait.
func unstorable(err error) bool {
	switch postgres.SQLState(err) {
	case "54000", "22P05", "22021": // program_limit_exceeded, untranslatable_character, character_not_in_repertoire
		return true
	}
	return false
}

// keyOf is where something else is counted.
func (one *job) keyOf(kind string) *execution.MessageID {
	key := *one.key
	key.Kind = kind
	return &key
}

// failureKey is where the failures of a job are counted.
func (one *job) failureKey() *execution.MessageID { return one.keyOf(kindJobFailure) }

func (j *Jobs) askNumber(ctx context.Context, sql string, values ...[]byte) (int, error) {
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
func (j *Jobs) ask(ctx context.Context, sql string, values ...[]byte) (answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s, err := j.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer s.GiveBack(false)
	row, err := s.AskRow(ctx, 1, sql, values)
	if row == nil {
		return nil, err
	}
	return row[0], err
}

func (j *Jobs) acquire(ctx context.Context) (*session.Session, error) {
	return execution.Acquire(ctx, j.config.Pool(), "", session.Ourselves)
}
