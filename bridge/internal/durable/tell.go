package durable

import (
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/api"
)

// tellBegin logs how long it took until something new came. A slot begins before
// what was confirmed, and PostgreSQL reads from there.
func (p *publisher) tellBegin() {
	if p.began {
		return
	}
	p.began = true
	p.Log.Info("carries durable events", zap.Duration("since_lease", time.Since(p.leased)), zap.Duration("decoding", time.Since(p.opened)))
}

// tellUnsentEvery is how often it is told of events that became gaps: any database user
// can write them by the million.
const tellUnsentEvery = time.Minute

func (p *publisher) tellUnsent(now time.Time) {
	if len(p.unsent) == 0 || now.Sub(p.toldUnsent) < tellUnsentEvery {
		return
	}
	if n := p.unsent[api.ReasonOverflow]; n > 0 {
		p.Log.Warn("event is too large or malformed, announced as a gap", zap.Int("events", n))
	}
	if n := p.unsent[api.ReasonNATSUnavailable]; n > 0 {
		p.Log.Warn("event has chosen a subject that NATS refuses, announced as a gap", zap.Int("events", n), zap.NamedError("reason", p.forbidden.why))
	}
	clear(p.unsent)
	p.toldUnsent = now
}
