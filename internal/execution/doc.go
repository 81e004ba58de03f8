// Package execution runs a call, a program with its parameters, on a PostgreSQL
// session, and makes the reply of it.
//
// A [Program] is a script, or a request's own SQL, made ready to run. A [Call] is
// what one request asks of it. An [Execution] is one attempt at a call on one
// session. It is driven in one of two ways:
//
//   - [Run] does a whole call in a transaction of its own: it waits for the
//     script's turn and a connection, sends everything, and does it again after a
//     serialization failure or a deadlock.
//   - In a pinned transaction its owner drives it step by step: Statements,
//     Describe, Send, Sync, Ask and Take, Commit.
//
// What it promises:
//
//   - A program runs as a whole or leaves nothing; where the connection is lost
//     during COMMIT the error says that nobody knows.
//   - A message id is inserted by the transaction that it names, so a second one
//     waits for the first and gets its reply.
//   - A run takes one round trip, or two: see [Execution].
package execution
