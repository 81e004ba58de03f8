package wal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// senderTimeout is how long the server lets a silent reader keep its slot.
const senderTimeout = "5s"

// Conn is a replication connection that does not read yet. It is not safe for
// concurrent use.
type Conn struct{ pg *pgconn.PgConn }

// Connect opens a replication connection to the database of the settings, which
// it does not change. It blocks until the server has answered or ctx ends.
func Connect(ctx context.Context, settings *pgconn.Config) (*Conn, error) {
	c := settings.Copy()
	c.RuntimeParams["replication"] = "database"
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		// Not startup parameters, which a pooler refuses that does not know them.
		for _, set := range []string{postgres.ModesSQL, postgres.OwnRoleSQL, "SET wal_sender_timeout TO '" + senderTimeout + "'", postgres.LastingSQL} {
			if err := postgres.Execute(ctx, conn, set); err != nil {
				return fmt.Errorf("%s: %w", set, err)
			}
		}
		return nil
	}
	pg, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Conn{pg}, nil
}

// Close ends the connection, unless Start took it over.
func (c *Conn) Close(ctx context.Context) { c.pg.Close(ctx) }

// PID returns the process id of the server's side.
func (c *Conn) PID() uint32 { return c.pg.PID() }

// Start begins to read a slot from where it was confirmed last, and takes the
// connection over. A slot that another connection reads is an error with
// SQLSTATE 55006. It blocks until the server has answered or ctx ends.
func (c *Conn) Start(ctx context.Context, config Config) (*Reader, error) {
	// What arrived beside the last answer would be lost with pgconn's buffer.
	if err := c.pg.SyncConn(ctx); err != nil {
		return nil, fmt.Errorf("prepare the connection: %w", err)
	}
	hijacked, err := c.pg.Hijack()
	if err != nil {
		return nil, err
	}
	r := newReader(hijacked.Conn, config)
	if err := r.start(ctx, config); err != nil {
		hijacked.Conn.Close()
		return nil, err
	}
	return r, nil
}

// command is what starts the replication. The position is zero, because a server
// skips silently what lies before a higher one.
func command(c Config) string {
	name := `"` + strings.ReplaceAll(c.Publication, `"`, `""`) + `"`
	return fmt.Sprintf(`START_REPLICATION SLOT "%s" LOGICAL 0/0 (proto_version '1', publication_names '%s', messages 'true')`,
		strings.ReplaceAll(c.Slot, `"`, `""`), strings.ReplaceAll(name, `'`, `''`))
}

// start sends the command and waits until the server streams.
func (r *Reader) start(ctx context.Context, c Config) error {
	query, err := (&pgproto3.Query{String: command(c)}).Encode(nil)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, r.conn.interrupt)
	defer stop()
	if err := r.conn.write(query); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	for {
		kind, err := r.decoder.message()
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		switch kind {
		case 'W': // CopyBothResponse
			return r.decoder.skip(r.decoder.left)
		case 'E':
			return r.decoder.fault()
		case 'Z':
			return errEnded
		}
		if err := r.decoder.skip(r.decoder.left); err != nil {
			return err
		}
	}
}
