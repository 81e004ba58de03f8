package txrunner

// Extension is a further kind of requests on scripts, such as cursors and copies.
// The packages cursors and copier make one; it belongs into
// [Config.Extensions] of one Runner. Others cannot be made outside this program.
type Extension interface {
	// Verb is the token of the requests that begin its work:
	// <prefix>.<Verb>.<script>.
	Verb() string
}
