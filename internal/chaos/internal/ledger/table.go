package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Schema makes the ledger. As in most tables, a row's time is the start of its
// transaction.
const Schema = `CREATE TABLE ledger (id bigint PRIMARY KEY, channel text NOT NULL, kind text NOT NULL, at timestamptz NOT NULL DEFAULT now());
	CREATE INDEX ledger_at ON ledger (channel, at)`

// Missed is the catch-up script of a channel: the number of each of its events in the
// window, so that of those with equal payloads, too, it is known which was missed. A
// large one is as large as it was.
func Missed(c Channel) string {
	return fmt.Sprintf(`-- What the notifications of a window would have told.
-- timeout: 20s
SELECT CASE kind WHEN '%s' THEN rpad(id::text, %d, 'x') ELSE id::text END
FROM ledger
WHERE channel = '%s' AND at >= coalesce(@since, '-infinity'::timestamptz) AND at <= @until
ORDER BY at, id
`, Large, c.LargeSize, c.Name)
}

// Forget removes what is judged, so that a script which nobody told since when finds
// what is not.
func Forget(ctx context.Context, conn *pgx.Conn, judged []Event) error {
	var ids []int64
	for _, e := range judged {
		ids = append(ids, e.ID)
	}
	if _, err := conn.Exec(ctx, "DELETE FROM ledger WHERE id = ANY($1)", ids); err != nil {
		return fmt.Errorf("forget what is judged: %w", err)
	}
	return nil
}
