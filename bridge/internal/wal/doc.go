// Package wal reads logical messages from a PostgreSQL replication slot.
//
// A [Reader] speaks the streaming replication protocol with the plugin pgoutput
// (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html)
// on a connection that pgx opened and then gave away. What it promises:
//
//   - Order: transactions come in commit order, the messages of one in the order
//     in which they were written. A transaction that was rolled back, and a
//     message that does not belong to a transaction, is never seen.
//   - Loss: none. Reading starts where the slot was confirmed last, and nothing
//     is confirmed but what the caller says.
//   - Duplicates: what was not confirmed is read again, with the same LSNs.
//   - Memory: flat. Content that nobody asked for, or that is larger than wanted,
//     is skipped while it is read, whatever its size.
//   - Life: a status goes out every second from a goroutine of its own, also
//     while one message of many megabytes arrives and while the caller stands
//     still, so that the server ends a slot's connection only when this process
//     is dead or frozen.
//
// The states of a connection:
//
//	Connect ──► Identify, Owner (any number) ──► Start ──► Run ──► closed
package wal
