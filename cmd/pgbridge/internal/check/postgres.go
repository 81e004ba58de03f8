package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/config"
	"github.com/pgbridge/pgbridge/internal/migration"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	oldestPostgres = 140000 // server_version_num
	roundTripLimit = 5 * time.Second
	queueAlarm     = 0.25 // of PostgreSQL's notification queue
)

// checkOtherUser looks at the user that requests with their own SQL run as.
func checkOtherUser(ctx context.Context, c *config.Config, r *report) {
	if !c.TakeSQL || c.SQL.ConnString == "" {
		return
	}
	settings, err := postgres.Parse(c.SQL.ConnString, postgres.Options{PasswordFile: c.SQL.PasswordFile, ApplicationName: c.Postgres.ApplicationName})
	if err != nil {
		r.fail("sql.url", "%s", firstLine(err))
		return
	}
	if err := openSession(ctx, settings); err != nil {
		r.fail("sql.url", "%s: %v", settings.Describe(), err)
		return
	}
	r.ok("sql.url", "%s", settings.Describe())
}

// openSession makes a connection as those for requests are made, and closes it.
func openSession(ctx context.Context, settings *postgres.Settings) error {
	s, err := session.Connect(ctx, settings, session.Limits{Statement: time.Minute, Idle: time.Minute})
	if err != nil {
		return errors.New(postgres.Reason(err))
	}
	s.Close()
	return nil
}

type postgresCheck struct {
	*report
	settings *postgres.Settings
	conn     *pgx.Conn
}

func (k postgresCheck) version(ctx context.Context) {
	var number int
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version_num')::integer").Scan(&number)
	text := k.conn.PgConn().ParameterStatus("server_version")
	switch {
	case err != nil:
		k.fail("version", "%s", postgres.Reason(err))
	case number < oldestPostgres:
		k.fail("version", "%s: at least %d is wanted", text, oldestPostgres/10000)
	default:
		k.ok("version", "%s", text)
	}
}

// encoding warns of one in which a payload may be no text.
func (k postgresCheck) encoding(ctx context.Context) {
	const what = "encoding"
	var name string
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.getdatabaseencoding()").Scan(&name)
	switch {
	case err != nil:
		k.fail(what, "%s", postgres.Reason(err))
	case name == "UTF8":
		k.ok(what, "%s", name)
	default:
		k.warn(what, "%s: a payload that cannot be converted to UTF-8 arrives as its bytes, in an envelope in base64", name)
	}
}

// direct compares the backend that greeted us with the one that answers: a
// pooler greets for itself.
func (k postgresCheck) direct(ctx context.Context) {
	var pid uint32
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()").Scan(&pid)
	switch {
	case err != nil:
		k.fail("direct connection", "%s", postgres.Reason(err))
	case pid != k.conn.PgConn().PID():
		k.warn("direct connection", "a pooler is between: LISTEN works through one in session mode only, so connect directly")
	default:
		k.ok("direct connection", "")
	}
}

func (k postgresCheck) privilege(ctx context.Context) {
	var may bool
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_notify(pg_catalog.text,pg_catalog.text)', 'EXECUTE')").Scan(&may)
	if err == nil && !may {
		err = fmt.Errorf("GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO the role %s", k.settings.User())
	}
	k.verdict("may execute pg_notify", "", err)
}

// roundTrip notifies from a second connection, since a pooler may well hand
// a session its own notifications.
func (k postgresCheck) roundTrip(ctx context.Context) {
	took, err := k.notifyAcross(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("nothing came back within %s: is a transaction pooler between?", roundTripLimit)
	}
	k.verdict("LISTEN and NOTIFY", "came back in "+took.Round(10*time.Microsecond).String(), err)
}

func (k postgresCheck) notifyAcross(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTripLimit)
	defer cancel()
	sender, err := k.settings.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer postgres.Close(ctx, sender)
	channel := "pgbridge_check_" + rand.Text()
	if _, err := k.conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := sender.Exec(ctx, "SELECT pg_catalog.pg_notify($1, '')", channel); err != nil {
		return 0, err
	}
	err = k.conn.PgConn().WaitForNotification(ctx)
	took := time.Since(start)
	if err == nil {
		_, err = k.conn.Exec(ctx, "UNLISTEN *")
	}
	return took, err
}

// messageIDs looks at the table that migrate makes. Only jobs cannot do
// without.
func (k postgresCheck) messageIDs(ctx context.Context, needed bool) {
	const what = "message ids"
	var may bool
	err := k.conn.QueryRow(ctx, `SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege('pgbridge.message_id', p))
		FROM pg_catalog.unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p`).Scan(&may)
	problem := ""
	switch state := postgres.SQLState(err); {
	case state == "42P01" || state == "3F000": // undefined_table, invalid_schema_name
		problem = "there is no table pgbridge.message_id: run pgbridge migrate"
	case state == "42501" || err == nil && !may: // insufficient_privilege
		problem = "the role " + k.settings.User() + " may not use pgbridge.message_id: pgbridge migrate --print shows the privileges"
	case err != nil:
		problem = postgres.Reason(err)
	}
	if problem == "" && errors.Is(migration.Look(ctx, k.conn), migration.ErrStranger) {
		problem = "somebody else made the schema pgbridge, or something in it: pgbridge migrate says what"
	}
	switch {
	case problem == "":
		k.ok(what, "pgbridge.message_id is there")
		k.strangers(ctx, what)
	case needed:
		k.fail(what, "%s", problem)
	default:
		k.warn(what, "%s", problem)
	}
}

// strangersSQL names who else than its owner and the login's roles has been given something
// of the table.
const strangersSQL = `SELECT COALESCE(pg_catalog.string_agg(DISTINCT
		CASE a.grantee WHEN 0::pg_catalog.oid THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text) END, ', '), '')
	FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a, pg_catalog.pg_roles l
	WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('pgbridge.message_id') AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
	AND l.rolname OPERATOR(pg_catalog.=) session_user AND a.grantee OPERATOR(pg_catalog.<>) l.oid
	AND (a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid OR l.rolsuper OR NOT pg_catalog.pg_has_role(l.oid, a.grantee, 'MEMBER'))`

// strangers warns of who can read the replies that are stored, or write what is taken for
// one: a database's default privileges hold for this table, too.
func (k postgresCheck) strangers(ctx context.Context, what string) {
	var who string
	if err := k.conn.QueryRow(ctx, strangersSQL).Scan(&who); err != nil {
		k.fail(what, "%s", postgres.Reason(err))
	} else if who != "" {
		k.warn(what, "it holds replies of all callers, and is granted to %s, too, as by default privileges: REVOKE ALL ON pgbridge.message_id", who)
	}
}

func (k postgresCheck) queue(ctx context.Context) {
	const what = "notification queue"
	var usage float64
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.pg_notification_queue_usage()").Scan(&usage)
	switch {
	case err != nil:
		k.fail(what, "%s", postgres.Reason(err))
	case usage >= queueAlarm:
		k.warn(what, "%.1f %% full: some session listens and does not read", 100*usage)
	default:
		k.ok(what, "%.1f %% full", 100*usage)
	}
}

// ages looks whether the role sees how long others' transactions last: that is how far
// catch-up scripts have to look back.
func (k postgresCheck) ages(ctx context.Context, c *config.Config) {
	const what = "catch_up: transactions"
	if !c.CatchesUp() {
		return
	}
	var hidden bool
	err := k.conn.QueryRow(ctx, `SELECT NOT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
		OR pg_catalog.current_setting('track_activities') OPERATOR(pg_catalog.=) 'off'`).Scan(&hidden)
	switch {
	case err != nil:
		k.fail(what, "%s", postgres.Reason(err))
	case hidden:
		k.warn(what, "the role does not see when others' transactions began, so @since is moved back by a minute, and rows of longer ones can be missed: GRANT pg_read_all_stats TO %s, with track_activities on", k.settings.User())
	default:
		k.ok(what, "the role sees when others' transactions began")
	}
}
