package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// answer sends what r's sender gets to see, and counts and logs the outcome.
func (e *endpoint) answer(r *Request, reply Reply, err error) {
	if err == nil {
		err = e.send(r, reply)
	}
	if err == nil {
		e.record(r, nil)
		return
	}
	failure := AsError(err)
	e.record(r, failure)
	e.log(r, failure)
	if reply, err = ErrorReply(failure); err == nil {
		err = e.send(r, reply)
	}
	if err != nil {
		e.host.config.Logger.Warn("an error reply was not sent", e.subject(r), zap.Error(err))
	}
}

// subject is the log field that tells what was asked.
func (e *endpoint) subject(r *Request) zap.Field {
	if e.Private != nil {
		return zap.String("subject", e.Subject)
	}
	return zap.String("subject", r.Subject)
}

func (e *endpoint) record(r *Request, failure *Error) {
	took, code := time.Since(r.Received), codeOK
	if failure != nil {
		code = failure.Code
	}
	if r.Runs && e.host.config.Answered != nil {
		e.host.config.Answered(r.Script, failure, took)
	}
	e.stats.add(code, took)
	e.host.metrics.served(e.Name, code, took)
	r.endSpan(code)
}

// log writes failures of our own, and those of which nobody else hears.
func (e *endpoint) log(r *Request, failure *Error) {
	log := e.host.config.Logger.Debug
	switch {
	case failure.Code == CodeInternal:
		log = e.host.config.Logger.Error
	case r.reply == "":
		log = e.host.config.Logger.Warn
	}
	log("request failed", zap.String("endpoint", e.Name), e.subject(r), zap.Error(failure))
}

// send publishes an answer; it does nothing when nobody waits for one. An
// answer that does not fit a message is the handler's defect.
func (e *endpoint) send(r *Request, reply Reply) error {
	if r.reply == "" {
		return nil
	}
	header := reply.Header
	if e.Private != nil && e.Private.Header != nil {
		header = merge(header, e.Private.Header(r))
	}
	err := r.nc.PublishMsg(&nats.Msg{Subject: r.reply, Header: header, Data: reply.Data})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("publish a reply of %d bytes: %w", len(reply.Data), err)
	}
	return Errorf(CodeUnavailable, "the reply cannot be sent").WithCause(err)
}

// merge adds more to header, which may be nil, and returns it.
func merge(header, more nats.Header) nats.Header {
	if header == nil {
		return more
	}
	maps.Copy(header, more)
	return header
}

// Answer sends reply, or err if it is not nil, to whoever waits for it, and
// counts the request as served. Only the first call has an effect. It does
// not wait for the network and is safe for concurrent use.
func (r *Request) Answer(reply Reply, err error) {
	if r.answered.CompareAndSwap(false, true) {
		r.endpoint.answer(r, reply, err)
		r.memory.Close()
	}
}

// Each returns a BatchHandler that serves the requests of a batch one after
// the other.
func Each(h Handler) BatchHandler {
	return func(ctx context.Context, batch []*Request) {
		for _, r := range batch {
			reply, err := h(ctx, r)
			r.Answer(reply, err)
		}
	}
}

// ErrorReply returns the error as clients get it.
func ErrorReply(e *Error) (Reply, error) {
	header, body, err := e.Encode()
	return Reply{Header: header, Data: body}, err
}
