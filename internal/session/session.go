package session

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/rows"
)

const (
	key        = "pgbridge"        // in a connection's custom data
	handlerKey = "pgbridge.cancel" // the same: what happens when a context ends
)

// Session is one PostgreSQL connection and what it remembers. Whoever holds the
// connection may use it, one goroutine at a time.
type Session struct {
	Conn    *pgconn.PgConn
	catalog *rows.Catalog // of types
	flushed time.Time     // when the catalog was emptied
	login   string        // the user that it began with
	role    string        // that it began with, NoRole for the login itself
	name    string        // the application_name that it began with
	Notices Notices

	used      bool      // by clients, since it was last known to be clean
	untouched bool      // by clients, since it was made
	temporary bool      // there have been temporary tables
	caller    string    // in whose name it was used last
	answered  time.Time // when the last answer to cleaning was read

	watcher *ctxwatch.ContextWatcher // of the context of the open pipeline
	request request                  // of the open pipeline
	steps   []Step                   // memory for those of the next one

	fixed    map[string]*pgconn.StatementDescription // by SQL of our own
	prepared map[*Script]*list.Element
	recent   list.List     // of *Prepared, the last one used first
	unused   []string      // prepared statements to be freed
	names    int           // given so far
	lookups  int           // of types, each with the unnamed statement
	limit    time.Duration // of a statement, that the login or the database has; 0: none
	canceled atomic.Bool   // PostgreSQL was asked to cancel, and may do so yet

	home     *Home          // nil: it belongs to none
	at       postgres.Place // where it is
	defaults []string       // statements that set them; none: the server goes back to them by itself

	pooled   *pgxpool.Conn   // nil: it belongs to no pool
	release  func()          // of its slot in there
	cleaning *sync.WaitGroup // what the pool waits for before it closes
}

// New gives a connection its session. Cancel requests that the connection makes
// by itself when a context ends are noted only if its configuration went through
// a [Pool] or [Connect].
func New(conn *pgconn.PgConn, catalog *rows.Catalog) *Session {
	s := &Session{Conn: conn, catalog: catalog, flushed: time.Now(), login: conn.ParameterStatus("session_authorization")}
	s.untouched, s.role, s.name = true, NoRole, conn.ParameterStatus("application_name")
	s.watcher = ctxwatch.NewContextWatcher(handlerOf(conn))
	s.forget()
	conn.CustomData()[key] = s
	return s
}

// handlerOf returns what the connection does when the context of a statement ends.
func handlerOf(conn *pgconn.PgConn) ctxwatch.Handler {
	if handler, ok := conn.CustomData()[handlerKey].(ctxwatch.Handler); ok {
		return handler
	}
	return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()}
}

// Of returns the connection's session, nil if it has none.
func Of(conn *pgconn.PgConn) *Session {
	s, _ := conn.CustomData()[key].(*Session)
	return s
}

// Lost reports whether the connection is gone.
func (s *Session) Lost() bool { return s.Conn.IsClosed() }

// Elsewhere reports whether the connection settings lead to another server by now.
func (s *Session) Elsewhere() bool { return s.home != nil && s.at != s.home.Place() }

// NoRole stands for the role that the login begins with, which is itself unless it was
// given another one.
const NoRole = "none"

// Role is the name for PostgreSQL of a role or of [NoRole].
func (s *Session) Role(name []byte) []byte {
	if string(name) == NoRole {
		return []byte(s.role)
	}
	return name
}

// NamesTraces reports whether application_name is to say which span a transaction
// belongs to, and what it says otherwise; see [Home.NameTraces].
func (s *Session) NamesTraces() (otherwise string, yes bool) {
	return s.name, s.home != nil && s.home.nameTraces
}

// Failed reports whether the connection is in a transaction that can only be
// rolled back.
func (s *Session) Failed() bool { return s.Conn.TxStatus() == 'E' }

// Close gives the connection up.
func (s *Session) Close() { closeNow(s.Conn) }

// forget drops what was prepared, after the server has.
func (s *Session) forget() {
	s.fixed = make(map[string]*pgconn.StatementDescription)
	s.prepared = make(map[*Script]*list.Element)
	s.recent.Init()
	s.unused = nil
}
