package shell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

const (
	// endLimit is for ending a transaction when nobody waits any more.
	endLimit = 5 * time.Second
	// awake is how often the lease is renewed while a person thinks.
	awake = 5 * time.Second
)

// Run runs lines to the end of the input, quit, or ctx. What is open then is rolled
// back.
func (s *Shell) Run(ctx context.Context) error {
	defer s.giveUp(ctx)
	if s.Interactive {
		var keeping sync.WaitGroup
		ctx, stop := context.WithCancel(ctx)
		keeping.Go(func() { s.keepAwake(ctx) })
		defer keeping.Wait()
		defer stop()
	}
	for ctx.Err() == nil {
		line, err := s.Next(s.prompt())
		switch {
		case ctx.Err() != nil: // what was read may not be all of it
			continue
		case errors.Is(err, io.EOF):
			return s.end(ctx)
		case errors.Is(err, console.ErrLong):
			s.tell(err)
			continue
		case err != nil:
			return fmt.Errorf("read a line: %w", err)
		}
		quit, err := s.attended(ctx, line)
		switch {
		case quit:
			return nil
		case err == nil:
		case !s.Interactive:
			s.tell(err)
			return ErrLine
		default:
			s.tell(err)
		}
	}
	return fmt.Errorf("stopped, and rolled back what was not committed: %w", context.Cause(ctx))
}

var errStopped = errors.New("stopped")

// attended does one line, which a person can stop. The transaction is rolled back
// then: nothing else stops what runs in PostgreSQL.
func (s *Shell) attended(ctx context.Context, line string) (quit bool, err error) {
	if s.Attend == nil {
		return s.do(ctx, line)
	}
	work, done := s.Attend(ctx)
	defer done()
	quit, err = s.do(work, line)
	if err == nil || work.Err() == nil || ctx.Err() != nil || s.tx == nil {
		return quit, err
	}
	s.giveUp(ctx)
	return false, errStopped
}

func (s *Shell) prompt() string {
	switch {
	case s.tx == nil:
		return "tx> "
	case s.failed:
		return "tx!> "
	}
	return "tx*> "
}

// end is the end of the input.
func (s *Shell) end(ctx context.Context) error {
	switch {
	case s.tx == nil:
		return nil
	case s.Commit:
		if err := s.commit(ctx); err != nil {
			s.tell(err)
			return ErrLine
		}
		return nil
	case s.Interactive:
		return nil
	}
	return ErrOpen
}

// giveUp rolls back what is open.
func (s *Shell) giveUp(ctx context.Context) {
	if s.tx == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endLimit)
	defer cancel()
	err := s.tx.Rollback(ctx)
	s.ended()
	switch {
	case !s.Interactive:
	case err != nil:
		s.say("the transaction could not be ended; it is rolled back when its lease runs out")
	default:
		s.say("rolled back")
	}
}

// keepAwake renews the lease of the open transaction until ctx ends.
func (s *Shell) keepAwake(ctx context.Context) {
	ticker := time.NewTicker(awake)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.mu.Lock()
			tx := s.tx
			s.mu.Unlock()
			if tx != nil {
				_, _ = tx.Touch(ctx) // the next request says what is wrong
			}
		}
	}
}

// do runs one line. quit says that it was the last one.
func (s *Shell) do(ctx context.Context, line string) (quit bool, err error) {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "--") || strings.HasPrefix(line, "#") {
		return false, nil
	}
	verb, rest, _ := strings.Cut(strings.TrimPrefix(line, `\`), " ")
	if verb = strings.ToLower(strings.TrimSuffix(verb, ";")); verb == "sql" {
		return false, s.run(ctx, "", strings.TrimSpace(rest), nil)
	}
	args, err := Words(strings.TrimSuffix(strings.TrimSpace(rest), ";"))
	if err != nil {
		return false, err
	}
	switch verb {
	case "q", "quit", "exit":
		return true, nil
	case "?", "h", "help":
		s.say("%s", help)
		return false, nil
	}
	if known := s.verbs()[verb]; known != nil {
		return false, known(ctx, args)
	}
	all, err := Words(line)
	if err != nil || len(all) == 0 {
		return false, err
	}
	return false, s.run(ctx, all[0], "", all[1:])
}
