package copier

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/budget"
	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/tracing"
)

// copying is one copy.
type copying struct {
	request
	copier   *Copier
	task     *pinned.Task
	script   *script.Script
	at       int // index of the COPY among the statements
	reading  reading
	begun    time.Time
	brought  int          // bytes of the request, which stays until the copy has ended
	sql      *budget.Hold // for that, and the COPY with literals in it
	progress progress
	span     tracing.Span // of the copy, which can outlast that of its request
}

// endSpan ends it.
func (k *copying) endSpan(err error) {
	if !k.span.Recorded() {
		return
	}
	failure := ""
	if err != nil {
		failure = string(service.AsError(err).Code)
	}
	k.span.End(failure, attribute.Int64("pgbridge.rows", k.progress.Rows.Load()), attribute.Int64("pgbridge.bytes", k.progress.Bytes.Load()))
}

// trace begins the copy's span, which count ends.
func (k *copying) trace(ctx context.Context) context.Context {
	ctx, k.span = tracing.Start(ctx, "copy", attribute.String("pgbridge.script", k.script.Name),
		attribute.String("pgbridge.direction", directionOf(k.in())))
	return ctx
}

func (c *Copier) newCopying(task *pinned.Task, maxChunk int) (*copying, error) {
	s := task.Script()
	r, err := c.readRequest(task.Fields, maxChunk, s.Settings.Buckets)
	if err != nil {
		return nil, err
	}
	k := &copying{request: r, copier: c, task: task, script: s, at: s.CopyIndex(), begun: time.Now()}
	k.brought, k.sql = task.Request.Size(), task.Request.Memory()
	k.progress.id, k.progress.Script, k.progress.Begun = r.id, s.Name, k.begun
	k.progress.Kind = "copy out"
	if k.in() {
		k.progress.Kind = "copy in"
	}
	return k, nil
}

func (k *copying) copy() *script.Copy { return k.script.Statements[k.at].Copy }

func (k *copying) in() bool { return k.copy().In }

// answer answers the request with the only reply there is.
func (k *copying) answer(reply service.Reply, err error) {
	if t := k.task.Transaction(); t != nil && reply.Header == nil {
		reply.Header = t.Header()
	}
	k.task.Request.Answer(reply, err)
}

// open answers the request with what comes before any chunk.
func (k *copying) open(data string) error {
	o := k.opening(k.task.Transaction().Subject())
	o.Data = data
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode a reply: %w", err)
	}
	k.answer(service.Reply{Data: body}, nil)
	return nil
}

// encode writes the last reply, with what PostgreSQL has said besides as far as
// that fits.
func (k *copying) encode(s api.CopySummary, w *execution.Execution) ([]byte, error) {
	body, err := marshal(s)
	notices := w.Session().Notices.Fitting(k.task.ReplyLimit() - len(body) - len(`,"notices":[]`))
	if err != nil || len(notices) == 0 {
		return body, err
	}
	body = append(body[:len(body)-1], `,"notices":[`...)
	return append(append(body, notices...), "]}"...), nil
}

func marshal(s api.CopySummary) ([]byte, error) {
	body, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return body, nil
}

// count adds the copy to the metrics.
func (k *copying) count(err error) {
	defer k.endSpan(err)
	k.task.Ended(err, time.Since(k.begun))
	k.copier.metrics.done(k.in(), k.progress.Rows.Load(), k.progress.Bytes.Load(), time.Since(k.begun), err)
}
