package txrunner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/pgbridge/pgbridge/internal/service"
)

const (
	// waitingPerTransaction is how many requests may wait besides the one that
	// is being served.
	waitingPerTransaction = 16
	maxNameBytes          = 63 // PostgreSQL cuts longer names
)

// register adds the endpoint of all pinned transactions. Requests on one of
// them form a queue, which touch and rollback pass by.
func (p *pins) register(s *service.Service) error {
	return s.Handle(service.Endpoint{
		Name: "tx", Subject: p.subject + ".>", SecretSubjects: true,
		Concurrency: concurrency, MaxWaiting: maxWaiting, MaxWaitingPerKey: waitingPerTransaction,
		Key: func(r *service.Request) string {
			if v := r.Tokens[1:]; len(v) == 1 && (v[0] == "touch" || v[0] == "rollback") || p.only(v) {
				return ""
			}
			return r.Tokens[0]
		},
		Alone: true, Direct: p.direct, Linger: p.stopped,
		Header: func(r *service.Request) nats.Header { return stateHeader(p.state(r.Tokens[0])) },
		Handler: func(ctx context.Context, batch []*service.Request) {
			for _, request := range batch {
				p.serve(ctx, request)
			}
		},
	})
}

func stateHeader(s State) nats.Header { return nats.Header{headerTransaction: {string(s)}} }

func (p *pins) state(id string) State {
	t, err := p.get(id)
	if err != nil {
		return StateEnded
	}
	return t.current()
}

const verbAck = "ack"

// direct takes what has no turn: acknowledgements, and what extensions want at
// once.
func (p *pins) direct(request *service.Request) bool {
	if len(request.Tokens) < 2 {
		return false
	}
	t, _ := p.get(request.Tokens[0])
	if request.Tokens[1] == verbAck {
		return len(request.Tokens) == 4 && t.acknowledge(request)
	}
	verb := p.verbs[request.Tokens[1]]
	return verb.Direct != nil && verb.Direct(t, request)
}

// acknowledge hands an acknowledgement to its stream. One that comes when the
// stream is over is normal.
func (t *Transaction) acknowledge(request *service.Request) bool {
	if t != nil {
		if s := t.stream(request.Tokens[2]); s != nil {
			s.Acknowledge(request)
			return true
		}
	}
	return request.ReplySubject() == ""
}

// only reports whether a verb is for direct ones only, so that a request which
// nobody took has not to wait for its turn to be told so.
func (p *pins) only(verb []string) bool {
	return len(verb) > 0 && (verb[0] == verbAck || p.verbs[verb[0]].Direct != nil)
}

// serve answers a request on a pinned transaction.
func (p *pins) serve(ctx context.Context, request *service.Request) {
	t, err := p.get(request.Tokens[0])
	if err != nil {
		request.Answer(p.late(request, err))
		return
	}
	name := ""
	if len(request.Tokens) > 1 {
		name = request.Tokens[1]
	}
	if t.current() == StateHeld && name != "touch" && name != "rollback" && !p.verbs[name].Held {
		request.Answer(service.Reply{}, gone("it was committed, only its cursors are left"))
		return
	}
	if verb := p.verbs[name]; verb.Serve != nil {
		verb.Serve(ctx, t, request)
		return
	}
	p.serveOwn(ctx, t, request)
}

// late answers a request on a transaction that has ended.
func (p *pins) late(request *service.Request, gone error) (service.Reply, error) {
	if len(request.Tokens) == 2 {
		if late := p.verbs[request.Tokens[1]].Late; late != nil {
			if reply, ok := late(request, p.reason(request.Tokens[0])); ok {
				return reply, nil
			}
		}
	}
	return service.Reply{}, gone
}

// serveOwn answers a request with a verb that all transactions have.
func (p *pins) serveOwn(ctx context.Context, t *Transaction, request *service.Request) {
	verb, rest := strings.Join(request.Tokens[1:], "."), ""
	if script, ok := strings.CutPrefix(verb, "run."); ok {
		verb, rest = "run", script
	}
	var body []byte
	var err error
	switch verb {
	case "touch":
		body, err = t.serveTouch(request)
		request.Answer(service.Reply{Data: body}, err)
		t.awaken(ctx)
		return
	case "rollback":
		body, err = t.serveRollback(request)
	case "run":
		p.runner.servePinnedRun(ctx, t, rest, request)
		return
	case "savepoint", "rollback_to", "release":
		body, err = t.serveSavepoint(ctx, verb, request, p.runner.config.MaxTimeout)
	case "commit":
		body, err = t.serveCommit(ctx, request, p.runner.config.MaxTimeout)
	default:
		err = service.Errorf(service.CodeNotFound, "a transaction has no verb %q", verb)
	}
	request.Answer(service.Reply{Data: body}, err)
}

const emptyObject = "{}"

func (t *Transaction) serveTouch(request *service.Request) ([]byte, error) {
	if err := onlyEmpty(request.Data); err != nil {
		return nil, err
	}
	expires, err := t.touch()
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]time.Time{"expires_at": expires.UTC()})
	if err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return body, nil
}

func (t *Transaction) serveRollback(request *service.Request) ([]byte, error) {
	if err := onlyEmpty(request.Data); err != nil {
		return nil, err
	}
	if !t.end("it was rolled back") {
		return nil, t.gone()
	}
	return []byte(emptyObject), nil
}

func onlyEmpty(body []byte) error {
	f, err := service.ReadFields(body)
	if err != nil {
		return err
	}
	return f.End()
}

// serveSavepoint serves SAVEPOINT, ROLLBACK TO and RELEASE.
func (t *Transaction) serveSavepoint(ctx context.Context, verb string, request *service.Request, limit time.Duration) ([]byte, error) {
	f, err := service.ReadFields(request.Data)
	if err != nil {
		return nil, err
	}
	var name string
	if err := errors.Join(noMessageID(request), f.Read("name", "a string", &name), f.End()); err != nil {
		return nil, err
	}
	if name == "" || len(name) > maxNameBytes || !service.Storable(name) {
		return nil, service.Errorf(service.CodeInvalidRequest, "field \"name\": want 1 to %d bytes without NUL", maxNameBytes)
	}
	sql := strings.ToUpper(strings.ReplaceAll(verb, "_", " ")) + " " + pgx.Identifier{name}.Sanitize()
	ctx, cancel := context.WithDeadline(ctx, request.Received.Add(limit))
	defer cancel()
	err = t.do(ctx, func(ctx context.Context, s *session) (string, error) {
		if s.conn.TxStatus() == 'E' && verb != "rollback_to" {
			return "", errFailedTransaction()
		}
		t.changed()
		return "", t.execute(ctx, s, stepOwn, sql)
	})
	return []byte(emptyObject), err
}

// serveCommit ends the transaction, one way or the other.
func (t *Transaction) serveCommit(ctx context.Context, request *service.Request, limit time.Duration) ([]byte, error) {
	if err := errors.Join(noMessageID(request), onlyEmpty(request.Data)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(ctx, request.Received.Add(limit))
	defer cancel()
	err := t.do(ctx, func(ctx context.Context, s *session) (string, error) {
		if s.conn.TxStatus() == 'E' {
			s.rollback(ctx, false)
			return "COMMIT after a failed statement rolled it back", errFailedTransaction()
		}
		err := t.execute(ctx, s, stepCommit, "COMMIT")
		if err == nil {
			t.recount(ctx, s)
			return "it was committed", nil
		}
		return "COMMIT failed", err
	})
	return []byte(emptyObject), err
}

// recount finds out after COMMIT whether the cursors that were to outlive it are
// there: a script can have closed them, or a savepoint taken them away.
func (t *Transaction) recount(ctx context.Context, s *session) {
	t.mu.Lock()
	held := t.held
	t.mu.Unlock()
	if held == 0 || s.lost() {
		return
	}
	results, err := s.conn.Exec(ctx, "SELECT FROM pg_catalog.pg_cursors WHERE is_holdable").ReadAll()
	if err == nil && len(results) == 1 {
		t.Hold(min(held, len(results[0].Rows)))
	}
}

// execute sends one statement that a client has asked for, as the login's own
// role, in one round trip.
func (t *Transaction) execute(ctx context.Context, s *session, kind stepKind, sql string) error {
	if ctx.Err() != nil {
		return service.Errorf(service.CodeTimeout, "the time ran out before the request was served")
	}
	f := flow{session: s}
	f.open(ctx)
	if s.conn.TxStatus() == 'T' {
		f.own(stepOwn, pinnedSettingsSQL, []byte(t.caller), statementTimeout(t.lifeEnds), []byte(noRole), t.serverIdle())
	}
	f.plain(kind, sql)
	done := false
	err := f.sync(func(s step, _ any) error {
		done = done || s.kind == kind && s.sql == sql
		return nil
	})
	f.close()
	if err == nil || kind == stepCommit && done && s.lost() {
		return nil
	}
	if ctx.Err() != nil && !s.lost() {
		_ = s.execute(context.WithoutCancel(ctx), ";") // swallows a late cancel
	}
	failure := service.FromPostgres(err, kind == stepCommit && !*t.modes.readOnly)
	failure.Retryable = false // by itself: the transaction has to be repeated
	return failure
}

// servePinnedRun runs a script, or the request's own SQL, in the transaction.
func (r *Runner) servePinnedRun(ctx context.Context, t *Transaction, script string, request *service.Request) {
	buffer := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buffer)
	body, err := r.pinnedRun(ctx, t, script, request, *buffer)
	if err == nil && cap(body) <= maxBufferBytes {
		*buffer = body[:0]
	}
	request.Answer(service.Reply{Data: body}, err)
}

func (r *Runner) pinnedRun(ctx context.Context, t *Transaction, script string, request *service.Request, buffer []byte) ([]byte, error) {
	if err := noMessageID(request); err != nil {
		return nil, err
	}
	c, err := r.newCall(address{caller: t.caller, script: script}, request)
	if err != nil {
		return nil, err
	}
	if err := r.suits(t, c.program); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	x := &execution{
		call: c, attempt: 1, pinned: t, flow: flow{session: t.session},
		result: result{body: buffer[:0], limit: r.replyLimit(), format: c.format},
	}
	err = t.do(ctx, x.inTransaction)
	return x.body, err
}

// inTransaction is the work of a run in a pinned transaction.
func (x *execution) inTransaction(ctx context.Context, s *session) (string, error) {
	if s.conn.TxStatus() == 'E' {
		return "", errFailedTransaction()
	}
	s.notices.reset()
	x.pinned.changed()
	err := x.run(ctx)
	if err == nil {
		x.finish()
		return "", nil
	}
	if (ctx.Err() != nil || x.canceled) && !s.lost() {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
		defer cancel()
		_ = s.execute(cleaning, ";") // swallows a late cancel
	}
	if x.tooLarge {
		s.rollback(ctx, false) // what the statement did cannot be undone alone
	}
	if x.executed {
		s.spoil(ctx)
	}
	failure := x.failure(ctx, err)
	failure.Retryable = false
	return "a result did not fit one message", failure
}

// suits refuses a script that wants another kind of transaction, and SQL that
// wants another user.
func (r *Runner) suits(t *Transaction, p *program) error {
	if p.adhoc && r.config.SQL.ConnString != "" {
		return service.Errorf(service.CodeDenied, "requests with their own SQL have a PostgreSQL user of their own, which a pinned transaction does not run as")
	}
	want := modesOf(p.Settings)
	differs := func(a, b *bool) bool { return a != nil && *a != *b }
	switch {
	case want.isolation != "" && want.isolation != t.modes.isolation:
		return service.Errorf(service.CodeInvalidRequest, "the script wants the isolation level %s, the transaction has %s", want.isolation, t.modes.isolation)
	case differs(want.readOnly, t.modes.readOnly):
		return service.Errorf(service.CodeInvalidRequest, "the script wants read_only %t, the transaction has %t", *want.readOnly, *t.modes.readOnly)
	case differs(want.deferrable, t.modes.deferrable):
		return service.Errorf(service.CodeInvalidRequest, "the script wants deferrable %t, the transaction has %t", *want.deferrable, *t.modes.deferrable)
	}
	return nil
}

func noMessageID(request *service.Request) error {
	if request.Header.Get(nats.MsgIdHdr) == "" {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "a message id has no place on a pinned transaction")
}

// errFailedTransaction is what PostgreSQL would say.
func errFailedTransaction() error {
	return &service.Error{
		Code: service.CodeSQLError, SQLState: stateFailedTransaction, Severity: "ERROR",
		Message: "current transaction is aborted, commands ignored until end of transaction block",
	}
}
