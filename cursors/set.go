package cursors

import (
	"context"
	"encoding/json"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner"
)

// maxCursors is how many cursors one transaction may have: each keeps a page, and
// rows that were read and not sent.
const maxCursors = 64

// room refuses more cursors than there may be.
func (s *set) room(more int) error {
	if len(s.cursors)+more > maxCursors {
		return service.Errorf(service.CodeInvalidRequest, "a transaction has at most %d cursors: close some", maxCursors)
	}
	return nil
}

// set are the cursors of one transaction. It is used in the transaction's
// turns.
type set struct {
	registry *registry
	tx       *txrunner.Transaction
	own      bool // a cursor has opened the transaction
	watched  bool
	cursors  map[string]*cursor
	names    int   // default ones given
	changes  int64 // of the transaction, when its cursors were last looked at
	held     bool  // they were looked at after COMMIT
}

// named reads which cursor a request is about.
func (s *set) named(f service.Fields) (*cursor, error) {
	var name string
	if err := f.Read("cursor", "a string", &name); err != nil {
		return nil, err
	}
	if name == "" {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"cursor\" is missing")
	}
	if c := s.cursors[name]; c != nil {
		return c, nil
	}
	return nil, errUnknown(name)
}

func errUnknown(name string) error {
	return service.Errorf(service.CodeNotFound, "the transaction has no cursor %q", name)
}

// drop closes a cursor.
func (s *set) drop(ctx context.Context, w *txrunner.Work, c *cursor) error {
	delete(s.cursors, c.name)
	s.tellHeld()
	if err := w.Send(ctx, txrunner.Query{SQL: "CLOSE " + c.quoted}); err != nil {
		return err
	}
	return w.Sync(ctx)
}

// giveUp closes a cursor whose rows cannot be kept.
func (s *set) giveUp(ctx context.Context, w *txrunner.Work, c *cursor) error {
	if err := s.drop(ctx, w, c); err != nil {
		return err
	}
	return service.Errorf(service.CodeTooLarge,
		"the rows behind row %d are so much larger than those before that they cannot be kept, and the cursor was closed: ask for fewer at a time", c.pos)
}

// use gives work the connection for a request about a cursor, if that still
// can be read.
func (s *set) use(ctx context.Context, c *cursor, request *service.Request, work func(context.Context, *txrunner.Work) error) error {
	return c.task.Later(request).Do(ctx, func(ctx context.Context, w *txrunner.Work) error {
		if err := s.look(ctx, w); err != nil {
			return err
		}
		if err := s.usable(c); err != nil {
			return err
		}
		return work(ctx, w)
	})
}

func (s *set) usable(c *cursor) error {
	switch {
	case s.cursors[c.name] != c:
		return errUnknown(c.name)
	case c.failed:
		return service.Errorf(service.CodeNotFound, "the cursor %q has failed and cannot be read on", c.name)
	}
	return nil
}

// look finds out which cursors are left, if that may have changed.
func (s *set) look(ctx context.Context, w *txrunner.Work) error {
	changes, held := s.tx.Changes(), s.tx.State() == txrunner.StateHeld
	if changes == s.changes && held == s.held || len(s.cursors) == 0 {
		s.changes, s.held = changes, held
		return nil
	}
	there, err := listCursors(ctx, w)
	if err != nil {
		return err
	}
	for name, c := range s.cursors {
		if found, ok := there[name]; !ok || found.sql != c.sql {
			delete(s.cursors, name)
		}
		if c.scroll {
			c.server = unknown // a script may have moved it
		}
	}
	s.changes, s.held = changes, held
	s.tellHeld()
	return nil
}

// tellHeld says how many cursors outlive COMMIT.
func (s *set) tellHeld() {
	n := 0
	for _, c := range s.cursors {
		if c.hold {
			n++
		}
	}
	s.tx.Hold(n)
}

// endIfOver ends the transaction, if a cursor has opened it and none is left to
// be read, or if it was committed and none is left at all.
func (s *set) endIfOver(ctx context.Context, w *txrunner.Work) error {
	committed := s.tx.State() == txrunner.StateHeld
	for _, c := range s.cursors {
		if !s.own || c.scroll || !c.atEnd() {
			return nil
		}
	}
	if !s.own && !committed {
		return nil
	}
	reason := lastClosed
	for _, c := range s.cursors {
		reason = readToEnd
		if err := w.Send(ctx, txrunner.Query{SQL: "CLOSE " + c.quoted}); err != nil {
			return err
		}
	}
	s.tx.Hold(0)
	if committed {
		w.End(reason)
		return w.Sync(ctx)
	}
	err := w.Commit(ctx, nil)
	w.End(reason)
	return err
}

// quote writes a JSON string.
func quote(s string) []byte {
	text, _ := json.Marshal(s) // a string always can
	return text
}
