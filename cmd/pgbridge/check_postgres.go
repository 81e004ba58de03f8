package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

const (
	oldestPostgres = 140000 // server_version_num
	roundTripLimit = 5 * time.Second
	queueAlarm     = 0.25 // of PostgreSQL's notification queue
)

// checkPostgres reports what the database allows.
func checkPostgres(ctx context.Context, c *config, r *report) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	r.heading("PostgreSQL")
	settings, err := postgres.Parse(c.Postgres.URL, c.postgresOptions())
	if err != nil {
		r.fail("settings", "%s", firstLine(err))
		return
	}
	conn, err := connectPostgres(ctx, settings)
	if err != nil {
		r.fail("reachable", "%s: %s", settings.Describe(), explain(err))
		return
	}
	defer closePostgres(ctx, conn)
	r.ok("reachable", "%s, a primary", settings.Describe())
	k := postgresCheck{r, settings, conn}
	k.version(ctx)
	k.direct(ctx)
	k.privilege(ctx)
	k.roundTrip(ctx)
	k.queue(ctx)
	if c.runs() {
		k.messageIDs(ctx, c.TakeJobs)
	}
	checkOtherUser(ctx, c, r)
}

// checkOtherUser looks at the user that requests with their own SQL run as.
func checkOtherUser(ctx context.Context, c *config, r *report) {
	if !c.TakeSQL || c.SQL.ConnString == "" {
		return
	}
	settings, err := postgres.Parse(c.SQL.ConnString, postgres.Options{PasswordFile: c.SQL.PasswordFile, ApplicationName: c.Postgres.ApplicationName})
	if err != nil {
		r.fail("sql.url", "%s", firstLine(err))
		return
	}
	conn, err := connectPostgres(ctx, settings)
	if err != nil {
		r.fail("sql.url", "%s: %s", settings.Describe(), explain(err))
		return
	}
	closePostgres(ctx, conn)
	r.ok("sql.url", "%s", settings.Describe())
}

func connectPostgres(ctx context.Context, s *postgres.Settings) (*pgx.Conn, error) {
	cc, err := s.ConnConfig(ctx)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cc)
}

func closePostgres(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	conn.Close(ctx)
}

func explain(err error) string {
	if f := postgres.Explain(err); f.Kind != postgres.KindOther {
		return f.String()
	}
	return firstLine(err)
}

type postgresCheck struct {
	*report
	settings *postgres.Settings
	conn     *pgx.Conn
}

func (k postgresCheck) version(ctx context.Context) {
	var number int
	err := k.conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&number)
	text := k.conn.PgConn().ParameterStatus("server_version")
	switch {
	case err != nil:
		k.fail("version", "%s", explain(err))
	case number < oldestPostgres:
		k.fail("version", "%s: at least %d is wanted", text, oldestPostgres/10000)
	default:
		k.ok("version", "%s", text)
	}
}

// direct compares the backend that greeted us with the one that answers: a
// pooler greets for itself.
func (k postgresCheck) direct(ctx context.Context) {
	var pid uint32
	err := k.conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	switch {
	case err != nil:
		k.fail("direct connection", "%s", explain(err))
	case pid != k.conn.PgConn().PID():
		k.warn("direct connection", "a pooler is between: LISTEN works through one in session mode only, so connect directly")
	default:
		k.ok("direct connection", "")
	}
}

func (k postgresCheck) privilege(ctx context.Context) {
	var may bool
	err := k.conn.QueryRow(ctx, "SELECT has_function_privilege('pg_catalog.pg_notify(text,text)', 'EXECUTE')").Scan(&may)
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
	sender, err := connectPostgres(ctx, k.settings)
	if err != nil {
		return 0, err
	}
	defer closePostgres(ctx, sender)
	channel := "pgbridge_check_" + rand.Text()
	if _, err := k.conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := sender.Exec(ctx, "SELECT pg_catalog.pg_notify($1, '')", channel); err != nil {
		return 0, err
	}
	_, err = k.conn.WaitForNotification(ctx)
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
		problem = explain(err)
	}
	switch {
	case problem == "":
		k.ok(what, "pgbridge.message_id is there")
	case needed:
		k.fail(what, "%s", problem)
	default:
		k.warn(what, "%s", problem)
	}
}

func (k postgresCheck) queue(ctx context.Context) {
	const what = "notification queue"
	var usage float64
	err := k.conn.QueryRow(ctx, "SELECT pg_catalog.pg_notification_queue_usage()").Scan(&usage)
	switch {
	case err != nil:
		k.fail(what, "%s", explain(err))
	case usage >= queueAlarm:
		k.warn(what, "%.1f %% full: some session listens and does not read", 100*usage)
	default:
		k.ok(what, "%.1f %% full", 100*usage)
	}
}
