package pinned

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/postgres"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	maxNameBytes = 63 // PostgreSQL cuts longer names
	emptyObject  = "{}"
)

// ownVerbs are what every transaction understands.
func (p *Transactions) ownVerbs() map[string]Verb {
	return map[string]Verb{
		"touch":       {Serve: serveTouch, Now: true, Held: true},
		"rollback":    {Serve: answering((*Transaction).serveRollback), Now: true, Held: true},
		"savepoint":   {Serve: answering(savepoint(makeSavepoint, (*execution.Roles).Savepoint))},
		"release":     {Serve: answering(savepoint("RELEASE ", (*execution.Roles).Release))},
		"rollback_to": {Serve: answering(savepoint(rollbackTo, (*execution.Roles).RollBackTo))},
		"commit":      {Serve: answering((*Transaction).serveCommit)},
		verbAck:       {Receives: true},
	}
}

// answering makes a verb of what returns the body of its reply.
func answering(do func(*Transaction, context.Context, *service.Request) ([]byte, error)) func(context.Context, *Transaction, *service.Request) {
	return func(ctx context.Context, t *Transaction, request *service.Request) {
		body, err := do(t, ctx, request)
		request.Answer(service.Reply{Data: body}, err)
	}
}

func serveTouch(ctx context.Context, t *Transaction, request *service.Request) {
	body, err := t.serveTouch(request)
	request.Answer(service.Reply{Data: body}, err)
	t.awaken(ctx)
}

func (t *Transaction) serveTouch(request *service.Request) ([]byte, error) {
	if err := onlyEmpty(request); err != nil {
		return nil, err
	}
	expires, err := t.Touch()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(api.TouchReply{ExpiresAt: expires.UTC()})
	if err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return body, nil
}

func (t *Transaction) serveRollback(_ context.Context, request *service.Request) ([]byte, error) {
	if err := onlyEmpty(request); err != nil {
		return nil, err
	}
	if !t.End("it was rolled back") {
		return nil, t.gone()
	}
	return []byte(emptyObject), nil
}

func onlyEmpty(request *service.Request) error {
	f, err := request.Fields()
	if err != nil {
		return err
	}
	return f.End()
}

const (
	makeSavepoint = "SAVEPOINT "
	rollbackTo    = "ROLLBACK TO "
)

// savepoint makes a verb of a command that names a savepoint; note is called when it
// was executed.
func savepoint(command string, note func(*execution.Roles, string)) func(*Transaction, context.Context, *service.Request) ([]byte, error) {
	return func(t *Transaction, ctx context.Context, request *service.Request) ([]byte, error) {
		f, err := request.Fields()
		if err != nil {
			return nil, err
		}
		var name string
		if err := errors.Join(NoMessageID(request), f.Read("name", "a string", &name), f.End()); err != nil {
			return nil, err
		}
		if name == "" || len(name) > maxNameBytes || !service.Storable(name) {
			return nil, service.Errorf(service.CodeInvalidRequest, "field \"name\": want 1 to %d bytes without NUL", maxNameBytes)
		}
		ctx, cancel := context.WithDeadline(ctx, request.Received.Add(t.config.MaxTimeout))
		defer cancel()
		err = t.do(ctx, func(ctx context.Context) (string, error) {
			if t.session.Failed() && command != rollbackTo {
				return "", errFailed()
			}
			if command == makeSavepoint {
				if err := t.roles.RoomForSavepoint(); err != nil {
					return "", err
				}
			}
			t.changed()
			err := t.execute(ctx, session.StepOwn, command+pgx.Identifier{name}.Sanitize())
			if err == nil {
				note(&t.roles, name)
			}
			return "", err
		})
		return []byte(emptyObject), err
	}
}

// serveCommit ends the transaction, one way or the other.
func (t *Transaction) serveCommit(ctx context.Context, request *service.Request) ([]byte, error) {
	if err := errors.Join(NoMessageID(request), onlyEmpty(request)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(ctx, request.Received.Add(t.config.MaxTimeout))
	defer cancel()
	err := t.do(ctx, func(ctx context.Context) (string, error) {
		if t.session.Failed() {
			t.session.Rollback(ctx)
			return "COMMIT after a failed statement rolled it back", errFailed()
		}
		if t.session.Elsewhere() {
			t.session.Rollback(ctx)
			return "it was begun on another server", errMoved()
		}
		if err := t.execute(ctx, session.StepCommit, "COMMIT"); err != nil {
			return "COMMIT failed", err
		}
		t.recount(ctx)
		return wasCommitted, nil
	})
	return []byte(emptyObject), err
}

// recount finds out after COMMIT whether the cursors that were to outlive it are
// there: a script can have closed them, or a savepoint taken them away.
func (t *Transaction) recount(ctx context.Context) {
	t.mu.Lock()
	held := t.held
	t.mu.Unlock()
	if held == 0 || t.session.Lost() {
		return
	}
	t.session.Settle(ctx)
	rows, err := postgres.ReadRows(ctx, t.session.Conn, "SELECT FROM pg_catalog.pg_cursors WHERE is_holdable", 0)
	if err == nil {
		t.Hold(min(held, len(rows)))
	}
}

// execute sends one statement that a client has asked for, in one round trip: COMMIT
// as the role of the scripts that have left something to it, another as the login's own.
func (t *Transaction) execute(ctx context.Context, kind session.StepKind, sql string) error {
	if ctx.Err() != nil {
		return errNoTime()
	}
	p := session.Pipeline{Session: t.session}
	p.Open(ctx)
	switch {
	case kind == session.StepCommit:
		t.roles.Trace(ctx, &p) // of what is deferred until now
		t.roles.Leave(&p, t.caller, t.lifeEnds, t.idle)
	case !t.session.Failed():
		t.roles.Trace(ctx, &p)
		execution.SetPinned(&p, t.caller, t.lifeEnds, t.idle)
	}
	p.Plain(kind, sql)
	done := false
	err := p.Sync(func(step session.Step, _ any) error {
		done = done || step.Kind == kind && step.SQL == sql
		return nil
	})
	p.Close()
	if err == nil || kind == session.StepCommit && done && t.session.Lost() {
		return nil
	}
	failure := service.FromPostgres(err, kind == session.StepCommit && !*t.modes.ReadOnly && session.AtCommit(err))
	failure.Retryable = false // by itself: the transaction has to be repeated
	return failure
}

// NoMessageID refuses a message id.
func NoMessageID(request *service.Request) error {
	if request.Header.Get(nats.MsgIdHdr) == "" {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "a message id has no place on a pinned transaction")
}
