package execution

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

// settleSQL does what was deferred until COMMIT now, and what will be when it comes
// up: PostgreSQL cannot tell what the scripts of one role have deferred from the
// rest. Before 18 it does it all as the role that COMMIT is executed as.
const settleSQL = "SET CONSTRAINTS ALL IMMEDIATE"

// Roles is as whom the scripts of a pinned transaction have run, so that what they
// have put off until COMMIT is not done as somebody else: deferred triggers and
// constraints, and the rest of a cursor WITH HOLD. The zero value is that of a new
// transaction. It is for whoever has the turn.
type Roles struct {
	last       string // of the last script; empty: none has run
	holding    string // of the cursors that outlive COMMIT; empty: there are none
	savepoints []savepoint
	traced     bool // a request was: whichever comes next has to say whose trace it is in
}

type savepoint struct{ name, role string }

// enter sends what holds while a script runs as a role. Where the one before was
// another's, what that has deferred is done first, as whom it should.
func (r *Roles) enter(p *session.Pipeline, caller string, limit []byte, role string, idle time.Duration) {
	if r.last != "" && r.last != role {
		setPinned(p, caller, limit, []byte(r.last), idle)
		p.Own(session.StepOwn, settleSQL)
	}
	r.last = role
	setPinned(p, caller, limit, []byte(role), idle)
}

// Trace sends which span a request belongs to, that of the context, as soon as one of
// the transaction's has belonged to any.
func (r *Roles) Trace(ctx context.Context, p *session.Pipeline) {
	parent, state := tracing.Parent(ctx)
	if r.traced = r.traced || parent != ""; r.traced {
		setTrace(p, parent, state)
	}
}

// Leave sends what comes before COMMIT.
func (r *Roles) Leave(p *session.Pipeline, caller string, deadline time.Time, idle time.Duration) {
	limit := p.Session.Limit(deadline)
	if r.holding != "" {
		r.enter(p, caller, limit, r.holding, idle)
		return
	}
	setPinned(p, caller, limit, []byte(r.role()), idle)
}

func (r *Roles) role() string {
	if r.last == "" {
		return noRole
	}
	return r.last
}

// Hold says whether there are cursors that outlive COMMIT, the last one opened just
// now.
func (r *Roles) Hold(any bool) {
	switch {
	case !any:
		r.holding = ""
	case r.holding == "":
		r.holding = r.role()
	}
}

// mayHold refuses a cursor that outlives COMMIT beside another role's: COMMIT is
// executed once.
func (r *Roles) mayHold(role string) error {
	if r.holding == "" || r.holding == role {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "the transaction has a cursor with \"hold\" of another role's script, and COMMIT reads the rest of all of them: close that one first")
}

// maxSavepoints is how many of a client's a transaction may have: each takes memory here
// and, some kilobytes, in PostgreSQL.
const maxSavepoints = 1024

// RoomForSavepoint refuses one more where there are too many.
func (r *Roles) RoomForSavepoint() error {
	if len(r.savepoints) < maxSavepoints {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "the transaction has %d savepoints: release some", maxSavepoints)
}

// Savepoint notes that one was made.
func (r *Roles) Savepoint(name string) {
	r.savepoints = append(r.savepoints, savepoint{name, r.last})
}

// RollBackTo notes that the transaction is as it was at a savepoint.
func (r *Roles) RollBackTo(name string) {
	if i := r.find(name); i >= 0 {
		r.last, r.savepoints = r.savepoints[i].role, r.savepoints[:i+1]
	}
}

// Release notes that a savepoint is no more.
func (r *Roles) Release(name string) {
	if i := r.find(name); i >= 0 {
		r.savepoints = r.savepoints[:i]
	}
}

func (r *Roles) find(name string) int {
	for i := len(r.savepoints) - 1; i >= 0; i-- {
		if r.savepoints[i].name == name {
			return i
		}
	}
	return -1
}
