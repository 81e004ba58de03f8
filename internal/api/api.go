// Package api holds the words of the wire: error codes, headers, and the bodies
// of requests and replies, as server and client both read and write them. It
// knows neither PostgreSQL nor a connection to NATS.
//
// The zero value of a field that a request leaves out means the server's
// default. Times end in MS for milliseconds, sizes in Bytes.
package api

import "strings"

// Protocol is the number of what client and server say to each other. It changes where
// a client that was right before would be wrong afterwards.
const Protocol = "1"

// The headers of replies and events.
const (
	HeaderChannel     = "Pgbridge-Channel"     // an event's or gap's channel, where its subject does not say it
	HeaderID          = "Pgbridge-Id"          // an event's id, with JetStream
	HeaderCatchUp     = "Pgbridge-Catch-Up"    // on rows of catch-up scripts: true
	HeaderTransaction = "Pgbridge-Transaction" // a pinned transaction's state
	HeaderReplayed    = "Pgbridge-Replayed"    // true: the reply is a stored one, nothing was done
	HeaderJob         = "Pgbridge-Job"         // the id of a result's job, or of one that is tried again
	HeaderJobSubject  = "Pgbridge-Job-Subject" // where a job that failed was left
	HeaderAttempts    = "Pgbridge-Attempts"    // how often a job was tried
)

// The headers of an error reply, as NATS's micro services have them.
const (
	HeaderErrorCode = "Nats-Service-Error-Code"
	HeaderError     = "Nats-Service-Error"
)

// The headers of chunks and of the message that ends them.
const (
	HeaderSeq    = "Pgbridge-Seq"
	HeaderRows   = "Pgbridge-Rows"
	HeaderBytes  = "Pgbridge-Bytes"
	HeaderDigest = "Pgbridge-Digest"

	HeaderObject = "Pgbridge-Object" // of a chunk in an object store: whose it is, as in the metadata's subject
	// HeaderNotices is in the message that ends a stream of chunks: a JSON array of
	// [Notice], in ASCII.
	HeaderNotices = "Pgbridge-Notices"
)

// FailedStream is the stream of failed jobs, beside that of their results.
func FailedStream(results string) string {
	return strings.TrimSuffix(results, "_RESULTS") + "_FAILED"
}
