package stream

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Codes of nats-server (server/errors.json).
const (
	codeStoreFailed     jetstream.ErrorCode = 10077
	codeSealed          jetstream.ErrorCode = 10109
	codeMessageTooLarge jetstream.ErrorCode = 10054
	codeHeaderTooLarge  jetstream.ErrorCode = 10097 // it takes 64 KiB of headers
)

// MaxHeaderBytes is how much a stream takes of headers, with the line before them.
const MaxHeaderBytes = 1<<16 - 1

// TooLarge reports whether a stream has refused a message for its size, and would again.
func TooLarge(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && (refused.ErrorCode == codeMessageTooLarge || refused.ErrorCode == codeHeaderTooLarge)
}

// Refuses says why a stream takes no more messages of so many bytes, by its own settings
// and by what it holds, where err is its refusal of one; empty: it may take it another
// time. It blocks until JetStream has answered or ctx ends.
func Refuses(ctx context.Context, s jetstream.Stream, size int, err error) string {
	var refused *jetstream.APIError
	if !errors.As(err, &refused) {
		return ""
	}
	switch refused.ErrorCode {
	case codeMessageTooLarge, codeHeaderTooLarge:
		return "it does not take messages as long as these"
	case codeSealed:
		return "it is sealed"
	case codeStoreFailed:
	default:
		return ""
	}
	info, err := s.Info(ctx)
	if err != nil {
		return ""
	}
	c, state := info.Config, info.State
	switch {
	case c.MaxBytes > 0 && state.Bytes+uint64(size) > uint64(c.MaxBytes):
		return "it would have more bytes than it may"
	case c.MaxMsgs > 0 && state.Msgs >= uint64(c.MaxMsgs):
		return "it would have more messages than it may"
	}
	return ""
}
