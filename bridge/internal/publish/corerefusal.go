package publish

import (
	"errors"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/problem"
)

const carefulFor = time.Minute // after a refusal, one event at a time

// coreRefusals are the server's, to let us publish.
type coreRefusals struct {
	last    error
	careful time.Time // until then, a window holds one item
}

// latestRefusal returns the refusal that came since the last call, if one did. The server
// sends it before it answers a ping.
func (r *coreRefusals) latestRefusal(nc *nats.Conn, refused *problem.Problem, log *zap.Logger) error {
	err := nc.LastError()
	if err == r.last || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), "publish") {
		if !r.careful.IsZero() && time.Now().After(r.careful) {
			r.careful = time.Time{}
			refused.Clear(log)
		}
		return nil
	}
	r.last = err
	r.careful = time.Now().Add(carefulFor)
	refused.Set(log, err)
	return err
}
