// Package publish brings what the sequencer has queued to NATS: one publisher
// for core NATS, one for JetStream. Both publish in order, under the lease, and
// nothing twice. What may not have arrived becomes a gap (core), or is looked up
// in the stream (JetStream).
//
// To JetStream messages go in fast batches where the stream takes them, and in a
// chain where it does not. Of a batch the server stores nothing behind a message
// that is missing or was refused; in a chain each message names the one before it,
// with the same effect. Usually every message of a batch is acknowledged at once,
// so that a lone event waits for nothing; where many wait, one acknowledgement
// speaks for many. A batch begins only when everything before it is acknowledged.
//
// The states of the publisher for JetStream, and what leads from one to another:
//
//	idle ─────── end read ─────► following
//	idle ─────── lease began ──► searching
//	following ── end unknown ──► idle
//	following ── lease began ──► searching
//	searching ── end read ─────► publishing
//	searching ── lease ended ──► idle
//	publishing ─ end unknown ──► searching
//	publishing ─ lease ended ──► following
//
// The end is the stream's last message. It is unknown after every doubt about
// what is stored, and when a lease begins, since another replica may have
// published meanwhile.
package publish
