package txrunner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
)

// beginRequest is what a client asks of a new transaction.
type beginRequest struct {
	modes modes
	idle  time.Duration
}

func readBegin(body []byte, most time.Duration) (beginRequest, error) {
	f, err := service.ReadFields(body)
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
func readModes(f service.Fields) (modes, error) {
	var m modes
	var isolation string
	if err := f.Read("isolation", "a string", &isolation); err != nil {
		return m, err
	}
	if isolation != "" {
		var err error
		if m.isolation, err = script.ParseIsolation(isolation); err != nil {
			return m, service.Errorf(service.CodeInvalidRequest, "field \"isolation\": %v", err)
		}
	}
	if err := f.Read("read_only", "true or false", &m.readOnly); err != nil {
		return m, err
	}
	return m, f.Read("deferrable", "true or false", &m.deferrable)
}

// serveBegin answers a request for a pinned transaction.
func (r *Runner) serveBegin(ctx context.Context, to address, request *service.Request) {
	reply, err := r.begin(ctx, to, request)
	request.Answer(reply, err)
}

func (r *Runner) begin(ctx context.Context, to address, request *service.Request) (service.Reply, error) {
	b, err := readBegin(request.Data, r.config.IdleTimeout)
	if err != nil {
		return service.Reply{}, err
	}
	ctx, cancel := context.WithDeadline(ctx, request.Received.Add(r.config.MaxTimeout))
	defer cancel()
	t, err := r.pins.begin(ctx, to.caller, b)
	if err != nil {
		return service.Reply{}, err
	}
	expires, err := t.touch()
	if err != nil {
		return service.Reply{}, err
	}
	body, err := json.Marshal(struct {
		Tx          string    `json:"tx"`
		IdleTimeout int64     `json:"idle_timeout_ms"`
		ExpiresAt   time.Time `json:"expires_at"`
	}{r.pins.subject + "." + t.id, t.idle.Milliseconds(), expires.UTC()})
	if err != nil {
		return service.Reply{}, fmt.Errorf("encode a reply: %w", err)
	}
	return service.Reply{Header: stateHeader(StateActive), Data: body}, nil
}
