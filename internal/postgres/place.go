package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Place is where a connection is: a name may lead to another server from one
// connection to the next.
type Place struct {
	// Instance tells a running server from every other one, and from itself
	// before a restart.
	Instance string
	// Database is the same on every server of a cluster, and over restarts.
	Database string
}

// Server is what replicas compare: a copy of a cluster has the same database.
func (p Place) Server() string { return p.Database + "@" + p.Instance }

// Seconds and SecondsAsText around a timestamp are an expression for it that is written
// alike in all sessions. How many digits a float8 gets is a setting of each, and a database
// may have one of its own.
const (
	Seconds       = `pg_catalog.trim_scale(EXTRACT(epoch FROM `
	SecondsAsText = `)::pg_catalog.numeric)::pg_catalog.text`
)

// InstanceSQL is an expression for [Place.Instance].
const InstanceSQL = Seconds + `pg_catalog.pg_postmaster_start_time()` + SecondsAsText

const (
	databaseSQL = `SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text OPERATOR(pg_catalog.||) '/' OPERATOR(pg_catalog.||) pg_catalog.current_database()::pg_catalog.text`
	nameSQL     = `SELECT pg_catalog.current_database()::pg_catalog.text`
)

// ReadDatabase returns [Place.Database]. It blocks for a round trip or two.
func ReadDatabase(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	database, err := readText(ctx, conn, databaseSQL)
	var report *pgconn.PgError
	if errors.As(err, &report) { // the user may not ask for the system's
		database, err = readText(ctx, conn, nameSQL)
	}
	if err != nil {
		return "", fmt.Errorf("read the database's identity: %w", err)
	}
	return database, nil
}

// ReadInstance returns [Place.Instance]. It blocks for a round trip.
func ReadInstance(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	instance, err := readText(ctx, conn, "SELECT "+InstanceSQL)
	if err != nil {
		return "", fmt.Errorf("read which server this is: %w", err)
	}
	return instance, nil
}

// readText returns the only column of a statement's first row. It prepares
// nothing, because a pooler may answer the next statement from another session.
func readText(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	rows, err := ReadRows(ctx, conn, sql, 1)
	switch {
	case err != nil:
		return "", err
	case len(rows) == 0:
		return "", errors.New("the server answered with no row")
	}
	return string(rows[0][0]), nil
}
