package txrunner

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/wait"
)

const (
	// catchUpTimeout is the time of a catch-up script that names none: other channels
	// wait for it.
	catchUpTimeout = 30 * time.Second
	openPoll       = 20 * time.Millisecond
)

// CatchUp runs a script that returns what notifications between two moments would have
// told, in a transaction that cannot write, with the parameters since, NULL where it is
// zero, and until. Each row of its last statement is handed to row, which may block: the
// text of the only column, empty for NULL, or a JSON object of several. It takes the
// script's timeout at the most, 30 seconds where it has none. Where PostgreSQL is away,
// busy or gave the transaction up for another it is run again within that time, and rows
// come again. An error of row's ends it and is returned as it is; any other is typed as a
// reply to a run is, and some rows may have been handed out before it. It waits for Run
// to begin, and may be called concurrently.
func (r *Runner) CatchUp(ctx context.Context, name string, since, until time.Time, row func(ctx context.Context, payload []byte) error) error {
	p := r.scripts.get(name)
	if p == nil {
		return r.noScript(name)
	}
	if err := p.Script.CatchesUp(); err != nil {
		return service.Errorf(service.CodeInvalidRequest, "script %q: %v", name, err)
	}
	limit := catchUpTimeout
	if t := p.Script.Settings.Timeout; t > 0 {
		limit = min(t, r.config.MaxTimeout)
	}
	c := &execution.Call{
		Program: p, Owner: ownWork, Budget: r.memory, Params: windowParams(p.Script.Params, since, until),
		Deadline: time.Now().Add(limit), Limited: true,
	}
	ctx, cancel := context.WithDeadline(ctx, c.Deadline)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := r.sweep(ctx, c, row)
		var failure *service.Error
		if err == nil || !errors.As(err, &failure) || !failure.Retryable || r.stopped.Load() || !wait.Within(ctx, sweepPause(attempt)) {
			return err
		}
	}
}

func sweepPause(attempt int) time.Duration {
	return wait.Backoff{First: 50 * time.Millisecond, Max: time.Second}.After(attempt)
}

func (r *Runner) sweep(ctx context.Context, c *execution.Call, row func(context.Context, []byte) error) error {
	for !r.opened.Load() {
		if !wait.For(ctx, openPoll) {
			return service.Errorf(service.CodeUnavailable, "requests are not served yet")
		}
	}
	if r.runs == nil {
		return service.Errorf(service.CodeUnavailable, "requests are not served")
	}
	return execution.Sweep(ctx, r.runs, c, int(r.config.Requests.MaxPayload()), row)
}

// windowParams are the parameters of a window that a script has.
func windowParams(names []string, since, until time.Time) map[string]json.RawMessage {
	params := map[string]json.RawMessage{}
	add := func(name string, t time.Time) {
		if !slices.Contains(names, name) {
			return
		}
		params[name] = json.RawMessage("null")
		if !t.IsZero() {
			params[name], _ = json.Marshal(t.UTC()) // years that JSON has
		}
	}
	add(script.Since, since)
	add(script.Until, until)
	return params
}
