package jobs

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pgbridge/pgbridge/internal/api"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/internal/stream"
)

// failedStream keeps the jobs that failed, as they were left, so that an operator can
// have one tried again. It is apart from the results, whose readers need not see what
// jobs were asked with.
func (j *Jobs) failedStream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              api.FailedStream(j.config.Results),
		Description:       "Jobs of pgbridge that failed, as they were left.",
		Subjects:          []string{j.config.Prefix + ".failed.>"},
		MaxMsgsPerSubject: 1,
		MaxAge:            j.config.ResultsMaxAge,
		Storage:           jetstream.FileStorage,
		Replicas:          j.config.ResultsReplicas,
	}
}

// ensureFailed makes that stream, once, where streams of results may be made. Without
// it nothing but trying again is missing, so its faults are only logged.
func (j *Jobs) ensureFailed(ctx context.Context) {
	if !j.config.CreateResults || !j.failedEnsured.CompareAndSwap(false, true) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := (stream.Need{Config: j.failedStream(), Create: true}).Ensure(ctx, j.js); err != nil {
		j.log.Warn("failed jobs are not kept: nobody can have them tried again", zap.Error(err))
	}
}

// keep stores a failed job, with its result's subject, in the stream of those, and waits for
// that: whoever sees the result can have the job tried again. Nothing fails with it: lost, it can only not be tried
// again from there.
func (j *Jobs) keep(ctx context.Context, one *job, result string, failure *service.Error) {
	if failure.Code == service.CodeConflict && !failure.Retryable { // its id is another job's
		return
	}
	m := nats.NewMsg(strings.Replace(result, j.config.Prefix+".result.", j.config.Prefix+".failed.", 1))
	m.Header.Set(api.HeaderJob, one.key.ID)
	m.Header.Set(api.HeaderJobSubject, one.msg.Subject)
	m.Data = one.msg.Data
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := j.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0)); err != nil {
		j.log.Debug("a failed job is not kept", zap.String("script", one.script), zap.Error(err))
	}
}

// idOf is what names a job: what it was called when it is tried again, else the
// message's id.
func idOf(msg *nats.Msg) string {
	if id := msg.Header.Get(api.HeaderJob); id != "" {
		return id
	}
	return msg.Header.Get(nats.MsgIdHdr)
}
