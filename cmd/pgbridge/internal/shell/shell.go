// Package shell drives pinned transactions with lines of text, from a person or from a
// file.
//
// A transaction is open from the first request on until commit, rollback or the end of
// the input. What was not committed when the input ends, or a line of a file fails, is
// rolled back: a file is done as a whole or not at all.
package shell

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

// Shell runs lines. All fields but Options, and Prompt for a file, are needed.
type Shell struct {
	Client  *client.Client
	Options client.TxOptions
	// Modes are what a script wants of its transaction: those of the first one hold
	// where the options name none. Nil means that scripts are not asked.
	Modes func(ctx context.Context, script string) client.TxOptions
	// Next returns the next line, and io.EOF behind the last one.
	Next func(prompt string) (string, error)
	// Script makes a script, or SQL, of a name and its parameters.
	Script  func(ctx context.Context, name, sql string, params []string) (client.Script, error)
	Replies *console.Replies
	// Interactive goes on after an error, and says what happens.
	Interactive bool
	// Attend makes a context that ends as well when a person wants what runs to stop.
	// Nil: nobody is there.
	Attend func(context.Context) (context.Context, context.CancelFunc)
	// Commit commits what is open at the end of the input.
	Commit bool

	mu      sync.Mutex       // guards tx
	tx      *client.Tx       // nil: none is open
	modes   client.TxOptions // with which it was begun
	failed  bool
	cursors map[string]*client.Cursor
	last    string // the cursor that fetch means
}

// Errors of a file.
var (
	// ErrLine says that a line failed; it was said why.
	ErrLine = errors.New("nothing was committed since the transaction was begun")
	// ErrOpen says that the input ended before commit.
	ErrOpen = errors.New("the input ended without commit: the transaction was rolled back")
)

func (s *Shell) say(format string, args ...any) {
	fmt.Fprintf(s.Replies.Notes, format+"\n", args...)
}

// tell prints an error.
func (s *Shell) tell(err error) {
	if failure, ok := client.AsError(err); ok {
		s.Replies.PrintError(failure)
		var a *advised
		if errors.As(err, &a) {
			s.say("%s", console.Printable(a.advice))
		}
		return
	}
	s.say("pgbridge: %s", console.Printable(err.Error()))
}

// open returns the transaction, a new one where there is none: for a script, if it is
// one that wants it.
func (s *Shell) open(ctx context.Context, script string) (*client.Tx, error) {
	if s.tx != nil {
		return s.tx, nil
	}
	o := s.Options
	if o.Isolation == "" && !o.ReadOnly && !o.Deferrable && script != "" && s.Modes != nil {
		o = s.Modes(ctx, script)
		o.IdleTimeout = s.Options.IdleTimeout
	}
	tx, err := s.Client.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx, s.modes, s.failed, s.cursors, s.last = tx, o, false, map[string]*client.Cursor{}, ""
	return tx, nil
}

func (s *Shell) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tx, s.failed, s.cursors = nil, false, nil
}

// after notes what an error leaves of the transaction, and returns it.
func (s *Shell) after(err error) error {
	failure, ok := client.AsError(err)
	switch {
	case errors.Is(err, client.ErrReplicaGone):
		s.ended()
	case errors.Is(err, client.ErrOutcomeUnknown): // it may be open, and at work
		s.failed = true
	case !ok:
	case failure.Code == client.CodeGone, failure.Code == client.CodeUnavailable, failure.Code == client.CodeTooLarge && failure.Row == 0:
		s.ended()
	case failure.Code == client.CodeSQLError, failure.Code == client.CodeTimeout, failure.Code == client.CodeConflict:
		s.failed = true
	}
	return err
}
