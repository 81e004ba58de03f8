package execution

import (
	"context"
	"slices"

	"github.com/pgbridge/pgbridge/internal/session"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

// together runs calls of one caller's, of one program that cannot write and that the
// session has prepared, in one round trip: each in a transaction of its own, behind which
// the session is made a clean one as always. What PostgreSQL refuses, what takes too long,
// what does not fit and what comes behind such a call has no body at the end: it is to be
// run alone, which tells why. The first body is appended to buffer. It reports whether all
// that was sent has a body.
func together(ctx context.Context, s *session.Session, seats []*seat, buffer []byte) (well bool) {
	ctx, cancel := context.WithTimeout(ctx, togetherFor)
	defer cancel()
	var known []*seat
	var parts []part
	for i, seat := range seats {
		if i > 0 {
			buffer = nil // it may be read once the call was given up
		}
		x := seat.open(s, buffer)
		defer x.Close()
		if x.ready(ctx) {
			known, parts = append(known, seat), append(parts, x)
		}
	}
	p := session.Pipeline{Session: s, ReadOnly: true}
	p.Open(ctx)
	for _, x := range parts {
		if err := x.share(ctx, &p); err != nil {
			s.Close() // what was gathered is of several round trips
			p.Close()
			return false
		}
	}
	well = true
	p.FinishParts(func(i int) session.Reader {
		s.Notices.Reset()
		return parts[i].read
	}, func(i int, err error) {
		if err == nil {
			known[i].body = parts[i].answer()
		}
		well = well && known[i].body != nil
	})
	s.Rollback(ctx)
	return well
}

// sociable reports whether a call may be run together with others.
func (c *Call) sociable(ctx context.Context) bool {
	return c.readsOnly() && !c.Program.AdHoc && c.Program.company.quick() && c.paramBytes() <= smallCall && !tracing.Active(ctx).Recorded()
}

// paramBytes is how long the parameters are.
func (c *Call) paramBytes() (n int) {
	for _, value := range c.Params {
		n += len(value)
	}
	return n
}

// seatOf returns a call's seat, on which it does not wait yet.
func seatOf(c *Call, pool *session.Pool, limit int) *seat {
	return &seat{
		company: c.Program.company, pool: pool, caller: c.Caller, owner: c.Owner, deadline: c.Deadline,
		open: func(s *session.Session, buffer []byte) part { return newExecution(c, s, 1, limit, buffer) },
	}
}

// ready gathers what is known of the statements, and reports whether nothing has to be
// described.
func (x *Execution) ready(ctx context.Context) bool {
	if x.know(ctx) != nil {
		return false
	}
	return !slices.Contains(x.statements, nil)
}

// share sends the whole call as one part of a pipeline.
func (x *Execution) share(ctx context.Context, p *session.Pipeline) error {
	x.pipeline = p
	x.begin(ctx)
	for i := range x.statements {
		if err := x.send(ctx, i); err != nil {
			return err
		}
	}
	p.Own(session.StepCommit, "COMMIT")
	p.EndPart()
	return nil
}

// answer returns the body of a call that has ended well, unless types of its results
// have to be looked up.
func (x *Execution) answer() []byte {
	if len(x.reply.pending) > 0 {
		return nil
	}
	return x.finish()
}
