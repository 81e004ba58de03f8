package execution

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/rows"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

var errStale = errors.New("a statement no longer returns what it did")

// Execution runs a call once, on one session:
//
//	              not prepared yet        a statement must be described first
//	prepare ─────────────────────► … ─► send statements ◄───────► describe
//	                                          │
//	    all known, and no rows or read only   ├──► COMMIT, sync
//	                                          └──► sync, size, COMMIT, sync
//
// Inside a pinned transaction there is no BEGIN, and COMMIT only where it is asked
// for. Its methods are for one goroutine at a time. Statements are sent in a
// pipeline: what is sent between two calls of Sync is one round trip. Role, caller
// and time limit are set before the first of them.
type Execution struct {
	call     *Call
	session  *session.Session
	pipeline *session.Pipeline
	alone    session.Pipeline // which that is, but where it is shared
	reply    reply
	attempt  int           // from 1
	pinned   bool          // in a transaction that is there already
	roles    *Roles        // of that
	idle     time.Duration // PostgreSQL's limit of idleness there

	statements []*session.Description // by statement; nil: not known
	values     [][][]byte             // of the parameters of the known ones
	described  *pgconn.StatementDescription
	prepared   *session.Prepared // nil: nothing is
	trace      *timing           // of its statements; nil: it is not traced
	known      known

	started    bool // what comes before all else was sent
	fresh      bool // nothing here was prepared before
	renewed    bool // the session was made a new one for what was left in it
	executed   bool // a statement of the script has been sent
	committing bool // COMMIT is under way, and it matters
	committed  bool
}

// newExecution returns one for a transaction of its own. The reply is appended to
// buffer.
func newExecution(c *Call, s *session.Session, attempt, limit int, buffer []byte) *Execution {
	x := &Execution{
		call: c, session: s, alone: session.Pipeline{Session: s}, attempt: attempt, known: known{hold: c.Budget.Hold(c.Owner)},
		reply: reply{body: buffer[:0], limit: limit, format: c.Format, memory: c.Budget.Hold(c.Owner)},
	}
	x.alone.ReadOnly = c.readsOnly()
	x.pipeline = &x.alone
	return x
}

// Close gives back the memory that the reply was made in. What was returned of it
// is soon to be gone.
func (x *Execution) Close() {
	x.reply.memory.Close()
	x.known.clear()
}

// all executes everything, up to COMMIT or up to the last statement of a pinned
// transaction's. The pipeline is closed at its end; the transaction is left as it
// is when there is an error.
func (x *Execution) all(ctx context.Context) error {
	if err := x.start(ctx); err != nil {
		return err
	}
	defer x.pipeline.Close()
	for i := range x.statements {
		if err := x.send(ctx, i); err != nil {
			return err
		}
	}
	switch {
	case x.pinned:
		return x.pipeline.Sync(x.read)
	case x.oneTrip():
		return x.commit()
	}
	if err := x.pipeline.Sync(x.read); err != nil {
		return err
	}
	if x.call.ID != nil {
		x.storeReply(x.finish())
	}
	return x.commit()
}

// start opens the pipeline and, the first time, sends what has to come first.
func (x *Execution) start(ctx context.Context) error {
	if !x.started {
		if err := x.know(ctx); err != nil {
			return err
		}
	}
	x.pipeline.Open(ctx)
	x.trace = timingOf(ctx)
	if !x.started {
		x.begin(ctx)
	}
	x.started = true
	return nil
}

// know gathers what is known of the statements, and encodes the parameters of
// those: an error must not come once something was sent.
func (x *Execution) know(ctx context.Context) error {
	program := x.call.Program
	n := len(program.Script.Statements)
	x.statements, x.values = make([]*session.Description, n), make([][][]byte, n)
	x.known.clear()
	x.fresh = true
	if !x.pinned && !program.AdHoc {
		p, fresh, err := x.session.Prepare(ctx, program.Script)
		if x.fresh = fresh; err != nil {
			return err
		}
		x.prepared = p
		copy(x.statements, p.Statements)
	}
	for i, d := range x.statements {
		if d == nil {
			d = program.Script.Learned(i)
			if d != nil && !x.call.literal(i) {
				d = nil // how they are written depends on their types, which can be others here
			}
		}
		if d == nil {
			continue
		}
		if err := x.describe(i, d); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// describe notes what is known of a statement, and encodes the parameters for it.
func (x *Execution) describe(i int, d *session.Description) (err error) {
	if x.values[i], err = x.call.encode(i, d); err != nil {
		return err
	}
	x.statements[i] = d
	return x.known.add(len(d.Statement.Fields), x.values[i])
}

// begin opens the transaction and sets what holds during the call.
func (x *Execution) begin(ctx context.Context) {
	p := x.pipeline
	if x.pinned {
		x.roles.Trace(ctx, p)
		x.roles.enter(p, x.call.Caller, x.session.Limit(x.call.Deadline), string(x.call.Program.role()), x.idle)
		return
	}
	x.call.Begin(p)
	if c := x.call; c.Caller != "" || c.Limited || x.session.Limited() || c.Program.Script.Settings.Role != "" || c.Program.open() {
		p.Own(session.StepOwn, settingsSQL, []byte(c.Caller), x.session.Limit(c.Deadline), x.session.Role(c.Program.role()))
	}
	if parent, state := tracing.Parent(ctx); parent != "" {
		setTrace(p, parent, state)
	}
}

// send sends one statement. One that nothing is known of is described first, at
// the cost of a round trip.
func (x *Execution) send(ctx context.Context, i int) error {
	parsed := false
	if x.statements[i] == nil {
		var err error
		if parsed, err = x.learn(ctx, i); err != nil {
			return err
		}
	}
	x.pipeline.Execute(i, x.statements[i], x.call.Program.Script.Statements[i].SQL, x.values[i], parsed)
	x.executed = true
	if x.pinned && x.call.Program.Script.RollsBack(i) { // it undoes what was set after its savepoint
		setPinned(x.pipeline, x.call.Caller, x.session.Limit(x.call.Deadline), x.call.Program.role(), x.idle)
		x.roles.Trace(ctx, x.pipeline)
	}
	if x.prepared != nil && x.prepared.Checked(i, x.fresh) {
		x.pipeline.Check(x.prepared)
	}
	return nil
}

// learn describes a statement that nothing is known of, with a new pipeline. It
// reports whether that left it parsed as the unnamed one: looking up its types
// has put another statement in its place.
func (x *Execution) learn(ctx context.Context, i int) (parsed bool, err error) {
	script := x.call.Program.Script
	x.pipeline.Describe(i, "", script.Statements[i].SQL)
	err = x.pipeline.Sync(x.read)
	x.pipeline.Close()
	if err != nil {
		return false, err
	}
	lookups := x.session.Lookups()
	d, err := x.session.DescribeAnew(ctx, script, i, x.described)
	if err != nil {
		return false, err
	}
	script.Learn(i, d)
	if err := x.describe(i, d); err != nil {
		return false, err
	}
	x.pipeline.Open(ctx)
	return x.session.Lookups() == lookups, nil
}

// oneTrip reports whether COMMIT can be sent along with the statements: when
// the size of the result cannot make it the wrong thing to do.
func (x *Execution) oneTrip() bool {
	if x.call.ID != nil {
		return false
	}
	if x.call.Program.ReadOnly {
		return true
	}
	for _, d := range x.statements {
		if !d.Rowless {
			return false
		}
	}
	return true
}

// commit sends COMMIT with what is waiting.
func (x *Execution) commit() error {
	// Of what cannot write nobody is left in doubt.
	x.committing = !x.call.Program.ReadOnly || x.call.ID != nil
	x.pipeline.Own(session.StepCommit, "COMMIT")
	send := x.pipeline.Finish
	if x.pinned { // cursors may be left, and the session is made a new one
		send = x.pipeline.Sync
	}
	err := send(x.read)
	if x.committed && x.session.Lost() {
		return nil // right after it
	}
	return err
}

// finish completes the reply's body.
func (x *Execution) finish() []byte { return x.reply.finish(&x.session.Notices, x.attempt) }

// read takes the results.
func (x *Execution) read(s session.Step, result any) error {
	switch r := result.(type) {
	case *pgconn.StatementDescription:
		x.described = r
	case *session.Result:
		switch s.Kind {
		case session.StepRun:
			return x.trace.read(x.call, s.Statement, x.readResult(s.Statement, r))
		case session.StepQuery:
			if s.Query.Read != nil {
				return s.Query.Read(r)
			}
		case session.StepCommit:
			tag, err := r.Close()
			x.committed = err == nil && tag.String() == "COMMIT"
			if err == nil && !x.committed {
				return service.Errorf(service.CodeInternal, "COMMIT was answered %s", tag)
			}
		}
	}
	return nil
}

// readResult takes the rows of one statement.
func (x *Execution) readResult(i int, r *session.Result) error {
	d, fields := x.statements[i], r.FieldDescriptions()
	columns := d.Columns
	if !d.Named() && !sameFields(d.Statement.Fields, fields) {
		x.call.Program.Script.Learn(i, nil)
		if !x.pinned && !x.committing {
			return errStale // and start again: COMMIT was not sent along
		}
		columns = nil
	}
	if columns == nil && len(fields) > 0 {
		if !x.session.Knows(fields) {
			return x.reply.addUnknown(x.session, r)
		}
		columns = x.session.Known(fields)
	}
	return x.reply.add(x.session, columns, r)
}

// resolve looks up the types that results turned out to have. The connection has to
// be free.
func (x *Execution) resolve(ctx context.Context) error {
	if len(x.reply.pending) == 0 {
		return nil
	}
	return x.reply.resolve(func(fields []pgconn.FieldDescription) (*rows.Columns, error) {
		columns, err := x.session.Columns(ctx, fields)
		if err != nil && x.committed {
			return x.session.Known(fields), nil // it is done, whatever its types are called
		}
		return columns, err
	})
}

// storeReply stores a finished body, as the login's own role: the script's need
// not be allowed to.
func (x *Execution) storeReply(body []byte) {
	if x.call.Program.ReadOnly {
		x.pipeline.Own(session.StepOwn, "ROLLBACK TO "+readOnlySavepoint)
	}
	x.pipeline.Own(session.StepOwn, session.RoleSQL, x.session.Role([]byte(noRole)))
	x.pipeline.Own(session.StepOwn, storeReplySQL, append(x.call.ID.Key(), body)...)
	if x.call.Program.Script.Settings.Role != "" {
		x.pipeline.Own(session.StepOwn, session.RoleSQL, x.call.Program.role()) // for what is deferred until COMMIT
	}
}
