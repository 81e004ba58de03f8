package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/rows"
)

// prepare makes a connection one with a session, which begins with the defaults.
// They are startup parameters, because then the server itself goes back to them;
// a pooler refuses those that it does not know, and then a statement sets them.
func (h *Home) prepare(config *pgx.ConnConfig, d defaults) {
	began, byStatement := time.Now(), h.byStatement.Load()
	config.OnNotice = onNotice
	noteCancels(&config.Config)
	for name, value := range d {
		if byStatement {
			delete(config.RuntimeParams, name)
		} else {
			config.RuntimeParams[name] = value
		}
	}
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		s := New(conn, rows.NewCatalog())
		if s.home = h; byStatement {
			s.defaults = d.statements()
			if err := s.restore(ctx); err != nil {
				return fmt.Errorf("prepare the session: %w", err)
			}
		}
		if s.at, err = h.arrive(ctx, conn, began); err != nil {
			return err
		}
		return s.readLogin(ctx)
	}
}

// refused reports whether a connection was not made for the sake of a startup
// parameter. Then the next one is prepared without.
func (h *Home) refused(err error) bool {
	var connecting *pgconn.ConnectError
	if !errors.As(err, &connecting) || postgres.SQLState(err) != "08P01" { // protocol_violation
		return false
	}
	h.byStatement.Store(true)
	return true
}

// Connect makes a connection that belongs to no pool: it is to be closed. It is
// made as those of pools are.
func Connect(ctx context.Context, settings *postgres.Settings, limits Limits) (*Session, error) {
	home := NewHome(settings)
	connect := func() (*pgx.Conn, error) {
		config, err := settings.ConnConfig(ctx)
		if err != nil {
			return nil, err
		}
		home.prepare(config, defaultsFor(limits))
		return pgx.ConnectConfig(ctx, config)
	}
	conn, err := connect()
	if home.refused(err) {
		conn, err = connect()
	}
	if err != nil {
		return nil, err
	}
	return Of(conn.PgConn()), nil
}

// onNotice belongs into a connection's configuration.
func onNotice(conn *pgconn.PgConn, n *pgconn.Notice) {
	if s := Of(conn); s != nil {
		s.Notices.add(n)
	}
}
