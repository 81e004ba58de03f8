// Package problem reports what keeps a replica from being ready: to readiness
// at once, and to the log without flooding it.
package problem

import (
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/part"
	"github.com/pgbridge/pgbridge/internal/postgres"
)

// logAgainAfter is how often a cause that lasts is logged.
const logAgainAfter = time.Minute

// maxCauses bounds how many causes of one problem are logged a minute.
const maxCauses = 16

// Problem is one thing that can keep a replica from being ready. Each cause of
// it is logged when it appears and once a minute while it lasts, and the end
// is logged too, so that a lasting fault does not flood the log.
type Problem struct {
	part    part.Part
	explain func(error) string // for readiness: one line, no secret

	mu     sync.Mutex           // guards what follows
	text   string               // empty: none
	logged map[string]time.Time // causes, in the last minute
	times  int                  // since a line was logged
}

// New returns a part that has no problem so far. explain says in one line,
// without a secret, what an error means.
func New(of part.Part, explain func(error) string) *Problem {
	return &Problem{part: of, explain: explain}
}

// Assume notes a problem that is no news, until Clear: it is not logged.
func (p *Problem) Assume(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

// Set notes the problem; a nil error changes nothing.
func (p *Problem) Set(log *zap.Logger, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = p.explain(err)
	p.times++
	if !p.due() {
		return
	}
	log.Warn("retrying", zap.Stringer("part", p.part), zap.String("cause", p.text),
		zap.String("sqlstate", postgres.SQLState(err)), zap.Int("attempts", p.times), zap.Error(err))
	p.times = 0
}

// due reports whether the present cause is to be logged now.
func (p *Problem) due() bool {
	now := time.Now()
	for text, at := range p.logged {
		if now.Sub(at) >= logAgainAfter {
			delete(p.logged, text)
		}
	}
	if _, recent := p.logged[p.text]; recent || len(p.logged) >= maxCauses {
		return false
	}
	if p.logged == nil {
		p.logged = map[string]time.Time{}
	}
	p.logged[p.text] = now
	return true
}

// Clear notes that it is over.
func (p *Problem) Clear(log *zap.Logger) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.logged != nil {
		log.Info("recovered", zap.Stringer("part", p.part))
	}
	p.text, p.logged, p.times = "", nil, 0
}

// Current is what readiness shows; empty when there is none.
func (p *Problem) Current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == "" {
		return ""
	}
	return p.part.Problem(p.text)
}

// ExplainPostgres says in one line, without a secret, what is wrong with a
// connection to PostgreSQL.
func ExplainPostgres(err error) string {
	fault := postgres.Explain(err)
	if fault.Kind == postgres.KindOther {
		return err.Error()
	}
	return fault.String()
}

// ExplainSession is ExplainPostgres for a session that does more than listen. Once it is
// connected, a refusal is of what it has asked for, which the error names, and says
// nothing of the login or of the connection's settings.
func ExplainSession(err error) string {
	var connecting *pgconn.ConnectError
	switch postgres.Explain(err).Kind {
	case postgres.KindPrivilege, postgres.KindParameter, postgres.KindDatabase, postgres.KindTooMany:
		if !errors.As(err, &connecting) {
			return err.Error()
		}
	}
	return ExplainPostgres(err)
}
