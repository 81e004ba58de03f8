package txrunner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// beginRequest is what a client asks of a new transaction.
type beginRequest struct {
	modes execution.Modes
	idle  time.Duration
}

func readBegin(request *service.Request, most time.Duration) (beginRequest, error) {
	f, err := request.Fields()
	if err != nil {
		return beginRequest{}, err
	}
	b := beginRequest{idle: most}
	if b.modes, err = readModes(f); err != nil {
		return beginRequest{}, err
	}
	idle, err := f.Duration("idle_timeout_ms")
	if err != nil {
		return beginRequest{}, err
	}
	if idle > 0 {
		b.idle = min(idle, most)
	}
	return b, f.End()
}

// readModes reads the modes of a transaction.
func readModes(f service.Fields) (execution.Modes, error) {
	var m execution.Modes
	var isolation string
	if err := f.Read("isolation", "a string", &isolation); err != nil {
		return m, err
	}
	if isolation != "" {
		var err error
		if m.Isolation, err = script.ParseIsolation(isolation); err != nil {
			return m, service.Errorf(service.CodeInvalidRequest, "field \"isolation\": %v", err)
		}
	}
	if err := f.Read("read_only", "true or false", &m.ReadOnly); err != nil {
		return m, err
	}
	return m, f.Read("deferrable", "true or false", &m.Deferrable)
}

// serveBegin answers a request for a pinned transaction.
func (r *Runner) serveBegin(ctx context.Context, to target, request *service.Request) {
	reply, err := r.begin(ctx, to, request)
	request.Answer(reply, err)
}

func (r *Runner) begin(ctx context.Context, to target, request *service.Request) (service.Reply, error) {
	b, err := readBegin(request, r.config.IdleTimeout)
	if err != nil {
		return service.Reply{}, err
	}
	ctx, cancel := context.WithDeadline(ctx, request.Received.Add(r.config.MaxTimeout))
	defer cancel()
	t, err := r.transactions.Begin(ctx, r.pinned, to.caller, request.Owner, b.modes, b.idle)
	if err != nil {
		return service.Reply{}, err
	}
	expires, err := t.Touch()
	if err != nil {
		return service.Reply{}, err
	}
	body, err := json.Marshal(api.BeginReply{Tx: t.Subject(), IdleTimeoutMS: t.Idle().Milliseconds(), ExpiresAt: expires.UTC()})
	if err != nil {
		return service.Reply{}, fmt.Errorf("encode a reply: %w", err)
	}
	return service.Reply{Header: pinned.StateActive.Header(), Data: body}, nil
}
