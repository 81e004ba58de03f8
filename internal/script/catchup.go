package script

import (
	"errors"
	"fmt"
	"slices"
)

// The parameters of a catch-up script: the window in which notifications may be missing.
const (
	Since = "since"
	Until = "until"
)

// CatchesUp says why a script cannot be a channel's catch-up script, which returns what
// notifications between two moments would have told, and changes nothing. Nil means that
// it can.
func (s *Script) CatchesUp() error {
	if s.Kind != Run {
		return errors.New("a COPY returns no rows to publish")
	}
	for i := range s.Statements {
		if !s.Statements[i].Cursorable {
			return fmt.Errorf("line %d: it is run in a transaction that cannot write: every statement has to be a query (SELECT, VALUES, TABLE, WITH)", s.Statements[i].Line)
		}
	}
	for _, name := range s.Params {
		if name != Since && name != Until {
			return fmt.Errorf("it is given @%s and @%s, and not @%s", Since, Until, name)
		}
	}
	if !slices.Contains(s.Params, Since) {
		return fmt.Errorf("it has to use @%s: without it, each loss would bring all rows", Since)
	}
	return nil
}
