package execution

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/session"
)

const (
	// defaultRetries is how often a script of an isolation level that asks for it
	// is run again after a serialization failure or a deadlock.
	defaultRetries = 3
	// slotTimeout is how long a request waits for its turn.
	slotTimeout = 5 * time.Second
)

// Program is one version of a script, made ready to run, or the SQL of one
// request. It is safe for concurrent use.
type Program struct {
	Script   *session.Script
	Timeout  time.Duration // of a run
	ReadOnly bool          // it cannot write, whatever it holds
	AdHoc    bool          // it is the SQL of one request

	begin   string // BEGIN with the script's modes
	retries int
	// asSession says that the script names neither an isolation level nor a number
	// of retries, so that the session's level decides.
	asSession bool
	slots     *budget.Slots // nil: no limit on runs at a time
	company   *company
}

// NewAdHoc makes the SQL of one request ready.
func NewAdHoc(s *script.Script, timeout time.Duration) *Program {
	p := NewProgram(s, timeout)
	p.AdHoc = true
	return p
}

// NewProgram makes a script ready; maxTimeout is the most that it may ask for.
func NewProgram(s *script.Script, maxTimeout time.Duration) *Program {
	p := &Program{
		Script:    session.NewScript(s),
		Timeout:   maxTimeout,
		ReadOnly:  s.Settings.ReadOnly != nil && *s.Settings.ReadOnly,
		begin:     ModesOf(s.Settings).Begin(),
		retries:   retriesOf(s.Settings),
		asSession: s.Settings.Isolation == "" && s.Settings.Retries == nil,
		company:   new(company),
	}
	if s.Settings.Timeout > 0 {
		p.Timeout = min(p.Timeout, s.Settings.Timeout)
	}
	if s.Settings.Concurrency > 0 {
		p.slots = budget.NewSlots(s.Settings.Concurrency, 1)
	}
	return p
}

func retriesOf(s script.Settings) int {
	switch {
	case s.Retries != nil:
		return *s.Retries
	case s.Isolation == script.Serializable, s.Isolation == script.RepeatableRead:
		return defaultRetries
	}
	return 0
}

// role returns the role that the program runs as, "none" for the login's own.
func (p *Program) role() []byte {
	if p.Script.Settings.Role == "" {
		return []byte(noRole)
	}
	return []byte(p.Script.Settings.Role)
}

// open reports whether the script could make a transaction that cannot write one that
// can: only SET LOCAL before the first snapshot could, which a query takes.
func (p *Program) open() bool { return p.ReadOnly && !p.Script.Statements[0].Cursorable }

// Slot waits for the script's turn, which owners take one after the other, and returns
// what ends it. The error is for the client.
func (p *Program) Slot(ctx context.Context, owner string) (free func(), err error) {
	if p.slots == nil {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	if free, err = p.slots.Acquire(ctx, owner); err != nil {
		return nil, service.Errorf(service.CodeBusy, "the script is being run %d times already", p.slots.Total())
	}
	return free, nil
}
