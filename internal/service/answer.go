package service

import (
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
		e.record(r, codeOK)
		return
	}
	failure := AsError(err)
	e.record(r, failure.Code)
	e.log(r, failure)
	if reply, err = failure.Reply(); err == nil {
		err = e.send(r, reply)
	}
	if err != nil {
		e.service.config.Logger.Warn("an error reply was not sent", e.subject(r), zap.Error(err))
	}
}

// subject is the log field that tells what was asked.
func (e *endpoint) subject(r *Request) zap.Field {
	if e.SecretSubjects {
		return zap.String("subject", e.Subject)
	}
	return zap.String("subject", r.Subject)
}

func (e *endpoint) record(r *Request, code Code) {
	took := time.Since(r.Received)
	e.stats.add(code, took)
	e.service.metrics.served(e.Name, code, took)
}

// log writes failures of our own, and those of which nobody else hears.
func (e *endpoint) log(r *Request, failure *Error) {
	log := e.service.config.Logger.Debug
	switch {
	case failure.Code == CodeInternal:
		log = e.service.config.Logger.Error
	case r.reply == "":
		log = e.service.config.Logger.Warn
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
	if e.Header != nil {
		header = merge(header, e.Header(r))
	}
	err := e.service.nc.PublishMsg(&nats.Msg{Subject: r.reply, Header: header, Data: reply.Data})
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
