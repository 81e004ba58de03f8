package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/wait"
)

// askAgainAfter is the pause between two questions what a backend does.
const askAgainAfter = time.Second

// atWorkSQL asks whether a backend is at its statement still, whatever it waits
// for there. One whose answer was lost on the way is idle.
const atWorkSQL = `SELECT coalesce((SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1), false), pg_notification_queue_usage()`

// outlast runs a query of the session and waits for its answer as long as
// PostgreSQL is at work on it. Each NOTIFY waits for the commit of the one before,
// and that one may wait for a synchronous standby or a slow disk: it is no dead
// link, and nothing that was received is lost by it. Meanwhile the session keeps
// the lock, so the lease goes on.
func (s *session) outlast(ctx context.Context, query func(context.Context) error) error {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	answered := make(chan struct{})
	watch.Go(func() {
		if !s.works(limited, answered) {
			cancel()
		}
	})
	err := query(limited)
	close(answered)
	watch.Wait()
	if err != nil && limited.Err() != nil {
		s.release()
	}
	return err
}

// works returns true when the session's query is answered, and false when
// PostgreSQL is not at work on it, or cannot be asked, or the session is to end.
func (s *session) works(ctx context.Context, answered chan struct{}) bool {
	if wait.ForOr(ctx, controlTimeout, answered) {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	conn, _, err := s.connect(ctx)
	if err != nil {
		return false
	}
	defer closeConn(ctx, conn)
	for {
		asked := time.Now()
		if works, err := s.atWork(ctx, conn); err != nil || !works {
			return isClosed(answered)
		}
		if s.holds {
			s.Lease.Renew(asked)
		}
		select {
		case <-answered:
			return true
		case <-ctx.Done():
			return false
		case <-s.Leave:
			return false
		case <-time.After(askAgainAfter):
		}
	}
}

func isClosed(answered chan struct{}) bool {
	select {
	case <-answered:
		return true
	default:
		return false
	}
}

func (s *session) atWork(ctx context.Context, conn *pgx.Conn) (works bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	var usage float64
	if err := conn.QueryRow(ctx, atWorkSQL, s.backend.pid).Scan(&works, &usage); err != nil {
		return false, fmt.Errorf("ask what the session does: %w", err)
	}
	s.sawUsage(usage)
	return works, nil
}

// release has the backend let go of what it waits for, and so of the lock: it
// does not notice that its client is gone before.
func (s *session) release() {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	_ = s.conn.PgConn().CancelRequest(ctx) // one that cannot be reached is freed by its own time limit
}
