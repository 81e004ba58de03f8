// Package txrunner runs SQL scripts and transactions for requests from NATS.
//
// Each .sql file of a folder is a script: a request to <prefix>.run.<script>
// runs it in one transaction. A request to <prefix>.begin pins a connection
// with an open transaction to a subject of its own and to a lease, and further
// requests act on it.
//
// What it promises:
//
//   - Atomicity: a script commits as a whole or leaves nothing. When the
//     connection is lost while COMMIT is under way the answer is unknown, never
//     a guess.
//   - Once: with a message id a script commits once, however often the request
//     is sent, and every sender gets the same reply. The id and the reply are
//     stored by the transaction itself.
//   - Jobs: a JetStream message to <prefix>.job.run.<script> runs the script once
//     for its id, whatever is delivered again and wherever a process dies, and is
//     acknowledged only when its result is stored.
//   - Order: requests on one pinned transaction are served one at a time, in
//     the order received; all others in any order.
//   - Time: a request is answered when its time is over, counted from its
//     receipt; what runs in PostgreSQL then is cancelled, not left behind.
//   - Isolation from other requests: what a script, a pinned transaction or a
//     request's own SQL leaves in its session, a setting, a role, a temporary
//     table, an advisory lock, is gone before the session serves anyone else.
//
// The way of a script's run through the code, where each arrow to PostgreSQL is one
// round trip:
//
//	service ─► verbs.go ─► run.go ─► request.go: a call
//	                          │
//	                          ▼
//	   execution.Run: slot of the script, connection, attempts
//	                          │
//	                          ▼
//	   execution.Execution ─► session.Pipeline ─► BEGIN, statements, COMMIT ─► reply
//	                                              BEGIN, statements ─► COMMIT
//
// The second form is for scripts that return rows and may write: a result that
// does not fit one message has to be known before COMMIT.
//
// What is below this package: internal/session is a connection, internal/execution
// runs a call on it, internal/pinned holds pinned transactions and what cursors and
// copier plug into, and internal/jobs, in this folder, takes jobs.
package txrunner
