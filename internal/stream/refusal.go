package stream

import (
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// Codes of nats-server (server/errors.json).
const (
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
