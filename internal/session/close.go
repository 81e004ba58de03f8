package session

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// cleanTimeout bounds what is done on a connection besides requests' own work: a
// cancel, a rollback, a reset.
const cleanTimeout = 5 * time.Second

// closeNow gives a connection up.
func closeNow(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nobody needs it any more
}
