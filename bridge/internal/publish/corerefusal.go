package publish

import (
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/bridge/internal/event"
	"github.com/pgbridge/pgbridge/internal/problem"
)

const carefulFor = time.Minute // after a refusal, what may be refused is published alone

// coreRefusals are the server's, to let us publish. What it says names one subject, and of
// many refusals only the last is known.
type coreRefusals struct {
	last     error
	careful  time.Time                  // until then, one of what follows is
	everyone time.Time                  // until then, a window holds one item
	suspects map[*event.Route]time.Time // until then, a window that holds one of theirs holds nothing else
}

// latestRefusal returns the refusal that came since the last call, if one did. The server
// sends it before it answers a ping.
func (r *coreRefusals) latestRefusal(nc *nats.Conn, refused *problem.Problem, log *zap.Logger) error {
	err := nc.LastError()
	if err == r.last || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), "publish") {
		if !r.careful.IsZero() && time.Now().After(r.careful) {
			r.careful, r.suspects = time.Time{}, nil
			refused.Clear(log)
		}
		return nil
	}
	r.last = err
	r.careful = time.Now().Add(carefulFor)
	refused.Set(log, err)
	return err
}

// suspect notes what the last refusal of something in a window can have meant: the
// channels of its subject, or, where that is nobody's there, anything.
func (r *coreRefusals) suspect(window []event.Item) {
	subject, found := quoted(r.last.Error()), false
	for i := range window {
		if it := &window[i]; it.Route != nil && r.suspects[it.Route] != r.careful && it.Subject() == subject {
			if r.suspects == nil {
				r.suspects = make(map[*event.Route]time.Time)
			}
			r.suspects[it.Route], found = r.careful, true
		}
	}
	if !found {
		r.everyone = r.careful
	}
}

// isolates reports whether an item of the route, nil for a marker, is to be alone in its
// window: in one that holds more, nobody knows which item was refused.
func (r *coreRefusals) isolates(route *event.Route) bool {
	if r.careful.IsZero() {
		return false
	}
	now := time.Now()
	return now.Before(r.everyone) || route != nil && now.Before(r.suspects[route])
}
