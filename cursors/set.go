package cursors

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
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

// Why a transaction that a cursor has opened is over.
const (
	readToEnd  = "its last cursor was read to its end"
	lastClosed = "its last cursor was closed"
)

// set are the cursors of one transaction.
type set struct {
	sizes    *knownSizes
	partings *partings
	tx       *pinned.Transaction
	own      bool // a cursor has opened the transaction
	watched  bool
	cursors  map[string]*cursor
	names    int   // default ones given
	changes  int64 // of the transaction, when its cursors were last looked at
	scripts  int64 // of its changes, when the cursors' positions were last true
	held     bool  // they were looked at after COMMIT
	untold   untold
	memory   *memory
	metrics  *metrics
	counted  int                // of its cursors in the metrics
	shown    map[*cursor]func() // what takes each that is shown off the list of work
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
func (s *set) drop(ctx context.Context, w *execution.Execution, c *cursor) error {
	delete(s.cursors, c.name)
	s.tellHeld()
	if err := w.Send(ctx, session.Query{SQL: "CLOSE " + c.quoted}); err != nil {
		return err
	}
	return w.Sync(ctx)
}

// giveUp closes a cursor whose rows cannot be kept.
func (s *set) giveUp(ctx context.Context, w *execution.Execution, c *cursor) error {
	if err := s.drop(ctx, w, c); err != nil {
		return err
	}
	return service.Errorf(service.CodeTooLarge,
		"the rows behind row %d are so much larger than those before that they cannot be kept, and the cursor was closed: ask for fewer at a time", c.at.client)
}

// use gives work the connection for a request about a cursor, if that still
// can be read.
func (s *set) use(ctx context.Context, c *cursor, request *service.Request, work func(context.Context, *execution.Execution) error) error {
	return c.task.Later(request).Do(ctx, func(ctx context.Context, w *execution.Execution) error {
		if err := s.look(ctx, w); err != nil {
			return err
		}
		if err := s.usable(c); err != nil {
			return err
		}
		defer s.untold.hear(w)
		defer s.settle()
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
func (s *set) look(ctx context.Context, w *execution.Execution) error {
	s.drift()
	changes, _ := s.tx.Changes()
	held := s.tx.State() == pinned.StateHeld
	if changes == s.changes && held == s.held || len(s.cursors) == 0 {
		s.changes, s.held = changes, held
		return nil
	}
	there, err := listCursors(ctx, w, func(name string) bool { return s.cursors[name] != nil })
	if err != nil {
		return err
	}
	for name, c := range s.cursors {
		if found, ok := there[name]; !ok || found.sql != c.sql {
			delete(s.cursors, name)
		}
	}
	s.changes, s.held = changes, held
	s.tellHeld()
	return nil
}

// drift gives up what was known of the cursors' positions, if a script may have
// moved them since.
func (s *set) drift() {
	_, scripts := s.tx.Changes()
	if scripts == s.scripts {
		return
	}
	s.scripts = scripts
	for _, c := range s.cursors {
		c.at = c.at.drifted()
	}
}

// align brings each cursor in PostgreSQL to where its client stands, before a
// script that may use it. Without scroll that cannot be done when rows were read
// ahead.
func (s *set) align(ctx context.Context, w *execution.Execution) error {
	if !s.readAhead() {
		return nil
	}
	if err := s.look(ctx, w); err != nil {
		return err
	}
	for _, c := range s.cursors {
		if c.at.server == c.at.client || c.failed {
			continue
		}
		if !c.at.scroll {
			return service.Errorf(service.CodeInvalidRequest,
				"%d rows of the cursor %q were read ahead of the last page, so that a script could use the wrong one: fetch them first, or open the cursor with scroll",
				c.ahead.len(), c.name)
		}
		if err := c.moveTo(ctx, w, c.at.client); err != nil {
			return err
		}
	}
	return nil
}

// readAhead reports whether PostgreSQL stands elsewhere than a client.
func (s *set) readAhead() bool {
	for _, c := range s.cursors {
		if c.at.server != c.at.client {
			return true
		}
	}
	return false
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
func (s *set) endIfOver(ctx context.Context, w *execution.Execution) error {
	committed := s.tx.State() == pinned.StateHeld
	for _, c := range s.cursors {
		if !s.own || c.at.scroll || !c.at.atEnd() {
			return nil
		}
	}
	if !s.own && !committed {
		return nil
	}
	reason := lastClosed
	for _, c := range s.cursors {
		reason = readToEnd
		if err := w.Send(ctx, session.Query{SQL: "CLOSE " + c.quoted}); err != nil {
			return err
		}
	}
	s.tx.Hold(0)
	if committed {
		s.tx.Ends(reason)
		return w.Sync(ctx)
	}
	err := w.Commit(ctx, nil)
	s.tx.Ends(reason)
	return err
}

// quote writes a JSON string.
func quote(s string) []byte {
	text, _ := json.Marshal(s) // a string always can
	return text
}

// kept is how many bytes the cursors hold between requests.
func (s *set) kept() int {
	n := 0
	for _, c := range s.cursors {
		n += c.brought + cap(c.buffer) + c.ahead.held()
	}
	return n
}

// reserve asks for room for a page of so many bytes, and for a cursor that is new.
func (s *set) reserve(c *cursor, page int) error {
	kept := s.kept()
	if s.cursors[c.name] != c {
		page += c.brought
	}
	switch err := s.memory.set(kept + max(0, page-cap(c.buffer))); {
	case err == nil:
		return nil
	case kept > 0 && errors.Is(err, budget.ErrTooLarge):
		return service.Errorf(service.CodeBusy, "the transaction's cursors hold %d bytes already: close some, or ask for smaller pages", kept)
	default:
		return service.AsError(err)
	}
}

// settle gives back what a request has not used.
func (s *set) settle() {
	_ = s.memory.set(s.kept()) // a little more than was asked for may be kept
	s.metrics.open.Add(float64(len(s.cursors) - s.counted))
	s.counted = len(s.cursors)
	s.show()
}

// show has people see which cursors are open, and how far they were read.
func (s *set) show() {
	for c, hide := range s.shown {
		if s.cursors[c.name] != c {
			hide()
			delete(s.shown, c)
		}
	}
	for _, c := range s.cursors {
		if s.shown[c] == nil {
			if s.shown == nil {
				s.shown = map[*cursor]func(){}
			}
			s.shown[c] = s.tx.Show(&c.work)
		}
		c.tell()
	}
}
