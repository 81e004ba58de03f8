package service

import "github.com/pgbridge/pgbridge/internal/api"

// Code and Error are the words of the wire.
type (
	Code  = api.Code
	Error = api.Error
)

// The codes, as in package api.
const (
	CodeInvalidRequest = api.CodeInvalidRequest
	CodeDenied         = api.CodeDenied
	CodeNotFound       = api.CodeNotFound
	CodeTimeout        = api.CodeTimeout
	CodeConflict       = api.CodeConflict
	CodeGone           = api.CodeGone
	CodeTooLarge       = api.CodeTooLarge
	CodeSQLError       = api.CodeSQLError
	CodeBusy           = api.CodeBusy
	CodeInternal       = api.CodeInternal
	CodeUnavailable    = api.CodeUnavailable
	CodeUnknown        = api.CodeUnknown
)

// Errorf is [api.Errorf].
func Errorf(code Code, format string, args ...any) *Error { return api.Errorf(code, format, args...) }
