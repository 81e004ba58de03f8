package bridge

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/postgres"
)

// logAgainAfter is how often a cause that lasts is logged.
const logAgainAfter = time.Minute

// maxCauses bounds how many causes of one trouble are logged a minute.
const maxCauses = 16

// trouble is one thing that can keep a replica from being ready. Each cause of
// it is logged when it appears and once a minute while it lasts, and the end
// is logged too, so that a lasting fault does not flood the log.
type trouble struct {
	part    string
	explain func(error) string // for readiness: one line, no secret

	mu     sync.Mutex           // guards what follows
	text   string               // empty: none
	logged map[string]time.Time // causes, in the last minute
	times  int                  // since a line was logged
}

func newTrouble(part string, explain func(error) string) *trouble {
	return &trouble{part: part, explain: explain}
}

// set notes the trouble; a nil error changes nothing.
func (t *trouble) set(log *zap.Logger, err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = t.explain(err)
	t.times++
	if !t.due() {
		return
	}
	log.Warn("in trouble, trying again", zap.String("part", t.part), zap.String("cause", t.text),
		zap.String("sqlstate", postgres.SQLState(err)), zap.Int("attempts", t.times), zap.Error(err))
	t.times = 0
}

// due reports whether the present cause is to be logged now.
func (t *trouble) due() bool {
	now := time.Now()
	for text, at := range t.logged {
		if now.Sub(at) >= logAgainAfter {
			delete(t.logged, text)
		}
	}
	if _, recent := t.logged[t.text]; recent || len(t.logged) >= maxCauses {
		return false
	}
	if t.logged == nil {
		t.logged = map[string]time.Time{}
	}
	t.logged[t.text] = now
	return true
}

// clear notes that it is over.
func (t *trouble) clear(log *zap.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.logged != nil {
		log.Info("out of trouble", zap.String("part", t.part))
	}
	t.text, t.logged, t.times = "", nil, 0
}

// problem is what readiness shows; empty when there is none.
func (t *trouble) problem() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text == "" {
		return ""
	}
	return t.part + ": " + t.text
}
