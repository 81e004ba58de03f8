package session

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// lookTimeout bounds a look where the settings lead.
const lookTimeout = 5 * time.Second

// Home is the server that connection settings lead to, as the connections found
// it that were made with them. The one that set out last is believed: a name that
// has got another address leads new connections elsewhere, while old ones live on
// where they are. It is safe for concurrent use.
type Home struct {
	settings    *postgres.Settings
	byStatement atomic.Bool // a pooler refuses the sessions' startup parameters
	nameTraces  bool        // application_name says which span a transaction belongs to

	mu    sync.Mutex // guards what follows
	at    postgres.Place
	began time.Time       // when the connection set out that found it; zero: none has
	pools []*pgxpool.Pool // whose connections are there
}

// NewHome returns the home of settings, which is not known yet.
func NewHome(settings *postgres.Settings) *Home { return &Home{settings: settings} }

// NameTraces has a transaction's application_name say which span it belongs to. It is
// called before the home is used.
func (h *Home) NameTraces() { h.nameTraces = true }

// Place is where the settings lead, empty while no connection was made.
func (h *Home) Place() postgres.Place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

// Look makes a connection to see where the settings lead now, and closes it.
// Where that is another server than before, the connections of all pools to the
// old one are left: idle ones at once, others when they are given back.
func (h *Home) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	began := time.Now()
	conn, err := h.settings.Connect(ctx)
	if err != nil {
		return err
	}
	defer postgres.Close(ctx, conn)
	_, err = h.arrive(ctx, conn.PgConn(), began)
	return err
}

// arrive notes where a connection has come to that set out at began.
func (h *Home) arrive(ctx context.Context, conn *pgconn.PgConn, began time.Time) (at postgres.Place, err error) {
	if at.Instance, err = postgres.ReadInstance(ctx, conn); err != nil {
		return at, err
	}
	if known := h.Place(); known.Instance == at.Instance {
		at = known // one database on one server
	} else if at.Database, err = postgres.ReadDatabase(ctx, conn); err != nil {
		return at, err
	}
	for _, p := range h.move(at, began) {
		p.Reset()
	}
	return at, nil
}

// move returns the pools that have connections elsewhere now.
func (h *Home) move(at postgres.Place, began time.Time) []*pgxpool.Pool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if began.Before(h.began) {
		return nil
	}
	moved := h.at != at && !h.began.IsZero()
	h.at, h.began = at, began
	if !moved {
		return nil
	}
	return h.pools
}

func (h *Home) add(p *pgxpool.Pool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pools = append(h.pools, p)
}
