package txrunner

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgbridge/pgbridge/internal/service"
)

const readOnlySavepoint = "pgbridge_read_only"

var (
	errStale    = errors.New("a statement no longer returns what it did")
	errTooLarge = errors.New("the result does not fit one message")
)

// execution runs a call once, on one session:
//
//	              not prepared yet        a statement must be described first
//	prepare ─────────────────────► … ─► send statements ◄───────► describe
//	                                          │
//	    all known, and no rows or read only   ├──► COMMIT, sync
//	                                          └──► sync, size, COMMIT, sync
//
// Inside a pinned transaction there is no BEGIN and no COMMIT.
type execution struct {
	*call
	flow
	result
	pinned  *Transaction // nil: a transaction of its own
	paced   bool         // by the client: PostgreSQL may wait as long as the work lasts
	attempt int          // from 1

	statements []*description // by statement; nil: not known
	values     [][][]byte     // of the parameters of the known ones
	described  *pgconn.StatementDescription

	fresh      bool // nothing here was prepared before
	executed   bool // a statement of the script has been sent
	committing bool // COMMIT is under way, and it matters
	committed  bool
}

// run does everything up to COMMIT, or up to the last statement of a pinned
// transaction's. The pipeline is closed at its end; the transaction is left as
// it is when there is an error.
func (x *execution) run(ctx context.Context) error {
	if err := x.know(ctx); err != nil {
		return err
	}
	x.open(ctx)
	defer x.close()
	x.begin()
	for i := range x.program.Statements {
		if err := x.send(ctx, i); err != nil {
			return err
		}
	}
	switch {
	case x.pinned != nil:
		return x.sync(x.read)
	case x.oneTrip():
		return x.commit()
	}
	if err := x.sync(x.read); err != nil {
		return err
	}
	if x.id != nil {
		x.storeReply(x.finish())
	}
	return x.commit()
}

// know gathers what is known of the statements, and encodes the parameters of
// those: an error must not come once something was sent.
func (x *execution) know(ctx context.Context) error {
	n := len(x.program.Statements)
	x.statements, x.values = make([]*description, n), make([][][]byte, n)
	x.fresh = true
	if x.pinned == nil && !x.program.adhoc {
		x.fresh = x.session.prepared[x.program] == nil
		p, err := x.session.prepare(ctx, x.program)
		if err != nil {
			return err
		}
		copy(x.statements, p.statements)
	}
	for i, d := range x.statements {
		if d == nil {
			d = x.program.learned[i].Load()
		}
		if d == nil {
			continue
		}
		var err error
		if x.values[i], err = x.encode(i, d); err != nil {
			return err
		}
		x.statements[i] = d
	}
	return ctx.Err()
}

// begin opens the transaction and sets what holds during the call.
func (x *execution) begin() {
	if x.pinned != nil {
		limit, idle := statementTimeout(x.deadline), x.pinned.serverIdle()
		if x.paced {
			idle = limit
		}
		x.own(stepOwn, pinnedSettingsSQL, []byte(x.caller), limit, x.role(), idle)
		return
	}
	x.neutral()
	if x.id == nil {
		x.own(stepOwn, x.program.begin)
	} else {
		x.insertID()
	}
	x.empty()
	if x.caller != "" || x.limited || x.program.Settings.Role != "" {
		x.own(stepOwn, settingsSQL, []byte(x.caller), statementTimeout(x.deadline), x.role())
	}
}

// send sends one statement. One that nothing is known of is described first, at
// the cost of a round trip.
func (x *execution) send(ctx context.Context, i int) error {
	parsed := false
	if x.statements[i] == nil {
		var err error
		if parsed, err = x.learn(ctx, i); err != nil {
			return err
		}
	}
	x.flow.execute(i, x.statements[i], x.program.Statements[i].SQL, x.values[i], parsed)
	x.executed = true
	return nil
}

// learn describes a statement that nothing is known of, with a new pipeline. It
// reports whether that left it parsed as the unnamed one: looking up its types
// has put another statement in its place.
func (x *execution) learn(ctx context.Context, i int) (parsed bool, err error) {
	x.flow.describe(i, "", x.program.Statements[i].SQL)
	err = x.sync(x.read)
	x.close()
	if err != nil {
		return false, err
	}
	lookups := x.session.lookups
	d, err := x.session.describe(ctx, x.described)
	if err != nil {
		return false, err
	}
	x.statements[i] = d
	x.program.learned[i].Store(d)
	if x.values[i], err = x.encode(i, d); err != nil {
		return false, err
	}
	x.open(ctx)
	return x.session.lookups == lookups, nil
}

// oneTrip reports whether COMMIT can be sent along with the statements: when
// the size of the result cannot make it the wrong thing to do.
func (x *execution) oneTrip() bool {
	if x.id != nil {
		return false
	}
	if x.program.readOnly() {
		return true
	}
	for i, d := range x.statements {
		if d.columns != nil || x.program.fetches[i] {
			return false
		}
	}
	return true
}

// commit sends COMMIT with what is waiting.
func (x *execution) commit() error {
	x.committing = x.program.writes() || x.id != nil
	x.own(stepCommit, "COMMIT")
	err := x.sync(x.read)
	if x.committed && x.session.lost() {
		return nil // right after it
	}
	return err
}

// finish completes the reply's body.
func (x *execution) finish() []byte { return x.result.finish(&x.session.notices, x.attempt) }

// read takes the results.
func (x *execution) read(s step, result any) error {
	switch r := result.(type) {
	case *pgconn.StatementDescription:
		x.described = r
	case *pgconn.ResultReader:
		switch s.kind {
		case stepRun:
			return x.readResult(s.statement, r)
		case stepQuery:
			if s.query.Read != nil {
				return s.query.Read(r)
			}
		case stepCommit:
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
func (x *execution) readResult(i int, r *pgconn.ResultReader) error {
	d, fields := x.statements[i], r.FieldDescriptions()
	columns := d.columns
	if !d.named() && !sameFields(d.statement.Fields, fields) {
		x.program.learned[i].Store(nil)
		if x.pinned == nil && !x.committing {
			return errStale // and start again: COMMIT was not sent along
		}
		columns = nil
	}
	if columns == nil && len(fields) > 0 && !d.rowless {
		columns = x.session.undescribed(fields)
	}
	return x.result.add(x.session.conn, columns, r)
}

func sameFields(a, b []pgconn.FieldDescription) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].DataTypeOID != b[i].DataTypeOID || a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}
