package shell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgbridge/pgbridge/client"
	"github.com/pgbridge/pgbridge/cmd/pgbridge/internal/console"
)

const help = `  SCRIPT NAME=VALUE…         run a script (run SCRIPT … for one that is called as a word below)
  sql STATEMENT              run SQL, where the configuration allows it
  savepoint NAME             rollback to NAME             release NAME
  cursor SCRIPT NAME=VALUE…  open a cursor and show its first rows
  fetch [N] [CURSOR]         show the next N rows, or those before with -N
  move [N] [CURSOR]          pass over rows
  close [CURSOR]
  commit                     rollback                     \q (rolls back)`

const pageRows = 20

// Verbs are the words that are no scripts, for completion.
func Verbs() []string {
	return []string{"begin", "close", "commit", "cursor", "fetch", "help", "move", "quit", "release", "rollback", "run", "savepoint", "sql", "touch"}
}

func (s *Shell) verbs() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{
		"begin": s.begin, "commit": s.onlyVerb(s.commit), "rollback": s.rollback, "abort": s.rollback,
		"savepoint": s.savepoint, "release": s.release, "touch": s.onlyVerb(s.touch),
		"cursor": s.cursor, "fetch": s.fetch, "move": s.move, "close": s.close,
		"run": func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return errors.New("run: name a script")
			}
			return s.run(ctx, args[0], "", args[1:])
		},
	}
}

func (s *Shell) onlyVerb(f func(context.Context) error) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%q: nothing was expected behind the verb", args[0])
		}
		return f(ctx)
	}
}

func (s *Shell) begin(ctx context.Context, args []string) error {
	if s.tx != nil {
		return errors.New("begin: a transaction is open")
	}
	_, err := s.open(ctx, "")
	return err
}

func (s *Shell) run(ctx context.Context, name, sql string, params []string) error {
	script, err := s.Script(ctx, name, sql, params)
	if err != nil {
		return err
	}
	tx, err := s.open(ctx, name)
	if err != nil {
		return err
	}
	reply, err := tx.Run(ctx, script)
	if err != nil {
		return s.advise(ctx, name, s.after(err))
	}
	return s.Replies.Print(reply)
}

// Nothing is open: nothing to end.
var errNone = errors.New("no transaction is open")

func (s *Shell) commit(ctx context.Context) error {
	if s.tx == nil {
		return errNone
	}
	err := s.tx.Commit(ctx)
	if failure, ok := client.AsError(err); ok && (failure.Code == client.CodeInvalidRequest || failure.Code == client.CodeBusy) {
		return err
	}
	s.ended()
	if err == nil && s.Interactive {
		s.say("committed")
	}
	return err
}

func (s *Shell) rollback(ctx context.Context, args []string) error {
	if len(args) > 0 && strings.EqualFold(args[0], "to") {
		return s.rollbackTo(ctx, args[1:])
	}
	if len(args) > 0 {
		return errors.New("rollback: want nothing, or to NAME")
	}
	if s.tx == nil {
		return errNone
	}
	err := s.tx.Rollback(ctx)
	s.ended()
	if err == nil && s.Interactive {
		s.say("rolled back")
	}
	return err
}

func (s *Shell) rollbackTo(ctx context.Context, args []string) error {
	if len(args) > 0 && strings.EqualFold(args[0], "savepoint") {
		args = args[1:]
	}
	if len(args) != 1 {
		return errors.New("rollback to: name a savepoint")
	}
	if s.tx == nil {
		return errNone
	}
	if err := s.tx.RollbackTo(ctx, args[0]); err != nil {
		return s.after(err)
	}
	s.failed = false
	return nil
}

func (s *Shell) savepoint(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("savepoint: name it")
	}
	tx, err := s.open(ctx, "")
	if err != nil {
		return err
	}
	return s.after(tx.Savepoint(ctx, args[0]))
}

func (s *Shell) release(ctx context.Context, args []string) error {
	switch {
	case len(args) != 1:
		return errors.New("release: name a savepoint")
	case s.tx == nil:
		return errNone
	}
	return s.after(s.tx.Release(ctx, args[0]))
}

func (s *Shell) touch(ctx context.Context) error {
	if s.tx == nil {
		return errNone
	}
	_, err := s.tx.Touch(ctx)
	return s.after(err)
}

func (s *Shell) cursor(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("cursor: name a script")
	}
	script, err := s.Script(ctx, args[0], "", args[1:])
	if err != nil {
		return err
	}
	tx, err := s.open(ctx, args[0])
	if err != nil {
		return err
	}
	cursor, err := tx.Cursor(ctx, script, client.CursorOptions{Scroll: true, PageRows: pageRows})
	if err != nil {
		return s.advise(ctx, args[0], s.after(err))
	}
	s.cursors[cursor.Name], s.last = cursor, cursor.Name
	if s.Interactive {
		s.say("cursor %s", console.Printable(cursor.Name))
	}
	page, err := cursor.Next(ctx)
	if err != nil {
		return s.after(err)
	}
	return s.show(cursor, page)
}

func (s *Shell) show(c *client.Cursor, page *client.Page) error {
	if err := s.Replies.PrintRows(c.Columns, page.Rows); err != nil {
		return err
	}
	if page.Done && s.Interactive {
		s.say("(end)")
	}
	return nil
}

// counted reads a number of rows and a cursor's name, each of which may be missing.
func (s *Shell) counted(args []string, n int) (*client.Cursor, client.Direction, int, error) {
	if len(args) > 0 {
		if number, err := strconv.Atoi(args[0]); err == nil {
			n, args = number, args[1:]
		}
	}
	name := s.last
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	c := s.cursors[name]
	switch {
	case len(args) > 0:
		return nil, "", 0, errors.New("want a number of rows and a cursor")
	case c == nil:
		return nil, "", 0, fmt.Errorf("no cursor %s is open", cmp.Or(name, "at all"))
	case n < 0:
		return c, client.Backward, -n, nil
	}
	return c, client.Forward, n, nil
}

func (s *Shell) fetch(ctx context.Context, args []string) error {
	c, direction, n, err := s.counted(args, pageRows)
	if err != nil {
		return err
	}
	page, err := c.Fetch(ctx, direction, n)
	if err != nil {
		return s.after(err)
	}
	return s.show(c, page)
}

func (s *Shell) move(ctx context.Context, args []string) error {
	c, direction, n, err := s.counted(args, 1)
	if err != nil {
		return err
	}
	moved, err := c.Move(ctx, direction, n)
	if err == nil && s.Interactive {
		s.say("moved %d", moved)
	}
	return s.after(err)
}

func (s *Shell) close(ctx context.Context, args []string) error {
	c, _, _, err := s.counted(args, 1)
	if err != nil {
		return err
	}
	if err := c.Close(ctx); err != nil {
		return s.after(err)
	}
	delete(s.cursors, c.Name)
	return nil
}
