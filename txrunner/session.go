package txrunner

import (
	"container/list"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
)

const (
	// maxPrepared is how many scripts a connection keeps prepared; the one not
	// used for longest makes room.
	maxPrepared = 256
	// cleanTimeout bounds what is done on a connection besides requests'
	// own work: a rollback, a reset.
	cleanTimeout = 5 * time.Second

	sessionKey = "pgbridge" // in a connection's custom data
)

// What a session's temporary leftovers are removed with as soon as a program is
// done of which it is known that it may leave some. Those of others go at the
// next use.
const (
	tidySQL  = "CLOSE ALL; UNLISTEN *; DISCARD TEMP; SELECT pg_catalog.pg_advisory_unlock_all()"
	resetSQL = "DISCARD ALL"
)

// session is one PostgreSQL connection and what it remembers. Whoever holds the
// connection may use it.
type session struct {
	conn    *pgconn.PgConn
	catalog *rows.Catalog

	fixed    map[string]*pgconn.StatementDescription // by SQL of our own
	prepared map[*program]*list.Element
	recent   list.List // of *prepared, the last one used first
	unused   []string  // prepared statements to be freed
	names    int       // given so far
	lookups  int       // of types, each with the unnamed statement

	notices notices
}

// attachSession gives a new connection its session.
func attachSession(catalog *rows.Catalog) func(context.Context, *pgx.Conn) error {
	return func(_ context.Context, c *pgx.Conn) error {
		s := &session{conn: c.PgConn(), catalog: catalog}
		s.forget()
		s.conn.CustomData()[sessionKey] = s
		return nil
	}
}

func sessionOf(conn *pgconn.PgConn) *session {
	s, _ := conn.CustomData()[sessionKey].(*session)
	return s
}

// forget drops what was prepared, after the server has.
func (s *session) forget() {
	s.fixed = make(map[string]*pgconn.StatementDescription)
	s.prepared = make(map[*program]*list.Element)
	s.recent.Init()
	s.unused = nil
}

// distrust makes everything be prepared anew, after the server did not know a
// statement: a function can have dropped others as well.
func (s *session) distrust() {
	unused := s.unused
	for _, statement := range s.fixed {
		unused = append(unused, statement.Name)
	}
	for _, element := range s.prepared {
		for _, d := range element.Value.(*prepared).statements {
			unused = append(unused, d.statement.Name)
		}
	}
	s.forget()
	s.unused = unused // to free one that is not there is no error
}

// fix remembers a statement of our own that was prepared.
func (s *session) fix(done step, result any) {
	statement, ok := result.(*pgconn.StatementDescription)
	if !ok {
		return
	}
	statement.Name = done.name
	if len(statement.Fields) == 0 {
		statement.Fields = noRows()
	}
	s.fixed[done.sql] = statement
}

// newName returns a name that no prepared statement of this connection has had.
func (s *session) newName() string {
	s.names++
	return fmt.Sprintf("pgbridge_%d", s.names)
}

// lost reports whether the connection is gone.
func (s *session) lost() bool { return s.conn.IsClosed() }

// rollback ends an open transaction. canceled says that the server may have
// been asked to cancel: the request can arrive late and hit another statement,
// so one that does nothing is put in its way. Afterwards the connection is
// outside a transaction or closed.
func (s *session) rollback(ctx context.Context, canceled bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if canceled {
		_ = s.execute(ctx, ";") // swallows a late cancel
	}
	if s.conn.TxStatus() == 'I' || s.execute(ctx, "ROLLBACK") == nil {
		return
	}
	s.close()
}

// spoil makes an open transaction a failed one, if it is not: a script that
// stopped in the middle is not to be committed by half.
func (s *session) spoil(ctx context.Context) {
	if s.lost() || s.conn.TxStatus() != 'T' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	_ = s.execute(ctx, "ROLLBACK TO SAVEPOINT pgbridge_stopped_halfway") // there is none
	if s.conn.TxStatus() == 'T' {
		s.rollback(ctx, false)
	}
}

// clean removes what earlier work may have left behind, with one of the
// constants above, and closes the connection where that fails.
func (s *session) clean(ctx context.Context, sql string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	if err := s.execute(ctx, sql); err != nil {
		s.close()
	}
	if sql == resetSQL {
		s.forget()
	}
	s.notices.reset()
}

func (s *session) execute(ctx context.Context, sql string) error {
	_, err := s.conn.Exec(ctx, sql).ReadAll()
	return err
}

func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_ = s.conn.Close(ctx) // it is given up, and the pool makes a new one
}
