package shell

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgbridge/pgbridge/client"
)

// readOnlySQL is what PostgreSQL answers to who writes in a read-only transaction.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
const readOnlySQL = "25006"

// advise adds what to do where a script wants another transaction than the one that is
// open: the one who typed it does not know what the scripts before wanted.
func (s *Shell) advise(ctx context.Context, script string, err error) error {
	failure, ok := client.AsError(err)
	if !ok || script == "" {
		return err
	}
	switch {
	case failure.SQLState == readOnlySQL && s.modes.ReadOnly && !s.Options.ReadOnly:
		return &advised{err, fmt.Sprintf("The transaction was begun read-only: rollback, and begin one with %s.", script)}
	case failure.Code != client.CodeInvalidRequest || s.Modes == nil || s.tx == nil:
		return err
	}
	want := s.Modes(ctx, script)
	switch {
	case want.ReadOnly && !s.modes.ReadOnly:
		return &advised{err, fmt.Sprintf("%s is for read-only transactions, and this one may write: commit or rollback first. "+
			"What is not committed yet can be read with a script that does not set read_only, or with sql where that is allowed.", script)}
	case want.Isolation != "" && !strings.EqualFold(want.Isolation, s.modes.Isolation), want.Deferrable && !s.modes.Deferrable:
		return &advised{err, fmt.Sprintf("%s wants a transaction of another kind: commit or rollback first, and it begins one as it wants it.", script)}
	}
	return err
}
