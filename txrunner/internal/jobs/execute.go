package jobs

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/service"
)

// execute runs a job. What it stores makes it safe to call again.
func (j *Jobs) execute(ctx context.Context, one *job) (body []byte, failure *service.Error) {
	defer func() {
		if p := recover(); p != nil {
			j.log.Error("a job panicked", zap.String("script", one.script), zap.Error(service.PanicError(p)), zap.Stack("stack"))
			failure = service.Errorf(service.CodeInternal, "internal error, see the log of pgbridge")
		}
	}()
	if one.refused != nil {
		return nil, service.AsError(one.refused)
	}
	request := &service.Request{
		Subject: one.msg.Subject, Header: one.msg.Header, Data: one.msg.Data, Received: time.Now(),
		Owner: "job." + one.script, Budget: j.config.Budget,
	}
	memory := request.Memory()
	defer memory.Close()
	if err := memory.Grow(request.Brought()); err != nil {
		return nil, service.AsError(err)
	}
	j.metrics.tried.Inc()
	defer func() { j.metrics.took.Observe(time.Since(request.Received).Seconds()) }()
	body, err := j.config.Run(ctx, one.verb, one.script, one.key, request)
	if err != nil {
		return nil, service.AsError(err)
	}
	return body, nil
}
