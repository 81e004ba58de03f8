// Package copier carries COPY's data over NATS: out to a requester as a stream
// of chunks or into a JetStream object store, and in from chunks or from an
// object. It is an extension of a [txrunner.Runner], whose pinned transactions
// it works on.
//
// What it promises:
//
//   - Whole or not at all: the COPY and the statements around it are one
//     transaction, which commits only when every byte has arrived where it
//     belongs. A chunk that is missing, repeated or out of order, a digest that
//     is wrong and a link that was lost in between undo everything. In a
//     client's own transaction, which the client ends, they make it fail.
//   - The end is told: whoever sent or received data learns that all of it was
//     taken, or why none was. When the connection is lost while COMMIT is under
//     way the answer is unknown, never a guess.
//   - Flat memory: at most a window of data is held for each copy, however much
//     is copied. A single row is held as a whole.
//   - No one waits for ever: a client that is silent for the stall time, or whose
//     inbox is gone, ends the copy; so do a rollback, the lease, the time limit
//     and the end of a stop's grace. PostgreSQL is asked to cancel then, and the
//     connection is used again if it does so in time.
//
// A copy lives in the goroutine that serves its request. Where something has to
// wait for something else there is one more goroutine, which the first waits
// for:
//
//	out  PostgreSQL ─► rows ─► chunks ─► NATS                one goroutine
//	     PostgreSQL ─► rows ─► chunks ─► object store        the same
//	in   NATS ─► upload ─► connection ─► PostgreSQL          the second reads the upload and
//	     object ─► connection ─► PostgreSQL                  writes, the first hears errors
//
// An upload, which the receiving goroutine of the service fills:
//
//	receiving ──empty chunk──► ended ──COMMIT──► answered
//	    │ wrong chunk, silence     │ error
//	    ▼                          ▼
//	  failed ── the unanswered chunks, or the next one, get the error
package copier
