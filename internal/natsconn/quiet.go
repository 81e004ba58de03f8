package natsconn

import (
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	quietTime  = time.Minute
	quietLines = 100 // different lines remembered, and logged in that time
)

// quiet logs each warning once a minute, with the number of its repetitions
// since, and so many in a minute, so that an outage of an hour is no wall of text.
type quiet struct {
	logger *zap.Logger
	now    func() time.Time

	mu   sync.Mutex // guards seen
	seen map[string]*repeated
}

type repeated struct {
	since time.Time
	count int // lines held back since then
}

func newQuiet(log *zap.Logger) *quiet {
	return &quiet{logger: log, now: time.Now, seen: map[string]*repeated{}}
}

func (q *quiet) warn(msg string, err error, fields ...zap.Field) {
	count, ok := q.admit(msg + withoutDigits(err.Error()))
	if !ok {
		return
	}
	fields = append(fields, zap.Error(err))
	if count > 0 {
		fields = append(fields, zap.Int("repeated", count))
	}
	q.logger.Warn(msg, fields...)
}

// withoutDigits makes lines alike that differ only in a port or an address.
func withoutDigits(line string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, line)
}

// admit says whether the line is due and how many of it were held back.
func (q *quiet) admit(line string) (heldBack int, due bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	r := q.seen[line]
	if r != nil && now.Sub(r.since) < quietTime {
		r.count++
		return 0, false
	}
	if r != nil {
		heldBack = r.count
	}
	if r == nil && len(q.seen) >= quietLines {
		maps.DeleteFunc(q.seen, func(_ string, r *repeated) bool { return now.Sub(r.since) >= quietTime })
		if len(q.seen) >= quietLines { // clients can have NATS refuse subjects without end
			return 0, false
		}
	}
	q.seen[line] = &repeated{since: now}
	return heldBack, true
}

// forget makes the next outage's first lines appear at once.
func (q *quiet) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.seen)
}
