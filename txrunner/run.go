package txrunner

import (
	"context"
	"time"

	"github.com/pgbridge/pgbridge/internal/execution"
	"github.com/pgbridge/pgbridge/internal/pinned"
	"github.com/pgbridge/pgbridge/internal/script"
	"github.com/pgbridge/pgbridge/internal/service"
	"github.com/pgbridge/pgbridge/txrunner/internal/jobs"
)

// maxBufferBytes is the largest reply whose memory is used again.
const maxBufferBytes = 256 << 10

func runnable(s *script.Script) *service.Error {
	if s.Kind == script.Run {
		return nil
	}
	return service.Errorf(service.CodeInvalidRequest, "a COPY cannot be run")
}

// serveRun answers a request to run a script, or its own SQL.
func (r *Runner) serveRun(ctx context.Context, to target, request *service.Request) {
	buffer := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buffer)
	done, err := r.run(ctx, to, request, *buffer)
	r.ran(to, request, err)
	reply := service.Reply{Data: done.Body}
	switch {
	case err != nil:
	case done.Replayed:
		reply.Header = pinned.Replayed()
	case cap(done.Body) <= maxBufferBytes:
		*buffer = done.Body[:0] // NATS has copied it
	}
	request.Answer(reply, err)
}

// run does what a request asks for: in the client's transaction, or in one of its
// own.
func (r *Runner) run(ctx context.Context, to target, request *service.Request, buffer []byte) (execution.Outcome, error) {
	c, left, err := r.readCall(to, kindRun, request, runnable)
	if err == nil {
		err = left.End()
	}
	switch {
	case err != nil:
		return execution.Outcome{}, err
	case to.tx != nil:
		body, err := to.tx.Run(ctx, c, r.replyLimit(), buffer)
		return execution.Outcome{Body: body}, err
	}
	done, err := execution.Run(ctx, r.poolFor(c.Program, r.runs), c, r.replyLimit(), buffer)
	r.count(done)
	if done.Replayed && len(done.Body) > r.replyLimit() { // stored when messages could be larger
		return execution.Outcome{}, jobs.ErrResultGrown
	}
	return done, err
}

// ran counts a run, of a script that there is.
func (r *Runner) ran(to target, request *service.Request, err error) {
	if to.script == "" && r.config.SQL != nil || to.script != "" && r.scripts.get(to.script) != nil {
		r.metrics.scripts.ran(to.script, time.Since(request.Received), err)
	}
}

// count adds what is not the first attempt of a first request to the metrics.
func (r *Runner) count(done execution.Outcome) {
	if done.Attempts > 1 {
		r.metrics.retries.Add(float64(done.Attempts - 1))
	}
	if done.Replayed {
		r.metrics.replays.Inc()
	}
}

// runJob runs a job's script.
func (r *Runner) runJob(ctx context.Context, to target, id *execution.MessageID, request *service.Request) (body []byte, err error) {
	defer func() { r.ran(to, request, err) }()
	begun := time.Now()
	defer func() { r.ended(to.script, err, time.Since(begun)) }()
	c, left, err := r.readCall(to, kindRun, request, runnable)
	if err == nil {
		err = left.End()
	}
	if err != nil {
		return nil, err
	}
	c.ID = id
	done, err := execution.Run(ctx, r.work, c, r.replyLimit(), nil)
	done.Replayed = false // nobody has asked twice: it was delivered again
	r.count(done)
	return done.Body, err
}
