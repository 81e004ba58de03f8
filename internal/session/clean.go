package session

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// What clients have executed, scripts and the functions, triggers and views that
// they reach, can leave more on a connection than the end of its transaction takes
// away: settings, a role, advisory locks, temporary tables, cursors, channels, and
// prepared statements, even one under a name of ours. No text tells it. So behind
// each transaction, and in one of its own, all of it is taken away but for prepared
// statements: ours are to stay, and looking through them takes as long as all the rest.
// They are looked through before a connection is used in the name of another caller.
const (
	resetAllSQL       = "RESET ALL"
	unlistenSQL       = "UNLISTEN *"
	closeAllSQL       = "CLOSE ALL"
	discardLastvalSQL = "DISCARD SEQUENCES"
	discardTempSQL    = "DISCARD TEMP"
	discardAllSQL     = "DISCARD ALL"
	resetUserSQL      = "SET SESSION AUTHORIZATION DEFAULT"
	resetRoleSQL      = "SET ROLE NONE"

	// leftSQL releases the locks, and says who the user is, which role it has taken,
	// and in which schema there are temporary tables or have been.
	leftSQL = "SELECT SESSION_USER, pg_catalog.current_setting('role'), pg_catalog.pg_my_temp_schema(), pg_catalog.pg_advisory_unlock_all()"

	// preparedSQL counts the prepared statements, and those of them that were prepared
	// in SQL, which ours never are: one that has the name of one of ours took its place.
	// Where that was dropped again, after it was executed in place of what makes the
	// session a clean one, one of ours is missing. It is sent without a name, under which
	// it could have been replaced itself.
	preparedSQL = "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE s.from_sql) FROM pg_catalog.pg_prepared_statement() s"
)

// clean sends what takes away what clients may have left.
func (p *Pipeline) clean() {
	first := len(p.steps)
	if p.Session.login == "" { // a pooler has not said who it is
		p.Own(StepOwn, resetUserSQL)
	}
	for _, sql := range []string{resetAllSQL, unlistenSQL, closeAllSQL} {
		p.Own(StepOwn, sql)
	}
	if !p.ReadOnly || p.Session.temporary {
		p.Own(StepOwn, discardLastvalSQL)
	}
	if p.Session.temporary {
		p.Own(StepOwn, discardTempSQL)
	}
	for _, set := range p.Session.defaults {
		p.Own(StepOwn, set)
	}
	p.own(Step{Kind: stepLook, SQL: leftSQL, columns: 4}, nil)
	for i := range p.steps[first:] {
		p.steps[first+i].cleaning = true
	}
	p.left = leftBehind{}
}

// Finish is Sync for what ends with the end of a transaction, outside of which
// nothing of clients' is executed. What makes the session a clean one goes along,
// behind it: an error before the end skips that, too, and an error of that is not
// returned.
func (p *Pipeline) Finish(read Reader) error {
	p.clean()
	err := p.Sync(read)
	p.Close()
	var at *StepError
	if errors.As(err, &at) && at.Step.cleaning && Reported(err) {
		return nil // the next use of the session begins with cleaning it
	}
	if err == nil {
		p.Session.judge(p.left)
	}
	return err
}

// Clean takes away what clients may have left behind, if anything of theirs was
// executed since that was done last. The session must be outside a transaction. It
// is closed where that fails.
func (s *Session) Clean(ctx context.Context) {
	if !s.used || s.Lost() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	for range 2 { // once more, if there turn out to be temporary tables
		p := Pipeline{Session: s}
		p.Open(ctx)
		p.clean()
		err := p.Sync(func(Step, any) error { return nil })
		p.Close()
		if err == nil {
			s.judge(p.left)
		}
		switch {
		case !s.used:
			return
		case err != nil, p.left.strange:
			s.Reset(ctx)
			return
		}
	}
	s.Reset(ctx)
}

// PassTo prepares the session, which is clean, for work in the name of a caller. If
// the last work was in another's name, what that may have prepared is taken away, and
// what it may have left by having taken the place of what cleans.
func (s *Session) PassTo(ctx context.Context, caller string) {
	if s.caller == caller || s.Lost() {
		return
	}
	s.caller = caller
	if s.untouched {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	s.Settle(ctx)
	prepared, err := postgres.ReadRowsWith(ctx, s.Conn, preparedSQL, 2)
	if err != nil || len(prepared) != 1 || string(prepared[0][0]) != strconv.Itoa(s.countPrepared()) || string(prepared[0][1]) != "0" {
		s.Reset(ctx)
	}
}

// Reset makes the session a new one, in which nothing is prepared. It must be
// outside a transaction. It is closed where that fails.
func (s *Session) Reset(ctx context.Context) {
	if s.Lost() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	all := []string{resetRoleSQL, discardAllSQL} // which wants to be alone
	if s.role != NoRole {                        // DISCARD ALL takes it away
		all = append(all, "SET ROLE "+pgx.Identifier{s.role}.Sanitize())
	}
	for _, sql := range all {
		if err := s.Execute(ctx, sql); err != nil {
			s.Close()
			return
		}
	}
	s.forget()
	if err := s.restore(ctx); err != nil {
		s.Close()
		return
	}
	s.Notices.Reset()
	s.used, s.untouched = false, true
}
